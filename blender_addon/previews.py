# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures that panels draw as icons."""

from __future__ import annotations

from typing import Any

import bpy.utils.previews

from .files import regular

LIMIT = 32  # pictures of one generation
AT_ONCE = 4_000_000  # bytes

# Two generations: when the younger is full, the elder is emptied and takes its place. An icon that is drawn moves to
# the younger, so that it outlives that: Blender complains of icons that vanish before the next redraw.
_younger: Any = None
_elder: Any = None


def icon(path: str) -> int:
    """The icon of a picture file, read again when the file has changed; 0 where there is none."""
    global _younger, _elder
    if _younger is None or not path:
        return 0
    found = regular(path)
    if found is None:
        return 0
    key = f"{path}@{found.st_mtime_ns}"
    if key in _younger:
        return int(_younger[key].icon_id)
    if len(_younger) >= LIMIT:
        _elder.clear()
        _younger, _elder = _elder, _younger
    preview = _younger.load(key, path, "IMAGE")
    if found.st_size <= AT_ONCE:
        # Asking for its size reads it. Blender else does so later, and draws a spinner meanwhile: an edit that shows
        # several pictures a second would show nothing but that.
        tuple(preview.image_size)
    return int(preview.icon_id)


def register() -> None:
    """Make the collections."""
    global _younger, _elder
    _younger, _elder = bpy.utils.previews.new(), bpy.utils.previews.new()


def unregister() -> None:
    """Free the collections."""
    global _younger, _elder
    for generation in (_younger, _elder):
        if generation is not None:
            bpy.utils.previews.remove(generation)
    _younger = _elder = None
