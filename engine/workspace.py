# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of one project: the opened capture, the unedited scene, and a tree of edits.

    capture/capture.json, images/…      pinhole views at working size; points.ply, where the source has points
    registered/images/, sparse/0/       photos whose cameras were found here
    scene/scene.json, checkpoint.safetensors, views/…
    edits/<id>/edit.json, checkpoint.safetensors, images/…, views/…, frames/<name>/…, mesh.ply

Every file is written under a temporary name and renamed, so what is there is whole.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import BadInput
from engine.files import read_record, write_record

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class SceneRecord(msgspec.Struct, frozen=True):
    """scene.json: the unedited NeRF's preset and how far it is."""

    preset: str
    device: str
    seed: int
    steps: int
    of: int
    seconds: float = 0.0
    measures: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        return self.steps >= self.of


class EditRecord(msgspec.Struct, frozen=True):
    """edit.json: an edit's instruction, every setting and seed, its parent, and how far it is."""

    id: str
    instruction: str
    parent: str | None  # another edit's id; None: the unedited scene
    preset: str
    editor: str
    perceptual: str  # which measure was the perceptual loss; empty until training starts
    chosen: list[str]  # names of the views that it edits and trains on
    settings: dict[str, Any]
    steps: int
    seconds: float = 0.0
    peak_bytes: int = 0  # most memory held, of the GPU where there is one; 0: not known
    finished: bool = False


class Workspace:
    """Paths and records of one project's folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).expanduser().resolve()

    # the capture
    @property
    def capture_file(self) -> Path:
        return self.folder / "capture" / "capture.json"

    @property
    def registered(self) -> Path:
        """Photos without cameras of their own, and the COLMAP model found of them."""
        return self.folder / "registered"

    @property
    def points(self) -> Path:
        """The capture's sparse points, where it has any."""
        return self.folder / "capture" / "points.ply"

    @property
    def images(self) -> Path:
        return self.folder / "capture" / "images"

    # the unedited scene
    @property
    def scene(self) -> Path:
        return self.folder / "scene"

    def scene_record(self) -> SceneRecord | None:
        """The unedited scene's record; None before its training began. Raises BadInput."""
        return read_record(self.scene / "scene.json", SceneRecord)

    def save_scene(self, record: SceneRecord) -> None:
        write_record(self.scene / "scene.json", record)

    # edits
    def edit(self, edit: str) -> Path:
        """The folder of an edit. Raises BadInput where ``edit`` is no name."""
        return self.folder / "edits" / checked_name(edit, "edit")

    def edit_record(self, edit: str) -> EditRecord:
        """An edit's record. Raises BadInput where there is none."""
        record = read_record(self.edit(edit) / "edit.json", EditRecord)
        if record is None:
            raise BadInput(f"There is no edit {edit} in {self.folder}.", field="edit")
        return record

    def save_edit(self, record: EditRecord) -> None:
        write_record(self.edit(record.id) / "edit.json", record)

    def edits(self) -> list[EditRecord]:
        """Every edit, oldest first; a damaged record is passed over, for the others are still good."""
        records = []
        for file in sorted(self.folder.glob("edits/*/edit.json")):
            try:
                record = read_record(file, EditRecord)
            except BadInput:
                continue
            if record and record.id == file.parent.name:
                records.append(record)
        return records

    def new_edit_id(self, instruction: str) -> str:
        """A number and the instruction's words: 0003-make-it-night."""
        numbers = [int(p.name[:4]) for p in self.folder.glob("edits/[0-9][0-9][0-9][0-9]-*")]
        words = re.sub(r"[^a-z0-9]+", "-", instruction.lower()).strip("-")[:40].strip("-")
        return f"{max(numbers, default=0) + 1:04d}-{words or 'edit'}"

    def checkpoint(self, edit: str | None) -> Path:
        """The checkpoint of an edit, or of the unedited scene."""
        return (self.scene if edit is None else self.edit(edit)) / "checkpoint.safetensors"

    def views(self, edit: str | None) -> Path:
        """The folder of final renders of an edit, or of the unedited scene."""
        return (self.scene if edit is None else self.edit(edit)) / "views"

    def output(self, edit: str | None) -> Path:
        """The folder for an edit's, or the unedited scene's, mesh and frames."""
        return self.scene if edit is None else self.edit(edit)


def checked_name(name: str, field: str) -> str:
    """``name``, where it can name a file inside a folder and nothing else. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be the name of a {field}: letters, digits, '.', '_' and '-' only.", field=field
        )
    return name
