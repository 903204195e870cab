# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Meshroom's (AliceVision's) `cameras.sfm`, a JSON text whose numbers are written as strings.

`views` name a picture, an intrinsic and a pose; `poses` hold a camera's centre and its world-to-camera rotation, column
by column (so the nine numbers, taken row by row, are camera to world), axes x right, y down, z forward. Versions differ
in how `intrinsics` say their values: the principal point is from the upper left corner before 1.2.1 and from the middle
since; the focal length is `pxFocalLength` in pixels before 1.2.2, and in the sensor's millimetres since.

A view of a rig (`isPoseIndependant` false) shares its pose with the others of the rig and has its own place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.capture.fields import (
    PANORAMA,
    BadField,
    as_number,
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
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_json, read_start
from engine.capture.types import MOST_POINTS, CaptureError, SparsePoints

NAME = "cameras.sfm"
CACHE = "MeshroomCache"
# Its nodes that write cameras, from the first to the last of a pipeline.
_NODES = ("CameraInit", "SfMBootStrapping", "SfMBootstrapping", "StructureFromMotion", "SfMExpanding",
          "SfMTriangulation", "SfMColorizing", "SfMTransform")  # fmt: skip


def find(folder: Path) -> Path | None:
    """`cameras.sfm`, or another .sfm file; else the newest that Meshroom keeps in its cache in this folder."""
    beside = [folder / NAME, folder / "sfm.sfm", *sorted(folder.glob("*.sfm"))]
    beside += [path for path in sorted(folder.glob("*.json"))[:50] if _is_scene(path)]
    cache = folder if folder.name == CACHE else folder / CACHE
    found = [path for path in beside if path.is_file()] or list(_cached(cache))
    # What stands first is taken, unless it is from before the cameras were found.
    return next((path for path in found[:20] if _has_poses(path)), found[0] if found else None)


def _is_scene(path: Path) -> bool:
    start = read_start(path)
    return '"version"' in start and ('"featuresFolders"' in start or '"views"' in start)


def _cached(cache: Path) -> Iterator[Path]:
    """The scenes of a cache, the newest first; where files were copied together, those of later nodes."""
    found = [path for pattern in ("*/*/*.sfm", "*/*/*.json") for path in list(cache.glob(pattern))[:1000]]
    found = [path for path in found if path.suffix == ".sfm" or _is_scene(path)]

    def age(path: Path) -> tuple[float, int, bool]:
        node = path.parent.parent.name
        return path.stat().st_mtime // 2, _NODES.index(node) if node in _NODES else len(_NODES), path.name == NAME

    yield from sorted((path for path in found if path.is_file()), key=age, reverse=True)


def _has_poses(path: Path) -> bool:
    try:
        scene = read_json(path)
    except CaptureError:
        return False
    return isinstance(scene, dict) and bool(_by_id(scene.get("poses"), "poseId"))


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
            "step StructureFromMotion (or SfMExpanding) wrote.",
            file=path,
            field="poses",
        )
    version = _version(scene.get("version"))
    intrinsics = _by_id(scene.get("intrinsics"), "intrinsicId")
    rigs = _by_id(scene.get("rigs"), "rigId")
    # What lies in Meshroom's cache belongs to the project's folder, where the photos are.
    root = next((folder.parent for folder in path.parents if folder.name == CACHE), path.parent)
    reading = Reading(root, "Meshroom cameras.sfm")
    paths = [view.get("path") for view in views if isinstance(view, dict)]
    photos = Photos.near(root, [listed for listed in paths if isinstance(listed, str)])
    reading.root = photos.root
    for index, view in enumerate(views):
        listed = view.get("path") if isinstance(view, dict) else None
        with reading.leaving_out(listed if isinstance(listed, str) else f"view {index}"):
            if not isinstance(listed, str):
                raise SkipView(f"View {index} has no path.")
            camera = poses.get(str(view.get("poseId")))
            if camera is None:
                raise SkipView(f"Meshroom found no camera for {listed[-120:]}.")
            pose = _pose(camera, view, rigs, f"The pose of {listed[-120:]}")
            intrinsic = intrinsics.get(str(view.get("intrinsicId")))
            size = size_of(intrinsic)
            photo = photos.find(listed, size)
            reading.shots.append(Shot(listed, photo, pose, _lens(intrinsic, version, size), *size))
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


def _pose(camera: dict[str, Any], view: dict[str, Any], rigs: dict[str, dict[str, Any]], what: str) -> np.ndarray:
    """(4, 4) camera to world, OpenGL axes. Raises SkipView."""
    pose = camera.get("pose")
    rotation, centre = _transform(pose.get("transform") if isinstance(pose, dict) else None, what)
    # Spelled so by AliceVision itself.
    if str(view.get("isPoseIndependant", view.get("isPoseIndependent", True))).lower() in ("false", "0"):
        places = rigs.get(str(view.get("rigId")), {}).get("subPoses")
        at = int(as_number(view.get("subPoseId"), "subPoseId"))
        if not isinstance(places, list) or not 0 <= at < len(places):
            raise SkipView(f"{what} is that of a rig in which it has no place.")
        place = places[at]
        own_rotation, own_centre = _transform(place.get("pose") if isinstance(place, dict) else None, what)
        centre = centre + rotation @ own_centre
        rotation = rotation @ own_rotation
    return rigid_pose(opengl_pose(rotation, centre), what)


def _transform(listed: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """(rotation (3, 3), centre (3,)), from a camera's axes (x right, y down, z forward) outward. Raises SkipView."""
    listed = listed if isinstance(listed, dict) else {}
    rotation = numbers(listed.get("rotation"), 9, f"{what} (its rotation)").reshape(3, 3)
    return rotation, numbers(listed.get("center"), 3, f"{what} (its center)")


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
    other = str(intrinsic.get("undistortionType") or "none").lower()
    if other != "none":  # a lens that is known by how to straighten its pictures
        raise BadField("undistortionType", f"is {other[:40]}, a lens that cannot be read yet")
    model, params = _distortion(
        str(intrinsic.get("type")).lower(),
        str(intrinsic.get("distortionType") or "").lower(),
        [as_number(value, "distortionParams") for value in listed[:20]],
    )
    return checked_lens(Lens(model, *focal, cx, cy, params), size, ("focalLength",) * 2 + ("principalPoint",) * 2)


def _distortion(camera: str, kind: str, k: list[float]) -> tuple[str, tuple[float, ...]]:
    """(model, parameters) for Lens. Older files have the kind of distortion in the camera's type."""
    name = {"radialk1": "radial1", "radialk3": "radial3", "fisheye": "fisheye4"}.get(kind, kind)
    if camera != "pinhole":
        name = camera
    if name in ("equirectangular", "spherical"):
        raise BadField("type", f"is {name}: each picture is {PANORAMA}")
    if name == "equidistant" and not any(k):
        return "OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0)
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
        if len(place) == len(colour) == 3:
            positions.append(place)
            colours.append(colour)
    if not positions:
        return None
    return SparsePoints.usable(np.array(positions), np.array(colours, dtype=np.uint8))
