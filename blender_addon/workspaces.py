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


# -- moved projects ----------------------------------------------------------------------------------------------

LEVELS = 3  # folders above the .blend file's that a moved project is looked for in
RECORD = ("capture", "capture.json")  # what every project has


def is_project(folder: str | Path) -> bool:
    """Whether a folder holds a project, whose ever it is."""
    try:
        return Path(folder, *RECORD).is_file()
    except (OSError, ValueError):
        return False


def is_missing(scene: bpy.types.Scene) -> bool:
    """Whether the folder of the scene's project is not where the file says."""
    workspace = workspace_of(scene)
    try:
        return bool(workspace) and not Path(workspace).is_dir()
    except (OSError, ValueError):
        return True


def found_again(scene: bpy.types.Scene) -> str:
    """A project by the name of the missing one, near the .blend file: that moved together, or one of the two alone;
    empty where there is none. The longest end of the old path that leads to one counts."""
    workspace, blend = workspace_of(scene), bpy.data.filepath
    if not workspace or not blend:
        return ""
    # As another system writes paths, too: a file may have come from there.
    parts = [part for part in re.split(r"[/\\]", workspace) if part and part != ".."]
    near = [Path(blend).parent, *Path(blend).parent.parents][: LEVELS + 1]
    tails = [parts[start:] for start in range(max(0, len(parts) - 6), len(parts))]
    candidates = (str(folder.joinpath(*tail)) for tail in tails for folder in near)
    return next((c for c in candidates if is_project(c) and not users_of(cameras.absolute(c), scene)), "")


def as_kept(folder: str) -> str:
    """A project's folder as the .blend file keeps it: from the file on, where that is saved on the same drive."""
    absolute = cameras.absolute(folder)
    if not bpy.data.filepath:
        return absolute
    try:
        return bpy.path.relpath(absolute, start=str(Path(bpy.data.filepath).parent)).replace("\\", "/")
    except ValueError:
        return absolute


def move(scene: bpy.types.Scene, folder: str) -> None:
    """Have every scene that shows the scene's project, and its root, show the project in another folder."""
    old, kept = workspace_of(scene), as_kept(folder)
    for holder, name in list(_holders()):
        if name in ("workspace", cameras.WORKSPACE) and cameras.absolute(_get(holder, name)) == old:
            _set(holder, name, kept)
            if name == "workspace":
                holder.opened_workspace = kept


# -- Save As -----------------------------------------------------------------------------------------------------


def _holders() -> Iterator[tuple[Any, str]]:
    """Everything that keeps a path which may begin with “//”, and by what name."""
    for scene in bpy.data.scenes:
        if scene.library is None and hasattr(scene, "instruct_nerf"):
            yield from ((scene.instruct_nerf, name) for name in RELATIVE)
    for item in (*bpy.data.objects, *bpy.data.collections):
        if item.library is None and cameras.WORKSPACE in item:
            yield item, cameras.WORKSPACE


def _get(holder: Any, name: str) -> str:
    return str(holder[name]) if name == cameras.WORKSPACE else getattr(holder, name)


def _set(holder: Any, name: str, path: str) -> None:
    if name == cameras.WORKSPACE:
        holder[name] = path
    else:
        setattr(holder, name, path)


def relative_paths(blend: str = "") -> list[tuple[Any, str, str]]:
    """What keeps a path that begins with “//”, by what name, and the absolute path that is meant now; so is one that
    leads to below the folder of the file ``blend``, so that both can be moved together."""
    folder = Path(blend).parent if blend else None
    return [
        (holder, name, bpy.path.abspath(path))
        for holder, name in _holders()
        if (path := _get(holder, name)).startswith("//") or (path and folder and _below(path, folder))
    ]


def _below(path: str, folder: Path) -> bool:
    return Path(path).is_absolute() and Path(path) != folder and Path(path).is_relative_to(folder)


def rebase(paths: list[tuple[Any, str, str]], blend: str) -> None:
    """Write paths as they are seen from a .blend file: absolute where none leads there, as to another drive."""
    folder = str(Path(blend).parent)
    for holder, name, absolute in paths:
        try:
            path = bpy.path.relpath(absolute, start=folder).replace("\\", "/")
        except ValueError:
            path = absolute
        try:
            _set(holder, name, path)
        except ReferenceError:
            continue
