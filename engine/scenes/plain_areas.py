# SPDX-License-Identifier: GPL-3.0-or-later
"""How far away plain areas are, of which photos say nothing: on the planes on which what lies about them lies
(piecewise planar stereo, after Sinha et al. 2009)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from engine.geometry import Camera, pixel_directions, to_pixels
from engine.scenes.each_view import Check, of_each_view
from engine.scenes.known_depth import KnownDepth
from engine.scenes.plane_sweep import WINDOW
from engine.scenes.planes import SAME, Seen
from engine.scenes.walls import Surface, surfaces_of

LONGEST = 160  # pixels of a picture that it is asked of which plane they are; a larger one is asked every second, …
STEP = 1.5  # of CIE L*a*b*: a difference of neighbors that parts them
LEAK = 0.002  # how much the most different neighbors still hold together
PULL = 0.1  # of a known pixel on what it is of
ON, OFF = 1.5 * SAME, 5 * SAME  # of the distance: from a plane, of what is on it, and of what is on none
CLEAR = 0.5  # of 1: how much more of one plane than of all else a pixel must be
BURNT = 250  # of 255, from which on a picture shows light: a sky, a lamp, a window
OTHERS, TURNED = 12, 50.0  # views that each is checked with, and degrees between them at most
AGREED = 2  # of them, at least, that see the same as far away
PAST = 0.25  # of those, at most, that see what is behind
UNLIKE = 30.0  # of 255: what looks so different from elsewhere is not the same
RELIEF = 0.006  # of the distance, that a neighborhood of known pixels is off a plane from which on that is no noise
ABOUT = 7  # pixels: that neighborhood
EDGE = 0.03  # of the distance, that what lies beside is nearer from which on there is an outline
ONCE = 8  # views at once whose pixels are asked for their planes, of up to 150 MB each
SURE = 0.8  # how much what is filled in is believed

Done = Callable[[int], None]


def with_plain_areas(
    views: Sequence[Camera],
    pictures: Sequence[np.ndarray],
    known: Sequence[KnownDepth],
    done: Done = lambda count: None,
    shown: Sequence[np.ndarray | None] | None = None,
) -> list[KnownDepth]:
    """What is known of each view's pixels, and what follows for those of which nothing is known.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB, of its camera's size; ``known``: what `stereo_depths` found.
    A pixel is on the plane that holds what lies about it, as far as the picture does not change in
    between; it is told so where other views show the same there as far away. Known pixels on such a plane but for their
    noise are put onto it. ``done`` is told how many views were done, now and then the same number, and ends it by
    raising. ``shown``: of each view, (H, W) bool, which pixels show anything, None where all do: nothing is told of the
    others, nor across them.
    """
    layers = [None if layer is None else _well_inside(layer) for layer in shown or [None] * len(views)]
    all_seen = [Seen(view, _z(view, depth), layer) for view, depth, layer in zip(views, known, layers, strict=True)]
    others = [_others(number, all_seen) for number in range(len(views))]
    whole = len(views)
    surfaces = surfaces_of(all_seen, pictures, others, lambda share: done(int(whole * share / 2)))
    if not surfaces:
        done(whole)
        return list(known)
    filled = of_each_view(
        whole,
        lambda number, _: _on_planes(number, all_seen[number], pictures[number], surfaces),
        lambda count: done((2 * whole + count) // 4),
        ONCE,
    )
    smooth = [cv2.blur(np.ascontiguousarray(picture), (3, 3)).astype(np.float32) for picture in pictures]

    def joined(number: int, _: Check) -> KnownDepth:
        agreed = _agreed(number, others[number], all_seen, filled, smooth)
        return _joined(all_seen[number], known[number], np.where(agreed, filled[number], 0.0))

    return of_each_view(whole, joined, lambda count: done((3 * whole + count) // 4))


def _well_inside(shown: np.ndarray) -> np.ndarray:
    """Without what lies beside others, as far as squares reach that photos are compared by."""
    return cv2.erode(shown.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8), borderValue=1) > 0


def _z(view: Camera, depth: KnownDepth) -> np.ndarray:
    i = view.intrinsics
    length = np.linalg.norm(pixel_directions(i), axis=-1)
    z = np.zeros(i.height * i.width)
    z[depth.pixels] = depth.distances / length.ravel()[depth.pixels]
    return z.reshape(i.height, i.width)


def _on_planes(number: int, seen: Seen, picture: np.ndarray, surfaces: Sequence[Surface]) -> np.ndarray:
    """(H, W) z of the plane that each pixel is of; 0 where it is of none, or of several alike.

    Known pixels say of which they are, and so do plain areas, which outdo what is known within them; what lies between
    is told by them through neighbors that look alike: the smoothest share of each plane (Grady 2006)."""
    at = np.stack([surface.plane.seen_from(seen) for surface in surfaces])
    known = seen.z > 0
    off = np.where(known & (at > 0), np.abs(at / np.where(known, seen.z, 1.0) - 1), np.inf)
    relief = np.stack([_relief(seen.z, z) for z in at])
    on = off < ON
    by_areas = np.zeros(on.shape, bool)
    for layer, surface in zip(by_areas.reshape(len(on), -1), surfaces, strict=True):
        layer[surface.shown.get(number, [])] = True
    by_areas &= (at > 0) & ~on.any(axis=0)
    on |= by_areas
    some = on.any(axis=(1, 2))
    if not some.any():
        return np.zeros(known.shape)
    at, on = at[some], on[some]
    apart = (off.min(axis=0) > OFF) | (relief.any(axis=0) & ~on.any(axis=0))
    elsewhere = known & apart & ~by_areas.any(axis=0)
    shares = np.concatenate([on / np.maximum(on.sum(axis=0), 1), elsewhere[None]])
    told = on.any(axis=0) | elsewhere
    factor = -(-max(known.shape) // LONGEST)
    shares = _random_walk(picture, shares, told, seen.shown, factor)
    best = shares.argmax(axis=0)
    z = np.concatenate([at, np.zeros((1, *known.shape))])
    z = np.take_along_axis(z, best[None], axis=0)[0]
    there = (shares.max(axis=0) > CLEAR) & (picture.min(axis=-1) < BURNT)
    return np.where(there if seen.shown is None else there & seen.shown, z, 0.0)


def _random_walk(
    picture: np.ndarray, shares: np.ndarray, told: np.ndarray, shown: np.ndarray | None, factor: int
) -> np.ndarray:
    """(K, H, W) from ``shares`` (K, H, W) of pixels that are ``told`` (H, W), 0–1, to all of them, at one of ``factor``
    squared pixels (a random walker, Grady 2006); not across those that are not ``shown`` (H, W)."""
    height, width = told.shape
    size = (-(-width // factor), -(-height // factor))
    lab = cv2.cvtColor(np.ascontiguousarray(picture, np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab = cv2.GaussianBlur(cv2.resize(lab, size, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
    number = np.arange(size[0] * size[1]).reshape(size[1], size[0])
    hidden = np.zeros(number.shape) if shown is None else cv2.resize(1.0 - shown, size, interpolation=cv2.INTER_AREA)
    from_, to, holds = [], [], []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        apart = np.square(lab[a] - lab[b]).sum(axis=-1)
        from_.append(number[a].ravel())
        to.append(number[b].ravel())
        both_shown = ((hidden[a] == 0) & (hidden[b] == 0)).ravel()
        holds.append(both_shown * (np.exp(-apart.ravel().astype(np.float64) / STEP**2) + LEAK))
    rows, columns, both = np.concatenate(from_ + to), np.concatenate(to + from_), np.concatenate(holds + holds)

    def shrunk(layer: np.ndarray) -> np.ndarray:
        return cv2.resize(layer.astype(np.float64), size, interpolation=cv2.INTER_AREA).ravel()

    pull = PULL * factor**2 * shrunk(told)
    wanted = np.stack([PULL * factor**2 * shrunk(share) for share in shares], axis=1)
    between = sparse.csc_matrix((both, (rows, columns)), shape=(number.size, number.size))
    whole = sparse.diags(np.asarray(between.sum(axis=1))[:, 0] + pull + 1e-9) - between
    solve = splu(whole.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solved = solve.solve(wanted)
    solved = solved / np.maximum(solved.sum(axis=1, keepdims=True), 1e-12)
    layers = solved.T.reshape(len(shares), size[1], size[0])
    return np.stack([cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR) for layer in layers])


def _agreed(
    number: int,
    others: Sequence[int],
    all_seen: Sequence[Seen],
    filled: Sequence[np.ndarray],
    smooth: Sequence[np.ndarray],
) -> np.ndarray:
    """(H, W) whether other views show what was filled in there: as far away, and not unlike."""
    seen, z = all_seen[number], filled[number]
    there = z > 0
    points = seen.eye + seen.rays[there] * z[there][:, None]
    color = smooth[number][there]
    same, past = np.zeros(len(points), int), np.zeros(len(points), int)
    for other in others:
        theirs, i = all_seen[other], all_seen[other].view.intrinsics
        local = (points - theirs.eye) @ theirs.view.pose[:3, :3]
        ahead = -local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = to_pixels(local[:, 0], local[:, 1], ahead, i)
        inside = (ahead > 0) & (x >= 0) & (y >= 0) & (x < i.width) & (y < i.height)
        row, column = np.where(inside, y, 0).astype(int), np.where(inside, x, 0).astype(int)
        shown = np.where(theirs.z > 0, theirs.z, filled[other])[row, column]
        also_filled = filled[other][row, column]
        alike = np.abs(smooth[other][row, column] - color).max(axis=-1) < UNLIKE
        near = (np.abs(shown - ahead) <= SAME * ahead) | (np.abs(also_filled - ahead) <= SAME * ahead)
        same += inside & near & alike
        past += inside & (shown > (1 + 3 * SAME) * ahead) & ~near
    agreed = np.zeros(there.shape, bool)
    agreed[there] = (same >= max(1, min(AGREED, len(others)))) & (past <= PAST * same)
    return agreed


def _others(number: int, all_seen: Sequence[Seen]) -> list[int]:
    """The numbers of the views that look about the same way, evenly from the nearest to the farthest."""
    ways = np.stack([seen.view.pose[:3, 2] for seen in all_seen])
    turned = np.degrees(np.arccos(np.clip(ways @ ways[number], -1, 1)))
    near = [int(k) for k in np.argsort(turned, kind="stable") if k != number and turned[k] <= TURNED]
    return [near[k] for k in np.unique(np.linspace(0, len(near) - 1, min(len(near), OTHERS)).round().astype(int))]


def _relief(known: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(H, W) bool, what is ``known`` (H, W) near a plane, at ``z`` (H, W), but not on it: what is known about it is
    off, too, taken together, and noise is not. Both are 0 where they are not."""
    off = np.where((known > 0) & (z > 0), known / np.where(z > 0, z, 1.0) - 1, np.inf)
    near = np.abs(off) < OFF
    count = cv2.boxFilter(near.astype(np.float64), -1, (ABOUT, ABOUT))
    mean = cv2.boxFilter(np.where(near, off, 0.0), -1, (ABOUT, ABOUT)) / np.maximum(count, 1e-9)
    return near & (count > 0.3) & (np.abs(mean) > RELIEF)


def _joined(seen: Seen, depth: KnownDepth, filled: np.ndarray) -> KnownDepth:
    """What was known, and ``filled`` (H, W) z where that knows better. A known pixel that is off its plane is noise
    where those about it are not, taken together."""
    known = seen.z > 0
    off = np.where(known & (filled > 0), seen.z / np.where(filled > 0, filled, 1.0) - 1, 0.0)
    near = known & (filled > 0) & (np.abs(off) < OFF)
    z = np.where(known & (filled > 0) & ~near, 0.0, seen.z)  # an outlier
    z = np.where((filled > 0) & (~known | (near & ~_relief(seen.z, filled))), filled, z)
    inverse = np.where(z > 0, 1 / np.where(z > 0, z, 1.0), 0.0)
    beside = cv2.dilate(inverse, np.ones((3, 3), np.uint8)) * z > 1 + EDGE
    z = np.where(beside & ~known, 0.0, z)  # what is beside is nearer: a pixel of its outline shows both
    sure = np.full(z.size, SURE, np.float32)
    sure[depth.pixels] = depth.sure
    pixels = np.flatnonzero(z.ravel())
    length = np.linalg.norm(pixel_directions(seen.view.intrinsics), axis=-1)
    return KnownDepth(pixels, (z * length).ravel()[pixels].astype(np.float32), sure[pixels])
