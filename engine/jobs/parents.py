# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit that stands on another: its originals are that one's pictures and scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.capture import View
from engine.errors import BadInput
from engine.pictures import picture_size
from engine.scenes.registry import open_scene
from engine.workspace import Workspace


def original_pictures(workspace: Workspace, views: Sequence[View], parent: str | None) -> dict[str, Path]:
    """Where the pictures lie that an edit of ``views`` begins with, by the view's name: those of the edit that it
    stands on, edited or else rendered from it; none of an edit of the captured scene."""
    if parent is None:
        return {}
    edited = workspace.edit(parent) / "images"
    rendered = workspace.views(parent)
    paths = ((view.name, edited / f"{view.name}.png", rendered / f"{view.name}.png") for view in views)
    return {name: own if own.exists() else render for name, own, render in paths}


def check_parent(workspace: Workspace, parent: str | None, views: Sequence[View], child: str = "") -> None:
    """Raises BadInput, in a sentence that names the edit and what to do, where none can stand on ``parent``: because it
    is gone, damaged or not finished, or its scene, or its pictures of ``views``, cannot be read. ``child``: the edit
    that stands on it already."""
    if parent is None:
        return
    stands = f"{child} stands on the edit {parent}, which" if child else f"The edit {parent}"
    other = f"or delete {child}" if child else "or choose another one to stand on"
    try:
        record = workspace.edit_record(parent)
    except BadInput as problem:
        if not workspace.edit(parent).is_dir():
            raise BadInput(
                f"{stands} is not in {workspace.folder}: bring it back from the trash, {other}.", field="parent"
            ) from None
        raise BadInput(problem.message, file=problem.file, field="parent") from None
    if not record.finished:
        raise BadInput(f"{stands} is not finished; resume it before another stands on it.", field="parent")
    try:
        open_scene(workspace.checkpoint(parent))
        for view in views:
            path = original_pictures(workspace, [view], parent)[view.name]
            if picture_size(path) != (view.intrinsics.width, view.intrinsics.height):
                raise BadInput(f"{path} is not of its camera's size", file=path)
    except BadInput as problem:
        raise BadInput(
            f"{stands} is not whole ({problem.message.split(';')[0].rstrip('.')}): resume it, which renders its views "
            f"again, bring back what is missing, {other}.",
            file=problem.file,
            field="parent",
        ) from None
