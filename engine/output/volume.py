# SPDX-License-Identifier: GPL-3.0-or-later
"""Truncated signed distance fusion (Curless and Levoy 1996) of depth renders on a grid of samples, of which only blocks
near surfaces are kept (Nießner et al. 2013)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from scipy import ndimage

from engine.capture.types import Intrinsics
from engine.geometry import pixel_directions
from engine.output.fusing import BLOCK, GRAZING, add_view

DOUBT = 3.0  # truncations by which what is doubtful is seen past
_UNLIKE = 3.0  # times as steep as on the other side, and as a surface at 45 degrees, is an edge


@dataclass(frozen=True, eq=False)
class DepthView:
    """What one camera sees of a scene.

    `pose` (4, 4) camera to world in the capture frame, OpenGL axes. `depth` (H, W): distance from the camera *along
    the normalised ray* through each pixel's centre, in the capture's units. `colour` (H, W, 3): 0 to 1, sRGB.
    `opacity` (H, W): 0 to 1; below one half a pixel is taken as empty. `doubtful` (H, W) bool: where its depth is not
    to be believed; None: nowhere.
    """

    pose: np.ndarray
    intrinsics: Intrinsics
    depth: np.ndarray
    colour: np.ndarray
    opacity: np.ndarray
    doubtful: np.ndarray | None = None

    @cached_property
    def full(self) -> np.ndarray:
        """(H, W) bool: whether a pixel shows a surface."""
        return (self.opacity >= 0.5) & (self.depth > 0) & np.isfinite(self.depth)


class Volume:
    """Signed distance to the surface, positive in front of it, and colour, averaged over views at a grid of points.

    Point (i, j, k) of the grid lies at `origin + (i, j, k) * spacing` in the capture frame. Only blocks of 8³ points
    that `near` was told of, and their neighbours, are kept; of the others nothing is known.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, resolution: int, truncation: float = 3.0) -> None:
        """A box from `low` to `high` with `resolution` points along its longest side.

        `truncation`, in spacings, is how far from a surface a view speaks of it.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        self.spacing = float((high - low).max() / resolution)
        self.shape = tuple(int(n) for n in np.maximum(np.ceil((high - low) / self.spacing - 1e-6), 2))
        # The points are centres of cells that fill the box, and what is over on a shorter side is shared out.
        self.origin = (low + high) / 2 - (np.array(self.shape) - 1) / 2 * self.spacing
        self.truncation = truncation * self.spacing
        self._wanted = np.zeros([-(-n // BLOCK) for n in self.shape], bool)  # blocks with a surface
        self._slots: np.ndarray | None = None  # (blocks…) where each block's points are kept; −1: nowhere
        self._blocks = np.zeros((0, 3), np.int64)  # the kept blocks' places, in the order of their slots

    def near(self, view: DepthView) -> None:
        """Keep the blocks that the view's surfaces lie in. All views are told of before the first is added."""
        if self._slots is not None:
            raise ValueError("the blocks are fixed once a view was added")
        seen = view.full if view.doubtful is None else view.full & ~view.doubtful
        rays = pixel_directions(view.intrinsics)[seen]
        rays *= (view.depth[seen] / np.linalg.norm(rays, axis=-1))[:, None]
        points = rays @ view.pose[:3, :3].T + view.pose[:3, 3]
        # A surface lies between pixels too: where they are farther apart than a block, its neighbours hold it.
        block = np.floor((points - self.origin) / (self.spacing * BLOCK) + 0.5 / BLOCK)
        block = block[((block >= -1) & (block <= self._wanted.shape)).all(axis=1)].astype(np.int64)
        self._wanted[tuple(block.clip(0, np.array(self._wanted.shape) - 1).T)] = True

    def _keep(self) -> np.ndarray:
        if self._slots is None:
            wanted = self._wanted_and_neighbours()
            self._blocks = np.argwhere(wanted)
            self._slots = np.full(wanted.shape, -1, np.int64)
            self._slots[wanted] = np.arange(len(self._blocks))
            count = len(self._blocks) * BLOCK**3
            self._distance = np.zeros(count, np.float32)  # sums; a mean after division by the weight
            self._weight = np.zeros(count, np.float32)
            self._colour = np.zeros((count, 3), np.float32)
            self._colour_weight = np.zeros(count, np.float32)
            self._empty = np.zeros(count, np.float32)  # views that see past
        return self._slots

    def add(self, view: DepthView) -> None:
        """Takes in one view."""
        self._keep()
        image = _Image.of(view, self.truncation)
        world_to_camera = np.linalg.inv(view.pose)
        world_to_camera[1:3] *= -1  # OpenGL's axes to y down, z forward
        matrix = view.intrinsics.matrix() @ world_to_camera[:3]
        matrix[:2] -= 0.5 * matrix[2]  # from the first pixel's centre
        matrix[:, 3] += matrix[:, :3] @ self.origin
        matrix[:, :3] *= self.spacing
        sums = (self._distance, self._weight, self._colour, self._colour_weight, self._empty)
        threads = numba.get_num_threads()

        def share(number: int) -> None:
            part = slice(number * len(self._blocks) // threads, (number + 1) * len(self._blocks) // threads)
            points = slice(part.start * BLOCK**3, part.stop * BLOCK**3)
            add_view(
                self._blocks[part], matrix, image.layers, image.nearest, image.farthest, image.slant,
                self.truncation, self.spacing, tuple(sum_[points] for sum_ in sums),
            )  # fmt: skip

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(share, range(threads)))

    @property
    def points(self) -> int:
        """How many points of the grid are kept, of the views that it was told of so far. Takes no memory for them."""
        return int(self._wanted_and_neighbours().sum()) * BLOCK**3

    def _wanted_and_neighbours(self) -> np.ndarray:
        return ndimage.binary_dilation(self._wanted, np.ones((3, 3, 3), bool))

    def nothing_in(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether no point from ``low`` up to ``high``, which is left out, is kept."""
        return not (self._slots_of(low, high) >= 0).any()

    def _slots_of(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(blocks…) the slots of the blocks that points from ``low`` up to ``high`` lie in."""
        return self._keep()[tuple(slice(a // BLOCK, -(-b // BLOCK)) for a, b in zip(low, high, strict=True))]

    def distances(
        self, low: tuple[int, ...] = (0, 0, 0), high: tuple[int, ...] | None = None, carve: float = 2.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """(signed distance float32, whether anything is known there bool), both of the grid's points from ``low`` up to
        ``high``, which is left out.

        Near a surface the mean is over the views that see it there; that others see past does not pull at it, unless
        they outweigh `carve` times those that do: then the point is empty.
        """
        low_, high_ = np.array(low), np.array(self.shape if high is None else high)
        slots, first = self._slots_of(low_, high_), BLOCK * (low_ // BLOCK)
        inside = tuple(slice(a, b) for a, b in zip(low_ - first, high_ - first, strict=True))

        def of_grid(sums: np.ndarray) -> np.ndarray:
            kept = np.zeros((*slots.shape, BLOCK**3), sums.dtype)
            kept[slots >= 0] = sums.reshape(-1, BLOCK**3)[slots[slots >= 0]]
            blocks = kept.reshape(*slots.shape, BLOCK, BLOCK, BLOCK).transpose(0, 3, 1, 4, 2, 5)
            return blocks.reshape([BLOCK * n for n in slots.shape])[inside]

        weight, past = of_grid(self._weight), of_grid(self._empty)
        empty = (weight == 0) | (past > carve * weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(empty, self.truncation, of_grid(self._distance) / weight)
        return distance.astype(np.float32), (weight > 0) | (past > 0)

    def colours_at(self, vertices: np.ndarray) -> np.ndarray:
        """(N, 3) float32 colours at (N, 3) points of the capture frame, trilinear over what is known."""
        slots = self._keep()
        grid = (vertices - self.origin) / self.spacing
        low = np.clip(np.floor(grid).astype(np.int64), 0, np.array(self.shape) - 2)
        part = grid - low
        total, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
        for corner in np.ndindex(2, 2, 2):
            block, (i, j, k) = (low + corner) // BLOCK, ((low + corner) % BLOCK).T
            slot = slots[tuple(block.T)]
            index = np.where(slot >= 0, slot * BLOCK**3 + (i * BLOCK + j) * BLOCK + k, 0)
            share = np.prod(np.where(corner, part, 1 - part), axis=1)
            known = np.where(slot >= 0, self._colour_weight[index], 0)
            share = np.where(known > 0, np.maximum(share, 1e-9), 0)
            total += (share / np.maximum(known, 1e-12))[:, None] * self._colour[index]
            weight += share
        return (total / np.maximum(weight, 1e-12)[:, None]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Image:
    """A view prepared for look-up. A cell is the square between four pixel centres; cells are (H - 1) * (W - 1)."""

    layers: np.ndarray  # (7, H, W) inverse z, length of the plane's normal, weight, length of the ray, colour
    nearest: np.ndarray  # (H - 1, W - 1) z of the nearest of the four pixels
    farthest: np.ndarray  # (H - 1, W - 1)
    slant: np.ndarray  # (H - 1, W - 1) z to pass a distance of one across the surface

    @staticmethod
    def of(view: DepthView, truncation: float) -> _Image:
        camera = view.intrinsics
        rays = pixel_directions(camera) * (1, -1, -1)
        full = view.full
        z = np.where(full, view.depth, 1.0) / np.linalg.norm(rays, axis=-1)
        z = np.where(full, z, 1e9)  # an empty pixel shows what is very far
        inverse = 1 / z
        (by_row, ends_above), (by_column, ends_beside) = _slope(inverse, 0, camera.fy), _slope(inverse, 1, camera.fx)
        a, b = by_column * camera.fx, by_row * camera.fy
        c = inverse - rays[..., 0] * a - rays[..., 1] * b
        normal = np.sqrt(a * a + b * b + c * c)
        corners = np.stack([z[:-1, :-1], z[:-1, 1:], z[1:, :-1], z[1:, 1:]])
        # Along z a surface seen from the side is thicker, by |n| z: at most ten times.
        slants = np.clip(normal * z, 1, 1 / GRAZING)
        slant = np.stack([slants[:-1, :-1], slants[:-1, 1:], slants[1:, :-1], slants[1:, 1:]]).max(axis=0)
        doubt = np.zeros_like(full) if view.doubtful is None else view.doubtful
        weight = np.where(ends_above | ends_beside | doubt, 0, view.opacity)  # too steep, or not: nobody knows
        # What is doubtful tells of no surface, and counts against one that others see there as if it were seen past.
        some = doubt[:-1, :-1] | doubt[:-1, 1:] | doubt[1:, :-1] | doubt[1:, 1:]
        nearest = corners.min(axis=0) + np.where(some, DOUBT * truncation * slant, 0)
        length = np.linalg.norm(rays, axis=-1)
        layers = np.concatenate([np.stack([inverse, normal, weight, length]), np.moveaxis(view.colour, -1, 0)])
        cells = (nearest, np.maximum(corners.max(axis=0), nearest), slant)
        return _Image(layers.astype(np.float32), *(cell.astype(np.float32) for cell in cells))


def _slope(inverse: np.ndarray, axis: int, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """By how much 1 / z changes from pixel to pixel along an axis, evenly on a plane, and where a surface ends: there
    the steps to both neighbours have nothing to do with each other, and it goes on as it does on its own side."""
    step = np.diff(inverse, axis=axis)
    ahead = np.concatenate([step, step.take([-1], axis=axis)], axis=axis)
    back = np.concatenate([step.take([0], axis=axis), step], axis=axis)
    less, more = np.minimum(np.abs(ahead), np.abs(back)), np.maximum(np.abs(ahead), np.abs(back))
    own = np.where(np.abs(ahead) < np.abs(back), ahead, back)
    ends = more > _UNLIKE * (less + inverse / focal)
    return np.where(ends, own, (ahead + back) / 2), ends
