# SPDX-License-Identifier: GPL-3.0-or-later
"""Lenses: where a camera as it really is, distortion included, sees a point.

A lens is known by one function, `Lens.project`. Undistortion, cropping and tests need no inverse of it, so a further
camera model is one more entry of `MODELS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def _metashape(xy: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    k1, k2, k3, k4, p1, p2, p3, p4, shear = params
    x, y = xy.T
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    growing = 1 + r2 * (p3 + r2 * p4)
    across = x * radial + (p1 * (r2 + 2 * x * x) + 2 * p2 * x * y) * growing
    down = y * radial + (p2 * (r2 + 2 * y * y) + 2 * p1 * x * y) * growing
    return np.stack([across + shear * down, down], axis=1)


def _metashape_frame(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    return _metashape(_pinhole(points, ()), params)


def _metashape_fisheye(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    return _metashape(_on_angles(points), params)


def _metashape_equisolid(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    xy = _on_angles(points)
    half = np.hypot(*xy.T)[:, None] / 2
    return _metashape(xy * np.sinc(half / np.pi), params)  # as far from the middle as 2 sin(angle / 2)


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


def _on_angles(points: np.ndarray) -> np.ndarray:
    """(N, 2): each point as far from the middle as its angle to the axis, in radians."""
    return _opencv_fisheye(points, (0.0, 0.0, 0.0, 0.0))


def _thin_prism_fisheye(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    k1, k2, p1, p2, k3, k4, sx1, sy1 = params
    x, y = _on_angles(points).T
    xy, r2 = x * y, x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    return np.stack(
        [
            x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x) + sx1 * r2,
            y * radial + 2 * p2 * xy + p1 * (r2 + 2 * y * y) + sy1 * r2,
        ],
        axis=1,
    )


def _rad_tan_thin_prism_fisheye(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    k0, k1, k2, k3, k4, k5, p0, p1, s0, s1, s2, s3 = params
    angles = _on_angles(points)
    r2 = (angles * angles).sum(axis=1)
    radial = 1 + r2 * (k0 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * (k4 + r2 * k5)))))
    x, y = (angles * radial[:, None]).T
    r2 = x * x + y * y  # what follows bends the radially bent point
    tangential = 2 * (p0 * x + p1 * y)
    return np.stack(
        [
            x + tangential * x + p0 * r2 + r2 * (s0 + r2 * s1),
            y + tangential * y + p1 * r2 + r2 * (s2 + r2 * s3),
        ],
        axis=1,
    )


def _fov(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    (omega,) = params
    if abs(omega) < 1e-2:  # COLMAP's series as it stands there, for it is what the parameters were fitted with
        r2 = (points[:, :2] ** 2).sum(axis=1) / points[:, 2] ** 2
        return _pinhole(points, ()) * (1 + omega * omega * (r2 / 3 - 1 / 12))[:, None]
    r = np.hypot(points[:, 0], points[:, 1])
    widening = 2 * math.tan(omega / 2)
    bent = np.arctan2(r * widening, points[:, 2]) / omega
    scale = np.divide(bent, r, out=widening / omega / points[:, 2], where=r > 1e-12 * points[:, 2])
    return points[:, :2] * scale[:, None]


def _division(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    (k,) = params  # undistorted = distorted / (1 + k · its radius²), solved for the distorted
    z = points[:, 2]
    root = np.sqrt(z * z - 4 * k * (points[:, :2] ** 2).sum(axis=1))
    return points[:, :2] * (2 / (z + root))[:, None]


def _eucm(points: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
    alpha, beta = params
    z = points[:, 2]
    far = np.sqrt(beta * (points[:, :2] ** 2).sum(axis=1) + z * z)
    return points[:, :2] / (alpha * far + (1 - alpha) * z)[:, None]


MODELS: dict[str, tuple[Distortion, int]] = {
    # model: (distortion, number of parameters)
    "PINHOLE": (_pinhole, 0),
    "BROWN": (_brown, 6),  # k1 k2 k3 k4 p1 p2: OPENCV's without the division, with an eighth power of the radius
    "OPENCV": (_opencv, 8),  # k1 k2 p1 p2 k3 k4 k5 k6, OpenCV's order; the last three divide (its rational model)
    "OPENCV_FISHEYE": (_opencv_fisheye, 4),  # k1 k2 k3 k4 over odd powers of the angle to the axis
    "FOV": (_fov, 1),  # omega, in radians
    "THIN_PRISM_FISHEYE": (_thin_prism_fisheye, 8),  # k1 k2 p1 p2 k3 k4 sx1 sy1
    "RAD_TAN_THIN_PRISM_FISHEYE": (_rad_tan_thin_prism_fisheye, 12),  # k0 … k5 p0 p1 s0 … s3
    "DIVISION": (_division, 1),  # k
    "EUCM": (_eucm, 2),  # alpha beta
    # k1 k2 k3 k4, p1 … p4 as Metashape names them (the first two the other way round than OpenCV's), b2 / fx
    "METASHAPE": (_metashape_frame, 9),
    "METASHAPE_FISHEYE": (_metashape_fisheye, 9),
    "METASHAPE_EQUISOLID": (_metashape_equisolid, 9),
}

COLMAP_MODELS: dict[str, tuple[str, str, str]] = {
    # COLMAP's name: (ours, its parameters in its order, ours made of those)
    "SIMPLE_PINHOLE": ("PINHOLE", "f cx cy", ""),
    "PINHOLE": ("PINHOLE", "fx fy cx cy", ""),
    "SIMPLE_RADIAL": ("OPENCV", "f cx cy k1", "k1 0 0 0 0 0 0 0"),
    "RADIAL": ("OPENCV", "f cx cy k1 k2", "k1 k2 0 0 0 0 0 0"),
    "OPENCV": ("OPENCV", "fx fy cx cy k1 k2 p1 p2", "k1 k2 p1 p2 0 0 0 0"),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4", "k1 k2 k3 k4"),
    "FULL_OPENCV": ("OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6", "k1 k2 p1 p2 k3 k4 k5 k6"),
    "FOV": ("FOV", "fx fy cx cy omega", "omega"),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", "f cx cy k1", "k1 0 0 0"),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", "f cx cy k1 k2", "k1 k2 0 0"),
    "THIN_PRISM_FISHEYE": (
        "THIN_PRISM_FISHEYE",
        "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
        "k1 k2 p1 p2 k3 k4 sx1 sy1",
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        "RAD_TAN_THIN_PRISM_FISHEYE",
        "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
        "k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
    ),
    "SIMPLE_DIVISION": ("DIVISION", "f cx cy k", "k"),
    "DIVISION": ("DIVISION", "fx fy cx cy k", "k"),
    "SIMPLE_FISHEYE": ("OPENCV_FISHEYE", "f cx cy", "0 0 0 0"),
    "FISHEYE": ("OPENCV_FISHEYE", "fx fy cx cy", "0 0 0 0"),
    "EUCM": ("EUCM", "fx fy cx cy alpha beta", "alpha beta"),
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
        front = points[:, 2] > 0
        if not front.all():
            pixels = np.full((len(points), 2), np.nan)
            if front.any():
                pixels[front] = self.project(points[front])
            return pixels
        distort, _ = MODELS[self.model]
        with np.errstate(all="ignore"):  # absurd parameters overflow; callers look for what is not finite
            return distort(points, self.params) * (self.fx, self.fy) + (self.cx, self.cy)

    @classmethod
    def from_colmap(cls, model: str, params: Sequence[float]) -> Lens:
        """The lens of a COLMAP camera: a key of `COLMAP_MODELS` and its parameters in COLMAP's order.

        Raises ValueError for a model that has no lens here, and for a wrong number of parameters.
        """
        if model not in COLMAP_MODELS:
            raise ValueError(f"no camera model {model!r}")
        ours, names, order = COLMAP_MODELS[model]
        values = {"0": 0.0} | dict(zip(names.split(), map(float, params), strict=True))
        fx, fy = (values.get(key, values.get("f", 0.0)) for key in ("fx", "fy"))
        distortion = tuple(values[name] for name in order.split())
        if ours == "OPENCV" and not any(distortion):
            ours, distortion = "PINHOLE", ()
        return cls(ours, fx, fy, values["cx"], values["cy"], distortion)

    def scaled(self, sx: float, sy: float) -> Lens:
        """The same lens for the picture resized by `sx` across and `sy` down."""
        return replace(self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy)
