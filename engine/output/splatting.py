# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats as a camera sees them, compiled for the CPU: the projection (EWA) and compositing of Kerbl et al. (2023), and
what of a picture's error is each splat's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numba
import numpy as np

from engine.capture import Intrinsics

BLUR = np.float32(0.3)  # square pixels, added to what a splat covers: as viewers do, so that none falls between pixels
MARGIN = np.float32(1.3)  # of half the picture: splats whose middle lies beyond are not drawn, as in web viewers
FAINTEST, MOST = np.float32(1 / 255), np.float32(0.99)  # opacity: less is none, and never more
OPAQUE = np.float32(1e-4)  # of light that still comes through, below which nothing more is seen
NEAR = np.float32(1e-6)
BANDS = 4  # of rows, worked on side by side: a fixed number, so that sums are the same on every machine
ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)

kernel = partial(numba.njit, fastmath=True, error_model="numpy", cache=True)


@dataclass(frozen=True)
class Projected:
    """What a camera sees of N splats: `shapes` (N, 7) float32, the place in pixels, the inverse covariance (three
    numbers) and how far it reaches in either direction; `order` (V,), those that it sees, nearest first."""

    shapes: np.ndarray
    order: np.ndarray
    width: int
    height: int


def project_splats(means: np.ndarray, axes: np.ndarray, pose: np.ndarray, intrinsics: Intrinsics) -> Projected:
    """Splats with `means` (N, 3) and `axes` (N, 3, 3), as columns, as long as their standard deviations, seen by a
    camera: all in the capture frame."""
    i = intrinsics
    # To camera axes x right, y down, z ahead. Float64 until the camera stands at the origin.
    turn = (pose[:3, :3] * [1.0, -1.0, -1.0]).astype(np.float32)
    local = (means - pose[:3, 3]).astype(np.float32) @ turn
    shapes = np.zeros((len(means), 7), np.float32)
    lens = np.array([i.fx, i.fy, i.cx, i.cy], np.float32)
    _project(local, axes.astype(np.float32), turn, lens, i.width, i.height, shapes)
    seen = np.flatnonzero(shapes[:, 5] > 0)
    return Projected(shapes, seen[np.argsort(local[seen, 2], kind="stable")], i.width, i.height)


@kernel(parallel=True)
def _project(local, axes, turn, lens, width, height, shapes):
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    wide, high = MARGIN * max(cx, width - cx) / fx, MARGIN * max(cy, height - cy) / fy
    for n in numba.prange(len(local)):
        z = local[n, 2]
        if z < NEAR:
            continue
        x, y = local[n, 0] / z, local[n, 1] / z
        if not (abs(x) < wide and abs(y) < high):
            continue
        xx, xy, yy = BLUR, ZERO, BLUR
        for k in range(3):
            right = turn[0, 0] * axes[n, 0, k] + turn[1, 0] * axes[n, 1, k] + turn[2, 0] * axes[n, 2, k]
            down = turn[0, 1] * axes[n, 0, k] + turn[1, 1] * axes[n, 1, k] + turn[2, 1] * axes[n, 2, k]
            ahead = turn[0, 2] * axes[n, 0, k] + turn[1, 2] * axes[n, 1, k] + turn[2, 2] * axes[n, 2, k]
            u, v = fx / z * (right - x * ahead), fy / z * (down - y * ahead)
            xx += u * u
            xy += u * v
            yy += v * v
        reach_x, reach_y = np.float32(3) * np.sqrt(xx), np.float32(3) * np.sqrt(yy)
        u, v = fx * x + cx, fy * y + cy
        if not (u + reach_x > 0 and u - reach_x < width and v + reach_y > 0 and v - reach_y < height):
            continue
        area = xx * yy - xy * xy
        shapes[n, 0], shapes[n, 1] = u, v
        shapes[n, 2], shapes[n, 3], shapes[n, 4] = yy / area, -xy / area, xx / area
        shapes[n, 5], shapes[n, 6] = reach_x, reach_y


def composite(seen: Projected, colors: np.ndarray, opacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) what the splats show before black, and (H, W) how much light still comes through; `colors` (N, 3) and
    `opacity` (N,), float32."""
    picture = np.zeros((seen.height, seen.width, 3), np.float32)
    light = np.ones((seen.height, seen.width), np.float32)
    _composite(seen.shapes, seen.order, colors, opacity, picture, light)
    return picture, light


@kernel()
def _part(shapes, n, low, high, width):
    """The rows and columns of a picture that a splat reaches, between rows ``low`` and ``high``."""
    left, right = shapes[n, 0] - shapes[n, 5] - HALF, shapes[n, 0] + shapes[n, 5] - HALF
    top, bottom = shapes[n, 1] - shapes[n, 6] - HALF, shapes[n, 1] + shapes[n, 6] - HALF
    x0, x1 = int(np.ceil(max(left, ZERO))), int(np.floor(min(right, np.float32(width - 1))))
    y0, y1 = int(np.ceil(max(top, np.float32(low)))), int(np.floor(min(bottom, np.float32(high - 1))))
    return x0, x1, y0, y1


@kernel(parallel=True)
def _composite(shapes, order, colors, opacity, picture, light):
    height, width = light.shape
    rows = (height + BANDS - 1) // BANDS
    for band in numba.prange(BANDS):
        low, high = band * rows, min(height, band * rows + rows)
        for n in order:
            x0, x1, y0, y1 = _part(shapes, n, low, high, width)
            for y in range(y0, y1 + 1):
                dy = np.float32(y) + HALF - shapes[n, 1]
                for x in range(x0, x1 + 1):
                    left = light[y, x]
                    if left < OPAQUE:
                        continue
                    dx = np.float32(x) + HALF - shapes[n, 0]
                    square = shapes[n, 2] * dx * dx + shapes[n, 4] * dy * dy + shapes[n, 3] * dx * dy * np.float32(2)
                    alpha = min(MOST, opacity[n] * np.exp(-HALF * square))
                    if alpha < FAINTEST:
                        continue
                    for c in range(3):
                        picture[y, x, c] += left * alpha * colors[n, c]
                    light[y, x] = left * (ONE - alpha)


def shares(seen: Projected, colors: np.ndarray, opacity: np.ndarray, picture: np.ndarray, light: np.ndarray,
           error: np.ndarray, dimmed: np.ndarray) -> np.ndarray:  # fmt: skip
    """(N, 5): by each splat's color, opacity and logarithm of its size, the derivatives of a loss whose derivatives by
    the `picture` and by the `light` that `composite` gave are `error` (H, W, 3) and `dimmed` (H, W)."""
    each = np.zeros((BANDS, len(colors), 5), np.float32)
    _shares(seen.shapes, seen.order, colors, opacity, picture, light, error, dimmed, each)
    return each.sum(axis=0)


@kernel(parallel=True)
def _shares(shapes, order, colors, opacity, picture, light, error, dimmed, each):
    height, width = light.shape
    rows = (height + BANDS - 1) // BANDS
    for band in numba.prange(BANDS):
        low, high = band * rows, min(height, band * rows + rows)
        left_over = np.ones((rows, width), np.float32)
        behind = np.empty((rows, width, 3), np.float32)  # what of the picture lies behind, as it is dimmed
        behind[: max(high - low, 0)] = picture[low:high]
        for n in order:
            x0, x1, y0, y1 = _part(shapes, n, low, high, width)
            for y in range(y0, y1 + 1):
                dy = np.float32(y) + HALF - shapes[n, 1]
                for x in range(x0, x1 + 1):
                    left = left_over[y - low, x]
                    if left < OPAQUE:
                        continue
                    dx = np.float32(x) + HALF - shapes[n, 0]
                    square = shapes[n, 2] * dx * dx + shapes[n, 4] * dy * dy + shapes[n, 3] * dx * dy * np.float32(2)
                    falloff = np.exp(-HALF * square)
                    alpha = min(MOST, opacity[n] * falloff)
                    if alpha < FAINTEST:
                        continue
                    slope = -dimmed[y, x] * light[y, x] / (ONE - alpha)
                    for c in range(3):
                        each[band, n, c] += error[y, x, c] * left * alpha
                        behind[y - low, x, c] -= left * alpha * colors[n, c]
                        slope += error[y, x, c] * (left * colors[n, c] - behind[y - low, x, c] / (ONE - alpha))
                    if alpha < MOST:
                        each[band, n, 3] += slope * falloff
                        along, down = shapes[n, 2] * dx + shapes[n, 3] * dy, shapes[n, 3] * dx + shapes[n, 4] * dy
                        each[band, n, 4] += slope * alpha * (square - BLUR * (along * along + down * down))
                    left_over[y - low, x] = left * (ONE - alpha)
