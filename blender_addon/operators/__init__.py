# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators: gather settings, call a function, report. No logic of their own."""

from __future__ import annotations

import bpy

from ..words import in_our_context
from . import (
    capture,
    choose,
    desk,
    edit,
    engine,
    key_views,
    presets,
    region,
    render,
    results,
    scripts,
    talk,
    tree,
    tries,
    wipe,
)

CLASSES = (
    *capture.CLASSES, *choose.CLASSES, *edit.CLASSES, *tries.CLASSES, *key_views.CLASSES, *presets.CLASSES,
    *region.CLASSES, *talk.CLASSES, *tree.CLASSES, *wipe.CLASSES, *results.CLASSES, *engine.CLASSES, *desk.CLASSES,
    *scripts.CLASSES,
    *render.CLASSES,
)  # fmt: skip


def register() -> None:
    """Register all operators."""
    for cls in CLASSES:
        bpy.utils.register_class(in_our_context(cls))


def unregister() -> None:
    """Unregister all operators."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
