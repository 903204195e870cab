# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed surfaces: what lies inside them, and how far from them. Knows nothing of scenes or pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import BadInput

if TYPE_CHECKING:
    from engine.edit.nearest import Nearest

MOST_TRIANGLES = 100_000  # of a surface
PAIRS = 4_000_000  # of a point and a triangle that are looked at together: a few hundred megabytes
CELLS = 48  # of the grid in which triangles are looked up, along its longest side, at most
MOST_ENTRIES = 4_000_000  # of all its cells together: a few hundred megabytes while it is made
# Which way points are looked through: along no axis of anything that people build, so that no ray runs along a face.
_TURN = np.linalg.qr(np.array([[0.8017, 0.2673, 0.5345], [-0.2981, 0.9428, 0.1491], [0.1237, 0.5571, -0.8212]]))[0]


class Solid:
    """What a closed surface of triangles encloses."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, name: str = ""):
        """``vertices`` (n, 3), ``triangles`` (m, 3) of their numbers. Raises BadInput, with the name, where the surface
        encloses nothing: it has holes, or names vertices that are not there."""
        called = f"“{name}”" if name else "A surface"
        if not (
            len(triangles) and np.isfinite(vertices).all() and 0 <= triangles.min() <= triangles.max() < len(vertices)
        ):
            raise BadInput(f"{called} of the region has no faces, or is damaged.", field="region")
        if len(triangles) > MOST_TRIANGLES:
            raise BadInput(
                f"{called} of the region has {len(triangles):,} triangles; {MOST_TRIANGLES:,} are the most: use a "
                "simpler mesh, or a box.",
                field="region",
            )
        triangles = _welded(vertices, triangles)
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
        _, shared = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
        if (shared % 2).any():
            raise BadInput(
                f"{called} of the region is not closed, so it has no inside: fill its holes, or use a box.",
                field="region",
            )
        # Faces that turn the same way all over say inside from outside where parts overlap, too.
        keys = edges[:, 0] * (len(vertices) + 1) + edges[:, 1]
        back = edges[:, 1] * (len(vertices) + 1) + edges[:, 0]
        self._turned_alike = len(np.unique(keys)) == len(keys) and bool(np.isin(back, keys).all())
        self._corners = vertices[triangles].astype(np.float64)  # (m, 3, 3)
        turned = self._corners @ _TURN
        self._turned = turned
        self._columns = _Grid(turned[..., :2].min(axis=1), turned[..., :2].max(axis=1))
        self._nearest: Nearest | None = None  # made when it is asked for

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) the least and the greatest of its coordinates."""
        return self._corners.min(axis=(0, 1)), self._corners.max(axis=(0, 1))

    def inside(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool: whether points (n, 3) are enclosed."""
        turned = np.asarray(points, np.float64) @ _TURN
        crossed = np.zeros(len(points), np.int64)
        for point, triangle in self._columns.pairs(turned[:, :2]):
            a, b, c = (self._turned[triangle, corner] for corner in range(3))
            p = turned[point]
            # Whether the ray upwards from the point goes through the triangle, and from which side.
            areas = [_area(p, b, c), _area(p, c, a), _area(p, a, b)]
            whole = areas[0] + areas[1] + areas[2]
            through = ((areas[0] >= 0) == (areas[1] >= 0)) & ((areas[1] >= 0) == (areas[2] >= 0)) & (whole != 0)
            weights = np.stack(areas, axis=-1) / np.where(whole == 0, 1.0, whole)[:, None]
            height = weights[:, 0] * a[:, 2] + weights[:, 1] * b[:, 2] + weights[:, 2] * c[:, 2]
            above = through & (height > p[:, 2])
            np.add.at(crossed, point[above], np.sign(whole[above]).astype(np.int64))
        return crossed != 0 if self._turned_alike else crossed % 2 != 0

    def distance(self, points: np.ndarray, most: float) -> np.ndarray:
        """(n,) how far points (n, 3) are from the surface, ``most`` where it is no less."""
        if self._nearest is None:
            from engine.edit.nearest import Nearest  # and numba with it, which a hard edge does not need

            self._nearest = Nearest(self._corners)
        return self._nearest.distance(points, most)


def _welded(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Triangles with one number for all vertices of the same place, without those that are none then."""
    _, number = np.unique(np.round(vertices, 9), axis=0, return_inverse=True)
    first = np.zeros(number.max() + 1, np.int64)
    first[number.reshape(-1)[::-1]] = np.arange(len(vertices))[::-1]
    welded = first[number.reshape(-1)[triangles]]
    different = (welded[:, 0] != welded[:, 1]) & (welded[:, 1] != welded[:, 2]) & (welded[:, 2] != welded[:, 0])
    return welded[different]


def _area(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Twice the signed area of p, a, b in the plane."""
    return (a[:, 0] - p[:, 0]) * (b[:, 1] - p[:, 1]) - (b[:, 0] - p[:, 0]) * (a[:, 1] - p[:, 1])


class _Grid:
    """Boxes (n, d) by the cells of a grid that they touch, so that those around a point are found at once. Where most
    are large, cells are, too, or most of them would stand in most cells."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self._low, top = low.min(axis=0), high.max(axis=0)
        cells = CELLS
        while True:
            self._side = max(float((top - self._low).max()) / cells, 1e-12)
            self._shape = np.floor((top - self._low) / self._side).astype(np.int64) + 1
            first = np.floor((low - self._low) / self._side).astype(np.int64)
            last = np.minimum(np.floor((high - self._low) / self._side).astype(np.int64), self._shape - 1)
            spans = last - first + 1
            counts = spans.prod(axis=1)
            if counts.sum() <= MOST_ENTRIES or cells == 1:
                break
            cells //= 2
        owner = np.repeat(np.arange(len(low)), counts)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        cell = np.zeros(len(owner), np.int64)
        for axis in range(low.shape[1]):
            own = spans[owner, axis]
            cell = cell * self._shape[axis] + first[owner, axis] + place % own
            place //= own
        order = np.argsort(cell, kind="stable")
        self._owner = owner[order]
        self._starts = np.searchsorted(cell[order], np.arange(self._shape.prod() + 1))

    def pairs(self, points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers of points (n, d), numbers of boxes that may hold them), so many at once as memory allows."""
        at = np.floor((points - self._low) / self._side).astype(np.int64)
        within = ((at >= 0) & (at < self._shape)).all(axis=1)
        number = np.flatnonzero(within)
        cell = np.zeros(len(number), np.int64)
        for axis in range(points.shape[1]):
            cell = cell * self._shape[axis] + at[number, axis]
        begin = self._starts[cell]
        counts = self._starts[cell + 1] - begin
        ends = np.cumsum(counts)
        start = 0
        while start < len(number):
            stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + PAIRS, "right")))
            own = counts[start:stop]
            point = np.repeat(number[start:stop], own)
            offset = np.arange(len(point)) - np.repeat(np.cumsum(own) - own, own)
            yield point, self._owner[np.repeat(begin[start:stop], own) + offset]
            start = stop
