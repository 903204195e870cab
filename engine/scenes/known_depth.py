# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture's sparse points say of the depth of its pictures' pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from engine.capture.types import Points
from engine.geometry import Camera, to_pixels

CELLS = 24  # along a picture's longer side, in each of which the nearest point hides those well behind it
HIDDEN = 1.1  # times the distance of the nearest point about it, from which on a point is hidden
LEAST_SURE = 0.05  # of 1, below which a point is left out


@dataclass(frozen=True, eq=False)
class KnownDepth:
    """Of one picture: ``pixels`` (K,) int64, row by row, that show a point, each once; ``distances`` (K,) float32 of
    the points along the normalised ray, capture frame; ``sure`` (K,) float32, 0–1, how much one is to be believed."""

    pixels: np.ndarray
    distances: np.ndarray
    sure: np.ndarray


def known_depths(
    points: Points, views: Sequence[Camera], check: Callable[[], None] = lambda: None
) -> list[KnownDepth]:  # fmt: skip
    """For each view, the points that it shows. A source says seldom which views saw a point, so that is told by the
    points themselves: one that lies well behind its neighbours in the picture is hidden. A point is believed by its
    reprojection error, as far as the source knows it (Deng et al. 2022: exp(−(error / mean error)²)).
    ``check`` is called before each view, and ends it by raising."""
    positions, errors = points.positions, points.errors
    sure = np.ones(len(positions), np.float32)
    if errors is not None and (mean := float(errors.mean())) > 0:
        sure = np.exp(-np.square(errors / mean)).astype(np.float32)
    positions, sure = positions[sure >= LEAST_SURE], sure[sure >= LEAST_SURE]
    made = []
    for view in views:
        check()
        made.append(_of_view(positions, sure, view))
    return made


def together(depths: Sequence[KnownDepth]) -> KnownDepth:
    """What several sources know of one picture; a pixel that several know is theirs in turn."""
    return KnownDepth(
        np.concatenate([np.zeros(0, np.int64), *(d.pixels for d in depths)]),
        np.concatenate([np.zeros(0, np.float32), *(d.distances for d in depths)]),
        np.concatenate([np.zeros(0, np.float32), *(d.sure for d in depths)]),
    )


def _of_view(positions: np.ndarray, sure: np.ndarray, view: Camera) -> KnownDepth:
    i = view.intrinsics
    local = (positions - view.pose[:3, 3]) @ view.pose[:3, :3]
    ahead = np.flatnonzero(local[:, 2] < 0)
    local = local[ahead]
    x, y = to_pixels(local[:, 0], local[:, 1], -local[:, 2], i)
    inside = (x >= 0) & (y >= 0) & (x < i.width) & (y < i.height)
    ahead, x, y = ahead[inside], x[inside], y[inside]
    distance = np.linalg.norm(local[inside], axis=1)
    size = max(i.width, i.height) / CELLS
    nearest = np.full((int(i.height / size) + 1, int(i.width / size) + 1), np.inf)
    cell = (y / size).astype(int), (x / size).astype(int)
    np.minimum.at(nearest, cell, distance)
    shown = distance <= HIDDEN * ndimage.minimum_filter(nearest, 3, mode="nearest")[cell]
    pixel = (y.astype(np.int64) * i.width + x.astype(np.int64))[shown]
    distance, certain = distance[shown], sure[ahead][shown]
    order = np.lexsort((distance, pixel))  # of several in one pixel, the nearest
    pixel, first = np.unique(pixel[order], return_index=True)
    return KnownDepth(pixel, distance[order][first].astype(np.float32), certain[order][first])
