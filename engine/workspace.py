# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of one project: the opened capture, the unedited scene, and a tree of edits.

    capture/capture.json, images/…      pinhole views at working size; points.ply, where the source has points
    registered/images/, sparse/0/       photos whose cameras were found here
    scene/scene.json, checkpoint.safetensors, views/…
    scene/depths.safetensors, planes.safetensors   what photos were found to know of depth (engine/jobs/kept_depths.py)
    edits/<id>/edit.json, checkpoint.safetensors, keys/…, images/…, views/…, frames/<name>/…, mesh.ply
    edits/<id>/label.json               what the artist calls it, and whether it is muted
    tries/<id>/try.json, …              what was tried (engine/tries.py)
    deleted/…                           edits that were deleted where the system has no trash
    jobs/<id>/job.json, …               jobs that outlive who began them (engine/detached.py)

Every file is written under a temporary name and renamed, so what is there is whole.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from engine import files, typed
from engine.errors import BadInput, cannot_write
from engine.files import checked_path, exclusive_folder, inside, is_link, read_record, write_record
from engine.records import EditLabel, EditRecord, Numbers, SceneRecord
from engine.results import Damaged

P = ParamSpec("P")
R = TypeVar("R")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
# What else is there is the artist's.
OWN_FOLDERS = ("capture", "scene", "edits", "registered", "tries", "deleted", "jobs")
_OTHERS = ("registered", "jobs")  # not swept: one is replaced as a whole, in the other several processes write
TRY = re.compile(r"\d{8}-\d{6}-\d{3}")  # a try's id: the time, to the millisecond
TRY_RECORD = "try.json"
_TRY_PICTURE = re.compile(r"\d{2}\.png|sheet\.png")


class Workspace:
    """Paths and records of one project's folder. No path that it gives leads out of the folder by a link."""

    def __init__(self, folder: Path | str):
        """Raises BadInput where ``folder`` is no path that a folder can have."""
        self.folder = checked_path(folder, "workspace")

    def below(self, *parts: str) -> Path:
        """A path in the project's folder. Raises BadInput where a link there leads out of it."""
        return inside(self.folder, self.folder.joinpath(*parts))

    # the capture
    @property
    def capture_file(self) -> Path:
        return self.below("capture", "capture.json")

    @property
    def registered(self) -> Path:
        """Photos without cameras of their own, and the COLMAP model found of them."""
        return self.below("registered")

    @property
    def points(self) -> Path:
        """The capture's sparse points, where it has any."""
        return self.below("capture", "points.ply")

    @property
    def images(self) -> Path:
        return self.below("capture", "images")

    # the unedited scene
    @property
    def scene(self) -> Path:
        return self.below("scene")

    def scene_record(self) -> SceneRecord | None:
        """The unedited scene's record; None before its training began. Raises BadInput.

        Measures that are none are left out: the scene is measured anew.
        """
        file = self.scene / "scene.json"
        try:
            return read_record(file, SceneRecord)
        except BadInput as damage:
            with contextlib.suppress(BadInput, msgspec.ValidationError):
                fields = read_record(file, dict[str, Any]) or {}
                return typed.convert({**fields, "measures": None}, SceneRecord)
            raise damage

    def save_scene(self, record: SceneRecord) -> None:
        write_record(self.scene / "scene.json", record)

    # edits
    def edit(self, edit: str) -> Path:
        """The folder of an edit. Raises BadInput where ``edit`` is no name."""
        return self.below("edits", checked_name(edit, "edit"))

    def edit_record(self, edit: str) -> EditRecord:
        """An edit's record. Raises BadInput where there is none, or where it is damaged."""
        file = self.edit(edit) / "edit.json"
        record = read_record(file, EditRecord)
        if record is None:
            raise BadInput(f"There is no edit {edit} in {self.folder}.", field="edit")
        wrong = _contradiction(record, edit)
        if wrong:
            raise BadInput(f"{file} is damaged ({wrong}); delete it to begin anew.", file=file, field="edit")
        return record

    def save_edit(self, record: EditRecord) -> None:
        write_record(self.edit(record.id) / "edit.json", record)

    def edits(self) -> list[EditRecord]:
        """Every edit that can be read, oldest first."""
        return self.read_edits()[0]

    def read_edits(self) -> tuple[list[EditRecord], list[Damaged]]:
        """Every edit, oldest first, and those whose record is damaged: the others are still good. None of them stands
        on itself, by way of others either."""
        good, damaged = [], []
        for name in self._edit_names():
            if not (self.folder / "edits" / name / "edit.json").exists():
                continue
            try:
                good.append(self.edit_record(name))
            except BadInput as error:
                damaged.append(Damaged(name, error.message))
        parents = {record.id: record.parent for record in good}
        round_about = {edit for edit in parents if _stands_on_itself(edit, parents)}
        damaged += [
            Damaged(edit, f"{self.edit(edit) / 'edit.json'} is damaged (it stands on itself, by way of others); "
                    "delete the edit.")
            for edit in sorted(round_about)
        ]  # fmt: skip
        return [record for record in good if record.id not in round_about], damaged

    def label(self, edit: str) -> EditLabel:
        """What the artist calls an edit; nothing, where that cannot be read."""
        with contextlib.suppress(BadInput):
            return read_record(self.edit(edit) / "label.json", EditLabel) or EditLabel()
        return EditLabel()

    def save_label(self, edit: str, label: EditLabel) -> None:
        write_record(self.edit(edit) / "label.json", label)

    def _edit_names(self) -> list[str]:
        with contextlib.suppress(OSError), os.scandir(self.below("edits")) as entries:
            return sorted(e.name for e in entries if NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
        return []

    def create_edit(self, record: EditRecord) -> EditRecord:
        """Take an id that no other edit has, a number and the instruction's words (0003-make-it-night), and write the
        record before anything else of the edit. Returns it with its id. Raises BadInput."""
        words = re.sub(r"[^a-z0-9]+", "-", record.instruction.lower()).strip("-")[:40].strip("-")
        folder = self._numbered(words or "edit")
        record = msgspec.structs.replace(record, id=folder.name, created=time.time())
        try:
            self.save_edit(record)
        except BaseException:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise
        return record

    def _numbered(self, words: str) -> Path:
        """A new folder of an edit. A number is taken by an empty folder that is renamed: never twice, whatever the
        words, even on a disk that knows no locks."""
        parent = self.below("edits")
        while True:
            number = self._last_number() + 1
            taken = exclusive_folder(parent, (f"{_TAKING}{n:04d}" for n in range(number, number + 1000)))
            number = taken.name.removeprefix(_TAKING)
            try:
                if any(name.startswith(f"{number}-") for name in self._edit_names()):
                    taken.rmdir()
                    continue
                return taken.rename(parent / f"{number}-{words}")
            except OSError as error:
                with contextlib.suppress(OSError):
                    taken.rmdir()
                raise cannot_write(parent, error) from error

    def _last_number(self) -> int:
        numbers = [int(name.split("-")[0]) for name in self._edit_names() if _NUMBERED.match(name)]
        with contextlib.suppress(BadInput):
            if kept := read_record(self.below("edits", "numbers.json"), Numbers):
                numbers.append(kept.last)
        return max(numbers, default=0)

    def keep_numbers(self) -> None:
        """Before edits are deleted: no later one gets the number of one that may be brought back, or was stood on."""
        write_record(self.below("edits", "numbers.json"), Numbers(self._last_number()))

    def forget_unbegun(self, edit: str) -> None:
        """Remove an edit that failed before anything of it was made."""
        folder = self.edit(edit)
        with contextlib.suppress(OSError):
            if set(os.listdir(folder)) <= {"edit.json"}:
                (folder / "edit.json").unlink(missing_ok=True)
                folder.rmdir()

    def checkpoint(self, edit: str | None) -> Path:
        """The checkpoint of an edit, or of the unedited scene."""
        return (self.scene if edit is None else self.edit(edit)) / "checkpoint.safetensors"

    def views(self, edit: str | None) -> Path:
        """The folder of final renders of an edit, or of the unedited scene."""
        return (self.scene if edit is None else self.edit(edit)) / "views"

    def output(self, edit: str | None) -> Path:
        """The folder for an edit's, or the unedited scene's, mesh and frames."""
        return self.scene if edit is None else self.edit(edit)

    # what was tried
    def try_names(self) -> list[str]:
        """Ids of what was tried, oldest first."""
        with contextlib.suppress(OSError), os.scandir(self.below("tries")) as entries:
            names = sorted(e.name for e in entries if TRY.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
            return [name for name in names if (self.folder / "tries" / name / TRY_RECORD).exists()]
        return []

    # one engine at a time
    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Be the only one to write in the project until the block ends; readers are not kept waiting.

        What a killed engine left half done is removed first. Raises Busy, which says who works there; BadInput where
        the project cannot be written, or where one of its folders is a link that leads out of it.
        """
        with files.locked(self.folder, what) as first:
            if first:
                for folder in self._folders():
                    files.probe(folder)
                self.sweep()
            yield

    def _folders(self) -> Iterator[Path]:
        """Folders that jobs write to, as far as they exist. Raises BadInput where one leads out of the project."""
        for name in OWN_FOLDERS:
            folder = self.below(name)
            if folder.is_dir():
                yield folder
                for inner in ("images", "views"):
                    if name in ("capture", "scene") and (folder / inner).is_dir():
                        yield self.below(name, inner)

    def tidy(self) -> None:
        """Remove what a killed engine left half done, where there is any and nobody works in the project."""
        with contextlib.suppress(BadInput):
            if self._left_half_done():
                with self.writing("tidying up"):
                    pass

    def _left_half_done(self) -> bool:
        own = (self.folder / name for name in OWN_FOLDERS if name not in _OTHERS and not is_link(self.folder / name))
        return (
            os.path.lexists(self.folder / files.ASIDE.format("registered"))
            or bool(files.folders_left(self.folder))
            or any(True for folder in own for _ in files.leftovers(folder))
            or any(True for _ in self._unrecorded())
        )

    def sweep(self) -> None:
        """Remove what a killed engine left half done; only for who holds the lock."""
        aside, registered = self.folder / files.ASIDE.format("registered"), self.folder / "registered"
        if os.path.lexists(aside) and not os.path.lexists(registered):
            with contextlib.suppress(OSError):
                os.replace(aside, registered)  # killed between the two renames of an exchange
        for name in files.folders_left(self.folder):
            with contextlib.suppress(OSError):
                files.remove_tree(self.folder / name)
        for name in OWN_FOLDERS:
            if name not in _OTHERS and not is_link(self.folder / name):
                files.sweep(self.folder / name)
        for folder in self._unrecorded():
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()

    def _unrecorded(self) -> Iterator[Path]:
        """Folders of edits, and of tries, that were killed before they had a record: with nothing of the artist's in
        them."""
        with contextlib.suppress(OSError, BadInput), os.scandir(self.below("tries")) as entries:
            for entry in entries:
                ours = TRY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                if ours and all(_TRY_PICTURE.fullmatch(name) for name in os.listdir(entry.path)):
                    yield Path(entry.path)
        with contextlib.suppress(OSError, BadInput), os.scandir(self.below("edits")) as entries:
            for entry in entries:
                ours = NAME.fullmatch(entry.name) or entry.name.startswith(_TAKING)
                if not ours or not entry.is_dir(follow_symlinks=False):
                    continue
                if set(os.listdir(entry.path)) <= {"checkpoint.safetensors"}:
                    yield Path(entry.path)


_TAKING = ".number-"
_NUMBERED = re.compile(r"\d{4,9}-")


def _contradiction(record: EditRecord, edit: str) -> str | None:
    if record.id != edit:
        return f"it is the record of {files.shortened(record.id)!r}"
    if len(set(record.chosen)) < len(record.chosen) or not record.chosen:
        return "its list of views names one twice, or none"
    if {change.view for change in record.changes if change.view is not None} - set(record.chosen):
        return "it was to make views again that it does not have"
    if record.parent == record.id:
        return "it stands on itself"
    return None


def _stands_on_itself(edit: str, parents: Mapping[str, str | None]) -> bool:
    above, seen = parents[edit], set()
    while above in parents and above not in seen and above != edit:
        seen.add(above)
        above = parents[above]
    return above == edit


def writes(what: str, makes_project: bool = False) -> Callable:
    """Of a job that writes in the project that its request names: nobody else does meanwhile. ``what`` completes
    “another engine has been …”. A project whose capture was never opened is not made, unless ``makes_project``."""

    def decorate(job: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
        @functools.wraps(job)
        def alone(request: Any, *rest: P.args, **named: P.kwargs) -> R:
            workspace = Workspace(request.workspace)
            if not makes_project and not workspace.capture_file.exists():
                raise BadInput(f"No capture was opened in {workspace.folder}; open one first.", file=workspace.folder)
            with workspace.writing(what):
                return job(request, *rest, **named)

        return alone

    return decorate


def checked_name(name: str, field: str) -> str:
    """``name``, where it can name a file inside a folder and nothing else. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{files.shortened(name)!r} cannot be the name of a {field}: letters, digits, '.', '_' and '-' only.",
            field=field,
        )
    return name
