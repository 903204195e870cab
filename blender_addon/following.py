# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows something that the artist does elsewhere: saving under another name, loading, another render size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import bpy

from . import chores, project, rows, session, workspaces
from .choices import editor_id
from .scene import cameras, images

_paths: list[tuple[Any, str, str]] = []
_scales: dict[int, float] = {}  # session_uid of a scene → the size that its cameras are drawn for
_sizes: dict[int, tuple[float, ...]] = {}  # session_uid of a scene → the size its pictures are laid out for


@bpy.app.handlers.persistent
def _before_saving(*arguments: object) -> None:
    """What is written is seen from the file that is written."""
    target = arguments[0] if arguments and isinstance(arguments[0], str) else ""
    _paths[:] = workspaces.relative_paths(target)
    if target and _paths:
        workspaces.rebase(_paths, target)


@bpy.app.handlers.persistent
def _after_saving(*_arguments: object) -> None:
    """What goes on is seen from the file that is open: after Save Copy, and where saving failed, the old one."""
    if bpy.data.filepath and _paths:
        workspaces.rebase(_paths, bpy.data.filepath)
    _paths.clear()


@bpy.app.handlers.persistent
def _after_loading(*_arguments: object) -> None:
    _sizes.clear()
    _scales.clear()
    for scene in bpy.data.scenes:
        if scene.library is None and editor_id(scene.instruct_nerf.editor) != scene.instruct_nerf.editor:
            scene.instruct_nerf.editor = editor_id(scene.instruct_nerf.editor)
    session.describe_own()
    _after_undo()


@bpy.app.handlers.persistent
def _after_undo(*_arguments: object) -> None:
    """The list of edits is the project's, which knows of no undo."""
    for scene in bpy.data.scenes:
        if scene.library is None and rows.there(scene) != rows.wanted(scene):
            rows.follow(scene)


@bpy.app.handlers.persistent
def _after_update(scene: bpy.types.Scene, graph: bpy.types.Depsgraph) -> None:
    """A scene of another size frames the pictures behind its cameras otherwise, and cameras under a root of another
    scale are drawn in another size. Called often, so it looks at little."""
    if scene.library is not None or not scene.instruct_nerf.workspace:
        return
    render, uid = scene.render, scene.session_uid
    size = (render.resolution_x, render.resolution_y, render.pixel_aspect_x, render.pixel_aspect_y)
    if _sizes.get(uid) != size:
        _sizes[uid] = size
        chores.do(("fit", uid), lambda: _fitting(uid), "results")
    if any(update.is_updated_transform and _is_root(update.id) for update in graph.updates):
        chores.do(("size", uid), lambda: _resizing(uid), "capture")


def _is_root(item: bpy.types.ID) -> bool:
    return isinstance(item, bpy.types.Object) and item.type == "EMPTY" and cameras.WORKSPACE in item


def _resizing(uid: int) -> Iterator[float]:
    scene = cameras.scene_by_uid(uid)
    root = project.root_of(scene) if scene is not None else None
    if root is not None and not math.isclose(_scales.get(uid, 0.0), cameras.display_size(root, 1), rel_tol=1e-6):
        _scales[uid] = cameras.display_size(root, 1)
        yield from cameras.resizing(root)


def _fitting(uid: int) -> Iterator[float]:
    scene = cameras.scene_by_uid(uid)
    root = project.root_of(scene) if scene is not None else None
    if scene is not None and root is not None:
        yield from images.fitting(scene, cameras.cameras_of(root))


_HANDLERS = {
    "save_pre": _before_saving,
    "save_post": _after_saving,
    "save_post_fail": _after_saving,
    "load_post": _after_loading,
    "undo_post": _after_undo,
    "redo_post": _after_undo,
    "depsgraph_update_post": _after_update,
}


def register() -> None:
    """Begin to follow."""
    _sizes.clear()
    _scales.clear()
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Follow no longer."""
    for name, handler in _HANDLERS.items():
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
