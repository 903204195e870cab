# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Polycam's raw data export: a folder `keyframes` with a JSON file and a picture for each view.

`corrected_cameras` and `corrected_images` are what Polycam's own optimisation made of `cameras` and `images`, and are
taken where they are. A camera holds `fx`, `fy`, `cx`, `cy`, `width`, `height` in pixels and t_00 … t_23, the rows of
its camera-to-world matrix with OpenGL's camera axes. The world is ARKit's: metres, y up.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from engine.capture.formats.source_files import (
    BadField,
    as_number,
    check_count,
    checked_lens,
    number,
    read_json,
    size_of,
)
from engine.capture.photos import SkipView, find_photo, inside
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut

NAME = "Polycam"
_PAIRS = (("corrected_cameras", "corrected_images"), ("cameras", "images"))


def find(folder: Path) -> Path | None:
    """The folder itself where it is, or holds, a folder `keyframes` of cameras and pictures."""
    return folder if _keyframes(folder) else None


def _keyframes(folder: Path) -> tuple[str, str] | None:
    """(cameras, pictures): the two folders to read, relative to `folder`."""
    for place in ("keyframes/", ""):
        for cameras, pictures in _PAIRS:
            if (folder / place / cameras).is_dir() and (folder / place / pictures).is_dir():
                return place + cameras, place + pictures
    return None


def read(folder: Path) -> Reading:
    """All shots of an export. Raises CaptureError for the folder, and lists single bad cameras as left out."""
    found = _keyframes(folder)
    assert found is not None
    try:
        cameras, pictures = inside(folder, found[0]), found[1]
    except SkipView as problem:
        raise CaptureError(str(problem), file=folder / found[0]) from None
    files = sorted(name for name in os.listdir(cameras) if name.endswith(".json") and not name.startswith("."))
    check_count(len(files), cameras, "cameras")
    reading = Reading(folder, NAME, up=np.array([0.0, 1.0, 0.0]))
    for name in files:
        listed = f"{pictures}/{name.removesuffix('.json')}"
        try:
            photo = find_photo(folder, listed)
            try:
                camera = read_json(inside(folder, f"{found[0]}/{name}"))
            except CaptureError as problem:
                raise SkipView(problem.message) from None
            if not isinstance(camera, dict):
                raise SkipView(f"{name[:120]} is not a JSON object.")
            try:
                rows = [[as_number(camera.get(f"t_{row}{k}"), f"t_{row}{k}") for k in range(4)] for row in range(3)]
                size = size_of(camera)
                focal = number(camera, "fx"), number(camera, "fy")
                lens = checked_lens("PINHOLE", focal, (number(camera, "cx"), number(camera, "cy")), (), size)
            except BadField as problem:
                raise SkipView(f"In {name[:120]}, {problem}.") from None
            pose = rigid_pose(rows, f"The matrix t_00 … t_23 of {name[:120]}")
            reading.shots.append(Shot(listed, photo, pose, lens, *size))
        except SkipView as problem:
            reading.left_out.append(LeftOut(listed[:300], str(problem)))
    return reading
