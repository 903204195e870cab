# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar's tab; draws what is known and writes nothing."""

from __future__ import annotations

import bpy

from ..words import in_our_context
from . import capture, detached, edit, engine, key_views, region, render, results, tree, tries

CLASSES = (
    *capture.CLASSES, *edit.CLASSES, *tries.CLASSES, *key_views.CLASSES, *region.CLASSES, *tree.CLASSES,
    *results.CLASSES, *detached.CLASSES, *engine.CLASSES, *render.CLASSES,
)  # fmt: skip


def register() -> None:
    """Register the panels."""
    for cls in CLASSES:
        bpy.utils.register_class(in_our_context(cls))
    render.join()


def unregister() -> None:
    """Unregister the panels."""
    render.part()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
