# SPDX-License-Identifier: GPL-3.0-or-later
"""Truncated signed distance fusion (Curless and Levoy 1996) of depth renders on a dense grid of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.capture.types import Intrinsics
from engine.geometry import pixel_directions, to_pixels

_CHUNK = 1_000_000  # samples looked at at a time
_GRAZING = 0.1  # cosine below which a surface is seen too much from the side to say where it is


@dataclass(frozen=True, eq=False)
class DepthView:
    """What one camera sees of a scene.

    `pose` (4, 4) camera to world in the capture frame, OpenGL axes. `depth` (H, W): distance from the camera *along
    the normalised ray* through each pixel's centre, in the capture's units. `colour` (H, W, 3): 0 to 1, sRGB.
    `opacity` (H, W): 0 to 1; below one half a pixel is taken as empty.
    """

    pose: np.ndarray
    intrinsics: Intrinsics
    depth: np.ndarray
    colour: np.ndarray
    opacity: np.ndarray


class Volume:
    """Signed distance to the surface, positive in front of it, and colour, averaged over views at a grid of points.

    Point (i, j, k) of the grid lies at `origin + (i, j, k) * spacing` in the capture frame.
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
        count = int(np.prod(self.shape))
        self._distance = np.zeros(count, np.float32)  # sums; a mean after division by the weight
        self._weight = np.zeros(count, np.float32)
        self._colour = np.zeros((count, 3), np.float32)
        self._colour_weight = np.zeros(count, np.float32)
        self._empty = np.zeros(count, np.float32)  # views that see past

    def add(self, view: DepthView) -> None:
        """Takes in one view."""
        image = _Image.of(view)
        world_to_camera = np.linalg.inv(view.pose)
        world_to_camera[1:3] *= -1  # OpenGL's axes to y down, z forward
        rotation, shift = world_to_camera[:3, :3].astype(np.float32), world_to_camera[:3, 3]
        columns = [(rotation[:, a] * self.spacing)[:, None] * np.arange(n, dtype=np.float32)
                   for a, n in enumerate(self.shape)]  # fmt: skip
        start = (world_to_camera[:3, :3] @ self.origin + shift).astype(np.float32)
        plane = self.shape[1] * self.shape[2]
        for first in range(0, self.shape[0], max(1, _CHUNK // plane)):
            slab = columns[0][:, first : first + max(1, _CHUNK // plane)]
            points = (start[:, None, None, None] + slab[:, :, None, None] + columns[1][:, None, :, None]
                      + columns[2][:, None, None, :])  # fmt: skip
            self._add_points(image, points.reshape(3, -1), first * plane)

    def _add_points(self, image: _Image, points: np.ndarray, offset: int) -> None:
        camera = image.camera
        z = points[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = (at - 0.5 for at in to_pixels(points[0], -points[1], z, camera))  # from the first pixel's centre
            # Written so that NaN is outside.
            seen = (z > 0) & (u >= 0) & (u <= camera.width - 1) & (v >= 0) & (v <= camera.height - 1)
        index = np.flatnonzero(seen)
        u, v, z = u[index], v[index], z[index]
        left = np.minimum(u.astype(np.int32), camera.width - 2)
        top = np.minimum(v.astype(np.int32), camera.height - 2)
        cell = top * (camera.width - 1) + left
        # In front of everything that the four pixels around show.
        past = z < image.nearest[cell] - self.truncation * image.slant[cell]
        self._empty[offset + index[past]] += 1

        close = ~past & (z < image.farthest[cell] + 4 * self.truncation) & (
            image.farthest[cell] - image.nearest[cell] < 2 * self.truncation * image.slant[cell])  # fmt: skip
        index, z = index[close], z[close]
        left, top = left[close], top[close]
        right, down = u[close] - left, v[close] - top
        inverse, normal, opacity, *colour = _between(image.layers, left, top, right, down)
        # The surface at this pixel is the plane n·p = 1 with n·ray = 1/z on it: (1 - n·p) / |n| is a true distance.
        distance = (1 - z * inverse) / normal
        ray = np.linalg.norm(points[:, index], axis=0) / z
        facing = inverse / (normal * ray)
        near = (np.abs(distance) < self.truncation) & (facing > _GRAZING)
        index, distance = offset + index[near], distance[near]
        # Behind an edge, the face that this view sees is not the nearest one: fade out what it says from there.
        behind = np.clip((self.truncation + distance) / (self.truncation - self.spacing), 0, 1)
        weight = (opacity * facing)[near] * behind
        self._distance[index] += weight * distance
        self._weight[index] += weight
        weight *= 1.01 - np.abs(distance) / self.truncation  # colour is the surface's, not its surroundings'
        self._colour[index] += weight[:, None] * np.stack(colour, axis=-1)[near]
        self._colour_weight[index] += weight

    def distances(self, carve: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
        """(signed distance float32, whether anything is known there bool), both of the grid's shape.

        Near a surface the mean is over the views that see it there; that others see past does not pull at it, unless
        they outweigh `carve` times those that do: then the point is empty.
        """
        empty = (self._weight == 0) | (self._empty > carve * self._weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(empty, self.truncation, self._distance / self._weight)
        known = (self._weight > 0) | (self._empty > 0)
        return distance.reshape(self.shape).astype(np.float32), known.reshape(self.shape)

    def colours_at(self, vertices: np.ndarray) -> np.ndarray:
        """(N, 3) float32 colours at (N, 3) points of the capture frame, trilinear over what is known."""
        grid = (vertices - self.origin) / self.spacing
        low = np.clip(np.floor(grid).astype(np.int64), 0, np.array(self.shape) - 2)
        part = grid - low
        total, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
        for corner in np.ndindex(2, 2, 2):
            index = np.ravel_multi_index((low + corner).T, self.shape)
            share = np.prod(np.where(corner, part, 1 - part), axis=1)
            known = self._colour_weight[index]
            share = np.where(known > 0, np.maximum(share, 1e-9), 0)
            total += (share / np.maximum(known, 1e-12))[:, None] * self._colour[index]
            weight += share
        return (total / np.maximum(weight, 1e-12)[:, None]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Image:
    """A view prepared for look-up. A cell is the square between four pixel centres; cells are (H - 1) * (W - 1)."""

    camera: Intrinsics
    layers: np.ndarray  # (6, H, W) inverse z, length of the plane's normal, opacity, colour
    nearest: np.ndarray  # (cells,) z of the nearest of the four pixels
    farthest: np.ndarray  # (cells,)
    slant: np.ndarray  # (cells,) z to pass a distance of one across the surface

    @staticmethod
    def of(view: DepthView) -> _Image:
        camera = view.intrinsics
        rays = pixel_directions(camera) * (1, -1, -1)
        full = (view.opacity >= 0.5) & (view.depth > 0) & np.isfinite(view.depth)
        z = np.where(full, view.depth, 1.0) / np.linalg.norm(rays, axis=-1)
        z = np.where(full, z, 1e9)  # an empty pixel shows what is very far
        inverse = 1 / z
        by_row, by_column = np.gradient(inverse)
        a, b = by_column * camera.fx, by_row * camera.fy
        c = inverse - rays[..., 0] * a - rays[..., 1] * b
        normal = np.sqrt(a * a + b * b + c * c)
        corners = np.stack([z[:-1, :-1], z[:-1, 1:], z[1:, :-1], z[1:, 1:]])
        # Along z a surface seen from the side is thicker, by |n| z: at most ten times.
        slants = np.clip(normal * z, 1, 1 / _GRAZING)
        slant = np.stack([slants[:-1, :-1], slants[:-1, 1:], slants[1:, :-1], slants[1:, 1:]]).max(axis=0)
        layers = np.concatenate([np.stack([inverse, normal, view.opacity]), np.moveaxis(view.colour, -1, 0)])
        flat = [np.ascontiguousarray(x.ravel(), np.float32) for x in (corners.min(axis=0), corners.max(axis=0), slant)]
        return _Image(camera, layers.astype(np.float32), *flat)


def _between(layers: np.ndarray, left: np.ndarray, top: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(L, H, W) layers, bilinear at pixel `left`, `top` plus the parts `right`, `down` -> (L, N)."""
    count, height, width = layers.shape
    flat = layers.reshape(count, height * width)
    index = top * width + left
    upper = flat[:, index] * (1 - right) + flat[:, index + 1] * right
    lower = flat[:, index + width] * (1 - right) + flat[:, index + width + 1] * right
    return upper * (1 - down) + lower * down
