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

from engine.capture.fields import checked_lens, number, numbers, opengl_pose, rigid_pose, size_of
from engine.capture.lens import Lens
from engine.capture.lookup import Photos
from engine.capture.photos import Photo, SkipView
from engine.capture.ply import read_points
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_json, read_start
from engine.capture.types import CaptureError

NAME = "cameras.json"
POINTS = "input.ply"  # those that training began with, beside it


def find(folder: Path) -> Path | None:
    """`cameras.json`, where it is a list: OpenDroneMap calls something else so."""
    path = folder / NAME
    return path if read_start(path).lstrip().startswith("[") else None


def read(path: Path) -> Reading:
    """All shots of a cameras file. Raises CaptureError for the file, and lists single bad cameras as left out."""
    cameras = read_json(path)
    if not isinstance(cameras, list):
        raise CaptureError(f"{path.name} is not a list of cameras, as 3D Gaussian Splatting writes it.", file=path)
    check_count(len(cameras), path, "cameras")
    reading = Reading(path.parent, "3D Gaussian Splatting cameras.json")
    named = [camera["img_name"] for camera in cameras if isinstance(camera, dict) and "img_name" in camera]
    photos = Photos.near(path.parent, [name for name in named if isinstance(name, str)])
    reading.root = photos.root
    for index, camera in enumerate(cameras):
        listed = camera.get("img_name") if isinstance(camera, dict) else None
        with reading.leaving_out(listed if isinstance(listed, str) else f"camera {index}"):
            if not isinstance(listed, str):
                raise SkipView(f"Camera {index} has no img_name.")
            size = size_of(camera)
            photo = photos.find(listed, size)
            _check_undistorted(photo, size)
            rows = camera.get("rotation")
            if not isinstance(rows, list) or len(rows) != 3:
                raise SkipView(f"The rotation of {listed[-120:]} is not a 3 × 3 matrix.")
            rotation = np.array([numbers(row, 3, f"The rotation of {listed[-120:]}") for row in rows])
            position = numbers(camera.get("position"), 3, f"The position of {listed[-120:]}")
            pose = rigid_pose(opengl_pose(rotation, position), f"The rotation of {listed[-120:]}")
            focal = number(camera, "fx"), number(camera, "fy")
            lens = checked_lens(Lens("PINHOLE", *focal, size[0] / 2, size[1] / 2), size)
            reading.shots.append(Shot(listed, photo, pose, lens, *size))
    if (path.parent / POINTS).is_file():
        try:
            reading.points = read_points(path.parent / POINTS)
        except CaptureError as problem:
            reading.notes.append(f"Its points are left out: {problem}")
    return reading


def _check_undistorted(photo: Photo, size: tuple[float, float]) -> None:
    """Undistorting changes a picture's size a little; reducing it, a lot. Raises SkipView for the photo before it."""
    stored = (photo.width, photo.height)
    fits = any(abs(w - size[0]) <= 1 and abs(h - size[1]) <= 1 for w, h in (stored, stored[::-1]))
    if not fits and 0.8 < photo.width / size[0] < 1.25:
        raise SkipView(
            f"The picture {photo.file} has {photo.width} × {photo.height} pixels and its camera {size[0]:g} × "
            f"{size[1]:g}: it is the photo before it was undistorted; use the pictures in the folder “images” that 3D "
            "Gaussian Splatting was trained on."
        )
