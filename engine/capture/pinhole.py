# SPDX-License-Identifier: GPL-3.0-or-later
"""The pinhole camera that a view gets, at the working size: the largest picture without empty pixels, or all pixels."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from engine.capture.lens import Lens
from engine.capture.types import Intrinsics

WIDEST = math.radians(60)  # from the axis: beyond it a flat picture is nearly all stretched edge
_STEPS = (40, 16, 16)  # of the march outward, in each round
_SMALL = 1e-5  # a step on the image plane, for derivatives
_PER_SIDE = 9  # directions through each side of the picture
_PER_SIDE_OUTSIDE = 129
_PER_TURN = 360
_SLACK = 5e-3  # pixels; `_shrunk` leaves up to a fifth of it


class NoPinhole(Exception):
    """No flat picture can be made through this lens; the message says why."""


def pinhole_for(lens: Lens, width: int, height: int, long_side: int, all_pixels: bool = False) -> Intrinsics:
    """The pinhole camera at working size for a stored picture of `width` × `height` pixels.

    Its picture is the largest upright rectangle in which every pixel is seen by the lens (with `all_pixels`: the
    smallest that holds every pixel of the photo), reduced (never enlarged) to
    at most `long_side` pixels. The scale is the same across and down; what does not fill a whole pixel is cut off
    evenly on both sides. Raises NoPinhole.
    """
    left, top, right, bottom = (whole_rectangle if all_pixels else seen_rectangle)(lens, width, height)
    across, down = (right - left) * lens.fx, (bottom - top) * lens.fy  # size at the lens's own focal length
    scale = min(long_side, max(width, height)) / max(across, down)
    scale = scale if scale < 1 - 1e-9 else 1.0
    fx, fy = lens.fx * scale, lens.fy * scale
    # The small amount takes back rounding only: 1080 × 1920 at 240 is 135 × 240.
    out_width, out_height = (max(1, math.floor(side * scale + 1e-6)) for side in (across, down))
    cx = -left * fx - (across * scale - out_width) / 2
    cy = -top * fy - (down * scale - out_height) / 2
    return Intrinsics(out_width, out_height, fx, fy, cx, cy)


def is_cropped(lens: Lens, width: int, height: int, all_pixels: bool = False) -> bool:
    """Whether the lens sees wider than the flat picture made from it, which ends at `WIDEST` from the axis."""
    if lens.is_pinhole:
        return False
    rectangle = (whole_rectangle if all_pixels else seen_rectangle)(lens, width, height)
    return max(map(abs, rectangle)) > math.tan(WIDEST) * 0.9999


def rays_of(intrinsics: Intrinsics, pixels: np.ndarray) -> np.ndarray:
    """(..., 2) pixels -> (..., 3) directions in camera axes x right, y down, z forward (= 1)."""
    plane = (pixels - (intrinsics.cx, intrinsics.cy)) / (intrinsics.fx, intrinsics.fy)
    return np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1)


@lru_cache(maxsize=64)  # most captures have one lens
def seen_rectangle(lens: Lens, width: int, height: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) on the image plane at focal length 1: a rectangle that the lens sees all of.

    It touches, on each side, the innermost point of the picture's edge, undistorted. Raises NoPinhole.
    """
    if lens.is_pinhole:
        return (-lens.cx / lens.fx, -lens.cy / lens.fy, (width - lens.cx) / lens.fx, (height - lens.cy) / lens.fy)
    seen = _seen_border(lens, width, height, _PER_SIDE)
    widest = math.tan(WIDEST)
    left, top = max(seen[0, :, 0].max(), -widest), max(seen[1, :, 1].max(), -widest)
    right, bottom = min(seen[2, :, 0].min(), widest), min(seen[3, :, 1].min(), widest)
    rectangle = (float(left), float(top), float(right), float(bottom))
    return _shrunk(lens, width, height, rectangle)


@lru_cache(maxsize=64)
def whole_rectangle(lens: Lens, width: int, height: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) on the image plane at focal length 1: what holds every pixel up to `WIDEST`.

    Raises NoPinhole.
    """
    if lens.is_pinhole:
        return seen_rectangle(lens, width, height)
    seen = _seen_border(lens, width, height, _PER_SIDE_OUTSIDE).reshape(-1, 2)
    widest = math.tan(WIDEST)
    (left, top), (right, bottom) = np.maximum(seen.min(axis=0), -widest), np.minimum(seen.max(axis=0), widest)
    if not (left < 0 < right and top < 0 < bottom):
        raise NoPinhole("its lens distortion is so strong that no flat picture can be made")
    return float(left), float(top), float(right), float(bottom)


def sees(lens: Lens, width: int, height: int, rays: np.ndarray) -> np.ndarray:
    """(N,) bool: which directions (N, 3), x right, y down, z forward = 1, fall on the picture.

    A polynomial that turns back on itself far out would put some on it that the lens never saw.
    """
    at = lens.project(rays)
    good = ((at >= -_SLACK) & (at <= (width + _SLACK, height + _SLACK))).all(axis=1)
    if lens.is_pinhole:
        return good
    angles, tangents = _folds(lens, width, height)
    fold = np.interp(np.arctan2(rays[:, 1], rays[:, 0]), angles, tangents, period=2 * math.pi)
    return good & (np.hypot(rays[:, 0], rays[:, 1]) <= fold)


@lru_cache(maxsize=4)
def _folds(lens: Lens, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions about the axis, and how far out, as a tangent, pixels still move outward in each."""
    angles = np.linspace(-math.pi, math.pi, _PER_TURN, endpoint=False)
    toward = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    reach = np.full(len(toward), math.hypot(width / lens.fx, height / lens.fy))
    return angles, _march(lens, (-math.inf, math.inf), (-math.inf, math.inf), toward, reach)


def _seen_border(lens: Lens, width: int, height: int, per_side: int) -> np.ndarray:
    """(4, per_side, 2): the border of the picture (left, top, right, bottom) on the image plane at focal length 1.

    Raises NoPinhole.
    """
    if not (0 < lens.cx < width and 0 < lens.cy < height):
        raise NoPinhole("the centre of its lens distortion lies outside the picture")
    edge = np.linspace(0.0, 1.0, per_side)
    zero, one = np.zeros_like(edge), np.ones_like(edge)
    sides = [(zero, edge), (edge, zero), (one, edge), (edge, one)]
    border = np.concatenate([np.stack([x * width, y * height], axis=1) for x, y in sides])
    toward = (border - (lens.cx, lens.cy)) / (lens.fx, lens.fy)
    reach = np.linalg.norm(toward, axis=1, keepdims=True)
    toward = toward / reach
    tangent = _march(lens, (0, width), (0, height), toward, reach[:, 0])
    return (toward * tangent[:, None]).reshape(4, per_side, 2)


def _march(
    lens: Lens, across: tuple[float, float], down: tuple[float, float], toward: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """How far from the axis, as a tangent, the lens sees in each direction `toward` (M, 2) before the picture, which
    spans `across` and `down`, ends.

    Forward projection alone decides, so a polynomial that turns back on itself far out cannot mislead it as it would
    mislead an inverse: the march ends where the pixel stops moving outward.
    """

    def outside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Pixels beyond the picture; negative inside."""
        return np.maximum(np.maximum(across[0] - x, x - across[1]), np.maximum(down[0] - y, y - down[1]))

    farthest = min(math.atan(4 * float(reach.max())), math.radians(85))
    low, span = np.zeros(len(toward)), np.full(len(toward), farthest)  # radians
    floor = np.zeros(len(toward))
    for steps in _STEPS:  # each round looks closer at the step in which the last one ended
        span = span / steps
        angles = low + np.arange(1, steps + 1)[:, None] * span
        plane = toward * np.tan(angles)[..., None]
        points = np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1)
        at = lens.project(points.reshape(-1, 3)).reshape(plane.shape)
        outward = np.hypot((at[..., 0] - lens.cx) / lens.fx, (at[..., 1] - lens.cy) / lens.fy)
        growing = np.diff(outward, axis=0, prepend=floor[None]) > 0
        inside = outside(at[..., 0], at[..., 1]) <= 0  # NaN is not
        good = np.logical_and.accumulate(inside & growing, axis=0).sum(axis=0)
        floor = np.where(good > 0, np.take_along_axis(outward, np.maximum(good - 1, 0)[None], axis=0)[0], floor)
        low = np.minimum(low + good * span, farthest)
    # Where the picture's edge lies in the last step, by a straight line; where the lens folds, the step's beginning.
    ends = np.stack([low, low + span])
    plane = toward * np.tan(ends)[..., None]
    at = lens.project(np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1).reshape(-1, 3))
    begin, end = outside(*at.T).reshape(2, -1)
    crossed = (begin <= 0) & (end > 0) & np.isfinite(end)
    with np.errstate(invalid="ignore"):  # inf − inf where a lens folds; not taken
        share = np.divide(-begin, end - begin, out=np.zeros_like(begin), where=crossed)
    return np.tan(np.minimum(low + share * span, farthest))


def _shrunk(
    lens: Lens, width: int, height: int, rectangle: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The rectangle, drawn in until all of its border falls in the picture (to a thousandth of a pixel)."""
    left, top, right, bottom = rectangle
    edge = np.linspace(0.0, 1.0, 12 * _PER_SIDE)
    for _ in range(100):
        if not (left < 0 < right and top < 0 < bottom):
            break
        # The foot of the axis besides, where an edge bows furthest.
        x = np.append(left + edge * (right - left), 0.0)
        y = np.append(top + edge * (bottom - top), 0.0)
        sides = [(np.full_like(y, left), y), (x, np.full_like(x, top)), (np.full_like(y, right), y),
                 (x, np.full_like(x, bottom))]  # fmt: skip
        border = np.concatenate([np.stack([u, v, np.ones_like(u)], axis=1) for u, v in sides])
        # To both sides: on the very border it may run one way on the one, and the other way on the other.
        shifts = _SMALL * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        at, right_of, below, left_of, above = lens.project((border + shifts[:, None]).reshape(-1, 3)).reshape(5, -1, 2)
        if not np.isfinite(at).all():
            break
        u, v, _ = border.T
        folded = False
        for across, down in ((right_of - at, below - at), (at - left_of, at - above)):
            (a, c), (b, d) = across.T, down.T
            leaning = np.stack([a * u + b * v, c * u + d * v], axis=1)  # where a pixel goes as its ray leans outward
            outward = ((at - (lens.cx, lens.cy)) * leaning).sum(axis=1)
            folded |= bool((a * d - b * c <= 0).any() or (outward <= 0).any())
        if folded:  # runs backwards
            left, top, right, bottom = 0.99 * left, 0.99 * top, 0.99 * right, 0.99 * bottom
            continue
        over = np.maximum(-at, at - (width, height)).max(axis=1).reshape(4, -1).max(axis=1)  # pixels, each side
        if over.max() <= 1e-3:
            return left, top, right, bottom
        draw = (np.maximum(over, 0) * 1.01).tolist()
        left, right = left + draw[0] / lens.fx, right - draw[2] / lens.fx
        top, bottom = top + draw[1] / lens.fy, bottom - draw[3] / lens.fy
    raise NoPinhole("its lens distortion is so strong that no flat picture can be made")
