# SPDX-License-Identifier: GPL-3.0-or-later
"""Where plain areas stand, by all that they show at once: planes are swept along the scene's own directions (Gallup et
al. 2007), and a whole area is where all photos show the same then. Of a plain wall a square of some pixels says
nothing, but its soft shades and its outline move together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numba
import numpy as np
from scipy import ndimage

from engine.capture import Intrinsics
from engine.geometry import Camera, Viewpoint
from engine.scenes.flatness import plain_discs
from engine.scenes.patch_match import camera_matrix
from engine.scenes.planes import Plane, Seen

LARGE = 0.004  # of a photo, that an area holds
BESIDE = 5  # pixels across: squares by which areas grow, to what they end at
ASKED = 300  # pixels of an area that are compared
STEP, BEYOND = 0.005, 0.3  # of the middle distance: between planes, and how far beyond all that is known they go
UNLIKE = np.float32(20.0)  # of 255, from which on a photo may as well show something else
HIDES = np.float32(0.97)  # times the distance of a place, nearer than which what is known there hides it
HIDDEN = 6.0  # of 255: as how unlike what is hidden from others counts, or areas would gain by moving behind things
SHOWN = 0.3  # of an area's pixels in the others, that must show it
ALIKE, FACES = 4.0, 0.75  # of 255, how much it may differ still, and times how much it does facing any other way
TOGETHER = 0.03  # of the middle distance, that areas of one plane are apart, at most
DEFINITE = 1.03  # times how alike they are there, that they are unlike so far before and behind
JOINS = 1.25  # times how unlike an area is anywhere, that it may be where others stand
NEARBY = np.arange(-4, 5) * 0.003  # of the middle distance: heights about one that are tried as it turns
MET = 0.75  # of what is seen of one in others' plain areas, that must be seen in areas of it
VIEWS, PART = 3, 0.003  # that show one, and of all that views show

_kernel = numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)


@dataclass(frozen=True, eq=False)
class Area:
    """A plain part of the photo ``view``: ``pixels`` (K,) int64, row by row, what it ends at among them, and ``asked``,
    (≤ K,), those of them that are compared."""

    view: int
    pixels: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True, eq=False)
class Stand:
    """Areas that lie on one plane: ``axis`` (0–2) of those swept along, ``height`` along it."""

    axis: int
    height: float
    areas: list[Area]


def plain_parts(number: int, picture: np.ndarray, shown: np.ndarray | None = None) -> list[Area]:
    """The areas of a picture (H, W, 3) uint8 sRGB that show nothing but smooth shading, of what is ``shown`` (H, W)."""
    labels, count = ndimage.label(plain_discs(picture, shown) > 0)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    random, made = np.random.default_rng(number), []
    for label in np.flatnonzero(sizes[1:] >= LARGE * labels.size) + 1:
        grown = cv2.dilate((labels == label).astype(np.uint8), np.ones((BESIDE, BESIDE), np.uint8)) > 0
        pixels = np.flatnonzero(grown if shown is None else grown & shown)
        made.append(Area(number, pixels, np.sort(random.permutation(pixels)[:ASKED])))
    return made


def stands(
    photos: ManyPhotos,
    pictures: Sequence[np.ndarray],
    axes: np.ndarray,
    bounds: np.ndarray,
    scale: float,
    done: Callable[[], None] = lambda: None,
) -> list[Stand]:
    """The planes upright on ``axes`` (3, 3) on which plain areas of several views lie, and so they do in all others.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB; ``bounds`` (3, 2): what is known lies between, along each axis;
    ``scale``: the middle distance. ``done`` is told often, and ends it by raising."""
    swept = [np.arange(low - BEYOND * scale, high + BEYOND * scale, STEP * scale) for low, high in bounds]

    def curves_of(area: Area) -> list[np.ndarray]:
        return [_curve(photos, area, axis, heights) for axis, heights in zip(axes, swept, strict=True)]

    areas: list[Area] = []
    curves: list[list[np.ndarray]] = []
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for number, (seen, picture) in enumerate(zip(photos.all_seen, pictures, strict=True)):
            done()
            own = plain_parts(number, picture, seen.shown) if len(photos.others[number]) else []
            areas += own
            curves += pool.map(curves_of, own)
    found = _grouped(areas, curves, swept, scale, [seen.z.size for seen in photos.all_seen])
    return [stand for stand in found if _met(photos, stand, axes[stand.axis], areas) > MET]


def _curve(photos: ManyPhotos, area: Area, axis: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """(O,) how unlike photos are if an area is at each height; infinite where too little of it is seen."""
    sums, counts, hidden = (part.sum(axis=1) for part in photos.unlike(area.view, area.asked, axis, heights))
    enough = SHOWN * len(area.asked) * len(photos.others[area.view])
    return np.where(counts > enough, (sums + HIDDEN * hidden) / np.maximum(counts + hidden, 1), np.inf)


def _grouped(
    areas: Sequence[Area],
    curves: Sequence[Sequence[np.ndarray]],
    swept: Sequence[np.ndarray],
    scale: float,
    sizes: Sequence[int],
) -> list[Stand]:
    """Those areas together whose ``curves``, of each axis (O,) how unlike photos are if it is at the heights ``swept``,
    are lowest at about the same place."""
    if not areas:
        return []
    least = np.array([[curve.min() for curve in own] for own in curves])
    facing = least.argmin(axis=1)
    least.sort(axis=1)
    sure = (least[:, 0] < ALIKE) & (least[:, 0] < FACES * least[:, 1])
    share = np.array([len(area.pixels) / sizes[area.view] for area in areas])
    begun, taken = [], np.zeros(len(areas), bool)
    for axis, heights in enumerate(swept):
        left = np.flatnonzero(sure & (facing == axis))
        at = {k: heights[curves[k][axis].argmin()] for k in left}
        while len(left):
            near = np.array([[abs(at[k] - at[j]) < TOGETHER * scale / 3 for j in left] for k in left])
            middle = at[left[int((near * share[left]).sum(axis=1).argmax())]]
            own = np.array([k for k in left if abs(at[k] - middle) < TOGETHER * scale])
            left = np.setdiff1d(left, own)
            curve = np.average([np.minimum(curves[k][axis], UNLIKE) for k in own], axis=0, weights=share[own])
            best = int(curve.argmin())
            apart = np.abs(heights - heights[best]) / (TOGETHER * scale)
            sides = (heights < heights[best], heights > heights[best])
            aside = [curve[side & (apart > 1) & (apart < 2)] for side in sides]
            if all(len(part) and part.min() > DEFINITE * curve[best] for part in aside):
                begun.append((axis, best, own))
                taken[own] = True
    made = []
    for axis, best, own in begun:
        here = np.array([curve[axis][max(best - 1, 0) : best + 2].min() for curve in curves])
        joins = ~taken & (here < ALIKE) & (here < JOINS * least[:, 0])
        own = np.union1d(own, np.flatnonzero(joins))
        if len({areas[k].view for k in own}) >= min(VIEWS, len(sizes)) and share[own].sum() > PART * len(sizes):
            made.append(Stand(axis, float(swept[axis][best]), [areas[k] for k in own]))
    return made


def _met(photos: ManyPhotos, stand: Stand, axis: np.ndarray, areas: Sequence[Area]) -> float:
    """Of the places of a stand's areas that are seen in other plain areas, how many are seen in its own, 0–1. Of what
    is round, or the sky, others show more, or less, than lies on a plane."""
    own: list[np.ndarray] = [np.zeros(seen.z.size, np.int8) for seen in photos.all_seen]
    for area in areas:
        own[area.view][area.pixels] = 1
    for area in stand.areas:
        own[area.view][area.pixels] = 2
    met = np.zeros(3, np.int64)
    for area in stand.areas:
        places = photos.on(area, axis, stand.height)
        for other in photos.others[area.view]:
            met += np.bincount(own[other][photos.seen_at(other, places)], minlength=3)
    return met[2] / max(met[1] + met[2], 1)


def unlike_if_turned(
    photos: ManyPhotos,
    planes: Sequence[tuple[Plane, Sequence[Area]]],
    turn: np.ndarray,
    scale: float,
    done: Callable[[], None] = lambda: None,
) -> float:
    """How unlike photos are, of 255, if ``planes``, each with areas of it, are turned (3, 3), each at the height that is
    best then. ``done`` as in `stands`."""
    total = 0.0
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for plane, areas in planes:
            done()
            normal = turn @ plane.normal
            middle = np.median(np.concatenate([photos.on(a, plane.normal, plane.height) for a in areas]), axis=0)
            heights = normal @ middle + NEARBY * scale

            def told(area: Area, normal: np.ndarray = normal, heights: np.ndarray = heights) -> np.ndarray:
                sums, counts, hidden = (
                    part.sum(axis=1) for part in photos.unlike(area.view, area.asked, normal, heights)
                )
                return np.stack([sums + HIDDEN * hidden, counts + hidden])

            sums, counts = np.sum(list(pool.map(told, areas)), axis=0)
            total += len(areas) * (sums / np.maximum(counts, 1)).min()
    return total / sum(len(areas) for _, areas in planes)


@dataclass(frozen=True, eq=False)
class ManyPhotos:
    """What the kernel reads of all photos: ``colors`` (N, 3), ``depths`` (N,) where they are known, else 0, ``places``
    (V, 3) of each, where its pixels begin, its height and its width, ``cameras`` (V, 3, 4), from a place to (x · z,
    y · z, z), pixels counted from the first one's centre; ``others`` (≤ V,), of each, what it is compared with."""

    all_seen: Sequence[Seen]
    colors: np.ndarray
    depths: np.ndarray
    places: np.ndarray
    cameras: np.ndarray
    others: Sequence[np.ndarray]

    @classmethod
    def of(
        cls, all_seen: Sequence[Seen], pictures: Sequence[np.ndarray], others: Sequence[Sequence[int]]
    ) -> ManyPhotos:  # fmt: skip
        """``pictures``: of each view, (H, W, 3) uint8 sRGB."""
        soft = [cv2.GaussianBlur(np.ascontiguousarray(picture, np.float32), (0, 0), 0.5) for picture in pictures]
        sizes = np.array([seen.z.shape for seen in all_seen], np.int64).reshape(-1, 2)
        begins = np.cumsum([0, *sizes.prod(axis=1)])[:-1]
        return cls(
            all_seen,
            np.concatenate([picture.reshape(-1, 3) for picture in soft]),
            np.concatenate([np.ravel(seen.z) for seen in all_seen]).astype(np.float32),
            np.concatenate([begins[:, None], sizes], axis=1),
            np.stack([_onto(seen.view) for seen in all_seen]),
            [np.array(near, np.int64) for near in others],
        )

    def unlike(
        self, view: int, pixels: np.ndarray, normal: np.ndarray, heights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """How much pixels (K,) of a view, row by row, differ from what others show there, of 255, if they are on the
        plane at each of the ``heights`` (O,) along ``normal`` (3,): (O, K) sums over the others that show them, and (O,
        K) how many those are."""
        seen, others = self.all_seen[view], self.others[view]
        rays = seen.rays.reshape(-1, 3)[pixels]
        along = rays @ normal
        z = (heights[:, None] - normal @ seen.eye) / np.where(np.abs(along) < 1e-9, np.inf, along)
        own = self.colors[self.places[view, 0] + pixels]
        return _unlike(self.colors, self.depths, self.places[others], self.cameras[others], seen.eye, rays, own, z)

    def on(self, area: Area, normal: np.ndarray, height: float) -> np.ndarray:
        """(≤ K, 3) the places of an area's pixels that are ``asked``, those that meet the plane, if they are on it."""
        seen = self.all_seen[area.view]
        rays = seen.rays.reshape(-1, 3)[area.asked]
        along = rays @ normal
        z = (height - normal @ seen.eye) / np.where(np.abs(along) < 1e-9, np.inf, along)
        return (seen.eye + rays * z[:, None])[z > 0]

    def seen_at(self, view: int, places: np.ndarray) -> np.ndarray:
        """(≤ K,) the pixels of a view, row by row, at which it sees places (K, 3), those that nothing known hides."""
        shape, camera = self.all_seen[view].z.shape, self.cameras[view]
        x, y, far = camera[:, :3] @ places.T + camera[:, 3:]
        ahead = far > 0
        far = far[ahead]
        column, row = np.rint(x[ahead] / far), np.rint(y[ahead] / far)
        inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
        pixels = (row * shape[1] + column)[inside].astype(np.int64)
        known = self.all_seen[view].z.ravel()[pixels]
        return pixels[~((known > 0) & (known < HIDES * far[inside]))]


def _onto(view: Camera) -> np.ndarray:
    turn = np.diag([1.0, -1.0, -1.0]) @ view.pose[:3, :3].T
    return camera_matrix(view) @ np.concatenate([turn, -(turn @ view.pose[:3, 3])[:, None]], axis=1)


@_kernel
def _unlike(colors, depths, places, cameras, eye, rays, own, z):
    sums = np.zeros(z.shape, np.float32)
    counts, hidden = np.zeros(z.shape, np.int64), np.zeros(z.shape, np.int64)
    for plane in range(len(z)):
        for pixel in range(len(rays)):
            ahead = z[plane, pixel]
            if ahead <= 0:
                continue
            px = eye[0] + ahead * rays[pixel, 0]
            py = eye[1] + ahead * rays[pixel, 1]
            pz = eye[2] + ahead * rays[pixel, 2]
            for other in range(len(cameras)):
                c = cameras[other]
                far = c[2, 0] * px + c[2, 1] * py + c[2, 2] * pz + c[2, 3]
                if far <= 0:
                    continue
                x = (c[0, 0] * px + c[0, 1] * py + c[0, 2] * pz + c[0, 3]) / far
                y = (c[1, 0] * px + c[1, 1] * py + c[1, 2] * pz + c[1, 3]) / far
                begin, height, width = places[other, 0], places[other, 1], places[other, 2]
                if not (0 <= x < width - 1 and 0 <= y < height - 1):
                    continue
                known = depths[begin + int(y + 0.5) * width + int(x + 0.5)]
                if 0 < known < HIDES * far:
                    hidden[plane, pixel] += 1
                    continue
                column, row = int(x), int(y)
                right, down = np.float32(x - column), np.float32(y - row)
                at = begin + row * width + column
                most = np.float32(0)
                for k in range(3):
                    upper = colors[at, k] * (1 - right) + colors[at + 1, k] * right
                    lower = colors[at + width, k] * (1 - right) + colors[at + width + 1, k] * right
                    most = max(most, abs(upper * (1 - down) + lower * down - own[pixel, k]))
                sums[plane, pixel] += min(most, UNLIKE)
                counts[plane, pixel] += 1
    return sums, counts, hidden


def compile_kernels() -> None:
    """Compile them for what photos give, or load them from numba's cache."""
    seen = Seen(Viewpoint(np.eye(4), Intrinsics(4, 4, 4.0, 4.0, 2.0, 2.0)), np.zeros((4, 4)))
    photos = ManyPhotos.of([seen], [np.zeros((4, 4, 3), np.uint8)], [[0]])
    photos.unlike(0, np.arange(4), np.eye(3)[2], np.array([-1.0]))
