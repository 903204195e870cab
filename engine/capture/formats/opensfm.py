# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of OpenSfM's `reconstruction.json`.

A list of reconstructions, each with `cameras`, `shots` (a picture's name → world-to-camera `rotation` as axis times
angle, and `translation`; axes x right, y down, z forward) and `points`. Lengths on the picture are in units of its
longer side, from its middle. The world is a map's: metres, z up.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
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
from engine.capture.lens import Lens
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut, SparsePoints

NAME = "reconstruction.json"
_OPENCV = ("k1", "k2", "p1", "p2", "k3", "", "", "")  # in the order of our model's parameters


def read(path: Path) -> Reading:
    """All shots of the largest reconstruction. Raises CaptureError for the file; single bad shots are left out."""
    whole = read_json(path)
    if not isinstance(whole, list):
        raise CaptureError(f"{path.name} is not a list of reconstructions, as OpenSfM writes it.", file=path)
    parts = [part for part in whole if isinstance(part, dict) and isinstance(part.get("shots"), dict)]
    check_count(len(parts), path, "reconstructions", "shots")
    parts.sort(key=lambda part: len(part["shots"]), reverse=True)
    largest = parts[0]
    check_count(len(largest["shots"]), path, "shots", "shots")
    reading = Reading(path.parent, "OpenSfM reconstruction.json", up=np.array([0.0, 0.0, 1.0]))
    cameras = largest.get("cameras") if isinstance(largest.get("cameras"), dict) else {}
    photos = PhotosByName(path.parent)
    for name, shot in largest["shots"].items():
        try:
            reading.shots.append(_shot(name, shot, cameras, photos))
        except SkipView as problem:
            reading.left_out.append(LeftOut(name[:300], str(problem)))
    if len(parts) > 1:
        others = sum(len(part["shots"]) for part in parts[1:])
        reading.notes.append(
            f"{path.name} holds {len(parts)} reconstructions that were not joined: the largest, of "
            f"{len(largest['shots'])} pictures, was opened; the others have {others}."
        )
    reading.points = _points(largest.get("points"))
    return reading


def _shot(name: str, shot: Any, cameras: dict[str, Any], photos: PhotosByName) -> Shot:
    if not isinstance(shot, dict):
        raise SkipView(f"The shot {name[:120]} is not an object.")
    # `images` first: undistorted ones, of another camera, may lie deeper in the same folder.
    try:
        photo = photos.find(f"images/{name}")
    except SkipView:
        photo = photos.find(name)
    turn = numbers(shot.get("rotation"), 3, f"The rotation of {name[:120]}")
    shift = numbers(shot.get("translation"), 3, f"The translation of {name[:120]}")
    if np.abs(turn).max() > 100:
        raise SkipView(f"The rotation of {name[:120]} is no angle.")
    world_to_camera = cv2.Rodrigues(turn)[0]
    pose = rigid_pose(opengl_pose(world_to_camera.T, -world_to_camera.T @ shift), f"The pose of {name[:120]}")
    try:
        camera = cameras.get(shot["camera"]) if isinstance(shot.get("camera"), str) else None
        if not isinstance(camera, dict):
            raise BadField("camera", "is not one of the file's cameras")
        size = size_of(camera)
        return Shot(name, photo, pose, _lens(camera, size), *size)
    except BadField as problem:
        raise SkipView(f"Of {name[:120]}, {problem}.") from None


def _lens(camera: dict[str, Any], size: tuple[float, float]) -> Lens:
    kind = camera.get("projection_type", "perspective")
    longer = max(size)
    one = "focal" in camera
    focal = number(camera, "focal" if one else "focal_x"), number(camera, "focal" if one else "focal_y")
    centre = number(camera, "c_x", 0.0), number(camera, "c_y", 0.0)
    if kind in ("perspective", "brown", "radial", "simple_radial"):
        model, order = "OPENCV", _OPENCV
    elif kind in ("fisheye", "fisheye_opencv"):
        model, order = "OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")
    else:
        raise BadField("projection_type", f"is {str(kind)[:40]}, which cannot be read yet")
    params = tuple(number(camera, key, 0.0) if key else 0.0 for key in order)
    return checked_lens(
        model,
        (focal[0] * longer, focal[1] * longer),
        (centre[0] * longer + size[0] / 2, centre[1] * longer + size[1] / 2),
        params,
        size,
    )


def _points(listed: Any) -> SparsePoints | None:
    positions, colours = [], []
    for point in listed.values() if isinstance(listed, dict) else ():
        try:
            place = [float(value) for value in point["coordinates"]]
            colour = [min(max(int(value), 0), 255) for value in point["color"]]
        except (TypeError, ValueError, KeyError, OverflowError):
            continue
        if len(place) == len(colour) == 3 and all(map(math.isfinite, place)):
            positions.append(place)
            colours.append(colour)
    return SparsePoints(np.array(positions), np.array(colours, dtype=np.uint8)) if positions else None
