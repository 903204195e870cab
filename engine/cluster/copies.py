# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole job in a copy of a project: what it needs is sent, what it made comes back, and only who asked writes it into
the project."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import protocol, typed
from engine.cluster.worker import RUNTIME, cache_folder
from engine.errors import BadInput
from engine.files import write_bytes
from engine.paths import read_bounded
from engine.pieces import Place
from engine.progress import Job
from engine.workspace import Workspace

LARGEST_FILE = 2**33  # bytes
# Request → module of engine.jobs and function: what is done in copies.
JOBS = {"scene/train": ("scene", "train_scene"), "edit/resume": ("edit", "resume_edit")}


@dataclass(frozen=True)
class CopiedJob:
    """A job for a copy. ``params``: of the request, without the workspace."""

    method: str
    params: Mapping[str, Any]


def needed(workspace: Workspace, edit: str | None) -> list[Path]:
    """The files that training the scene, or an edit, reads of a project: of the folders that are there."""
    folders = [workspace.capture_file.parent, workspace.images, workspace.scene, workspace.views(None)]
    if edit is not None:
        record = workspace.edit_record(edit)
        for one in (record.parent, edit):
            if one is not None:
                folders += [workspace.edit(one), *(workspace.edit(one) / part for part in ("images", "keys", "views"))]
    skipped = {"mesh.ply", "splats.ply", "surfels.bin"}
    return [
        path
        for folder in folders if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name not in skipped
    ]  # fmt: skip


def done_in_copy(names: list[str], order: CopiedJob, place: Place) -> dict[str, bytes]:
    """A piece: a job in a copy of the project whose files (``names``, from its folder on) the place has; the files that
    are new or others after it, by name."""
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="copy-") as folder:
        copy = Path(folder)
        before = {}
        for name, source in zip(names, place.files, strict=True):
            target = copy.joinpath(*name.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            before[name] = (state := target.stat()).st_mtime_ns, state.st_ino
        module, function = JOBS[order.method]
        kind = protocol.REQUESTS[order.method]
        request = typed.convert({**order.params, "workspace": folder, "device": place.device}, kind)
        getattr(importlib.import_module(f"engine.jobs.{module}"), function)(request, _job(place))
        made = {}
        for path in sorted(copy.rglob("*")):
            name = path.relative_to(copy).as_posix()
            if path.is_file() and not path.name.startswith("."):
                state = path.stat()
                if before.get(name) != (state.st_mtime_ns, state.st_ino):
                    made[name] = read_bounded(path, LARGEST_FILE)
        return made


def _job(place: Place) -> Job:
    def on_progress(progress: protocol.Progress) -> None:
        place.tell(f"{progress.label}, {100 * progress.fraction:.0f} %")

    return Job(on_progress=on_progress, runtime=RUNTIME)


def bring_back(workspace: Workspace, made: Mapping[str, bytes]) -> None:
    """Write what a job made in a copy into the project: its record last, which tells of the rest. Only for who holds
    the project's lock. Raises BadInput."""

    def last(name: str) -> tuple[bool, str]:
        return name.endswith(("edit.json", "scene.json", "capture.json")), name

    for name in sorted(made, key=last):
        parts = name.split("/")
        if parts[0] not in ("capture", "scene", "edits") or any(
            part in ("", ".", "..") or os.sep in part for part in parts
        ):
            raise BadInput(f"A worker sent a file that is none of a project's: {name[:100]}.")
        write_bytes(workspace.below(*parts), made[name])
