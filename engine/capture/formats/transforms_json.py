# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of `transforms.json`, as instant-ngp and nerfstudio write it.

Both give camera-to-world poses in OpenGL axes, so poses are taken as they are: the capture frame is the file's own.
`applied_transform` and `applied_scale` lead back from it to an earlier frame (COLMAP's) that nothing here uses, but
that nerfstudio multiplies the points of `ply_file_path` by `applied_scale`, for its programs store them unscaled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.capture.fields import (
    PANORAMA,
    BadField,
    as_number,
    checked_lens,
    checked_side,
    number,
    optional_number,
    rigid_pose,
)
from engine.capture.lens import Lens
from engine.capture.lookup import Missing, Photos, key_of
from engine.capture.photos import Photo, SkipView, find_mask, inside
from engine.capture.ply import read_points
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_json
from engine.capture.types import CaptureError, SparsePoints

NAME = "transforms.json"

# Names of camera models as programs spell them, in capitals and without signs between. All of the first kind say
# nothing but what the coefficients say; all of the second put odd powers of the angle to the axis.
_PERSPECTIVE = {"SIMPLEPINHOLE", "PINHOLE", "SIMPLERADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", "BROWN",
                "BROWNCONRADY", "RADTAN", "RADIALTANGENTIAL", "PLUMBBOB", "RECTILINEAR", "FRAME", "OPENCV5", "RADIAL1",
                "RADIALK1", "RADIAL3", "RADIALK3", "PINHOLERADTAN", "PINHOLERADIALTANGENTIAL"}  # fmt: skip
_FISHEYE = {"OPENCVFISHEYE", "SIMPLERADIALFISHEYE", "RADIALFISHEYE", "FISHEYE", "FISHEYEOPENCV", "EQUIDISTANT",
            "EQUIDISTANTFISHEYE", "FISHEYEEQUIDISTANT", "FISHEYE4", "PINHOLEEQUIDISTANT", "KANNALABRANDT",
            "KANNALABRANDT4", "KANNALABRANDT8", "KB", "KB4"}  # fmt: skip
_PANORAMAS = {"EQUIRECTANGULAR", "SPHERICAL", "PANORAMA", "LATLONG", "OMNIDIRECTIONALSTEREOL",
              "OMNIDIRECTIONALSTEREOR", "VR180L", "VR180R"}  # fmt: skip
_ARIA = "FISHEYE624"  # nerfstudio's name of Project Aria's, which COLMAP calls RAD_TAN_THIN_PRISM_FISHEYE
_OPENCV_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_THIN_PRISM_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1")
_FISHEYE_ORDER = ("k1", "k2", "k3", "k4")
_NERFSTUDIO_ORDER = ("k1", "k2", "k3", "k4", "p1", "p2")  # of its list `distortion_params`, and of our lens BROWN
_GROUPS = (
    ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"),
    (*_OPENCV_ORDER, "sx1", "sy1", "distortion_params"),
    ("camera_model", "is_fisheye"),
)
_FLAGS = ("equirectangular", "latlong", "ftheta_p0")  # instant-ngp's, of panoramas


def read(path: Path) -> Reading:
    """All shots of a transforms file. Raises CaptureError for the file, and lists single bad frames as left out."""
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise CaptureError(f'{path.name} is not a JSON object with a list "frames".', file=path)
    frames = meta.get("frames")
    if not isinstance(frames, list):
        raise CaptureError(f'{path.name} has no list "frames"; it is not a capture\'s.', file=path, field="frames")
    check_count(len(frames), path, "frames", "frames")
    reading = Reading(path.parent, NAME)
    try:
        _check_shared(meta)
    except BadField as problem:
        do = "" if PANORAMA in str(problem) else "; correct it"  # which says itself what to do
        raise CaptureError(f"In {path.name}, {problem}{do}.", file=path, field=problem.field) from None
    photos = Photos.near(
        path.parent, [f["file_path"] for f in frames if isinstance(f, dict) and _is_text(f.get("file_path"))]
    )
    reading.root = photos.root
    held_out = _held_out(meta, reading.notes)
    missing_masks = 0
    depths = cropped = False
    for index, frame in enumerate(frames):
        listed = frame.get("file_path") if isinstance(frame, dict) else None
        with reading.leaving_out(listed if isinstance(listed, str) else f"frame {index}"):
            if not isinstance(frame, dict):
                raise SkipView(f"Frame {index} is not an object.")
            if not _is_text(listed):
                raise SkipView(f"Frame {index} has no file_path.")
            values = _of_frame(meta, frame)
            photo = photos.find(listed, _stated_size(values))
            pose = rigid_pose(frame.get("transform_matrix"), f"The transform_matrix of {listed[-120:]}")
            size = _size(values, photo)
            lens = _lens(values, size)
            mask = _mask(photos, frame.get("mask_path"), photo)
            missing_masks += frame.get("mask_path") is not None and mask is None
            cropped |= values.get("fisheye_crop_radius") is not None
            depths |= frame.get("depth_file_path") is not None
            measured = None if held_out is None else key_of(listed) in held_out
            reading.shots.append(Shot(listed, photo, pose, lens, *size, measured, mask))
    if missing_masks:
        reading.notes.append(f"{missing_masks} pictures have no mask where their mask_path says; all of them is used.")
    if cropped:
        reading.notes.append("Its fisheye_crop_radius is not used: give the pictures masks where they are black.")
    if depths:
        reading.notes.append("Its depth pictures (depth_file_path) are not used.")
    reading.points = _points(path, meta, reading.notes)
    return reading


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _mask(photos: Photos, listed: object, photo: Photo) -> str | None:
    if not isinstance(listed, str) or not listed.strip():
        return None
    try:
        file = photos.find(listed).file
    except Missing:
        return None
    return find_mask(photos.root, [file], photo)


def _held_out(meta: Mapping[str, Any], notes: list[str]) -> set[tuple[str, ...]] | None:
    """The pictures that the file's own lists keep for measuring; None where it has no such lists."""
    lists: dict[str, set[tuple[str, ...]]] = {}
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        names = meta.get(key)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            lists[key] = {key_of(name) for name in names}
        elif names is not None:
            notes.append(f"{key} is not a list of file names and was not used.")
    measured = lists.get("val_filenames", set()) | lists.get("test_filenames", set())
    return measured - lists.get("train_filenames", set()) or None


def _points(path: Path, meta: Mapping[str, Any], notes: list[str]) -> SparsePoints | None:
    listed = meta.get("ply_file_path")
    if not isinstance(listed, str) or not listed.strip():
        return None
    try:
        points = read_points(inside(path.parent, listed))
        scale = _positive(meta, "applied_scale") or 1.0
    except SkipView as problem:
        notes.append(f"The points of ply_file_path were left out: {problem}")
        return None
    except CaptureError as problem:
        notes.append(f"The points of ply_file_path were left out: {problem.message}")
        return None
    return (
        points
        if points is None or scale == 1
        else SparsePoints.usable(points.positions * scale, points.colours, points.errors)
    )


def _check_shared(meta: Mapping[str, Any]) -> None:
    """What is wrong with values that all frames share is said once, for the file."""
    for key in ("fl_x", "fl_y", "w", "h", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"):
        _positive(meta, key)
    for key in ("cx", "cy"):
        optional_number(meta, key)
    _distortion(meta)


def _positive(values: Mapping[str, Any], key: str) -> float | None:
    value = optional_number(values, key)
    if value is not None and value < 1e-6:
        raise BadField(key, f"is {value:g} and must be above zero")
    return value


def _of_frame(meta: Mapping[str, Any], frame: Mapping[str, Any]) -> dict[str, Any]:
    """A frame's own values over those that all frames share, in groups that say the same thing in several ways."""
    own = {key: value for key, value in frame.items() if value is not None}
    replaced = {key for group in _GROUPS if not own.keys().isdisjoint(group) for key in group}
    return {key: value for key, value in meta.items() if key not in replaced} | own


def _stated_size(values: Mapping[str, Any]) -> tuple[float, float] | None:
    width, height = _positive(values, "w"), _positive(values, "h")
    return None if width is None or height is None else (width, height)


def _size(values: Mapping[str, Any], photo: Photo) -> tuple[float, float]:
    """The size that the frame's intrinsics belong to: as stated, else as the picture is stored."""
    width, height = _positive(values, "w"), _positive(values, "h")
    for key, side in (("w", width), ("h", height)):
        if side is not None:
            checked_side(side, key)
    if width is None:
        return (photo.width, photo.height) if height is None else (height * photo.width / photo.height, height)
    return width, width * photo.height / photo.width if height is None else height


def _lens(values: Mapping[str, Any], size: tuple[float, float]) -> Lens:
    fx = _focal(values, "fl_x", "camera_angle_x", "x_fov", size[0])
    fy = _focal(values, "fl_y", "camera_angle_y", "y_fov", size[1])
    if fx is None and fy is None:
        raise BadField("fl_x", "or camera_angle_x is missing, so its focal length is unknown")
    centre = number(values, "cx", size[0] / 2), number(values, "cy", size[1] / 2)
    model, params = _distortion(values)
    lens = Lens(model, fx or fy or 0.0, fy or fx or 0.0, *centre, params)
    return checked_lens(lens, size, ("fl_x", "fl_y", "cx", "cy"))


def _focal(values: Mapping[str, Any], focal: str, radians: str, degrees: str, side: float) -> float | None:
    """Focal length in pixels: given, or from the field of view over the whole side."""
    length = _positive(values, focal)
    if length is not None:
        return length
    for key, unit in ((radians, 1.0), (degrees, math.pi / 180)):
        angle = _positive(values, key)
        if angle is not None:
            if angle * unit >= 0.999 * math.pi:
                raise BadField(key, f"is {angle:g}, a field of view that no picture has")
            return side / 2 / math.tan(angle * unit / 2)
    return None


def _kind(values: Mapping[str, Any]) -> str:
    """The camera model: perspective, rational, fisheye, thin prism or _ARIA."""
    for key in _FLAGS:
        if values.get(key):
            raise BadField(key, f"says that each picture is {PANORAMA}")
    stated = values.get("camera_model")
    if stated is None:
        return "fisheye" if values.get("is_fisheye") is True else "perspective"
    model = re.sub("[^A-Z0-9]", "", stated.upper()) if isinstance(stated, str) else ""
    model = re.sub("(CAMERA|MODEL|LENS)+$", "", model)
    if model in _PANORAMAS:
        raise BadField("camera_model", f"is {stated[:40]}: each picture is {PANORAMA}")
    if model in _PERSPECTIVE:
        return "perspective"
    if model in ("FULLOPENCV", "OPENCVFULL", "OPENCV8", "RATIONAL", "RATIONALPOLYNOMIAL"):
        return "rational"
    if model == "THINPRISMFISHEYE":
        return "thin prism"
    if model in _FISHEYE:
        return "fisheye"
    if model != _ARIA:
        raise BadField("camera_model", f"is {str(stated)[:40]}, which cannot be read yet")
    return _ARIA


def _distortion(values: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
    """(model, parameters) for Lens."""
    kind = _kind(values)
    listed = values.get("distortion_params")
    if kind == _ARIA:
        if not isinstance(listed, list) or len(listed) != 12:
            raise BadField("distortion_params", f"is not a list of the 12 numbers that {_ARIA} has")
        return "RAD_TAN_THIN_PRISM_FISHEYE", tuple(as_number(value, "distortion_params") for value in listed)
    if listed is not None:
        if not isinstance(listed, list) or len(listed) != len(_NERFSTUDIO_ORDER):
            raise BadField("distortion_params", f"is not a list of {len(_NERFSTUDIO_ORDER)} numbers")
        values = {**values, **dict(zip(_NERFSTUDIO_ORDER, listed, strict=True))}
    if kind == "thin prism":
        return "THIN_PRISM_FISHEYE", tuple(number(values, key, 0.0) for key in _THIN_PRISM_ORDER)
    if kind == "fisheye":
        return "OPENCV_FISHEYE", tuple(number(values, key, 0.0) for key in _FISHEYE_ORDER)
    # OpenCV's k4 divides, together with k5 and k6; nerfstudio has neither, and its k4 is over the radius' eighth power.
    rational = kind == "rational" or values.get("k5") is not None or values.get("k6") is not None
    if not rational and number(values, "k4", 0.0):
        return "BROWN", tuple(number(values, key, 0.0) for key in _NERFSTUDIO_ORDER)
    params = tuple(number(values, key, 0.0) for key in _OPENCV_ORDER)
    return ("OPENCV", params) if any(params) else ("PINHOLE", ())
