# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of `transforms.json`, as instant-ngp and nerfstudio write it.

Both give camera-to-world poses in OpenGL axes, so poses are taken as they are: the capture frame is the file's own.
`applied_transform` and `applied_scale` lead back from it to an earlier frame (COLMAP's) that nothing here uses, but
that nerfstudio multiplies the points of `ply_file_path` by `applied_scale`, for its programs store them unscaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from engine.capture.formats.source_files import read_json
from engine.capture.lens import Lens, is_centre, is_focal_length
from engine.capture.photos import Photo, SkipView, find_mask, find_photo, inside
from engine.capture.ply import read_points
from engine.capture.reading import MOST_VIEWS, Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut, SparsePoints

NAME = "transforms.json"

_PERSPECTIVE = {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
_FISHEYE = {"OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"}  # all three: odd powers of the angle
_OPENCV_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_ARIA = "FISHEYE624"  # nerfstudio's name of Project Aria's, which COLMAP calls RAD_TAN_THIN_PRISM_FISHEYE
_FISHEYE_ORDER = ("k1", "k2", "k3", "k4")
_NERFSTUDIO_ORDER = ("k1", "k2", "k3", "k4", "p1", "p2")  # of its list `distortion_params`
_GROUPS = (
    ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"),
    (*_OPENCV_ORDER, "distortion_params"),
    ("camera_model", "is_fisheye"),
)
_PANORAMAS = ("equirectangular", "latlong", "ftheta_p0")  # instant-ngp's


class _BadField(Exception):
    """A value that cannot be used; where it stands decides whether one view or the capture is at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def read(path: Path) -> Reading:
    """All shots of a transforms file. Raises CaptureError for the file, and lists single bad frames as left out."""
    meta = _load(path)
    frames = meta.get("frames")
    if not isinstance(frames, list):
        raise CaptureError(f'{path.name} has no list "frames"; it is not a capture\'s.', file=path, field="frames")
    if not frames:
        raise CaptureError(f"{path.name} lists no frames.", file=path, field="frames")
    if len(frames) > MOST_VIEWS:
        raise CaptureError(
            f"{path.name} lists {len(frames):,} frames; at most {MOST_VIEWS:,} can be opened.",
            file=path,
            field="frames",
        )
    reading = Reading(path.parent, NAME)
    try:
        _check_shared(meta)
    except _BadField as problem:
        raise CaptureError(f"In {path.name}, {problem}; correct it.", file=path, field=problem.field) from None
    held_out = _held_out(meta, reading.notes)
    missing_masks = 0
    depths = False
    for number, frame in enumerate(frames):
        listed = f"frame {number}"
        try:
            if not isinstance(frame, dict):
                raise SkipView(f"Frame {number} is not an object.")
            file_path = frame.get("file_path")
            if not isinstance(file_path, str) or not file_path.strip():
                raise SkipView(f"Frame {number} has no file_path.")
            listed = file_path
            photo = find_photo(path.parent, file_path)
            pose = rigid_pose(frame.get("transform_matrix"), f"The transform_matrix of {file_path[:120]}")
            try:
                values = _of_frame(meta, frame)
                width, height = _size(values, photo)
                lens = _lens(values, width, height)
            except _BadField as problem:
                raise SkipView(f"Of {file_path[:120]}, {problem}.") from None
            listed_mask = frame.get("mask_path")
            mask = find_mask(path.parent, [listed_mask], photo) if _is_text(listed_mask) else None
            missing_masks += listed_mask is not None and mask is None
            depths |= frame.get("depth_file_path") is not None
            measured = None if held_out is None else _plain(file_path) in held_out
            reading.shots.append(Shot(listed, photo, pose, lens, width, height, measured, mask))
        except SkipView as problem:
            reading.left_out.append(LeftOut(listed[:300], str(problem)))
    if missing_masks:
        reading.notes.append(f"{missing_masks} pictures have no mask where their mask_path says; all of them is used.")
    if depths:
        reading.notes.append("Its depth pictures (depth_file_path) are not used.")
    reading.points = _points(path, meta, reading.notes)
    return reading


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _plain(file_path: str) -> str:
    return PurePosixPath(file_path.replace("\\", "/")).as_posix()


def _held_out(meta: Mapping[str, Any], notes: list[str]) -> set[str] | None:
    """The pictures that the file's own lists keep for measuring; None where it has no such lists."""
    lists: dict[str, set[str]] = {}
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        names = meta.get(key)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            lists[key] = {_plain(name) for name in names}
        elif names is not None:
            notes.append(f"{key} is not a list of file names and was not used.")
    measured = lists.get("val_filenames", set()) | lists.get("test_filenames", set())
    return measured - lists.get("train_filenames", set()) or None


def _points(path: Path, meta: Mapping[str, Any], notes: list[str]) -> SparsePoints | None:
    listed = meta.get("ply_file_path")
    if not _is_text(listed):
        return None
    try:
        points = read_points(inside(path.parent, listed))
        scale = _positive(meta, "applied_scale") or 1.0
    except (SkipView, _BadField) as problem:
        notes.append(f"The points of ply_file_path were left out: {problem}")
        return None
    except CaptureError as problem:
        notes.append(f"The points of ply_file_path were left out: {problem.message}")
        return None
    return points if points is None or scale == 1 else SparsePoints.usable(points.positions * scale, points.colours)


def _load(path: Path) -> dict[str, Any]:
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise CaptureError(f'{path.name} is not a JSON object with a list "frames".', file=path)
    return meta


def _check_shared(meta: Mapping[str, Any]) -> None:
    """What is wrong with values that all frames share is said once, for the file."""
    _is_fisheye(meta)
    for key in ("fl_x", "fl_y", "w", "h", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"):
        _positive(meta, key)
    for key in ("cx", "cy"):
        _number(meta, key)
    _distortion(meta)


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not abs(number) < 1e9:
        raise _BadField(key, "is not a usable number")
    return number


def _positive(values: Mapping[str, Any], key: str) -> float | None:
    value = _number(values, key)
    if value is not None and value < 1e-6:
        raise _BadField(key, f"is {value:g} and must be above zero")
    return value


def _of_frame(meta: Mapping[str, Any], frame: Mapping[str, Any]) -> dict[str, Any]:
    """A frame's own values over those that all frames share, in groups that say the same thing in several ways."""
    own = {key: value for key, value in frame.items() if value is not None}
    replaced = {key for group in _GROUPS if not own.keys().isdisjoint(group) for key in group}
    return {key: value for key, value in meta.items() if key not in replaced} | own


def _size(values: Mapping[str, Any], photo: Photo) -> tuple[float, float]:
    """The size that the frame's intrinsics belong to: as stated, else as the picture is stored."""
    width, height = _positive(values, "w"), _positive(values, "h")
    for key, side in (("w", width), ("h", height)):
        if side is not None and not 1 <= side <= 100_000:
            raise _BadField(key, f"is {side:g} pixels, which no picture is")
    if width is None:
        return (photo.width, photo.height) if height is None else (height * photo.width / photo.height, height)
    return width, width * photo.height / photo.width if height is None else height


def _lens(values: Mapping[str, Any], width: float, height: float) -> Lens:
    fx = _focal(values, "fl_x", "camera_angle_x", "x_fov", width)
    fy = _focal(values, "fl_y", "camera_angle_y", "y_fov", height)
    if fx is None and fy is None:
        raise _BadField("fl_x", "or camera_angle_x is missing, so its focal length is unknown")
    fx, fy = fx or fy or 0.0, fy or fx or 0.0
    for key, focal, side in (("fl_x", fx, width), ("fl_y", fy, height)):
        if not is_focal_length(focal, side):
            raise _BadField(key, f"is {focal:g} pixels, which no lens has for a picture of {side:g}")
    cx, cy = _number(values, "cx"), _number(values, "cy")
    cx, cy = width / 2 if cx is None else cx, height / 2 if cy is None else cy
    for key, centre, side in (("cx", cx, width), ("cy", cy, height)):
        if not is_centre(centre, side):
            raise _BadField(key, f"is {centre:g} pixels, far outside a picture of {side:g}")
    model, params = _distortion(values)
    return Lens(model, fx, fy, cx, cy, params)


def _focal(values: Mapping[str, Any], focal: str, radians: str, degrees: str, side: float) -> float | None:
    """Focal length in pixels: given, or from the field of view over the whole side."""
    length = _positive(values, focal)
    if length is not None:
        return length
    for key, unit in ((radians, 1.0), (degrees, math.pi / 180)):
        angle = _positive(values, key)
        if angle is not None:
            if angle * unit >= 0.999 * math.pi:
                raise _BadField(key, f"is {angle:g}, a field of view that no picture has")
            return side / 2 / math.tan(angle * unit / 2)
    return None


def _is_fisheye(values: Mapping[str, Any]) -> bool:
    for key in _PANORAMAS:
        if values.get(key):
            raise _BadField(key, "says that the pictures are panoramas, which cannot be read yet")
    model = values.get("camera_model")
    if model is None:
        return values.get("is_fisheye") is True
    if isinstance(model, str) and (model in _FISHEYE or model == _ARIA):
        return True
    if not isinstance(model, str) or model not in _PERSPECTIVE:
        raise _BadField("camera_model", f"is {str(model)[:40]}, which cannot be read yet")
    return False


def _distortion(values: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
    """(model, parameters) for Lens."""
    listed = values.get("distortion_params")
    if values.get("camera_model") == _ARIA:
        if not isinstance(listed, list) or len(listed) != 12:
            raise _BadField("distortion_params", f"is not a list of the 12 numbers that {_ARIA} has")
        named = {f"distortion_params[{index}]": value for index, value in enumerate(listed)}
        return "RAD_TAN_THIN_PRISM_FISHEYE", tuple(_number(named, key) or 0.0 for key in named)
    if listed is not None:
        if not isinstance(listed, list) or len(listed) != len(_NERFSTUDIO_ORDER):
            raise _BadField("distortion_params", f"is not a list of {len(_NERFSTUDIO_ORDER)} numbers")
        values = {**values, **dict(zip(_NERFSTUDIO_ORDER, listed, strict=True))}
    fisheye = _is_fisheye(values)
    params = tuple(_number(values, key) or 0.0 for key in (_FISHEYE_ORDER if fisheye else _OPENCV_ORDER))
    if fisheye:
        return "OPENCV_FISHEYE", params
    return ("OPENCV", params) if any(params) else ("PINHOLE", ())
