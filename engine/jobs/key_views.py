# SPDX-License-Identifier: GPL-3.0-or-later
"""Key views of an edit: the pictures that were approved, read once, kept with the edit, and read again when it is
resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.capture import Capture, View
from engine.editors.base import Editor
from engine.editors.catalogue import load_editor
from engine.editors.registry import is_picture
from engine.errors import BadInput
from engine.pictures import load_picture, save_picture
from engine.progress import Job
from engine.protocol import KeyView
from engine.records import EditRecord
from engine.workspace import Workspace


def check_keys(keys: Sequence[KeyView], chosen: Sequence[View], job: Job) -> None:
    """Raises BadInput, naming the file or field, where a key view is none of those that are edited, is named twice, or
    its picture cannot be its edit: before an hour is spent on anything else."""
    views = {view.name: view for view in chosen}
    seen: set[str] = set()
    for key in keys:
        job.check()
        view = views.get(key.view)
        if view is None:
            raise BadInput(f"The key view {key.view} is not one that is edited.", field="key_views")
        if key.view in seen:
            raise BadInput(f"The view {key.view} is a key view twice; approve one picture of it.", field="key_views")
        seen.add(key.view)
        try:
            _picture(key).prepare("", {}).view(torch.zeros(view.intrinsics.height, view.intrinsics.width, 3))
        except BadInput as problem:
            raise BadInput(problem.message, file=problem.file, field="key_views") from None


def save_keys(
    workspace: Workspace, capture: Capture, record: EditRecord, keys: Sequence[KeyView], own: dict[str, Path], job: Job
) -> None:
    """Keep the approved pictures with the edit, at their views' size. Where one is transparent, it shows what the edit
    begins with: ``own``, by the view's name, else the capture's picture."""
    for key in keys:
        job.check()
        path = own.get(key.view, workspace.images / capture.view(key.view).image)
        original = load_picture(path).float() / 255
        picture = _picture(key).prepare("", {}).view(original).edit(original, 1.0, torch.Generator())
        save_picture(workspace.edit(record.id) / "keys" / f"{key.view}.png", picture)


def kept_keys(workspace: Workspace, views: Sequence[View], record: EditRecord) -> dict[int, Tensor]:
    """The approved pictures of an edit's key views, (H, W, 3) uint8, by the view's number. Raises BadInput where one is
    damaged."""
    found = {}
    for number, view in enumerate(views):
        if view.name not in record.key_views:
            continue
        path = workspace.edit(record.id) / "keys" / f"{view.name}.png"
        picture = load_picture(path)
        if tuple(picture.shape[:2]) != (view.intrinsics.height, view.intrinsics.width):
            raise BadInput(f"{path} is not of its view's size; begin the edit again.", file=path)
        found[number] = picture
    return found


def _picture(key: KeyView) -> Editor:
    if not is_picture(key.picture):
        raise BadInput(
            f"There is no picture {key.picture}, the edit of the key view {key.view}; choose an image file.",
            file=key.picture,
            field="key_views",
        )
    return load_editor(key.picture, "cpu")
