# SPDX-License-Identifier: GPL-3.0-or-later
"""The system's trash: what an artist deletes can be brought back. Imports no torch."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path

from engine.errors import cannot_write
from engine.files import inside, is_link, make_folder


def to_trash(folder: Path, project: Path) -> Path | None:
    """Move a folder of a project to the system's trash or, where it has none that takes it, into the project's folder
    `deleted`. Where it lies then; None: in the system's trash. Raises BadInput where it can go nowhere, or is a link.
    """
    inside(project, folder)
    if not is_link(folder):
        try:
            _system_trash(folder)
            return None
        except OSError:  # none on this disk, or none at all
            if not os.path.lexists(folder):
                raise
    target = inside(project, project / "deleted")
    try:
        make_folder(target)
        for name in chain([folder.name], (f"{folder.name} {number}" for number in count(2))):
            if not os.path.lexists(target / name):
                os.rename(folder, target / name)
                return target / name
    except OSError as error:
        raise cannot_write(folder, error) from error
    raise AssertionError("names never end")


def _system_trash(folder: Path) -> None:
    from send2trash import send2trash

    send2trash(str(folder))
