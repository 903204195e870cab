# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Blender-synthetic sets: `transforms_train.json`, `transforms_val.json` and `transforms_test.json`.

Each is a transforms file of its own (a field of view, camera-to-world poses in Blender's axes, pictures listed without
extension). What is for validation and test is held out of training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.capture.formats import transforms_json
from engine.capture.reading import Reading
from engine.capture.types import CaptureError

NAME = "Blender-synthetic"
_SPLITS = ("train", "val", "test")


def find(folder: Path) -> Path | None:
    """The folder itself where one of the three files lies in it."""
    return folder if any((folder / f"transforms_{split}.json").is_file() for split in _SPLITS) else None


def read(folder: Path) -> Reading:
    """All shots of the splits that are there. Raises CaptureError where none can be read."""
    whole = Reading(folder, NAME)
    problems: list[CaptureError] = []
    seen: dict[str, str] = {}
    twice = 0
    for split in _SPLITS:
        path = folder / f"transforms_{split}.json"
        if not path.is_file():
            continue
        try:
            part = transforms_json.read(path)
        except CaptureError as problem:  # a broken list of test pictures takes nothing from the others
            problems.append(problem)
            continue
        if part.shots and part.root != (whole.root if seen else part.root):
            problems.append(CaptureError(f"The pictures of {path.name} lie elsewhere than the others.", file=path))
            continue
        whole.root = part.root if part.shots else whole.root
        for shot in part.shots:
            if seen.setdefault(shot.photo.file, split) != split:
                twice += 1
            else:
                whole.shots.append(replace(shot, held_out=split != "train"))
        whole.left_out += part.left_out
        whole.notes += part.notes
        whole.points = whole.points or part.points
    if problems and not whole.shots and not whole.left_out:
        raise problems[0]
    whole.notes += [problem.message for problem in problems]
    if twice:
        whole.notes.append(f"{twice} pictures stand in two of the lists; they belong to the first of train, val, test.")
    return whole
