# SPDX-License-Identifier: GPL-3.0-or-later
"""A workspace of our own: the viewport beside an image editor, for tries and contact sheets, over the sequencer. Made
out of one that the file has, so that nothing has to be read from anywhere."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator

import bpy

NAME = "Instruct NeRF"
MARK = "instruct_nerf"  # on a workspace: that it is ours
SOON = 0.1  # seconds between two looks whether Blender has changed the workspace of a window
DRAWN = 5.0  # seconds until a sidebar was drawn
PATIENCE = 20.0  # seconds that this may take, where a file is large
LEAST = 0.15  # of a screen's width, that an area beside another must have
IMAGE, VIEW, STRIPS = "IMAGE_EDITOR", "VIEW_3D", "SEQUENCE_EDITOR"

Areas = dict[str, bpy.types.Area]


def ours() -> bpy.types.WorkSpace | None:
    """The file's workspace of ours, or None."""
    return next((workspace for workspace in bpy.data.workspaces if workspace.get(MARK)), None)


def parts_of(screen: bpy.types.Screen) -> Areas:
    """Which areas of a screen are to be what, by the kind that each is to have: two side by side, the right one the
    viewport, and one below them; where no areas lie so, the largest three, as many as there are."""
    areas = sorted(screen.areas, key=_size, reverse=True)
    width = max((area.x + area.width for area in areas), default=0)
    best: Areas = {}
    for left in areas:
        for right in areas:
            beside = left.y == right.y and left.height == right.height and left.x < right.x
            if not beside or min(left.width, right.width) < LEAST * width:
                continue
            for below in areas:
                under = below.y + below.height <= left.y and below.x <= left.x
                if under and below.width > left.width and _least(best) < min(map(_size, (left, right, below))):
                    best = {IMAGE: left, VIEW: right, STRIPS: below}
    return best or dict(zip((VIEW, IMAGE, STRIPS), areas, strict=False))


def source() -> bpy.types.WorkSpace:
    """The workspace that is the best to begin with: of which the smallest of those areas is the largest."""
    return max(bpy.data.workspaces, key=lambda workspace: _least(parts_of(workspace.screens[0])))


def _size(area: bpy.types.Area) -> int:
    return area.width * area.height


def _least(areas: Areas) -> int:
    return min(map(_size, areas.values())) if len(areas) == 3 else 0


def open_workspace(window: bpy.types.Window, category: str) -> None:
    """Show the workspace of ours in a window, made first where the file has none; ``category``: the tab of the
    viewport's sidebar to open. What Blender does only between two of its events is done a moment later."""
    steps = _opening(window.as_pointer(), category)

    def step() -> float | None:
        try:
            return next(steps, None)
        except Exception:
            traceback.print_exc()
            return None

    bpy.app.timers.register(step, first_interval=0.0)


def _opening(pointer: int, category: str) -> Iterator[float]:
    workspace, new = ours(), False
    if workspace is None:
        yield from _switching(pointer, source().name)
        before = set(bpy.data.workspaces)
        with bpy.context.temp_override(window=_window(pointer)):
            bpy.ops.workspace.duplicate()
        workspace, new = next(entry for entry in bpy.data.workspaces if entry not in before), True
        workspace.name, workspace[MARK] = NAME, True
    yield from _switching(pointer, workspace.name)
    if new:
        for kind, area in parts_of(_window(pointer).screen).items():
            area.type = kind
        yield SOON
        furnish(_window(pointer))
        until = time.monotonic() + DRAWN
        while not _opened_tab(_window(pointer), category) and time.monotonic() < until:
            yield SOON


def _switching(pointer: int, name: str) -> Iterator[float]:
    """Show a workspace in a window, and wait until it is shown. Raises ``RuntimeError``."""
    _window(pointer).workspace = bpy.data.workspaces[name]
    until = time.monotonic() + PATIENCE
    while _window(pointer).workspace.name != name:
        if time.monotonic() > until:
            raise RuntimeError(f"Blender did not show the workspace {name}.")
        yield SOON


def _opened_tab(window: bpy.types.Window, category: str) -> bool:
    """Open a tab of the viewports' sidebars; whether it is. They know their tabs once they were drawn."""
    sidebars = [region for area in window.screen.areas if area.type == VIEW for region in area.regions]
    sidebars = [region for region in sidebars if region.type == "UI"]
    for sidebar in sidebars:
        # Before it was drawn it takes none, and of old it was not to be written.
        with contextlib.suppress(AttributeError, TypeError):
            sidebar.active_panel_category = category
    return all(getattr(sidebar, "active_panel_category", category) == category for sidebar in sidebars)


def furnish(window: bpy.types.Window) -> None:
    """What the areas of the new workspace show."""
    scene, workspace = window.scene, window.workspace
    if hasattr(workspace, "sequencer_scene") and workspace.sequencer_scene is None:
        workspace.sequencer_scene = scene
    for area in window.screen.areas:
        space = area.spaces.active
        if area.type == VIEW:
            space.show_region_ui = True
            space.overlay.show_relationship_lines = False
            if space.region_3d.view_perspective == "CAMERA" and scene.camera is None:
                space.region_3d.view_perspective = "PERSP"
        elif area.type == STRIPS:
            space.view_type = "SEQUENCER"
        elif area.type == IMAGE:
            sheets = [image for image in bpy.data.images if image.get("instruct_nerf_tried")]
            space.image = space.image or (sheets[-1] if sheets else None)
        area.tag_redraw()


def _window(pointer: int) -> bpy.types.Window:
    """The window as it is now, or the first where that one was closed."""
    windows = bpy.context.window_manager.windows
    return next((window for window in windows if window.as_pointer() == pointer), windows[0])
