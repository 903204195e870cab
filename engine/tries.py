# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried in a project, kept to go back to: a record and its pictures in a folder of their own under tries/.

    tries/<id>/try.json, 00.png, 01.png, …     one picture a cell; sheet.png, where there is more than one

An id is the time, and so never used twice: what an approved picture was called, no other is called later.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from engine.errors import BadInput, cannot_write
from engine.files import exclusive_folder, inside, is_link, read_record, remove_file, remove_tree, write_record
from engine.pictures import save_picture
from engine.protocol import MOST_CELLS, OptionValue
from engine.records import Name
from engine.results import Cell, Damaged, Tried
from engine.workspace import TRY, TRY_RECORD, Workspace

Side = Annotated[int, Meta(ge=0, le=100_000)]  # pixels
Options = Annotated[dict[str, OptionValue], Meta(max_length=256)]


class CellRecord(msgspec.Struct, frozen=True):
    """One edit: what was asked for, a value for every knob of the editor, and where its picture is in that of all."""

    instruction: Annotated[str, Meta(max_length=10_000)]
    options: Options
    settings: Options
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    box: tuple[Side, Side, Side, Side]  # x, y from the upper left, width, height; pixels


class TryRecord(msgspec.Struct, frozen=True):
    """try.json: which view was edited, by which editor, and how."""

    view: Annotated[str, Meta(max_length=255)]
    editor: Annotated[str, Meta(max_length=4096)]
    columns: Annotated[int, Meta(ge=1, le=MOST_CELLS)]
    cells: Annotated[list[CellRecord], Meta(min_length=1, max_length=MOST_CELLS)]
    parent: Name | None = None  # the edit that the one tried would stand on; None: the captured photo was edited


class NewTry:
    """A try that is being made: its pictures are written one by one, and it is there once it was finished. Only for who
    holds the project's lock."""

    def __init__(self, workspace: Workspace):
        """Takes an id that no other has. Raises BadInput."""
        now = time.time_ns() // 1_000_000
        self.folder = exclusive_folder(workspace.below("tries"), (_id(now + later) for later in range(1000)))
        self.pictures: list[np.ndarray] = []  # (H, W, 3) uint8, of the cells that were edited so far

    def add(self, picture: np.ndarray) -> Path:
        """Write the next cell's picture, (H, W, 3) uint8; where it lies. Raises BadInput."""
        path = self.folder / _picture(len(self.pictures))
        save_picture(path, picture)
        self.pictures.append(picture)
        return path

    def finish(self, record: TryRecord, sheet: np.ndarray | None) -> str:
        """Write the record of all cells that were added, and the contact sheet of several; the id. Raises BadInput."""
        assert len(record.cells) == len(self.pictures)
        if sheet is not None:
            save_picture(self.folder / "sheet.png", sheet)
        write_record(self.folder / TRY_RECORD, record)
        return self.folder.name

    def discard(self) -> None:
        """Leave nothing of it."""
        with contextlib.suppress(OSError):
            remove_tree(self.folder)


def tried(workspace: Workspace, name: str, befores: dict[str, str]) -> Tried:
    """What was tried, by its id. ``befores``: where each view's own picture lies, by its name. Raises BadInput where
    there is no such try, or where it is damaged."""
    folder = _folder(workspace, name)
    record = read_record(folder / TRY_RECORD, TryRecord)
    if record is None:
        raise BadInput(f"There is no try {name} in {workspace.folder}.", field="id")

    def picture(called: str) -> str:
        path = folder / called
        return str(inside(workspace.folder, path) if is_link(path) else path)  # looked up only where it leads elsewhere

    cells = [
        Cell(c.instruction, c.options, c.settings, c.seed, picture(_picture(number)), c.box)
        for number, c in enumerate(record.cells)
    ]
    after = cells[0].image if len(cells) == 1 else picture("sheet.png")
    before = befores.get(record.view, "") if record.parent is None else _parents(workspace, record)
    return Tried(name, record.view, record.editor, record.parent, before, after, record.columns, cells)


def _parents(workspace: Workspace, record: TryRecord) -> str:
    """Where the picture lies that was edited, of the edit that a try would stand on; empty where it is gone."""
    assert record.parent
    folder = workspace.edit(record.parent)
    places = (inside(folder, folder / part / f"{record.view}.png") for part in ("images", "views"))
    return next((str(path) for path in places if path.exists()), "")


def all_tried(workspace: Workspace, befores: dict[str, str]) -> tuple[list[Tried], list[Damaged]]:
    """Everything that was tried, oldest first, and what of it is damaged: the rest is still good."""
    good: list[Tried] = []
    damaged: list[Damaged] = []
    try:
        names = workspace.try_names()
    except BadInput as error:
        return [], [Damaged("tries", error.message)]
    for name in names:
        try:
            good.append(tried(workspace, name, befores))
        except BadInput as error:
            damaged.append(Damaged(name, error.message))
    return good, damaged


def delete_try(workspace: Workspace, name: str) -> bool:
    """Delete what was tried, its record first, so that what is left of a killed deletion goes at the next opening;
    whether there was any. Raises BadInput."""
    folder = _folder(workspace, name)
    there = (folder / TRY_RECORD).exists()
    remove_file(folder / TRY_RECORD)
    try:
        remove_tree(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return there


def _folder(workspace: Workspace, name: str) -> Path:
    if not TRY.fullmatch(name):
        raise BadInput("A try's id is the one that workspace/read gives it.", field="id")
    return workspace.below("tries", name)


def _id(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{rest:03d}"


def _picture(number: int) -> str:
    return f"{number:02d}.png"
