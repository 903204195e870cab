# SPDX-License-Identifier: GPL-3.0-or-later
"""Values from files that nobody vouches for: numbers, sizes, poses and lenses, each checked in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.capture.lens import Lens
from engine.capture.photos import SkipView
from engine.capture.types import FARTHEST

ORTHONORMAL = 1e-2  # how far a rotation may be from one, by the rounding of the file it was written to
PANORAMA = "a 360° panorama (spherical picture), which cannot be read yet; make flat pictures of it and align those"


class BadField(SkipView):
    """A value that cannot be used; where it stands decides whether one view or the capture is at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def as_number(value: Any, name: str) -> float:
    """A finite number, given as such or as text. Raises BadField, naming it."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not abs(found) < FARTHEST:  # NaN is not
        raise BadField(name, "is not a usable number")
    return found


def optional_number(values: Any, key: str) -> float | None:
    """The finite number that `values` has under `key`, None where it has none. Raises BadField."""
    value = values.get(key) if isinstance(values, Mapping) else None
    return None if value is None else as_number(value, key)


def number(values: Any, key: str, default: float | None = None) -> float:
    """The finite number that `values` has under `key`, as such or as text. Raises BadField."""
    found = optional_number(values, key)
    found = default if found is None else found
    if found is None:
        raise BadField(key, "is missing")
    return found


def numbers(value: Any, count: int, what: str) -> np.ndarray:
    """(count,) float64 from an untrusted list of numbers or their texts. Raises SkipView, naming `what`."""
    if not isinstance(value, list) or len(value) != count:
        raise SkipView(f"{what} is not a list of {count} numbers.")
    try:
        return np.array([as_number(each, "") for each in value])
    except BadField:
        raise SkipView(f"{what} holds values that are not numbers (NaN, infinity or text).") from None


def checked_side(side: float, name: str) -> float:
    """The length of a picture's side in pixels. Raises BadField."""
    if not 1 <= side <= 100_000:
        raise BadField(name, f"is {side:g} pixels, which no picture is")
    return side


def size_of(values: Any, width: str = "width", height: str = "height") -> tuple[float, float]:
    """The size in pixels that a camera is for. Raises BadField."""
    return checked_side(number(values, width), width), checked_side(number(values, height), height)


def checked_lens(lens: Lens, size: tuple[float, float], names: tuple[str, ...] = ("fx", "fy", "cx", "cy")) -> Lens:
    """The lens, where it can be one for a picture of `size` (width, height) pixels. `names` are what its file calls
    the two focal lengths and the centre. Raises BadField."""
    fx, fy, cx, cy = names
    for name, focal, side in ((fx, lens.fx, size[0]), (fy, lens.fy, size[1])):
        if not 1e-2 * side < focal < 1e4 * side:
            raise BadField(name, f"is a focal length of {focal:g} pixels, which no lens has for a picture of {side:g}")
    for name, centre, side in ((cx, lens.cx, size[0]), (cy, lens.cy, size[1])):
        if not -10 * side < centre < 11 * side:  # it may lie outside
            raise BadField(name, f"puts the centre at {centre:g} pixels, far outside a picture of {side:g}")
    if not all(abs(value) < 1e9 for value in lens.params):
        raise BadField("distortion", "is not a list of usable numbers")
    if lens.model in ("OPENCV", "BROWN") and not any(lens.params):
        return Lens("PINHOLE", lens.fx, lens.fy, lens.cx, lens.cy)
    return lens


def opengl_pose(rotation: Any, position: Any) -> np.ndarray:
    """(4, 4), camera to world with OpenGL's camera axes, of a camera-to-world rotation (3, 3) with the axes x right,
    y down, z forward (OpenCV's) and a position (3,). Nothing is checked: `rigid_pose` does that."""
    pose = np.eye(4)
    pose[:3, :3] = np.asarray(rotation) * (1, -1, -1)
    pose[:3, 3] = position
    return pose


def rigid_pose(rows: object, what: str) -> np.ndarray:
    """A camera-to-world matrix from untrusted rows (3 or 4 of 4 numbers) -> (4, 4) float64, a rotation made exact.

    A rotation that is scaled evenly is divided by its scale. Raises SkipView, naming `what`, for anything but a
    rotation and a shift.
    """
    if rows is None:
        raise SkipView(f"{what} is missing.")
    try:
        pose = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise SkipView(f"{what} is not a matrix of numbers.") from None
    if pose.shape not in ((3, 4), (4, 4)):
        raise SkipView(f"{what} is not a 4 × 4 matrix.")
    if not np.isfinite(pose).all():
        raise SkipView(f"{what} holds values that are not numbers (NaN or infinity).")
    if pose.shape == (4, 4) and not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6):
        raise SkipView(f"{what} does not end with the row 0 0 0 1.")
    rotation, shift = pose[:3, :3], pose[:3, 3]
    if np.abs(shift).max() > FARTHEST:
        raise SkipView(f"{what} puts the camera absurdly far away.")
    if not 1e-6 < np.abs(rotation).max() < 1e6:
        raise SkipView(f"{what} is not a rotation (it is zero or absurdly large).")
    u, scales, vt = np.linalg.svd(rotation)
    if scales[0] > (1 + ORTHONORMAL) * scales[2]:
        raise SkipView(f"{what} is not a rotation (sheared or singular).")
    if np.linalg.det(rotation) < 0:
        raise SkipView(f"{what} is mirrored (left-handed axes); export it with right-handed ones.")
    exact = np.eye(4)
    already = np.abs(rotation.T @ rotation - np.eye(3)).max() < 1e-12
    exact[:3, :3], exact[:3, 3] = rotation if already else u @ vt, shift
    return exact


def rotation_from_quaternion(xyzw: np.ndarray, what: str) -> np.ndarray:
    """(3, 3) rotation of a quaternion (4,), scalar last, of any usable length. Raises SkipView, naming `what`."""
    length = math.hypot(*xyzw)
    if not 1e-6 < length < 1e6:  # NaN is not
        raise SkipView(f"{what} has no rotation (the length of its quaternion is {length:.3g}).")
    x, y, z, w = xyzw / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
