# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes on which the points lie that photos were found to show: RANSAC (Fischler and Bolles 1981) over all views at
once, and how far each of them reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy import ndimage

from engine.geometry import Camera, pixel_directions
from engine.scenes.right_angles import squared

SAME = 0.01  # of a point's distance from its camera: how far along the ray a plane may lie from it
FAR = 4.0  # times the middle distance of all points, beyond which they are background
POINTS, DRAWN, GLANCED = 400_000, 15_000, 1_200  # points at most, those that planes are found among, and guessed by
GUESSES = 2_400  # planes that are guessed for each that is found, through three points about one pixel
BUILT = 1_600  # more that stand as those that were found, or upright on two of them
UPRIGHT = 0.2  # cosine between those two, at most
CLEARED = 1.5  # times `SAME`: what lies so near a plane that was looked at is not looked at again
TRIED = 5  # of them that are fitted to their points
ASIDE = 0.6  # of a picture's longer side, within which those lie
MOST = 24  # planes that are looked for
LEAST = 0.003  # of what the views show, that a plane holds
AREA = 0.005  # of a picture, that one point speaks for at most
CELL = 0.02  # of the middle distance: what is told apart on a plane
FEW = 4  # points about a cell that tell nothing yet
GAP = 0.15  # of the middle distance, that a plane's parts lie apart at most
NARROWEST = 0.03  # of the middle distance: spread across, below which it is a line
BORNE = 0.8  # of a plane's points, that must lie on it at right angles, too
SEEN_PAST = 0.6  # times the points on a part, of points that views see behind it, from which on it is a mere cut
LIKE, APART = np.cos(np.radians(12)), 0.08  # cosine, and share of the middle distance, of what is the same plane twice


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
        """(3,) where the camera stands."""
        return self.view.pose[:3, 3]


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
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (self.height - self.normal @ seen.eye) / (seen.rays @ self.normal)
        ahead = np.isfinite(z) & (z > 0)
        z = np.where(ahead, z, 1.0)
        return np.where(ahead & self.reaches(seen.eye + seen.rays * z[..., None]), z, 0.0)

    def reaches(self, places: np.ndarray) -> np.ndarray:
        """(…) bool, whether it is there at, or above or below, places (…, 3)."""
        cells = np.floor((places @ self.axes.T - self.corner) / self.cell)
        inside = ((cells >= 0) & (cells < self.there.shape)).all(axis=-1)
        row, column = np.moveaxis(np.where(inside[..., None], cells, 0).astype(np.int64), -1, 0)
        return inside & self.there[row, column]


@dataclass(frozen=True, eq=False)
class _Points:
    """(N, 3) rays from cameras to points, not normalised, (N, 3) the cameras' places, (N,) how much of a picture each
    speaks for, (N,) numbers of views, and the middle distance."""

    rays: np.ndarray
    eyes: np.ndarray
    weights: np.ndarray
    views: np.ndarray
    scale: float

    @classmethod
    def of(cls, all_seen: Sequence[Seen]) -> _Points | None:
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

    def some(self, which: np.ndarray) -> _Points:
        return _Points(self.rays[which], self.eyes[which], self.weights[which], self.views[which], self.scale)

    @cached_property
    def places(self) -> np.ndarray:
        return self.eyes + self.rays

    def off(self, normals: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """(P, N) how much farther than the points their cameras see planes, as a share of the distance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (heights[:, None] - normals @ self.eyes.T) / (normals @ self.rays.T) - 1


def planes_of(all_seen: Sequence[Seen], done: Callable[[], None] = lambda: None) -> list[Plane]:
    """The planes, the largest first, that hold a part of what views show; the same for the same views. ``done`` is told
    often, and ends it by raising.

    Points are weighed by how much of a picture they speak for, so that a plain wall counts of which only the edges are
    known. A part of a plane through which views see what is behind it is none: a cut through other things."""
    points = _Points.of(all_seen)
    if points is None or len(points.rays) < 100:
        return []
    random = np.random.default_rng(0)
    share = points.weights / points.weights.sum()
    drawn = points.some(random.choice(len(share), min(DRAWN, len(share)), replace=False, p=share))
    left = np.ones(len(drawn.rays), bool)
    found: list[Plane] = []
    taken: list[tuple[np.ndarray, float]] = []
    for _ in range(MOST):
        done()
        rest = drawn.some(np.flatnonzero(left))
        if not len(rest.rays):
            break
        guesses = _guessed(all_seen, taken, points.scale, random, done), _built([p.normal for p in found], rest, random)
        normals, heights = (np.concatenate(parts) for parts in zip(*guesses, strict=True))
        if not len(normals):
            break
        glanced = rest.some(random.integers(len(rest.rays), size=GLANCED))
        best = np.argsort(-_on(glanced, normals, heights), kind="stable")[:20]
        best = best[np.argsort(-_on(rest, normals[best], heights[best]), kind="stable")[:TRIED]]
        fits = [_fitted(rest, normals[k], float(heights[k])) for k in best]
        normals, heights = np.stack([normal for normal, _ in fits]), np.array([height for _, height in fits])
        normal, height = fits[int(_on(rest, normals, heights).argmax())]
        off = np.abs(drawn.off(normal[None], np.array([height]))[0])
        holds = (left & (off < SAME)).sum() / len(off)
        left &= off >= CLEARED * SAME
        taken.append((normal, height))
        if holds < LEAST:
            break
        plane = _reaching(points, normal, height)
        if plane is not None and not any(_twice(plane, other, points) for other in found):
            found.append(plane)
    return _at_right_angles(found, points)


def _at_right_angles(planes: list[Plane], points: _Points) -> list[Plane]:
    """Planes with those that are nearly so put at right angles to each other, where their points bear that."""
    owns = [points.some(_held(plane, points)) for plane in planes]
    spreads = [SAME / 2 * np.linalg.norm(own.rays, axis=1) for own in owns]
    sizes = np.array([plane.there.sum() for plane in planes])
    normals = np.array([plane.normal for plane in planes]).reshape(-1, 3)
    normals, heights, stand = squared(normals, sizes, [own.places for own in owns], spreads)
    made = []
    for plane, own, normal, height, stands in zip(planes, owns, normals, heights, stand, strict=True):
        before, after = _on(own, np.stack([plane.normal, normal]), np.array([plane.height, height]))
        better = _reaching(points, normal, height) if stands and after >= BORNE * before else None
        made.append(better or plane)
    return made


def _held(plane: Plane, points: _Points) -> np.ndarray:
    """The numbers of points, `DRAWN` at most, that lie about a plane where that reaches."""
    off = points.off(plane.normal[None], np.array([plane.height]))[0]
    held = np.flatnonzero((np.abs(off) < 3 * SAME) & plane.reaches(points.places))
    return held[:: -(-len(held) // DRAWN) or 1]


def _areas(known: np.ndarray, shown: np.ndarray | None) -> np.ndarray:
    """Of each known pixel, how many have none that is nearer, but for a share of `AREA` of them."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    place = np.ravel_multi_index(tuple(nearest), known.shape)
    place = place.ravel() if shown is None else place[shown]
    return np.clip(np.bincount(place, minlength=known.size)[known.ravel()], 1, AREA * known.size)


def _guessed(
    all_seen: Sequence[Seen],
    taken: Sequence[tuple[np.ndarray, float]],
    scale: float,
    random: np.random.Generator,
    done: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Normals (P, 3) and heights (P,) of planes through the three points that are met first from a pixel of which
    nothing is known, in three directions: what lies about a plain area. Two of them at least lie on no taken plane."""
    corners = []
    count = -(-GUESSES // len(all_seen))
    for seen in all_seen:
        done()
        known = seen.z > 0
        free = np.flatnonzero(~known if seen.shown is None else seen.shown & ~known)
        if not len(free) or known.sum() < 10:
            continue
        y, x = np.divmod(random.choice(free, count), known.shape[1])
        angle = random.uniform(0, 2 * np.pi, (count, 3))
        step = np.arange(1, int(ASIDE * max(known.shape)))
        row = np.rint(y[:, None, None] + step * np.sin(angle)[..., None]).astype(np.int64)
        column = np.rint(x[:, None, None] + step * np.cos(angle)[..., None]).astype(np.int64)
        inside = (row >= 0) & (column >= 0) & (row < known.shape[0]) & (column < known.shape[1])
        met = inside & known[np.where(inside, row, 0), np.where(inside, column, 0)]
        all_met = met.any(axis=-1).all(axis=-1)
        first = met[all_met].argmax(axis=-1)[..., None]
        row, column = (np.take_along_axis(axis[all_met], first, axis=-1)[..., 0] for axis in (row, column))
        points = seen.rays[row, column] * seen.z[row, column][..., None]
        on_taken = np.zeros(row.shape, bool)
        for normal, height in taken:
            with np.errstate(divide="ignore", invalid="ignore"):
                on_taken |= np.abs((height - normal @ seen.eye) / (points @ normal) - 1) < 2 * SAME
        corners.append(seen.eye + points[on_taken.sum(axis=1) < 2])
    if not corners:
        return np.zeros((0, 3)), np.zeros(0)
    a, b, c = np.moveaxis(np.concatenate(corners), 1, 0)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    wide = length > 1e-3 * scale**2
    normals = normals[wide] / length[wide][:, None]
    return normals, np.einsum("ij,ij->i", normals, a[wide])


def _built(
    normals: Sequence[np.ndarray], points: _Points, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Planes through points that stand as those of ``normals`` (3,) each, or upright on two of them, as ceilings and
    opposite walls do: guesses alone."""
    if not normals:
        return np.zeros((0, 3)), np.zeros(0)
    upright = [np.cross(a, b) for k, a in enumerate(normals) for b in normals[:k] if abs(a @ b) < UPRIGHT]
    ways = np.stack([*normals, *(way / np.linalg.norm(way) for way in upright)])
    ways = ways[random.integers(len(ways), size=BUILT)]
    return ways, np.einsum("ij,ij->i", ways, points.places[random.integers(len(points.rays), size=BUILT)])


def _on(points: _Points, normals: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """(P,) how many of the points are on each plane."""
    return (np.abs(points.off(normals, heights)) < SAME).sum(axis=1)


def _fitted(points: _Points, normal: np.ndarray, height: float) -> tuple[np.ndarray, float]:
    """The plane that suits best the points about it, which may be off by more than what makes one of its own."""
    for _ in range(8):
        off = points.off(normal[None], np.array([height]))[0]
        near = np.abs(off) < 3 * SAME
        if near.sum() < 3:
            break
        weights = 1 / (1 + np.square(off[near] / SAME)) / np.square(points.rays[near]).sum(axis=1)
        places = points.places[near]
        middle = np.average(places, axis=0, weights=weights)
        apart = places - middle
        normal = np.linalg.eigh((apart * weights[:, None]).T @ apart)[1][:, 0]
        height = float(normal @ middle)
    return normal, height


def _reaching(points: _Points, normal: np.ndarray, height: float) -> Plane | None:
    """As far as its points lie about it, and between them, less what views see through; None where nothing is left."""
    off = points.off(normal[None], np.array([height]))[0]
    on, past = np.abs(off) < SAME, (off < -3 * SAME) & (off > -1)
    if on.sum() < 3:
        return None
    axes = np.linalg.svd(normal[None])[2][1:]
    cell = CELL * points.scale
    own = points.places[on] @ axes.T
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
    several = len(np.unique(points.views[on])) >= min(3, len(np.unique(points.views)))
    return Plane(normal, height, axes, corner, cell, there) if there.any() and several else None


def _twice(plane: Plane, other: Plane, points: _Points) -> bool:
    """Whether a plane is what the noise of a larger one left."""
    middle = (np.argwhere(plane.there).mean(axis=0) + 0.5) * plane.cell + plane.corner
    place = middle @ plane.axes + plane.height * plane.normal
    apart = abs(other.normal @ place - other.height)
    return bool(abs(plane.normal @ other.normal) > LIKE and apart < APART * points.scale)
