# SPDX-License-Identifier: GPL-3.0-or-later
"""From many views' splats to a scene's: those that other views contradict are left out, and of many in one place one
stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from scipy.ndimage import minimum_filter

from engine.output.splats import SPREAD, Splats, splats_of
from engine.output.splatting import composite, kernel, project_splats
from engine.output.volume import DepthView

APART = 0.03  # share of the distance by which a splat must lie before a view's surface to be in its way
DOUBTED = 0.05  # share of the views that see a splat and may look past it
WITNESSES = 40  # views that are asked about each splat
CELL = 1.0  # of a splat's spacing: one splat stays in so large a cube
GROWTH = 1.15  # of the cubes while there are too many splats
LEAST_THINNED = 1_000_000  # splats, fewer of which are left until all are there
UNCOVERED = 0.5  # of light that comes through, above which a view's own splats are taken in after all


def gather(views: Sequence[DepthView], most: int, check: Callable[[], None] = lambda: None) -> Splats:
    """At most ``most`` splats of what the views show, in the capture frame; none where they show nothing. ``check`` is
    called between views."""
    witnesses = _Witnesses(views)
    unit, cell, parts = 0.0, CELL, [splats_of(views[0])[:0]]
    for index, view in enumerate(views):
        check()
        own = splats_of(view)
        own = own[witnesses.doubt(own.means) <= DOUBTED]
        if not unit and len(own):
            unit = float(np.median(own.scales[:, 0])) / SPREAD
        parts.append(own)
        if sum(map(len, parts)) > max(2 * most, LEAST_THINNED) or index == len(views) - 1:
            cloud = _thinned(Splats.together(parts), unit, cell)
            while len(cloud) > most:
                cell *= GROWTH
                cloud = _thinned(cloud, unit, cell)
            parts = [cloud]
    shown = _Shown.of(parts[0])
    for view in views:
        check()
        own = _missing(view, shown, witnesses)
        if len(own) and len(shown.means) + len(own) <= most:
            shown = shown.with_more(own)
            parts.append(own)
    return Splats.together(parts)


@dataclass(frozen=True, eq=False)
class _Shown:
    """What of splats is drawn: turning quaternions into axes for each view anew would take longest of all."""

    means: np.ndarray
    axes: np.ndarray
    opacity: np.ndarray

    @classmethod
    def of(cls, splats: Splats) -> _Shown:
        return cls(splats.means, splats.axes.astype(np.float32), splats.opacity.astype(np.float32))

    def with_more(self, splats: Splats) -> _Shown:
        more = _Shown.of(splats)
        pairs = ((self.means, more.means), (self.axes, more.axes), (self.opacity, more.opacity))
        return _Shown(*(np.concatenate(pair) for pair in pairs))


def _thinned(splats: Splats, unit: float, cell: float) -> Splats:
    """Of those in one cube of ``cell`` times their spacing (in octaves of ``unit``) the smallest, at least half as wide
    as the cube asks for."""
    if not len(splats):
        return splats
    octave = np.round(np.log2(splats.scales[:, 0] / SPREAD / unit))
    side = unit * cell * 2.0**octave
    cubes = np.column_stack([octave, np.floor(splats.means / side[:, None])]).astype(np.int64)
    order = np.argsort(splats.scales[:, 0], kind="stable")
    with np.errstate(over="ignore"):
        key = (cubes.astype(np.uint64)[order] * _MIXED).sum(axis=1)
        _, first = np.unique(key ^ (key >> np.uint64(29)), return_index=True)
    rows = np.sort(order[first])
    kept = splats[rows]
    wider = np.maximum(SPREAD * side[rows] / kept.scales[:, 0] / np.sqrt(2), 1)  # octaves are rounded
    return replace(kept, scales=kept.scales * np.column_stack([wider, wider, np.ones_like(wider)]))


# Odd numbers of 64 bits, which make one number of four: that two cubes share one is next to impossible.
_MIXED = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)


def _missing(view: DepthView, cloud: _Shown, witnesses: _Witnesses) -> Splats:
    """The view's own splats where it sees through the cloud, doubted or not; and where it sees only what lies farther,
    those that are not doubted."""
    seen = project_splats(cloud.means, cloud.axes, view.pose, view.intrinsics)
    distance = np.linalg.norm(cloud.means - view.pose[:3, 3], axis=1).astype(np.float32)
    mean, light = composite(seen, np.repeat(distance[:, None], 3, axis=1), cloud.opacity)
    open_ = light > UNCOVERED
    farther = ~open_ & (mean[..., 0] > (1 + 2 * APART) * view.depth * (1 - light))
    some, others = (splats_of(replace(view, opacity=np.where(part, view.opacity, 0))) for part in (open_, farther))
    return Splats.together([some, others[witnesses.doubt(others.means) <= DOUBTED]])


class _Witnesses:
    """Some of the views, which may look past a splat."""

    def __init__(self, views: Sequence[DepthView]):
        picked = np.unique(np.linspace(0, len(views) - 1, min(len(views), WITNESSES)).round().astype(int))
        self.views = [views[index] for index in picked]
        self._depths = []
        for view in self.views:
            depth = np.where((view.opacity >= 0.5) & np.isfinite(view.depth), view.depth, np.inf).astype(np.float32)
            self._depths.append(minimum_filter(depth, 3))  # what it sees at an edge may be its neighbor's

    def doubt(self, means: np.ndarray) -> np.ndarray:
        """(N,) 0–1: what share of those that have a place in their picture look past it at something farther."""
        counts = np.zeros((len(means), 2), np.int32)
        for view, depth in zip(self.views, self._depths, strict=True):
            i = view.intrinsics
            local = ((means - view.pose[:3, 3]) @ (view.pose[:3, :3] * [1.0, -1.0, -1.0])).astype(np.float32)
            _look_past(local, np.array([i.fx, i.fy, i.cx, i.cy], np.float32), depth, np.float32(1 - APART), counts)
        return counts[:, 1] / np.maximum(counts[:, 0], 1)


@kernel(parallel=True)
def _look_past(local, lens, depth, nearer, counts):
    height, width = depth.shape
    for n in numba.prange(len(local)):
        x, y, z = local[n, 0], local[n, 1], local[n, 2]
        if z <= 0:
            continue
        u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
        if not (u >= 0 and u < width and v >= 0 and v < height):
            continue
        counts[n, 0] += 1
        if np.sqrt(x * x + y * y + z * z) < nearer * depth[int(v), int(u)]:
            counts[n, 1] += 1
