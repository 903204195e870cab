# SPDX-License-Identifier: GPL-3.0-or-later
"""How far away, and how slanted, what each pixel of a photo shows is, by other photos: PatchMatch stereo (Bleyer et al.
2011; Galliani et al. 2015). Each pixel has a small plane of its own; it takes its neighbors' or one a bit different
where what lies about it then looks more like it does in the other photos.

The inverse of the distance along a camera's axis is linear over the picture of a plane: three numbers a pixel say it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numba
import numpy as np

from engine.capture import Intrinsics
from engine.geometry import Camera, Viewpoint

REACH, STRIDE = 6, 2  # pixels: what is compared is a square about each, of every second pixel
NEAR, ALIKE = 5.0, 5.0  # pixels, and gray levels of 255: what lies farther off or looks more different counts less
BUSY = 6.0  # gray levels, standard deviation: from which on a small square says enough, of every pixel:
SMALL, SMALL_NEAR, SMALL_ALIKE = 3, 2.5, 8.0
LEAST = 0.01  # of 1, below which a pixel of the square does not count
NOISE = 0.3  # variance of gray levels that says nothing
UNLIKE = np.float32(0.4)  # 1 − correlation, from which on a photo may as well show something else
FAR = 5  # pixels: planes are taken from neighbors and from there, an odd number
TRIED = 6  # planes a bit different, each round: of its spread, how much nearer or farther, and how much more slanted
NEARER, SLANTED = np.array([0, 0.5, 1], np.float32), np.array([15, 7, 0], np.float32)
BANDS = 4  # of rows, between which it can be ended
NOWHERE = -1e6  # a gray value of what a picture does not show
NOTHING = np.float32(9)  # the cost of a plane that was not looked at

_kernel = numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)


@dataclass(frozen=True, eq=False)
class Photos:
    """Photos and their cameras: ``grays``, of each, (H, W) float32 of 0 to 255, `NOWHERE` where they show nothing."""

    views: Sequence[Camera]
    grays: Sequence[np.ndarray]

    @cached_property
    def pixels(self) -> np.ndarray:
        """(N,) float32: those of all photos, row by row."""
        return np.concatenate([np.ravel(gray) for gray in self.grays]).astype(np.float32)

    @cached_property
    def places(self) -> np.ndarray:
        """(V, 3) of each photo, where its pixels begin, its height and its width."""
        sizes = np.array([gray.shape for gray in self.grays], np.int64).reshape(-1, 2)
        starts = np.cumsum([0, *sizes.prod(axis=1)])[:-1]
        return np.concatenate([starts[:, None], sizes], axis=1)


def camera_matrix(camera: Camera) -> np.ndarray:
    """(3, 3): x right, y down, z forward to pixels counted from the first one's centre."""
    matrix = camera.intrinsics.matrix()
    matrix[:2, 2] -= 0.5
    return matrix


def between(view: Camera, other: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and shift (3,) from one camera's axes (x right, y down, z forward) to another's."""
    flip = np.diag([1.0, -1.0, -1.0])
    turn = flip @ other.pose[:3, :3].T @ view.pose[:3, :3] @ flip
    return turn, flip @ other.pose[:3, :3].T @ (view.pose[:3, 3] - other.pose[:3, 3])


def refined(
    photos: Photos,
    number: int,
    others: Sequence[int],
    planes: np.ndarray,
    spreads: Sequence[float],
    check: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The planes (H, W, 3) of one photo's pixels by which they look most alike in the ``others``, and (H, W) how
    unlike they are still: 1 − correlation, at most `UNLIKE` for each photo, the mean over them.

    A plane: the inverse of the distance along the camera's axis at the pixel, and how much that grows a pixel to the
    right and down. ``planes``: where to begin; ``spreads``: of each round, how much of the distance planes that are
    tried differ. The same for the same photos. ``check`` is called often, and ends it by raising."""
    told, focal = _told(photos, number, others), np.float32(photos.views[number].intrinsics.fx)
    gray = np.ascontiguousarray(photos.grays[number], np.float32)
    planes = np.array(planes, np.float32, order="C")
    costs = np.full(gray.shape, NOTHING, np.float32)
    for round_, spread in enumerate(np.asarray(spreads, np.float32)):
        for color in (0, 1):  # of a checkerboard: a pixel reads what only those of the other color write
            for first, last in _bands(len(gray)):
                check()
                _round(gray, told, planes, costs, first, last, color, round_, spread, focal)
    return planes, costs


def worse(
    photos: Photos,
    number: int,
    others: Sequence[int],
    planes: np.ndarray,
    off: float,
    check: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """(H, W) how unlike the pixels of a photo are in the ``others`` by planes that are nearer or farther than these (H,
    W, 3) by a share ``off``, whichever is more alike: hardly more than by these where nothing says how far away it is.
    ``check`` is called often, and ends it by raising."""
    gray = np.ascontiguousarray(photos.grays[number], np.float32)
    costs = np.full(gray.shape, NOTHING, np.float32)
    told = _told(photos, number, others)
    for first, last in _bands(len(gray)):
        check()
        _off(gray, told, planes, costs, first, last, np.float32(off))
    return costs


def _bands(height: int) -> list[tuple[int, int]]:
    """A picture's rows, in parts after each of which the work can be ended: where each begins and ends."""
    return list(pairwise(np.linspace(0, height, BANDS + 1).astype(int).tolist()))


def _told(photos: Photos, number: int, others: Sequence[int]) -> tuple[np.ndarray, ...]:
    """What the kernels read: the pixels of all photos, where the ``others`` lie among them, and of each (3, 3) and
    (3,): pixel (x, y, 1) of the photo, at a distance of 1 / q along its axis, is at the first · pixel + q · the
    second."""
    view = photos.views[number]
    inverse = np.linalg.inv(camera_matrix(view))
    turns, shifts = [], []
    for other in others:
        turn, shift = between(view, photos.views[other])
        matrix = camera_matrix(photos.views[other])
        turns.append(matrix @ turn @ inverse)
        shifts.append(matrix @ shift)
    way = np.stack(turns).astype(np.float32), np.stack(shifts).astype(np.float32)
    return photos.pixels, photos.places[np.asarray(others)], *way


@_kernel
def _off(gray, told, planes, costs, first, last, off):
    most = max(2 * REACH // STRIDE + 1, 2 * SMALL + 1) ** 2
    square = np.empty((4, most), np.float32)
    for y in range(first, last):
        for x in range(gray.shape[1]):
            if gray[y, x] == NOWHERE:
                continue
            count, held = _look_about(gray, y, x, square)
            a, b, c = planes[y, x]
            for share in (1 - off, 1 + off):
                cost = _cost(told, y, x, a * share, b * share, c * share, square, held, gray[y, x], count, NOTHING)
                costs[y, x] = min(costs[y, x], cost)


@_kernel
def _round(gray, told, planes, costs, first, last, color, round_, spread, focal):
    """Of rows ``first`` to ``last``, the pixels of one ``color``: their neighbors' planes, and some a bit different."""
    height, width = gray.shape
    most = max(2 * REACH // STRIDE + 1, 2 * SMALL + 1) ** 2
    square = np.empty((4, most), np.float32)  # right, below, weight, gray level
    for y in range(first, last):
        for x in range((y + color) % 2, width, 2):
            middle = gray[y, x]
            if middle == NOWHERE:
                continue
            count, all_held = _look_about(gray, y, x, square)
            a, b, c = planes[y, x]
            best = costs[y, x]
            if best == NOTHING:
                best = _cost(told, y, x, a, b, c, square, all_held, middle, count, best)
            seed = np.uint32((y * width + x) * 747796405 + round_ * 277803737 + 1)
            for k in range(8 + TRIED):
                if k < 8:  # a neighbor's plane
                    step = (1 if k < 4 else FAR) * (2 * (k % 2) - 1)
                    right, below = (step, 0) if k % 4 < 2 else (0, step)
                    if not (0 <= y + below < height and 0 <= x + right < width):
                        continue
                    its, to_right, down = planes[y + below, x + right]
                    its -= to_right * np.float32(right) + down * np.float32(below)
                else:  # farther or nearer, more or less slanted, or a bit of both
                    seed, of_distance = _drawn(seed)
                    seed, of_right = _drawn(seed)
                    seed, of_below = _drawn(seed)
                    near, slant = NEARER[k % 3] * spread, SLANTED[k % 3] * spread * a / focal
                    its, to_right, down = a * (1 + near * of_distance), b + slant * of_right, c + slant * of_below
                if its > 0:
                    cost = _cost(told, y, x, its, to_right, down, square, all_held, middle, count, best)
                    if cost < best:
                        best, a, b, c = cost, its, to_right, down
            planes[y, x, 0], planes[y, x, 1], planes[y, x, 2] = a, b, c
            costs[y, x] = best


@_kernel
def _drawn(seed):
    """The next number of a sequence, and one of −1 to 1."""
    seed = np.uint32(seed * np.uint32(1664525) + np.uint32(1013904223))
    return seed, np.float32(seed) * np.float32(2 / 4294967296) - np.float32(1)


@_kernel
def _look_about(gray, y, x, square):
    """What a pixel is compared by: places about it, weights, and gray levels from its own on; how many there are, and
    the sum of the weights."""
    height, width = gray.shape
    middle = gray[y, x]
    near, off, least = 0, np.float32(0), np.float32(0)
    for below in range(-SMALL, SMALL + 1):
        for right in range(-SMALL, SMALL + 1):
            if 0 <= y + below < height and 0 <= x + right < width and gray[y + below, x + right] != NOWHERE:
                value = gray[y + below, x + right] - middle
                near += 1
                least += value
                off += value * value
    busy = off / near - (least / near) ** 2 > BUSY * BUSY
    reach, stride = (SMALL, 1) if busy else (REACH, STRIDE)
    nearness = np.float32(SMALL_NEAR) if busy else np.float32(NEAR)
    alike = np.float32(SMALL_ALIKE) if busy else np.float32(ALIKE)
    count, total = 0, np.float32(0)
    for below in range(-reach, reach + 1, stride):
        for right in range(-reach, reach + 1, stride):
            if not (0 <= y + below < height and 0 <= x + right < width) or gray[y + below, x + right] == NOWHERE:
                continue
            value = gray[y + below, x + right] - middle
            away = np.float32(right * right + below * below) / (2 * nearness * nearness)
            weight = np.exp(-abs(value) / alike - away)
            if weight < LEAST:
                continue
            square[0, count], square[1, count], square[2, count], square[3, count] = right, below, weight, value
            total += weight
            count += 1
    return count, total


@_kernel
def _cost(told, y, x, a, b, c, square, all_held, middle, count, best):
    """How unlike a pixel's square is in the other photos by a plane; `NOTHING` where that is more than ``best``."""
    pixels, places, turns, shifts = told
    photos = len(turns)
    column, row = np.float32(x), np.float32(y)
    total, limit = np.float32(0), best * photos
    for k in range(photos):
        if total >= limit:
            return NOTHING
        turn, shift = turns[k], shifts[k]
        start, height, width = places[k]
        x0 = turn[0, 0] * column + turn[0, 1] * row + turn[0, 2] + shift[0] * a
        y0 = turn[1, 0] * column + turn[1, 1] * row + turn[1, 2] + shift[1] * a
        z0 = turn[2, 0] * column + turn[2, 1] * row + turn[2, 2] + shift[2] * a
        xx, xy = turn[0, 0] + shift[0] * b, turn[0, 1] + shift[0] * c
        yx, yy = turn[1, 0] + shift[1] * b, turn[1, 1] + shift[1] * c
        zx, zy = turn[2, 0] + shift[2] * b, turn[2, 1] + shift[2] * c
        if z0 - np.float32(REACH) * (abs(zx) + abs(zy)) <= np.float32(1e-6):
            total += UNLIKE
            continue
        right, bottom = np.float32(width - 1), np.float32(height - 1)
        if not (0 <= x0 < right * z0 and 0 <= y0 < bottom * z0):
            total += UNLIKE
            continue
        if pixels[start + int(y0 / z0 + np.float32(0.5)) * width + int(x0 / z0 + np.float32(0.5))] == NOWHERE:
            total += UNLIKE
            continue
        held, mean, squares, both = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        own_mean, own_squares = np.float32(0), np.float32(0)
        for j in range(count):
            one = np.float32(1) / (z0 + square[0, j] * zx + square[1, j] * zy)
            px = (x0 + square[0, j] * xx + square[1, j] * xy) * one
            py = (y0 + square[0, j] * yx + square[1, j] * yy) * one
            if not (0 <= px < right and 0 <= py < bottom):
                continue
            left, top = int(px), int(py)
            off_x, off_y = px - np.float32(left), py - np.float32(top)
            at = start + top * width + left
            upper = pixels[at] + (pixels[at + 1] - pixels[at]) * off_x
            lower = pixels[at + width] + (pixels[at + width + 1] - pixels[at + width]) * off_x
            value = upper + (lower - upper) * off_y
            if value < 0:  # a part of what is not shown
                continue
            value -= middle
            weight, its = square[2, j], square[3, j]
            held += weight
            own_mean += weight * its
            own_squares += weight * its * its
            mean += weight * value
            squares += weight * value * value
            both += weight * its * value
        if held < np.float32(0.5) * all_held:
            total += UNLIKE
            continue
        own_mean, mean = own_mean / held, mean / held
        own_variance = max(own_squares / held - own_mean * own_mean, np.float32(0)) + np.float32(NOISE)
        variance = max(squares / held - mean * mean, np.float32(0)) + np.float32(NOISE)
        total += min(np.float32(1) - (both / held - own_mean * mean) / np.sqrt(own_variance * variance), UNLIKE)
    return total / np.float32(photos)


def compile_kernels() -> None:
    """Compile them for what photos give, or load them from numba's cache."""
    intrinsics = Intrinsics(4, 4, 4.0, 4.0, 2.0, 2.0)
    photos = Photos([Viewpoint(np.eye(4), intrinsics)] * 2, [np.ones((4, 4), np.float32)] * 2)
    planes, _ = refined(photos, 0, [1], np.ones((4, 4, 3)), (0.1,))
    worse(photos, 0, [1], planes, 0.1)
