# SPDX-License-Identifier: GPL-3.0-or-later
"""On which planes plain areas lie, by all that they show at once: planes are swept along the scene's own directions
(Gallup et al. 2007), and a whole area is where all photos show the same then. Of a plain wall a square of some pixels
says nothing, but its soft shades and its outline move together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numba
import numpy as np
from scipy import ndimage

from engine.scenes.each_view import Check, of_each_view
from engine.scenes.flatness import plain_discs
from engine.scenes.many_photos import UNLIKE, ManyPhotos
from engine.scenes.planes import FAR, PixelRays, Plane, Seen

LARGE = 0.004  # of a photo: an area is at least so large
WHOLE = 200  # pixels of a photo; a larger one's areas are looked for in one of half the size, …, too
BESIDE = 2  # pixels, by which areas grow, to what they end at
ASKED = 300  # pixels of an area that are compared
STEP, BEYOND = 0.005, 0.3  # of the middle distance: between planes, and how far beyond all that is known they go
SHOWN = 0.3  # of an area's pixels in the other photos, that must show it
ALIKE = 4.0  # of 255, how much photos may differ where an area is
NOISE = 0.3  # of 255, added to what is compared: less is none
FACES = 0.75  # times how much photos differ if an area faces another way, that they may where it is
TOGETHER = 0.03  # of the middle distance, that areas of one plane are apart, at most
DEFINITE = 1.03  # times how much photos differ where areas are, that they must so far before and behind
JOINS = 1.25  # times how much photos differ where an area is by itself, that they may where others are, for it to join
MET = 0.75  # of what other photos' plain areas show of some areas, that must be areas of the same plane
VIEWS, PART = 3, 0.003  # a plane is shown by so many views, at least, and by so much of all
NEARBY = np.arange(-4, 5) * 0.003  # of the middle distance: heights that are tried about a plane's as it turns
ACROSS = np.arange(-16, 17) * 0.003  # of the middle distance: heights that are tried to say where a plane's areas lie
ASIDE, CLEARLY = 6, 1.15  # of those, how far aside photos must be less alike, and by which factor, or it is not said
NEAR = 3  # of those, on each side of the lowest, that its parabola goes through

Done = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Area:
    """A plain part of the photo ``view``: ``pixels`` (K,) int64, row by row, what it ends at among them, and ``asked``
    (≤ K,), those of them that are compared."""

    view: int
    pixels: np.ndarray
    asked: np.ndarray

    def rays(self, all_seen: Sequence[Seen]) -> PixelRays:
        """Those of the pixels that are compared."""
        seen = all_seen[self.view]
        return PixelRays(seen.rays.reshape(-1, 3)[self.asked], seen.eye, self.view)


@dataclass(frozen=True, eq=False)
class AreaPlane:
    """A plane on which ``areas`` lie: ``axis`` (0–2) of those swept along, ``height`` along it."""

    axis: int
    height: float
    areas: list[Area]


def plain_parts(number: int, picture: np.ndarray, shown: np.ndarray | None = None) -> list[Area]:
    """The areas of a picture (H, W, 3) uint8 sRGB that show nothing but smooth shading, of what is ``shown`` (H, W).
    Those of a large one are looked for in a smaller one, too: edges are sharper there, by which areas end, and shades
    less smooth."""
    height, width = picture.shape[:2]
    plain = [plain_discs(picture, shown) > 0]
    if (factor := -(-max(height, width) // WHOLE)) > 1:
        size = -(-width // factor), -(-height // factor)
        inside = None if shown is None else cv2.resize(np.float32(shown), size, interpolation=cv2.INTER_AREA) > 0.999
        smaller = plain_discs(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), inside) > 0
        plain.append(smaller.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width])
    random = np.random.default_rng(number)
    return [area for layer in plain for area in _areas(number, layer, shown, random)]


def _areas(view: int, plain: np.ndarray, shown: np.ndarray | None, random: np.random.Generator) -> list[Area]:
    """The large areas of what is ``plain`` (H, W) bool, with what they end at."""
    labels, count = ndimage.label(plain)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    made = []
    square = np.ones((2 * BESIDE + 1, 2 * BESIDE + 1), np.uint8)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if sizes[label] < LARGE * labels.size:
            continue
        box = tuple(slice(max(side.start - BESIDE, 0), side.stop + BESIDE) for side in box)
        grown = cv2.dilate((labels[box] == label).astype(np.uint8), square) > 0
        rows, columns = np.nonzero(grown if shown is None else grown & shown[box])
        pixels = (rows + box[0].start) * labels.shape[1] + columns + box[1].start
        made.append(Area(view, pixels, np.sort(random.permutation(pixels)[:ASKED])))
    return made


def planes_of_areas(
    photos: ManyPhotos,
    pictures: Sequence[np.ndarray],
    axes: np.ndarray,
    bounds: np.ndarray,
    scale: float,
    done: Callable[[float], None] = lambda share: None,
) -> list[AreaPlane]:
    """The planes perpendicular to one of ``axes`` (3, 3) on which plain areas of several views lie, and so they do in
    all others.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB; ``bounds`` (3, 2): what is known lies between, along each axis;
    ``scale``: the middle distance. ``done`` is told often which share of it is done, and ends it by raising."""
    swept = [np.arange(low - BEYOND * scale, high + BEYOND * scale, STEP * scale) for low, high in bounds]

    def of_view(number: int, check: Check) -> list[tuple[Area, list[np.ndarray]]]:
        shown, made = photos.all_seen[number].shown, []
        for area in plain_parts(number, pictures[number], shown) if len(photos.others[number]) else []:
            check()
            curves = [_curve(photos, area, axis, heights, scale) for axis, heights in zip(axes, swept, strict=True)]
            made.append((area, curves))
        return made

    told = of_each_view(len(pictures), of_view, lambda count: done(count / len(pictures)))
    areas, curves = [area for own in told for area, _ in own], [curve for own in told for _, curve in own]
    sizes = [seen.z.size for seen in photos.all_seen]
    share = np.array([len(area.pixels) / sizes[area.view] for area in areas])
    check = partial(done, 1.0)
    found = _grouped(areas, curves, share, swept, scale, len(sizes), sum(sizes), check)
    sure: list[AreaPlane] = []
    left = found
    while left:
        # What lies on a plane that is sure says nothing of others: a ceiling's area may go over into the wall's.
        elsewhere = [area for plane in sure for area in plane.areas]
        met = [plane for plane in left if _met(photos, plane, axes[plane.axis], areas, elsewhere, check) > MET]
        if not met:
            break
        sure += met
        left = [plane for plane in left if plane not in met]
    return [plane for plane in found if plane in sure]


def _curve(photos: ManyPhotos, area: Area, axis: np.ndarray, heights: np.ndarray, scale: float) -> np.ndarray:
    """(O,) how unlike photos are if an area is at each height; infinite where too little of it is seen."""
    curve = np.full(len(heights), np.inf)
    near = np.abs(heights - axis @ photos.all_seen[area.view].eye) < FAR * scale
    sums, counts, seen = photos.unlike_together(area.view, area.asked, axis, heights[near])
    enough = seen > SHOWN * len(area.asked) * len(photos.others[area.view])
    curve[near] = np.where(enough, sums / np.maximum(counts, 1), np.inf)
    return curve


def _grouped(
    areas: Sequence[Area],
    curves: Sequence[Sequence[np.ndarray]],
    share: np.ndarray,
    swept: Sequence[np.ndarray],
    scale: float,
    views: int,
    whole: int,
    done: Done,
) -> list[AreaPlane]:
    """Those areas together whose ``curves``, of each axis (O,) how unlike photos are if it is at the heights ``swept``,
    are lowest at about the same place; ``share`` of a picture, that each is; of all ``views``, which have ``whole``
    pixels."""
    if not areas:
        return []
    least = np.array([[curve.min() for curve in own] for own in curves])
    at = np.array([[curve.argmin() for curve in own] for own in curves])
    facing = least.argmin(axis=1)
    least.sort(axis=1)
    sure = (least[:, 0] < ALIKE) & (least[:, 0] + NOISE < FACES * (least[:, 1] + NOISE))
    begun, taken = [], np.zeros(len(areas), bool)
    for axis, heights in enumerate(swept):
        left = np.flatnonzero(sure & (facing == axis))
        while len(left):
            done()
            votes = np.bincount(at[left, axis], weights=share[left], minlength=len(heights))
            middle = int(ndimage.uniform_filter1d(votes, 2 * round(TOGETHER / STEP / 3) + 1, mode="constant").argmax())
            own = left[np.abs(at[left, axis] - middle) <= TOGETHER / STEP]
            left = np.setdiff1d(left, own)
            curve = np.average([np.minimum(curves[k][axis], UNLIKE) for k in own], axis=0, weights=share[own])
            best = int(curve.argmin())
            apart = np.abs(heights - heights[best]) / (TOGETHER * scale)
            sides = (heights < heights[best], heights > heights[best])
            aside = [curve[side & (apart > 1) & (apart < 2)] for side in sides]
            if all(len(part) and part.min() + NOISE > DEFINITE * (curve[best] + NOISE) for part in aside):
                begun.append((axis, best, own))
                taken[own] = True
    if not begun:
        return []
    here = np.array([[own[axis][max(best - 1, 0) : best + 2].min() for own in curves] for axis, best, _ in begun])
    joins = ~taken & (here < ALIKE) & (here + NOISE < JOINS * (least[:, 0] + NOISE))
    where, made = np.where(joins.any(axis=0), np.where(joins, here, np.inf).argmin(axis=0), -1), []
    for number, (axis, best, own) in enumerate(begun):
        own = np.union1d(own, np.flatnonzero(where == number))
        seen = _pixels_of(areas[k] for k in own)
        part = sum(len(pixels) for pixels in seen.values())
        if len(seen) >= min(VIEWS, views) and part > PART * whole:
            made.append(AreaPlane(axis, float(swept[axis][best]), [areas[k] for k in own]))
    return made


def _pixels_of(areas: Iterable[Area]) -> dict[int, np.ndarray]:
    """The pixels of several areas by their view, each once: a photo's areas may be parts of each other."""
    of_view: dict[int, list[np.ndarray]] = {}
    for area in areas:
        of_view.setdefault(area.view, []).append(area.pixels)
    return {view: np.unique(np.concatenate(pixels)) for view, pixels in of_view.items()}


def _met(
    photos: ManyPhotos, plane: AreaPlane, axis: np.ndarray, areas: Sequence[Area], elsewhere: Sequence[Area], done: Done
) -> float:  # fmt: skip
    """Of the places of a plane's areas that are seen in other plain areas, but for those of other planes that lie
    ``elsewhere``, how many are seen in its own, 0–1. Of what is round, or the sky, others show more, or less, than lies
    on a plane."""
    own: list[np.ndarray] = [np.zeros(seen.z.size, np.int8) for seen in photos.all_seen]
    for some, value in ((areas, 1), (elsewhere, 0), (plane.areas, 2)):
        for area in some:
            own[area.view][area.pixels] = value
    met = np.zeros(3, np.int64)
    for area in plane.areas:
        done()
        places = area.rays(photos.all_seen).on(axis, plane.height, np.inf)
        for other in photos.others[area.view]:
            met += np.bincount(own[other][photos.seen_at(other, places)], minlength=3)
    return met[2] / max(met[1] + met[2], 1)


def height_by_areas(
    photos: ManyPhotos, plane: Plane, areas: Sequence[Area], scale: float, done: Done = lambda: None
) -> float | None:
    """The height along its normal at which photos are most alike if ``areas`` of a ``plane`` are on it, where a
    parabola is lowest; None where they are not clearly less alike before and behind, or where it is the plane's own
    but for a pixel. What is known of a plain wall is often what hangs on it. ``done`` is told often, and ends it by
    raising."""

    costs, _ = _costs(photos, areas, plane.normal, plane.height + ACROSS * scale, done)
    lowest = int(np.argmin(costs))
    before, after = lowest - ASIDE, lowest + ASIDE
    if before < 0 or after >= len(costs) or min(costs[before], costs[after]) < CLEARLY * costs[lowest]:
        return None
    first, middle, last = costs[[lowest - NEAR, lowest, lowest + NEAR]]
    off = NEAR * (first - last) / (2 * (first + last - 2 * middle)) if first + last > 2 * middle else 0.0
    moved = ACROSS[lowest] + off * (ACROSS[1] - ACROSS[0])
    pixel = 1 / np.median([seen.view.intrinsics.fx for seen in photos.all_seen])
    return float(plane.height + moved * scale) if abs(moved) > pixel else None


def _costs(
    photos: ManyPhotos, areas: Sequence[Area], normal: np.ndarray, heights: np.ndarray, done: Done
) -> tuple[np.ndarray, float]:
    """(O,) how unlike photos are if ``areas`` are at each of the ``heights`` (O,) along ``normal``, each weighed by how
    much of its photo it is, and the sum of these weights."""
    costs, whole = np.zeros(len(heights)), 0.0
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        told = pool.map(lambda area: photos.unlike_together(area.view, area.asked, normal, heights), areas)
        for area, (sums, counts, _) in zip(areas, told, strict=True):
            done()
            share = len(area.pixels) / photos.all_seen[area.view].z.size
            costs += share * np.where(counts > 0, sums / np.maximum(counts, 1), UNLIKE)
            whole += share
    return costs, whole


def unlike_if_turned(
    photos: ManyPhotos,
    planes: Sequence[tuple[Plane, Sequence[Area]]],
    turn: np.ndarray,
    scale: float,
    done: Done = lambda: None,
) -> float:
    """How unlike photos are, of 255, if ``planes``, each with areas of it, are turned (3, 3), each at its best height
    then; an area counts by how much of its photo it is. ``done`` is told often, and ends it by raising."""
    total = whole = 0.0
    for plane, areas in planes:
        rays = [area.rays(photos.all_seen) for area in areas]
        places = np.concatenate([ray.on(plane.normal, plane.height, np.inf) for ray in rays])
        if not len(places):
            continue
        middle, normal = np.median(places, axis=0), turn @ plane.normal
        costs, share = _costs(photos, areas, normal, normal @ middle + NEARBY * scale, done)
        total, whole = total + costs.min(), whole + share
    return total / whole if whole else UNLIKE
