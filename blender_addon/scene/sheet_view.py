# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets in Blender's image editors: shown there, and which cell lies under the mouse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import bpy

from ..files import regular

TRIED = "instruct_nerf_tried"  # on an image: the id of the try that it shows
NAME = "Contact Sheet"
MARGIN = 12  # pixels around a picture that is fitted
LAID_OUT = 0.3  # seconds until a new window has its size


def load(tried: str, path: str) -> bpy.types.Image | None:
    """The image of a try's picture, loaded once; None where it cannot be."""
    if regular(path) is None:
        return None
    image = next((image for image in bpy.data.images if image.get(TRIED) == tried), None)
    if image is not None:
        image.filepath = path
        return image
    try:
        image = bpy.data.images.load(path, check_existing=False)
    except RuntimeError:
        return None
    image.name, image[TRIED] = NAME, tried
    return image


def remove(tried: str) -> None:
    """Let go of the image of a try that is gone."""
    for image in [image for image in bpy.data.images if image.get(TRIED) == tried]:
        bpy.data.images.remove(image)


def tried_of(space: object) -> str:
    """The id of the try that an image editor shows; empty where it shows none."""
    image = getattr(space, "image", None)
    return str(image.get(TRIED, "")) if image is not None else ""


def editors() -> list[tuple[bpy.types.Window, bpy.types.Area]]:
    """The open image editors, those that show a contact sheet first."""
    windows = bpy.context.window_manager.windows
    found = [(w, a) for w in windows for a in w.screen.areas if a.type == "IMAGE_EDITOR"]
    return sorted(found, key=lambda entry: not tried_of(entry[1].spaces.active))


def redraw() -> None:
    """Have the image editors say which picture is meant now: Blender redraws what was clicked in alone."""
    for _, area in editors():
        area.tag_redraw()


def show(image: bpy.types.Image) -> tuple[bpy.types.Window, bpy.types.Area] | None:
    """Show an image in an image editor that is open; where, or None where none is."""
    for window, area in editors():
        area.spaces.active.image = image
        _fit(window, area)
        return window, area
    return None


def _fit(window: bpy.types.Window, area: bpy.types.Area) -> None:
    """See the whole picture of an image editor."""
    region = next((region for region in area.regions if region.type == "WINDOW"), None)
    if region is not None:
        with bpy.context.temp_override(window=window, area=area, region=region):
            if bpy.ops.image.view_all.poll():
                bpy.ops.image.view_all(fit_view=True)
                _beside_sidebar(area, region)
        area.tag_redraw()  # also of a window that the mouse is not in


def _beside_sidebar(area: bpy.types.Area, region: bpy.types.Region) -> None:
    """Have a picture that was fitted into an image editor lie beside its sidebar, under which no click reaches it."""
    side = next((region for region in area.regions if region.type == "UI"), None)
    covered = max(0, region.x + region.width - side.x) if side is not None and side.width > 1 else 0
    image = area.spaces.active.image
    if image is None or not all(image.size) or not 0 < covered < region.width - MARGIN:
        return
    # Not the editor's own zoom: that is known once it was drawn.
    zoom = min((region.width - covered - MARGIN) / image.size[0], (region.height - MARGIN) / image.size[1])
    if zoom > 0:
        bpy.ops.image.view_zoom_ratio(ratio=zoom)
        bpy.ops.image.view_pan(offset=(0.5 * covered / zoom, 0.0))  # in the picture's pixels


def open_editor() -> None:
    """A new window with an image editor, which shows the whole of its picture once Blender has laid it out."""
    before = set(bpy.context.window_manager.windows)
    bpy.ops.wm.window_new()
    window = next(w for w in bpy.context.window_manager.windows if w not in before)
    area = max(window.screen.areas, key=lambda area: area.width * area.height)
    area.type = "IMAGE_EDITOR"
    bpy.app.timers.register(_fit_all, first_interval=LAID_OUT)


def _fit_all() -> None:
    for window, area in editors():
        if tried_of(area.spaces.active):
            _fit(window, area)


def cell_at(boxes: Iterable[Sequence[float]], size: Sequence[int], u: float, v: float) -> int | None:
    """The number of the box (x, y from the upper left, width, height, pixels) that holds a point of an image of a size
    in pixels; ``u`` and ``v`` are from its lower left corner, 0–1, as an image editor's view has them."""
    x, y = u * size[0], (1 - v) * size[1]
    for number, (left, top, width, height) in enumerate(boxes):
        if left <= x < left + width and top <= y < top + height:
            return number
    return None
