# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a capture's project goes: a folder of its own, whatever its name, that Save As does not lose.

A path that begins with “//” belongs to the .blend file's folder. Blender rewrites its own such paths when a file is
saved elsewhere; those of the add-on are rewritten here, so that they still lead to the same folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import bpy

from .project import preferences, user_folder, workspace_of
from .scene import cameras

RELATIVE = ("workspace", "opened_workspace", "editor_model")  # settings that may begin with “//”


def typed(scene: bpy.types.Scene) -> bool:
    """Whether the artist has named a project folder since a capture was last opened."""
    settings = scene.instruct_nerf
    return bool(settings.workspace) and settings.workspace != settings.opened_workspace


def same_capture(scene: bpy.types.Scene, path: Path) -> bool:
    """Whether a path is the capture that the scene shows, moved or not."""
    settings = scene.instruct_nerf
    if not settings.workspace or not settings.source:
        return False
    if cameras.absolute(settings.source) == cameras.absolute(str(path)):
        return True
    return Path(settings.source).name == path.name and not Path(settings.source).exists()


def users_of(workspace: str, but: bpy.types.Scene) -> list[bpy.types.Scene]:
    """The other scenes of this file that show a workspace."""
    return [s for s in bpy.data.scenes if s != but and s.library is None and workspace_of(s) == workspace]


def known_for(source: str) -> str:
    """The workspace in which this file has a capture already, by the root that shows it; empty where it has none."""
    wanted = cameras.absolute(source)
    for item in bpy.data.objects:
        if item.library is None and cameras.WORKSPACE in item and str(item.get(cameras.SOURCE, "")) == wanted:
            return str(item[cameras.WORKSPACE])
    return ""


def proposed(source: str, number: int = 1) -> str:
    """Where a capture's workspace goes: beside the .blend file, or, while that is unsaved, in the user folder.

    Another ``number`` than 1 names another folder: for 0, one that no other source gets.
    """
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    name = re.sub(r"[^\w.-]+", "_", folder.name or "capture").strip(".") or "capture"
    own = hashlib.sha256(cameras.absolute(source).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    suffix = f"-{own}" if number == 0 else "" if number == 1 else f"-{number}"
    if bpy.data.filepath:
        return f"//instruct_nerf/{name}{suffix}"
    base = getattr(preferences(), "workspaces", "")
    # Unsaved files have one folder for all their projects.
    suffix = f"-{own}" + ("" if number in (0, 1) else suffix)
    return str((Path(bpy.path.abspath(base)) if base else user_folder() / "unsaved") / f"{name}{suffix}")


def is_free(workspace: str, scene: bpy.types.Scene) -> bool:
    """Whether a folder is not there or empty, and no other scene's."""
    folder = Path(cameras.absolute(workspace))
    try:
        empty = not folder.exists() or not any(folder.iterdir())
    except OSError:
        return False
    return empty and not users_of(str(folder), scene)


def first_free(source: str, scene: bpy.types.Scene) -> str:
    """The first of the proposed folders that is free."""
    return next(w for w in (proposed(source, n) for n in count(1)) if is_free(w, scene))


# -- Save As -----------------------------------------------------------------------------------------------------


def _holders() -> Iterator[tuple[Any, str]]:
    """Everything that keeps a path which may begin with “//”, and by what name."""
    for scene in bpy.data.scenes:
        if scene.library is None and hasattr(scene, "instruct_nerf"):
            yield from ((scene.instruct_nerf, name) for name in RELATIVE)
    for item in bpy.data.objects:
        if item.library is None and cameras.WORKSPACE in item:
            yield item, cameras.WORKSPACE


def _get(holder: Any, name: str) -> str:
    return str(holder[name]) if name == cameras.WORKSPACE else getattr(holder, name)


def relative_paths() -> list[tuple[Any, str, str]]:
    """What keeps a path that begins with “//”, by what name, and the absolute path that is meant now."""
    return [
        (holder, name, bpy.path.abspath(_get(holder, name)))
        for holder, name in _holders()
        if _get(holder, name).startswith("//")
    ]


def rebase(paths: list[tuple[Any, str, str]], blend: str) -> None:
    """Write paths as they are seen from a .blend file: absolute where none leads there, as to another drive."""
    folder = str(Path(blend).parent)
    for holder, name, absolute in paths:
        try:
            path = bpy.path.relpath(absolute, start=folder).replace("\\", "/")
        except ValueError:
            path = absolute
        try:
            if name == cameras.WORKSPACE:
                holder[name] = path
            else:
                setattr(holder, name, path)
        except ReferenceError:
            continue
