# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Meshroom's (AliceVision's) `cameras.sfm`, a JSON text whose numbers are written as strings.

`views` name a picture, an intrinsic and a pose; `poses` hold a camera's centre and its world-to-camera rotation, column
by column (so the nine numbers, taken row by row, are camera to world), axes x right, y down, z forward. Versions differ
in how `intrinsics` say their values: the principal point is from the upper left corner before 1.2.1 and from the middle
since; the focal length is `pxFocalLength` in pixels before 1.2.2, and in the sensor's millimetres since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.capture.formats.source_files import (
    BadField,
    PhotosByName,
    as_number,
    check_count,
    checked_lens,
    number,
    opengl_pose,
    read_json,
    size_of,
)
from engine.capture.lens import Lens
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import MOST_POINTS, CaptureError, LeftOut, SparsePoints

NAME = "cameras.sfm"


def find(folder: Path) -> Path | None:
    """`cameras.sfm`, or another .sfm file; else the newest that Meshroom keeps in its cache in this folder."""
    for name in (NAME, "sfm.sfm"):
        if (folder / name).is_file():
            return folder / name
    beside = sorted(path for path in folder.glob("*.sfm") if path.is_file())
    cached = [
        path
        for path in (folder / "MeshroomCache" / "StructureFromMotion").glob("*/cameras.sfm")
        if path.is_file() and path.resolve().is_relative_to(folder)
    ]
    return beside[0] if beside else max(cached, key=lambda path: path.stat().st_mtime, default=None)


def read(path: Path) -> Reading:
    """All shots of a scene. Raises CaptureError for the file, and lists single bad views as left out."""
    scene = read_json(path)
    if not isinstance(scene, dict) or not isinstance(scene.get("views"), list):
        raise CaptureError(f'{path.name} has no list "views"; it is not Meshroom\'s.', file=path, field="views")
    views = scene["views"]
    check_count(len(views), path, "views", "views")
    poses = _by_id(scene.get("poses"), "poseId")
    if not poses:
        raise CaptureError(
            f"{path.name} has no poses: it is from before Meshroom found the cameras; choose the cameras.sfm that its "
            "step StructureFromMotion wrote.",
            file=path,
            field="poses",
        )
    version = _version(scene.get("version"))
    intrinsics = _by_id(scene.get("intrinsics"), "intrinsicId")
    # What lies in Meshroom's cache belongs to the project's folder, where the photos are.
    root = next((folder.parent for folder in path.parents if folder.name == "MeshroomCache"), path.parent)
    reading = Reading(root, "Meshroom cameras.sfm")
    photos = PhotosByName(root)
    for index, view in enumerate(views):
        listed = f"view {index}"
        try:
            if not isinstance(view, dict) or not isinstance(view.get("path"), str):
                raise SkipView(f"View {index} has no path.")
            listed = view["path"]
            camera = poses.get(str(view.get("poseId")))
            if camera is None:
                raise SkipView(f"Meshroom found no camera for {listed[-120:]}.")
            if view.get("rigId") is not None:
                raise SkipView(f"{listed[-120:]} was taken with a rig of cameras, which cannot be read yet.")
            pose = _pose(camera, f"The pose of {listed[-120:]}")
            photo = photos.find(listed)
            try:
                intrinsic = intrinsics.get(str(view.get("intrinsicId")))
                size = size_of(intrinsic)
                lens = _lens(intrinsic, version, size)
            except BadField as problem:
                raise SkipView(f"Of {listed[-120:]}, {problem}.") from None
            reading.shots.append(Shot(listed, photo, pose, lens, *size))
        except SkipView as problem:
            reading.left_out.append(LeftOut(listed[-300:], str(problem)))
    reading.points = _points(scene.get("structure"))
    return reading


def _by_id(entries: Any, key: str) -> dict[str, dict[str, Any]]:
    if not isinstance(entries, list):
        return {}
    return {str(entry[key]): entry for entry in entries if isinstance(entry, dict) and key in entry}


def _version(listed: Any) -> tuple[int, ...]:
    """Of the file's format; (1, 2, 6), a common one, where it does not say."""
    try:
        return tuple(int(part) for part in listed)[:3] if isinstance(listed, list) and listed else (1, 2, 6)
    except (TypeError, ValueError):
        return (1, 2, 6)


def _pose(camera: dict[str, Any], what: str) -> np.ndarray:
    pose = camera.get("pose")
    transform = pose.get("transform") if isinstance(pose, dict) else None
    values = []
    for key, count in (("rotation", 9), ("center", 3)):
        listed = transform.get(key) if isinstance(transform, dict) else None
        if not isinstance(listed, list) or len(listed) != count:
            raise SkipView(f"{what} has no {key} of {count} numbers.")
        try:
            values.append(np.array([as_number(value, key) for value in listed]))
        except BadField as problem:
            raise SkipView(f"{what}: {problem}.") from None
    return rigid_pose(opengl_pose(values[0].reshape(3, 3), values[1]), what)


def _lens(intrinsic: Any, version: tuple[int, ...], size: tuple[float, float]) -> Lens:
    width, height = size
    if version < (1, 2, 2):
        listed = intrinsic.get("pxFocalLength")
        across, down = listed if isinstance(listed, list) and len(listed) == 2 else (listed, listed)
        focal = as_number(across, "pxFocalLength"), as_number(down, "pxFocalLength")
    else:
        fx = number(intrinsic, "focalLength") / _above_zero(intrinsic, "sensorWidth", 36.0) * width
        ratio = _above_zero(intrinsic, "pixelRatio", 1.0)
        focal = fx, fx / ratio if version < (1, 2, 5) else fx * ratio
    listed = intrinsic.get("principalPoint")
    if isinstance(listed, Mapping):  # written so by some tools
        listed = [listed.get("x"), listed.get("y")]
    if not isinstance(listed, list) or len(listed) != 2:
        raise BadField("principalPoint", "is not two numbers")
    cx, cy = (as_number(value, "principalPoint") for value in listed)
    if version >= (1, 2, 1):
        cx, cy = cx + width / 2, cy + height / 2
    listed = intrinsic.get("distortionParams")
    listed = listed if isinstance(listed, list) else []  # an empty list is written as an empty string
    model, params = _distortion(
        str(intrinsic.get("type")).lower(),
        str(intrinsic.get("distortionType") or "").lower(),
        [as_number(value, "distortionParams") for value in listed[:20]],
    )
    return checked_lens(model, focal, (cx, cy), params, size)


def _distortion(camera: str, kind: str, k: list[float]) -> tuple[str, tuple[float, ...]]:
    """(model, parameters) for Lens. Older files have the kind of distortion in the camera's type."""
    name = {"radialk1": "radial1", "radialk3": "radial3", "fisheye": "fisheye4"}.get(kind, kind)
    if camera != "pinhole":
        name = camera
    if name in ("", "none", "pinhole") or (camera == "pinhole" and not any(k)):
        return "PINHOLE", ()
    counts = {"radial1": 1, "radial3": 3, "brown": 5, "fisheye4": 4, "fisheye": 4}
    if name not in counts:
        raise BadField("type", f"is {name[:40]}, a lens that cannot be read yet")
    if len(k) != counts[name]:
        raise BadField("distortionParams", f"has {len(k)} numbers where {name} has {counts[name]}")
    if counts[name] == 4:
        return "OPENCV_FISHEYE", tuple(k)
    k1, k2, k3, p1, p2 = (*k, 0.0, 0.0, 0.0, 0.0)[:5]
    return "OPENCV", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)


def _above_zero(values: Any, key: str, default: float) -> float:
    value = number(values, key, default)
    if not value > 1e-9:
        raise BadField(key, f"is {value:g} and must be above zero")
    return value


def _points(structure: Any) -> SparsePoints | None:
    if not isinstance(structure, list):
        return None
    positions, colours = [], []
    for landmark in structure[:MOST_POINTS]:
        try:
            place = [float(value) for value in landmark["X"]]
            colour = [min(max(int(float(value)), 0), 255) for value in landmark["color"]]
        except (TypeError, ValueError, KeyError, OverflowError):
            continue
        if len(place) == len(colour) == 3 and all(map(math.isfinite, place)):
            positions.append(place)
            colours.append(colour)
    if not positions:
        return None
    return SparsePoints(np.array(positions), np.array(colours, dtype=np.uint8))
