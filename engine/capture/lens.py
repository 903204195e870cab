# SPDX-License-Identifier: GPL-3.0-or-later
"""Lenses: where a camera as it really is, distortion included, sees a point.

A lens is known by one function, `Lens.project`. Undistortion, cropping and tests need no inverse of it, so a further
camera model is one more entry of `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Distortion = Callable[[np.ndarray, tuple[float, ...]], np.ndarray]
"""(N, 3) points in front of the camera, and a model's parameters -> (N, 2) on the image plane at focal length 1."""


def _pinhole(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    return points[:, :2] / points[:, 2:]


def _brown(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    k1, k2, k3, k4, p1, p2 = params
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    xy, r2 = x * y, x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    return np.stack(
        [x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x), y * radial + 2 * p2 * xy + p1 * (r2 + 2 * y * y)], axis=1
    )


def _opencv(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    # OpenCV's own projectPoints takes a hundred times as long, for it derives as it goes.
    k1, k2, p1, p2, k3, k4, k5, k6 = params
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    xy, r2 = x * y, x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if k4 or k5 or k6:
        radial /= 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    return np.stack(
        [x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x), y * radial + 2 * p2 * xy + p1 * (r2 + 2 * y * y)], axis=1
    )


def _opencv_fisheye(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    k1, k2, k3, k4 = params
    r = np.hypot(points[:, 0], points[:, 1])
    angle = np.arctan2(r, points[:, 2])
    a2 = angle * angle
    bent = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
    scale = np.divide(bent, r, out=1 / points[:, 2], where=r > 1e-12 * points[:, 2])
    return points[:, :2] * scale[:, None]


MODELS: dict[str, tuple[Distortion, int]] = {
    # model: (distortion, number of parameters)
    "PINHOLE": (_pinhole, 0),
    "BROWN": (_brown, 6),  # k1 k2 k3 k4 p1 p2: OPENCV's without the division, with an eighth power of the radius
    "OPENCV": (_opencv, 8),  # k1 k2 p1 p2 k3 k4 k5 k6, OpenCV's order; the last three divide (its rational model)
    "OPENCV_FISHEYE": (_opencv_fisheye, 4),  # k1 k2 k3 k4 over odd powers of the angle to the axis
}


@dataclass(frozen=True)
class Lens:
    """A camera model with its values: `model` is a key of `MODELS`, `params` its distortion in that model's order.

    `fx`, `fy`, `cx`, `cy` are in pixels of the picture that the lens belongs to, pixel centres at half-integers: the
    picture's upper left corner is (0, 0).
    """

    model: str
    fx: float
    fy: float
    cx: float
    cy: float
    params: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in MODELS or len(self.params) != MODELS[self.model][1]:
            raise ValueError(f"no lens model {self.model!r} with {len(self.params)} parameters")

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight."""
        return self.model == "PINHOLE" or (self.model == "OPENCV" and not any(self.params))

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points in camera axes (x right, y down, z forward) -> (N, 2) float64 pixels.

        Points at or behind the camera's plane give NaN.
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        pixels = np.full((len(points), 2), np.nan)
        front = points[:, 2] > 0
        if front.any():
            distort, _ = MODELS[self.model]
            with np.errstate(all="ignore"):  # absurd parameters overflow; callers look for what is not finite
                pixels[front] = distort(points[front], self.params) * (self.fx, self.fy) + (self.cx, self.cy)
        return pixels

    def scaled(self, sx: float, sy: float) -> Lens:
        """The same lens for the picture resized by `sx` across and `sy` down."""
        return replace(self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy)
