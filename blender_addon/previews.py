# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures that panels draw as icons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy.utils.previews

from . import chores, state
from .files import regular

LIMIT = 32  # pictures of one generation
AT_ONCE = 600_000  # bytes: as many are read within a few milliseconds

# Two generations: when the younger is full, the elder is emptied and takes its place. An icon that is drawn moves to
# the younger, so that it outlives that: Blender complains of icons that vanish before the next redraw.
_younger: Any = None
_elder: Any = None
_ready: set[str] = set()  # those that have been read
_drawn: dict[str, str] = {}  # what was last drawn at a place


def icon(path: str, place: str = "") -> int:
    """The icon of a picture file, read again when the file has changed; 0 where there is none. It is read after this
    redraw, and until then the icon is the one that was drawn at the same ``place`` before."""
    if _younger is None or not path:
        return 0
    found = regular(path)
    if found is None:
        return 0
    key = f"{path}@{found.st_mtime_ns}"
    if key not in _younger and ("preview", key) not in state.get().chores:
        chores.do(("preview", key), lambda: _reading(key, path, found.st_size), "engine")
    if key in _ready and place:
        _drawn[place] = key
    shown = key if key in _ready else _drawn.get(place, "")
    generation = next((g for g in (_younger, _elder) if shown in g), None)
    return int(generation[shown].icon_id) if generation is not None else 0


def _reading(key: str, path: str, size: int) -> Iterator[float]:
    """Read a picture into the younger generation."""
    global _younger, _elder
    if _younger is None or key in _younger:
        return
    if len(_younger) >= LIMIT:
        _elder.clear()
        _younger, _elder = _elder, _younger
        _ready.intersection_update(_elder)
    preview = _younger.load(key, path, "IMAGE")
    if size <= AT_ONCE:
        # Asking for its size reads it. Blender else does so later, and draws a spinner meanwhile: an edit that shows
        # several pictures a second would show nothing but that.
        tuple(preview.image_size)
    _ready.add(key)
    yield 1.0


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
    _ready.clear()
    _drawn.clear()
