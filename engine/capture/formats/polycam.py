# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Polycam's raw data export: a folder `keyframes` with a JSON file and a picture for each view.

`corrected_cameras` and `corrected_images` are what Polycam's own optimisation made of `cameras` and `images`, and are
taken where they are. A camera holds `fx`, `fy`, `cx`, `cy`, `width`, `height` in pixels and t_00 … t_23, the rows of
its camera-to-world matrix with OpenGL's camera axes; since 2025 corrected ones hold no size, and it is that of the
camera before its correction, or of the picture. The world is ARKit's: metres, y up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from engine.capture.fields import as_number, checked_lens, number, rigid_pose, size_of
from engine.capture.lens import Lens
from engine.capture.lookup import Photos, pictures_in
from engine.capture.photos import Photo, SkipView
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_json
from engine.capture.types import CaptureError

NAME = "Polycam"
_PAIRS = (("corrected_cameras", "corrected_images"), ("cameras", "images"), ("corrected_cameras", "images"))


def find(folder: Path) -> Path | None:
    """The folder itself where it is, or holds, a folder `keyframes` of cameras and pictures."""
    return folder if _keyframes(folder) else None


def _keyframes(folder: Path) -> tuple[str, str] | None:
    """(cameras, pictures): the two folders to read, relative to `folder`."""
    for place in ("keyframes/", ""):
        for cameras, pictures in _PAIRS:
            if _cameras_in(folder / place / cameras) and pictures_in(folder / place / pictures):
                return place + cameras, place + pictures
    return None


def _cameras_in(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name for name in names if name.lower().endswith(".json") and not name.startswith("."))


def read(folder: Path) -> Reading:
    """All shots of an export. Raises CaptureError for the folder, and lists single bad cameras as left out."""
    found = _keyframes(folder)
    assert found is not None
    cameras, pictures = folder / found[0], found[1]
    files = _cameras_in(cameras)
    check_count(len(files), cameras, "cameras")
    reading = Reading(folder, NAME, up=np.array([0.0, 1.0, 0.0]))
    if ("corrected" in found[0]) != ("corrected" in found[1]):
        reading.notes.append(
            "Its corrected cameras were taken with the pictures before their correction: no others are there."
        )
    photos = Photos(folder)
    for name in files:
        listed = f"{pictures}/{name[: -len('.json')]}"
        with reading.leaving_out(listed):
            photo = photos.find(listed)
            camera = _camera(cameras / name)
            rows = [[as_number(camera.get(f"t_{row}{k}"), f"t_{row}{k}") for k in range(4)] for row in range(3)]
            size = _size(camera, cameras.parent / "cameras" / name, photo)
            values = [number(camera, key) for key in ("fx", "fy", "cx", "cy")]
            lens = checked_lens(Lens("PINHOLE", *values), size)
            pose = rigid_pose(rows, f"The matrix t_00 … t_23 of {name[-120:]}")
            reading.shots.append(Shot(listed, photo, pose, lens, *size))
    return reading


def _camera(path: Path) -> dict[str, Any]:
    try:
        camera = read_json(path)
    except CaptureError as problem:
        raise SkipView(problem.message) from None
    if not isinstance(camera, dict):
        raise SkipView(f"{path.name[-120:]} is not a JSON object.")
    return camera


def _size(camera: dict[str, Any], before: Path, photo: Photo) -> tuple[float, float]:
    """The size that a camera's values are for. Raises BadField."""
    if camera.get("width") is None or camera.get("height") is None:
        try:
            return size_of(_camera(before))
        except SkipView:
            return float(photo.width), float(photo.height)
    return size_of(camera)
