# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels show a plain sky, of which photos compared with each other say nothing: it is far away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from engine.geometry import Camera, pixel_directions
from engine.scenes.known_depth import KnownDepth
from engine.scenes.plane_sweep import FLAT, WINDOW

LEAST = 0.004  # of a picture, that hangs together
BELOW = -0.15  # sine of the angle to what is level, below which no sky reaches: walls do
LOW = 0.1  # of the same, to which some of a sky reaches: ceilings do not
FITS = 1.5  # of 255, root mean square: how well a color of direction alone explains what is sky
PLACES = 2  # from which half of its directions are seen at least, or nothing tells a color of direction from others, …
APART = 0.2  # … of how far all cameras are spread, from each other, …
CELL = 0.1  # … and what counts as one direction: about six degrees
ROUNDS = 40  # of that fit
SAMPLES = 300  # pixels of each part, by which that is told


@dataclass(frozen=True, eq=False)
class _Part:
    """What may be sky in a ``view``: (H, W) bool ``where``, of some of its pixels (S, 3) directions and colors, and how
    ``low`` it reaches, as a sine."""

    view: int
    where: np.ndarray
    directions: np.ndarray
    colors: np.ndarray
    low: float


def skies(
    views: Sequence[Camera],
    pictures: Sequence[np.ndarray],
    up: np.ndarray,
    shown: Sequence[np.ndarray | None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """(H, W) bool of each view: which pixels show the sky; none where one of these does not hold, so that rather too
    few are found.

    A part of a sky is plain, ends at the picture's edge as far up as it reaches, and does not reach well below the
    horizon. All parts of all views together come down to about the horizon, and are of a color that is a function of
    direction alone, a quadratic one: how walls and ceilings are lit is one of place, and views see another at the same
    direction.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB, of its camera's size. ``up`` (3,), a unit vector, capture frame.
    ``shown``: of each view, (H, W) bool, which pixels show what was photographed and nothing else; None: all do.
    ``check`` is called between views and may raise Cancelled.
    """
    shown = shown or [None] * len(views)
    found = [np.zeros(picture.shape[:2], bool) for picture in pictures]
    parts: list[_Part] = []
    for k, view in enumerate(views):
        check()
        parts += _parts(k, pictures[k], _directions(view), up, shown[k])
    if not parts:
        return found
    sky = [part for part, good in zip(parts, _fitting(parts, check), strict=True) if good]
    if sky and min(part.low for part in sky) <= LOW and _told(views, sky):
        for part in sky:  # squares that are plain, whole
            found[part.view] |= cv2.dilate(part.where.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0
    return found


def with_skies(depths: Sequence[KnownDepth], found: Sequence[np.ndarray]) -> list[KnownDepth]:
    """What is known of each view's pixels, and that nothing is before the far end where a sky was ``found`` (H, W)."""
    made = []
    for depth, sky in zip(depths, found, strict=True):
        other, pixels = ~sky.ravel()[depth.pixels], np.flatnonzero(sky)
        far, sure = np.full(len(pixels), np.inf, np.float32), np.ones(len(pixels), np.float32)
        made.append(
            KnownDepth(
                np.concatenate([depth.pixels[other], pixels]),
                np.concatenate([depth.distances[other], far]),
                np.concatenate([depth.sure[other], sure]),
            )
        )
    return made


def _directions(view: Camera) -> np.ndarray:
    """(H, W, 3) of length 1, along the axes of the capture frame."""
    rays = pixel_directions(view.intrinsics) @ view.pose[:3, :3].T
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _parts(view: int, picture: np.ndarray, rays: np.ndarray, up: np.ndarray, shown: np.ndarray | None) -> list[_Part]:
    """What of a picture may be sky by itself."""
    values = picture.astype(np.float32)
    mean = cv2.blur(values, (WINDOW, WINDOW))
    variance = cv2.blur(values * values, (WINDOW, WINDOW)) - mean * mean
    plain = variance.max(axis=-1) < FLAT**2
    if shown is not None:
        plain &= cv2.erode(shown.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8), borderValue=1) > 0
    rise = rays @ up
    labels, count = ndimage.label(plain)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    found = []
    for label in range(1, count + 1):
        if sizes[label] < LEAST * labels.size:
            continue
        where = labels == label
        low = float(np.percentile(rise[where], 2))  # of single pixels nothing is said
        highest = np.array(np.unravel_index(np.where(where, rise, -2).argmax(), where.shape))
        if low > BELOW and (np.minimum(highest, np.array(where.shape) - 1 - highest) <= 1).any():
            some = np.flatnonzero(where)[:: -(-sizes[label] // SAMPLES)]
            found.append(_Part(view, where, rays.reshape(-1, 3)[some], values.reshape(-1, 3)[some], low))
    return found


def _told(views: Sequence[Camera], parts: Sequence[_Part]) -> bool:
    """Whether enough places look the same way, so that what depends on them would have been seen."""
    eyes = np.stack([view.pose[:3, 3] for view in views])
    apart = APART * np.sqrt(eyes.var(axis=0).sum())
    place: list[int] = []  # of each view, the first one's that is as good as at its place
    for k, eye in enumerate(eyes):
        place.append(next((j for j in place if np.linalg.norm(eyes[j] - eye) <= apart), k))
    ways = [np.unique(np.round(part.directions / CELL), axis=0) for part in parts]
    seen = np.concatenate([np.insert(way, 3, place[part.view], axis=1) for way, part in zip(ways, parts, strict=True)])
    _, counts = np.unique(np.unique(seen, axis=0)[:, :3], axis=0, return_counts=True)
    return bool(np.median(counts) >= PLACES)


def _terms(directions: np.ndarray) -> np.ndarray:
    """(N, 9) the quadratic functions of directions (N, 3): spherical harmonics to degree 2, but for factors."""
    x, y, z = directions.T
    return np.stack([np.ones(len(x)), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], axis=1)


def _fitting(parts: Sequence[_Part], check: Callable[[], None]) -> np.ndarray:
    """(P,) bool, which of the parts are of one color of direction, that of most of what they show. Least squares,
    reweighted so that the others do not pull at it (Cauchy's weights)."""
    terms = _terms(np.concatenate([part.directions for part in parts]))
    colors = np.concatenate([part.colors for part in parts])
    part_of = np.repeat(np.arange(len(parts)), [len(part.colors) for part in parts])
    share = np.array([part.where.sum() / len(part.colors) for part in parts])[part_of]
    weight = share
    for _ in range(ROUNDS):
        check()
        root = np.sqrt(weight)[:, None]
        fit = np.linalg.lstsq(terms * root, colors * root, rcond=1e-6)[0]
        square = np.square(colors - terms @ fit).mean(axis=-1)
        weight = share / (1 + square / FITS**2)
    return np.bincount(part_of, square) / np.bincount(part_of) < FITS**2
