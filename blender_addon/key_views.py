# SPDX-License-Identifier: GPL-3.0-or-later
"""Key views: the pictures that the artist approved as the edits of one to four views, which the whole scene follows.

They are a scene's own, saved with it: a view's name and where the picture lies. Of a picture in the project's folder
that is told from there, so that it is found again wherever the project goes.
"""

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import bpy
from bpy.props import StringProperty

from . import asking, messages
from .files import regular
from .project import project_of, root_of, workspace_of
from .scene import cameras

MOST = 4  # as the engine takes them
RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()


class InstructNerfKeyView(bpy.types.PropertyGroup):
    """A view whose edit was approved."""

    view: StringProperty(name="View", description="The view that the picture is the edit of")
    picture: StringProperty(
        name="Picture",
        description="The picture that was approved as the edit of the view",
        subtype="FILE_PATH",
        options=RELATIVE,
    )


def path_of(scene: bpy.types.Scene, key: InstructNerfKeyView) -> str:
    """Where a key view's picture lies, from the root on."""
    if key.picture.startswith("//") or os.path.isabs(key.picture):
        return os.path.realpath(bpy.path.abspath(key.picture))
    return os.path.realpath(os.path.join(workspace_of(scene), key.picture))


def approve(scene: bpy.types.Scene, view: str, picture: str) -> None:
    """Make a picture the approved edit of a view, in the place of the one before. Raises ``ValueError``."""
    if view not in _views(scene):
        raise ValueError(f"The capture has no view {view}: open it again.")
    path = cameras.absolute(picture)
    if regular(path) is None:
        raise ValueError(f"There is no picture at {path}.")
    asking.check_writable(path)
    keys = scene.instruct_nerf.key_views
    key = next((key for key in keys if key.view == view), None)
    if key is None:
        if len(keys) >= MOST:
            raise ValueError(f"There are {MOST} key views already, which are the most: remove one first.")
        key = keys.add()
        key.view = view
    key.picture = _kept(scene, path)


def _kept(scene: bpy.types.Scene, path: str) -> str:
    """A path as it is kept: from the project's folder on where it lies there."""
    inside, folder = PurePath(path), workspace_of(scene)
    return inside.relative_to(folder).as_posix() if folder and inside.is_relative_to(folder) else path


def is_used(scene: bpy.types.Scene, paths: Sequence[str]) -> bool:
    """Whether one of these pictures, from the root on, is a key view's."""
    used = {path_of(scene, key) for key in scene.instruct_nerf.key_views}
    return any(os.path.realpath(path) in used for path in paths)


def remove(scene: bpy.types.Scene, view: str) -> None:
    """Let a view be edited like any other. Raises ``ValueError`` where it is no key view."""
    keys = scene.instruct_nerf.key_views
    number = next((number for number, key in enumerate(keys) if key.view == view), None)
    if number is None:
        raise ValueError(f"{view} is not a key view.")
    keys.remove(number)


def are_followed(scene: bpy.types.Scene) -> bool:
    """Whether an edit that is started now has key views to follow: the paper's schedule has none."""
    return bool(scene.instruct_nerf.key_views) and scene.instruct_nerf.schedule != "paper"


def asked(scene: bpy.types.Scene, chosen: Sequence[str]) -> dict[str, Any]:
    """What an edit is asked for: its schedule, its key views, and the views that it edits, ``chosen`` or, for none of
    these, all that are not held out; key views are among them. Raises ``ValueError``."""
    schedule = scene.instruct_nerf.schedule
    params: dict[str, Any] = {"schedule": None if schedule == "AUTO" else schedule, "views": list(chosen) or None}
    if not are_followed(scene):
        return params
    known, keys = _views(scene), []
    for key in scene.instruct_nerf.key_views:
        path = path_of(scene, key)
        if key.view not in known:
            raise ValueError(f"The capture has no view {key.view} any more: remove it from the key views.")
        if regular(path) is None:
            raise ValueError(f"The picture of the key view {key.view} is gone, {path}: remove it, or put it back.")
        keys.append({"view": key.view, "picture": path})
    names = [key["view"] for key in keys]
    edited = list(chosen) or [view.name for view in known.values() if not view.held_out]
    others = [name for name in names if name not in edited]
    return params | {"views": [*edited, *others] if chosen or others else None, "key_views": keys}


def _views(scene: bpy.types.Scene) -> dict[str, messages.View]:
    project = project_of(scene)
    if root_of(scene) is None or project is None or project.capture is None:
        raise ValueError("This file's capture has not been read since Blender started: press Read Workspace.")
    return {view.name: view for view in project.capture.views}
