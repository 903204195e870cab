# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Record3D's export: `metadata.json` beside a folder `rgb` of pictures 0.jpg, 1.jpg, …, and of an unpacked
`.r3d`: `metadata` beside a folder `rgbd`.

`poses[i]` belongs to picture i: a quaternion (x, y, z, w) and a position, camera to world with OpenGL's camera axes,
for the picture as it is stored, portrait or landscape. The world is ARKit's: metres, y up. `K` (3, 3) is written column
by column, in pixels of a picture of `w` × `h`; newer versions add `perFrameIntrinsicCoeffs`, (fx, fy, cx, cy) a frame.
There are often more poses than pictures, and pictures may have been taken out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from engine.capture.fields import (
    BadField,
    as_number,
    checked_lens,
    numbers,
    rigid_pose,
    rotation_from_quaternion,
    size_of,
)
from engine.capture.lens import Lens
from engine.capture.lookup import pictures_in
from engine.capture.photos import SkipView, find_photo
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_json
from engine.capture.types import CaptureError

NAME = "metadata.json"
_PAIRS = ((NAME, "rgb"), ("metadata", "rgbd"), (NAME, "rgbd"), ("metadata", "rgb"))
_MOST_POSES = 1_000_000  # hours of film; only those with a picture are looked at


def find(folder: Path) -> Path | None:
    """The metadata file, in the folder or in the `EXR_RGBD` that Record3D's export makes in it."""
    for place in (folder, folder / "EXR_RGBD"):
        for name, pictures in _PAIRS:
            if (place / name).is_file() and (place / pictures).is_dir():
                return place / name
    return None


def read(path: Path) -> Reading:
    """All shots of an export. Raises CaptureError for the file, and lists single bad frames as left out."""
    meta = read_json(path)
    if not isinstance(meta, dict) or not isinstance(meta.get("poses"), list):
        raise CaptureError(f'{path.name} has no list "poses"; it is not Record3D\'s.', file=path, field="poses")
    poses = meta["poses"]
    if len(poses) > _MOST_POSES:
        raise CaptureError(f"{path.name} lists {len(poses):,} poses; it is not a capture's.", file=path, field="poses")
    pictures = next((folder for _, folder in _PAIRS if (path.parent / folder).is_dir()), "rgb")
    frames = {int(file.stem): file for file in _numbered(path.parent / pictures)}
    if not frames:
        raise CaptureError(
            f"The folder {pictures} beside {path.name} holds no pictures 0.jpg, 1.jpg, …; export from Record3D again.",
            file=path.parent / pictures,
        )
    check_count(len(frames), path.parent / pictures, "pictures")
    reading = Reading(path.parent, "Record3D", up=np.array([0.0, 1.0, 0.0]))
    try:
        size = size_of(meta, "w", "h")
        shared = _shared_lens(meta, size)
    except BadField as problem:
        raise CaptureError(f"In {path.name}, {problem}; export it again.", file=path, field=problem.field) from None
    for index, file in sorted(frames.items()):
        listed = f"{pictures}/{file.name}"
        with reading.leaving_out(listed):
            if index >= len(poses):
                raise SkipView(f"{path.name} has no pose for {listed}.")
            photo = find_photo(path.parent, listed)
            pose = _pose(poses[index], f"The pose of {listed}")
            lens = _own_lens(meta.get("perFrameIntrinsicCoeffs"), index, size) or shared
            reading.shots.append(Shot(listed, photo, pose, lens, *size))
    without = len(poses) - sum(index < len(poses) for index in frames)
    if without:
        reading.notes.append(f"{without} of {len(poses)} poses have no picture.")
    return reading


def _numbered(folder: Path) -> list[Path]:
    return [file for file in pictures_in(folder) if re.fullmatch(r"[0-9]{1,9}", file.stem)]


def _pose(values: Any, what: str) -> np.ndarray:
    values = numbers(values, 7, what)
    rows = np.eye(4)
    rows[:3, :3] = rotation_from_quaternion(values[:4], what)
    rows[:3, 3] = values[4:]
    return rigid_pose(rows, what)


def _shared_lens(meta: dict[str, Any], size: tuple[float, float]) -> Lens:
    columns = meta.get("K")
    if not isinstance(columns, list) or len(columns) != 9:
        raise BadField("K", "is not a list of 9 numbers")
    k = np.array([as_number(value, "K") for value in columns]).reshape(3, 3).T
    return checked_lens(Lens("PINHOLE", float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])), size)


def _own_lens(listed: Any, index: int, size: tuple[float, float]) -> Lens | None:
    """A frame's own intrinsics, where the file has them."""
    if not isinstance(listed, list) or index >= len(listed):
        return None
    values = listed[index]
    if not isinstance(values, list) or len(values) != 4:
        raise BadField("perFrameIntrinsicCoeffs", "is not a list of 4 numbers for each frame")
    return checked_lens(Lens("PINHOLE", *(as_number(value, "perFrameIntrinsicCoeffs") for value in values)), size)
