# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes on which points lie, found by RANSAC (Fischler and Bolles 1981) over all views at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.scenes.planes import LIKE, PERPENDICULAR, SAME, Plane, Points, Seen, reaching

DRAWN, GLANCED = 15_000, 1_200  # points that planes are found among, and guessed by
GUESSES = 2_400  # planes that are guessed for each that is found, through three points about one pixel
BUILT = 1_600  # more that are parallel to those that were found, or perpendicular to two of them
CLEARED = 1.5  # times `SAME`: what lies so near a plane that was looked at is not looked at again
TRIED = 5  # of all those guessed, that are fitted to their points
ASIDE = 0.6  # of a picture's longer side, within which the three points of a guess lie
MOST = 24  # planes that are looked for
LEAST = 0.003  # of what the views show, that a plane holds
APART = 0.08  # of the middle distance, within which what faces the same way is the same plane twice


def planes_of(all_seen: Sequence[Seen], points: Points, done: Callable[[], None] = lambda: None) -> list[Plane]:
    """The planes, the largest first, that hold a part of what views show; the same for the same views. ``done`` is told
    often, and ends it by raising.

    Points are weighed by how much of a picture they speak for, so that a plain wall counts of which only the edges are
    known. A part of a plane through which views see what is behind it is none: a cut through other things."""
    if len(points.rays) < 100:
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
        best = np.argsort(-glanced.on_each(normals, heights), kind="stable")[:20]
        best = best[np.argsort(-rest.on_each(normals[best], heights[best]), kind="stable")[:TRIED]]
        fits = [_fitted(rest, normals[k], float(heights[k])) for k in best]
        normals, heights = np.stack([normal for normal, _ in fits]), np.array([height for _, height in fits])
        normal, height = fits[int(rest.on_each(normals, heights).argmax())]
        off = np.abs(drawn.off(normal[None], np.array([height]))[0])
        holds = (left & (off < SAME)).sum() / len(off)
        left &= off >= CLEARED * SAME
        taken.append((normal, height))
        if holds < LEAST:
            break
        plane = reaching(points, normal, height)
        if plane is not None and not any(_twice(plane, other, points) for other in found):
            found.append(plane)
    return found


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


def _built(normals: Sequence[np.ndarray], points: Points, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Planes through points that are parallel to those of ``normals`` (3,) each, or perpendicular to two of them, as
    ceilings and opposite walls are: guesses alone."""
    if not normals:
        return np.zeros((0, 3)), np.zeros(0)
    perpendicular = [np.cross(a, b) for k, a in enumerate(normals) for b in normals[:k] if abs(a @ b) < PERPENDICULAR]
    ways = np.stack([*normals, *(way / np.linalg.norm(way) for way in perpendicular)])
    ways = ways[random.integers(len(ways), size=BUILT)]
    return ways, np.einsum("ij,ij->i", ways, points.places[random.integers(len(points.rays), size=BUILT)])


def _fitted(points: Points, normal: np.ndarray, height: float) -> tuple[np.ndarray, float]:
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


def _twice(plane: Plane, other: Plane, points: Points) -> bool:
    """Whether a plane is what the noise of a larger one left."""
    place = plane.middles()[plane.there].mean(axis=0)
    apart = abs(other.normal @ place - other.height)
    return bool(abs(plane.normal @ other.normal) > LIKE and apart < APART * points.scale)
