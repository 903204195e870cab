# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of OpenSfM's `reconstruction.json`, and of the OpenDroneMap projects that hold one.

A list of reconstructions, each with `cameras`, `shots` (a picture's name → world-to-camera `rotation` as axis times
angle, and `translation`; axes x right, y down, z forward) and `points`. Lengths on the picture are in units of its
longer side, from its middle. The world is a map's, metres and z up, where photos had GPS; without, it is turned by a
guess of OpenSfM's, as good as any other.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from engine import typed
from engine.capture.fields import (
    PANORAMA,
    BadField,
    checked_lens,
    number,
    numbers,
    opengl_pose,
    rigid_pose,
    size_of,
)
from engine.capture.lens import Lens
from engine.capture.lookup import Photos
from engine.capture.photos import SkipView
from engine.capture.reading import MOST_VIEWS, Reading, Shot, check_count
from engine.capture.texts import LARGEST_FILE, read_bytes, read_json
from engine.capture.types import MOST_POINTS, CaptureError, SparsePoints

NAME = "reconstruction.json"
_PLACES = (NAME, f"opensfm/{NAME}", "reconstruction.meshed.json", f"undistorted/{NAME}")
_LARGEST = 256 * 2**20  # bytes
_TOO_MANY = "too many"
_LINE = 5e3
_NO_GPS = 999_998.0  # from here on, the precision that a photo without a position is given
_LENSES = {  # projection_type: (our model, its parameters by OpenSfM's names; "" is zero)
    **dict.fromkeys(
        ("perspective", "brown", "radial", "simple_radial"), ("OPENCV", ("k1", "k2", "p1", "p2", "k3", "", "", ""))
    ),
    **dict.fromkeys(("fisheye", "fisheye_opencv"), ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4"))),
}


def find(folder: Path) -> Path | None:
    """The reconstruction in a folder of OpenSfM's, or of OpenDroneMap's project in this folder."""
    return next((folder / place for place in _PLACES if (folder / place).is_file()), None)


def read(path: Path) -> Reading:
    """All shots of the largest reconstruction. Raises CaptureError for the file; single bad shots are left out."""
    whole = _read_large(path) if path.stat().st_size > LARGEST_FILE else read_json(path)
    if not isinstance(whole, list):
        raise CaptureError(f"{path.name} is not a list of reconstructions, as OpenSfM writes it.", file=path)
    parts = [part for part in whole if isinstance(part, dict) and isinstance(part.get("shots"), dict)]
    check_count(len(parts), path, "reconstructions", "shots")
    parts.sort(key=lambda part: len(part["shots"]), reverse=True)
    largest = parts[0]
    shots = largest["shots"]
    check_count(len(shots), path, "shots", "shots")
    # An OpenDroneMap project's photos lie beside its folder opensfm.
    root = path.parent.parent if path.parent.name == "opensfm" else path.parent
    up = np.array([0.0, 0.0, 1.0]) if _knows_gravity(shots) else None
    reading = Reading(root, "OpenSfM reconstruction.json", up=up)
    cameras = largest.get("cameras") if isinstance(largest.get("cameras"), dict) else {}
    # `images` first: undistorted ones, of another camera, may lie deeper in the same folder.
    photos = Photos.near(root, list(shots), ("images",))
    reading.root = photos.root
    for name, shot in shots.items():
        with reading.leaving_out(name):
            reading.shots.append(_shot(name, shot, cameras, photos))
    if len(parts) > 1:
        others = sum(len(part["shots"]) for part in parts[1:])
        reading.notes.append(
            f"{path.name} holds {len(parts)} reconstructions that were not joined: the largest, of "
            f"{len(shots)} pictures, was opened; the others have {others}."
        )
    if largest.get("points") == _TOO_MANY:
        reading.notes.append("Its sparse points were left out: they are too many.")
    reading.points = _points(largest.get("points"))
    return reading


class _Part(msgspec.Struct):
    """A reconstruction whose parts are not looked into yet."""

    shots: msgspec.Raw
    cameras: msgspec.Raw = msgspec.Raw(b"{}")
    points: msgspec.Raw = msgspec.Raw(b"{}")


class _Point(msgspec.Struct):
    coordinates: tuple[float, float, float]
    color: tuple[float, float, float]


def _read_large(path: Path) -> list[dict[str, Any]]:
    """What a large file lists, as `read_json` would give it, but for the points: hundreds of megabytes that take
    several times as much as Python's own numbers. Raises CaptureError."""
    data = read_bytes(path, _LARGEST)
    parts = []
    try:
        if data.count(b'"shots"') > MOST_VIEWS:
            raise ValueError
        for part in typed.decode(data, list[_Part]):
            if max(memoryview(raw).nbytes for raw in (part.shots, part.cameras)) > LARGEST_FILE:
                raise ValueError
            points: Any = _TOO_MANY
            if memoryview(part.points).nbytes <= _LARGEST // 2:
                points = typed.decode(part.points, dict[str, _Point])
            shots, cameras = msgspec.json.decode(part.shots), msgspec.json.decode(part.cameras)
            parts.append({"shots": shots, "cameras": cameras, "points": points})
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise CaptureError(
            f"{path.name} is no reconstruction of OpenSfM's, or is damaged; copy it again.", file=path
        ) from None
    return parts


def _knows_gravity(shots: dict[str, Any]) -> bool:
    """Whether OpenSfM had positions to turn the world by: of three photos or more, that do not stand in a line."""
    said, found = [], []
    for shot in shots.values():
        try:
            if number(shot, "gps_dop", 0.0) < _NO_GPS:
                place = numbers(shot.get("gps_position"), 3, "")
                found.append(_center(shot, ""))
                said.append(place)
        except (SkipView, AttributeError):
            continue
    return len(said) >= 3 and not _is_line(said) and not _is_line(found)


def _is_line(places: list[np.ndarray]) -> bool:
    """As OpenSfM itself decides it: by the squares of the places' spread."""
    spread = np.linalg.svd(np.array(places) - np.mean(places, axis=0), compute_uv=False) ** 2
    return not spread[0] <= _LINE * spread[1] or spread[1] < 1e-10


def _center(shot: Any, name: str) -> np.ndarray:
    """(3,): where a shot's camera stands. Raises SkipView."""
    world_to_camera, shift = _world_to_camera(shot, name)
    return -world_to_camera.T @ shift


def _world_to_camera(shot: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(rotation (3, 3), shift (3,)). Raises SkipView."""
    turn = numbers(shot.get("rotation"), 3, f"The rotation of {name[:120]}")
    shift = numbers(shot.get("translation"), 3, f"The translation of {name[:120]}")
    if np.abs(turn).max() > 100:
        raise SkipView(f"The rotation of {name[:120]} is no angle.")
    return cv2.Rodrigues(turn)[0], shift


def _shot(name: str, shot: Any, cameras: dict[str, Any], photos: Photos) -> Shot:
    if not isinstance(shot, dict):
        raise SkipView(f"The shot {name[:120]} is not an object.")
    world_to_camera, shift = _world_to_camera(shot, name)
    pose = rigid_pose(opengl_pose(world_to_camera.T, -world_to_camera.T @ shift), f"The pose of {name[:120]}")
    camera = cameras.get(shot["camera"]) if isinstance(shot.get("camera"), str) else None
    if not isinstance(camera, dict):
        raise BadField("camera", "is not one of the file's cameras")
    size = size_of(camera)
    lens = _lens(camera, size)
    return Shot(name, photos.find(name, size), pose, lens, *size)


def _lens(camera: dict[str, Any], size: tuple[float, float]) -> Lens:
    kind = camera.get("projection_type", "perspective")
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind in ("spherical", "equirectangular"):
        raise BadField("projection_type", f"is {kind}: each picture is {PANORAMA}")
    if not isinstance(kind, str) or kind not in _LENSES:
        raise BadField("projection_type", f"is {str(kind)[:40]}, which cannot be read yet")
    model, order = _LENSES[kind]
    longer = max(size)
    names = ("focal", "focal") if "focal" in camera else ("focal_x", "focal_y")
    focal = [number(camera, name) * longer for name in names]
    centre = number(camera, "c_x", 0.0) * longer + size[0] / 2, number(camera, "c_y", 0.0) * longer + size[1] / 2
    params = tuple(number(camera, key, 0.0) if key else 0.0 for key in order)
    return checked_lens(Lens(model, *focal, *centre, params), size, (*names, "c_x", "c_y"))


def _points(listed: Any) -> SparsePoints | None:
    positions, colours = [], []
    for point in islice(listed.values(), MOST_POINTS) if isinstance(listed, dict) else ():
        try:
            if isinstance(point, _Point):
                point = {"coordinates": point.coordinates, "color": point.color}
            place = [float(value) for value in point["coordinates"]]
            colour = [min(max(int(value), 0), 255) for value in point["color"]]
        except (TypeError, ValueError, KeyError, OverflowError):
            continue
        if len(place) == len(colour) == 3:
            positions.append(place)
            colours.append(colour)
    return SparsePoints.usable(np.array(positions), np.array(colours, dtype=np.uint8)) if positions else None
