# SPDX-License-Identifier: GPL-3.0-or-later
"""The points that photos were found to show, all views together; planes, and how far each of them reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy import ndimage

from engine.geometry import Camera, pixel_directions

SAME = 0.01  # of a point's distance from its camera: how far along the ray a plane may lie from it
FAR = 4.0  # times the middle distance of all points, beyond which they are background
POINTS = 400_000  # at most
PERPENDICULAR = 0.2  # cosine of two planes' normals, below which these count as perpendicular
AREA = 0.005  # of a picture, that one point speaks for at most
CELL = 0.02  # of the middle distance: what is told apart on a plane
FEW = 4  # points about a cell that tell nothing yet
GAP = 0.15  # of the middle distance, that a plane's parts lie apart at most
NARROWEST = 0.03  # of the middle distance: standard deviation across, below which it is a line
SEEN_PAST = 0.6  # times the points on a part, of points that views see behind it, from which on it is a mere cut
LIKE = np.cos(np.radians(12))  # of two normals, cosine: from which on they face the same way


@dataclass(frozen=True, eq=False)
class Seen:
    """What one view was found to show: ``z`` (H, W) along its axis, 0 where nobody knows; ``shown`` (H, W) bool, which
    pixels show anything, None where all do."""

    view: Camera
    z: np.ndarray
    shown: np.ndarray | None = None

    @cached_property
    def rays(self) -> np.ndarray:
        """(H, W, 3) through the pixels, one unit ahead, along the axes of all views' frame."""
        return pixel_directions(self.view.intrinsics) @ self.view.pose[:3, :3].T

    @cached_property
    def eye(self) -> np.ndarray:
        """(3,) where the camera is."""
        return self.view.pose[:3, 3]


def plane_z(rays: np.ndarray, eye: np.ndarray, normal: np.ndarray, height: float | np.ndarray) -> np.ndarray:
    """(…, K) the z at which rays (…, K, 3), one unit ahead each, from an eye (3,) meet the plane ``normal`` · x =
    ``height``, a number or (O, 1) for several; negative behind the eye, 0 where they run along it."""
    along = rays @ normal
    return (height - normal @ eye) / np.where(along == 0, np.inf, along)


@dataclass(frozen=True, eq=False)
class PixelRays:
    """``rays`` (K, 3), one unit ahead each, through pixels of the ``view`` of that number, whose camera is at ``eye``
    (3,); in the frame of all views."""

    rays: np.ndarray
    eye: np.ndarray
    view: int

    def on(self, normal: np.ndarray, height: float, far: float) -> np.ndarray:
        """(≤ K, 3) where they meet the plane ``normal`` · x = ``height``, nearer than ``far``."""
        z = plane_z(self.rays, self.eye, normal, height)
        met = (z > 0) & (z * np.linalg.norm(self.rays, axis=1) < far)
        return self.eye + (self.rays * z[:, None])[met]


@dataclass(frozen=True, eq=False)
class Plane:
    """``normal`` · x = ``height``, normal (3,) of length 1, as far as ``there`` (A, B) says of its cells: bool, along
    ``axes`` (2, 3) from ``corner`` (2,) on in steps of ``cell``."""

    normal: np.ndarray
    height: float
    axes: np.ndarray
    corner: np.ndarray
    cell: float
    there: np.ndarray

    def seen_from(self, seen: Seen) -> np.ndarray:
        """(H, W) z at which a view's pixels look at it; 0 where they do not."""
        z = plane_z(seen.rays, seen.eye, self.normal, self.height)
        return np.where((z > 0) & self.reaches(seen.eye + seen.rays * z[..., None]), z, 0.0)

    def middles(self) -> np.ndarray:
        """(A, B, 3) the middles of its cells."""
        across = (
            np.stack(np.meshgrid(*map(np.arange, self.there.shape), indexing="ij"), -1) + 0.5
        ) * self.cell + self.corner
        return across @ self.axes + self.height * self.normal

    def reaches(self, places: np.ndarray) -> np.ndarray:
        """(…) bool, whether it is there at, or above or below, places (…, 3)."""
        cells = np.floor((places @ self.axes.T - self.corner) / self.cell)
        inside = ((cells >= 0) & (cells < self.there.shape)).all(axis=-1)
        row, column = np.moveaxis(np.where(inside[..., None], cells, 0).astype(np.int64), -1, 0)
        return inside & self.there[row, column]


@dataclass(frozen=True, eq=False)
class Points:
    """(N, 3) rays from cameras to points, not normalised, (N, 3) the cameras' places, (N,) how much of a picture each
    speaks for, (N,) numbers of views, and the middle distance."""

    rays: np.ndarray
    eyes: np.ndarray
    weights: np.ndarray
    views: np.ndarray
    scale: float

    @classmethod
    def of(cls, all_seen: Sequence[Seen]) -> Points | None:
        parts = []
        for number, seen in enumerate(all_seen):
            known = seen.z > 0
            if known.any():
                rays = seen.rays[known] * seen.z[known][:, None]
                parts.append(
                    (rays, np.broadcast_to(seen.eye, rays.shape), _areas(known, seen.shown), np.full(len(rays), number))
                )  # fmt: skip
        if not parts:
            return None
        rays, eyes, weights, views = (np.concatenate(part) for part in zip(*parts, strict=True))
        distance = np.linalg.norm(rays, axis=1)
        scale = float(np.median(distance))
        kept = np.flatnonzero(distance < FAR * scale)[:: -(-len(rays) // POINTS)]
        return cls(rays[kept], eyes[kept], weights[kept], views[kept], scale)

    def some(self, which: np.ndarray) -> Points:
        return Points(self.rays[which], self.eyes[which], self.weights[which], self.views[which], self.scale)

    @cached_property
    def places(self) -> np.ndarray:
        return self.eyes + self.rays

    def off(self, normals: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """(P, N) how much farther than the points their cameras see planes, as a share of the distance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (heights[:, None] - normals @ self.eyes.T) / (normals @ self.rays.T) - 1

    def on_each(self, normals: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """(P,) how many of the points are on each plane."""
        return (np.abs(self.off(normals, heights)) < SAME).sum(axis=1)


def _areas(known: np.ndarray, shown: np.ndarray | None) -> np.ndarray:
    """Of each known pixel, how many have none that is nearer, but for a share of `AREA` of them."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    place = np.ravel_multi_index(tuple(nearest), known.shape)
    place = place.ravel() if shown is None else place[shown]
    return np.clip(np.bincount(place, minlength=known.size)[known.ravel()], 1, AREA * known.size)


def reaching(points: Points, normal: np.ndarray, height: float, also: Sequence[PixelRays] = ()) -> Plane | None:
    """As far as its points, and what else is ``also`` said to be on it, lie about it, and between them, less what views
    see through; None where nothing is left."""
    off = points.off(normal[None], np.array([height]))[0]
    on, past = np.abs(off) < SAME, (off < -3 * SAME) & (off > -1)
    axes = np.linalg.svd(normal[None])[2][1:]
    cell = CELL * points.scale
    own = np.concatenate([points.places[on], *(part.on(normal, height, FAR * points.scale) for part in also)]) @ axes.T
    if len(own) < 3:
        return None
    corner = own.min(axis=0) - 3 * cell
    shape = tuple(np.floor((own.max(axis=0) - corner) / cell).astype(int) + 4)

    def counted(places: np.ndarray) -> np.ndarray:
        cells = np.floor((places - corner) / cell).astype(np.int64)
        cells = cells[((cells >= 0) & (cells < shape)).all(axis=1)]
        return np.bincount(np.ravel_multi_index(tuple(cells.T), shape), minlength=shape[0] * shape[1]).reshape(shape)

    through = points.eyes[past] + points.rays[past] * (1 + off[past])[:, None]
    here, behind = (counted(places).astype(np.float32) for places in (own, through @ axes.T))
    about, about_behind = (cv2.boxFilter(count, -1, (3, 3), normalize=False) for count in (here, behind))
    open_ = (about_behind >= FEW) & (about_behind > about)
    held = (here > 0) & (about >= FEW) & ~open_
    size = 2 * max(1, round(GAP / CELL / 2)) + 1
    joined = cv2.dilate(held.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    parts, count = ndimage.label(joined)
    there = np.zeros(shape, bool)
    for part in range(1, count + 1):
        cells = np.argwhere(held & (parts == part))
        if len(cells) < 12:
            continue
        hull = np.zeros(shape, np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(cells[:, ::-1].astype(np.int32)), 1)
        hull = cv2.erode(hull, np.ones((3, 3), np.uint8)) > 0
        across = np.sqrt(max(np.linalg.eigvalsh(np.cov(cells.T * CELL))[0], 0))
        if across > NARROWEST and behind[hull].sum() < SEEN_PAST * here[hull].sum():
            there |= hull & ~open_
    views = {*points.views[on].tolist(), *(part.view for part in also)}
    several = len(views) >= min(3, len(np.unique(points.views)))
    return Plane(normal, height, axes, corner, cell, there) if there.any() and several else None
