# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of the `cameras.json` that 3D Gaussian Splatting's original program writes beside what it trained.

A list of cameras: `img_name` (in older versions without extension), `width`, `height`, `fx`, `fy` in pixels, `position`
(3,) and `rotation` (3, 3), camera to world with the axes x right, y down, z forward. The principal point is the middle
and there is no distortion: the program trains on undistorted pictures. The pictures themselves lie elsewhere, where it
was told to read them; they are looked for by name in the folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.capture.formats.source_files import (
    BadField,
    PhotosByName,
    check_count,
    checked_lens,
    number,
    numbers,
    opengl_pose,
    read_json,
    size_of,
)
from engine.capture.photos import SkipView, inside
from engine.capture.ply import read_points
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut

NAME = "cameras.json"
POINTS = "input.ply"  # those that training began with, beside it


def read(path: Path) -> Reading:
    """All shots of a cameras file. Raises CaptureError for the file, and lists single bad cameras as left out."""
    cameras = read_json(path)
    if not isinstance(cameras, list):
        raise CaptureError(f"{path.name} is not a list of cameras, as 3D Gaussian Splatting writes it.", file=path)
    check_count(len(cameras), path, "cameras")
    reading = Reading(path.parent, "3D Gaussian Splatting cameras.json")
    photos = PhotosByName(path.parent)
    for index, camera in enumerate(cameras):
        listed = f"camera {index}"
        try:
            if not isinstance(camera, dict) or not isinstance(camera.get("img_name"), str):
                raise SkipView(f"Camera {index} has no img_name.")
            listed = camera["img_name"]
            photo = photos.find(listed)
            rows = camera.get("rotation")
            if not isinstance(rows, list) or len(rows) != 3:
                raise SkipView(f"The rotation of {listed[:120]} is not a 3 × 3 matrix.")
            rotation = np.array([numbers(row, 3, f"The rotation of {listed[:120]}") for row in rows])
            position = numbers(camera.get("position"), 3, f"The position of {listed[:120]}")
            pose = rigid_pose(opengl_pose(rotation, position), f"The rotation of {listed[:120]}")
            try:
                width, height = size_of(camera)
                focal = number(camera, "fx"), number(camera, "fy")
                lens = checked_lens("PINHOLE", focal, (width / 2, height / 2), (), (width, height))
            except BadField as problem:
                raise SkipView(f"Of {listed[:120]}, {problem}.") from None
            reading.shots.append(Shot(listed, photo, pose, lens, width, height))
        except SkipView as problem:
            reading.left_out.append(LeftOut(listed[:300], str(problem)))
    if (path.parent / POINTS).is_file():
        try:
            reading.points = read_points(inside(path.parent, POINTS))
        except (CaptureError, SkipView) as problem:
            reading.notes.append(f"Its points are left out: {problem}")
    return reading
