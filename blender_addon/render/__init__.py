# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine: final renders, the viewport's Rendered shading, and compositing with Blender's own objects."""

from __future__ import annotations

import bpy

from . import composite, line, viewport
from .engine import InstructNerfRenderEngine

CLASSES = (InstructNerfRenderEngine,)


def register() -> None:
    """Offer the engine in Blender's list."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    line.register()
    composite.register()


def unregister() -> None:
    """Offer it no longer."""
    composite.unregister()
    line.unregister()
    viewport.forget()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
