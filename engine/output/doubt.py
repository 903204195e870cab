# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a scene's depth is not to be believed: a plain sky may be anywhere."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from engine.capture.types import Intrinsics
from engine.geometry import pixel_directions
from engine.output.volume import DepthView

ABOUT = 0.0275  # of a picture's longer side, each way: what is looked at about a pixel
PLAIN = 2 / 255  # standard deviation of the brightness there, below which nothing told the scene how far that is …
ROUGH = 0.005  # … and of inverse depth, as a share of it, from the plane that suits it best, above which nobody guessed
HORIZON = -0.05  # sine of the angle to what is level, below which a sky is not
LEAST = 0.03  # of the picture, that hangs together: a plain tile lies in what is about it


def skylike(view: DepthView, up: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a view looks above the horizon, much of its picture is plain and what it shows is not smooth.

    Where nothing tells them, scenes learn crumpled surfaces. Of a plain floor that is kept, for there is one."""
    rays = pixel_directions(view.intrinsics)
    rise = rays @ (view.pose[:3, :3].T @ up) / np.linalg.norm(rays, axis=-1)
    return _large(crumpled(view.depth, view.colour, view.full, view.intrinsics) & (rise > HORIZON))


def crumpled(depth: np.ndarray, color: np.ndarray, full: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """(H, W) bool: where a picture is plain and what it shows is not smooth.

    ``depth`` (H, W) along the rays, ``color`` (H, W, 3) 0–1; beside what is not ``full`` (H, W) nothing is doubted, for
    outlines tell, too."""
    size = 2 * round(ABOUT * max(full.shape)) + 1

    def sums(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, cv2.CV_64F, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)

    count = sums(np.ones(full.shape))  # less at the picture's edge
    whole = full & (sums(full.astype(float)) == count)
    y, x = (axis - (length - 1) / 2 for axis, length in zip(np.indices(full.shape, float), full.shape, strict=True))
    inverse = np.linalg.norm(pixel_directions(camera), axis=-1) / np.where(full, depth, 1.0)  # even along a plane
    brightness = np.where(full, color.mean(axis=-1, dtype=np.float64), 0.0)
    means = {name: sums(v) / count for name, v in (("x", x), ("y", y), ("i", inverse), ("b", brightness))}

    def spread(one: np.ndarray, other: np.ndarray, names: str) -> np.ndarray:
        return sums(one * other) / count - means[names[0]] * means[names[1]]

    xx, yy, xy = spread(x, x, "xx"), spread(y, y, "yy"), spread(x, y, "xy")
    xi, yi = spread(x, inverse, "xi"), spread(y, inverse, "yi")
    area = np.maximum(xx * yy - xy * xy, 1e-9)  # 0 of a line of pixels, which have no plane but any
    along = (xi * xi * yy - 2 * xi * yi * xy + yi * yi * xx) / area
    left = np.sqrt(np.maximum(spread(inverse, inverse, "ii") - along, 0))
    plain = spread(brightness, brightness, "bb") < PLAIN**2
    return whole & plain & (left > ROUGH * np.abs(means["i"]))


def _large(found: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(found)
    pixels = np.bincount(parts.ravel())
    pixels[0] = 0  # of what was not found
    return (pixels >= LEAST * found.size)[parts]
