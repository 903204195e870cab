# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures that panels draw as icons."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import bpy.utils.previews

from . import chores, curves, state
from .files import png_pixels, regular

LIMIT = 32  # pictures of one generation
PLOT = "curves"
PLOT_REST = 0.5  # seconds between two drawings of them
AT_ONCE = 600_000, 400 * 400  # bytes and pixels: as many are read within a few milliseconds

# Two generations: when the younger is full, the elder is emptied and takes its place. An icon that is drawn moves to
# the younger, so that it outlives that: Blender complains of icons that vanish before the next redraw.
_younger: Any = None
_elder: Any = None
_ready: set[str] = set()  # those that have been read
_drawn: dict[str, str] = {}  # what was last drawn at a place
_plots: Any = None
_plotted: tuple[object, int, float] = (None, 0, 0.0)  # which curves, after how many changes, and when (monotonic)


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


def plot(drawn: curves.Curves) -> int:
    """The icon of a job's curves, drawn anew when they have changed, though not at every redraw; 0 where that cannot
    be."""
    global _plotted
    if _younger is None:
        return 0
    preview = _plots.get(PLOT) or _plots.new(PLOT)
    now = time.monotonic()
    if _plotted[0] is not drawn or (_plotted[1] != drawn.changes and now - _plotted[2] > PLOT_REST):
        preview.image_size = (curves.WIDTH, curves.HEIGHT)
        preview.image_pixels = curves.picture(drawn)
        _plotted = (drawn, drawn.changes, now)
    return int(preview.icon_id)


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
    if size <= AT_ONCE[0] and (png_pixels(path) or 0) <= AT_ONCE[1]:
        # Asking for its size reads it. Blender else does so later, and draws a spinner meanwhile: an edit that shows
        # several pictures a second would show nothing but that.
        tuple(preview.image_size)
    _ready.add(key)
    yield 1.0


def register() -> None:
    """Make the collections."""
    global _younger, _elder, _plots
    _younger, _elder, _plots = (bpy.utils.previews.new() for _ in range(3))


def unregister() -> None:
    """Free the collections."""
    global _younger, _elder, _plots, _plotted
    for generation in (_younger, _elder, _plots):
        if generation is not None:
            bpy.utils.previews.remove(generation)
    _younger = _elder = _plots = None
    _plotted = (None, 0, 0.0)
    _ready.clear()
    _drawn.clear()
