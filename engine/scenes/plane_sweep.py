# SPDX-License-Identifier: GPL-3.0-or-later
"""About how far away what a photo shows is: a sweep of planes before its camera (Collins 1996; Gallup et al. 2007)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from engine.geometry import Camera
from engine.scenes.patch_match import NOWHERE, between, camera_matrix

NEAREST = 0.3  # of a camera's distance to what it looks at; the farthest is infinitely far
PLANES = 200  # at most
STEP = 0.7  # pixels that a point moves in the other views from one plane to the next
WINDOW = 5  # pixels: what is compared is a square about each
FLAT = 1.5  # of 255, the least standard deviation of a square that can be told from others


def swept(
    number: int, views: Sequence[Camera], grays: Sequence[np.ndarray], others: Sequence[int], ahead: float
) -> np.ndarray:
    """(H, W): the inverse of the distance along a view's axis at which most looks alike in the ``others``. ``grays``:
    of each view, (H, W) float32 of 0 to 255, `NOWHERE` where it shows nothing; ``ahead``: how far away it looks."""
    view = views[number]
    gray = np.where(grays[number] == NOWHERE, 0, grays[number])
    height, width = gray.shape
    ways = [(between(view, views[n]), camera_matrix(views[n]), grays[n]) for n in others]
    inverse = np.linalg.inv(camera_matrix(view))
    moved = [views[n].intrinsics.fx * np.linalg.norm(shift) for n, ((_, shift), *_) in zip(others, ways, strict=True)]
    nearest = NEAREST * ahead
    planes = int(np.clip(np.median(moved) / nearest / STEP, 2, PLANES)) + 1
    inverse_z = np.linspace(0, 1 / nearest, planes)
    mean, deviation = _local(gray)
    scores = np.full((planes, height, width), -1, np.float32)
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], float).T
    for plane, one in enumerate(inverse_z):
        best, second = (np.full(gray.shape, -1, np.float32) for _ in range(2))
        for (turn, shift), matrix, other in ways:
            across = matrix @ (turn + np.outer(shift, [0, 0, one])) @ inverse
            if (across @ corners)[2].min() <= 1e-6:  # a part of the plane is behind the other camera
                continue
            like = _alike(gray, mean, deviation, across, other)
            second = np.maximum(second, np.minimum(best, like))
            best = np.maximum(best, like)
        # Half of the neighbours may be kept from seeing a point by what is before it.
        scores[plane] = (best + second) / 2 if len(ways) > 1 else best
    return _best(scores, inverse_z[1])


def about(where: np.ndarray) -> np.ndarray:
    """(H, W) bool, which squares hold a pixel of those."""
    return cv2.dilate(where.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0


def _local(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) mean and standard deviation about each pixel."""
    mean = cv2.boxFilter(gray, -1, (WINDOW, WINDOW))
    square = cv2.boxFilter(gray * gray, -1, (WINDOW, WINDOW))
    return mean, np.sqrt(np.maximum(square - mean * mean, 0))


def _alike(
    gray: np.ndarray, mean: np.ndarray, deviation: np.ndarray, across: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """(H, W) correlation of each square with that of ``other`` to which ``across`` (3, 3) takes its pixels; −1 where
    one of them is flat, lies outside or holds what is not shown."""
    height, width = gray.shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(other, across, (width, height), flags=how, borderValue=NOWHERE)
    outside = moved < -0.5
    moved[outside] = 0
    its_mean, its_deviation = _local(moved)
    both = cv2.boxFilter(gray * moved, -1, (WINDOW, WINDOW)) - mean * its_mean
    like = np.where((deviation > FLAT) & (its_deviation > FLAT), both / np.maximum(deviation * its_deviation, 1e-6), -1)
    like[about(outside)] = -1
    return like.astype(np.float32)


def _best(scores: np.ndarray, step: float) -> np.ndarray:
    """(H, W) the best of planes (P, H, W) ``step`` of 1 / z apart, from infinity on, and between them by a parabola."""
    plane = scores.argmax(axis=0)
    inside = np.clip(plane, 1, len(scores) - 2)
    below, at, above = (np.take_along_axis(scores, (inside + d)[None], axis=0)[0] for d in (-1, 0, 1))
    bend = np.minimum(below - 2 * at + above, -1e-6)
    off = np.where(plane == inside, np.clip((below - above) / (2 * bend), -0.5, 0.5), 0)
    return np.maximum(plane + off, 0.5) * step
