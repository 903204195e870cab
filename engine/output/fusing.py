# SPDX-License-Identifier: GPL-3.0-or-later
"""What one view says of the points of a volume, compiled. It runs on several of Python's own threads at once, for
numba's may be used by one of a program's threads only, where a scene is rendered on another."""

from __future__ import annotations

import numba
import numpy as np

BLOCK = 8  # points along a side of a block
GRAZING = 0.25  # cosine below which a surface is seen too much from the side to say where it is


@numba.njit(cache=True, nogil=True)
def _between(layer, x, y, right, down):
    """``layer`` (H, W), bilinear at pixel ``x``, ``y`` plus the parts ``right``, ``down``."""
    upper = layer[y, x] * (1 - right) + layer[y, x + 1] * right
    return upper + (layer[y + 1, x] * (1 - right) + layer[y + 1, x + 1] * right - upper) * down


@numba.njit(cache=True, nogil=True)
def add_view(blocks, matrix, layers, nearest, farthest, slant, truncation, spacing, sums):
    """Add what a view says to the ``sums`` of all points of ``blocks`` (B, 3): distances, weights, colours, weights of
    colours, and views that see past.

    ``matrix`` (3, 4) takes a grid's point to homogeneous pixels, from the first pixel's centre. ``layers`` (7, H, W):
    inverse z, length of the normal of the plane n·p = 1 that the surface lies in, weight, length of a ray one unit
    ahead, colour. ``nearest``, ``farthest`` (H − 1, W − 1): z of the four pixels about a cell; ``slant``: z to pass a
    distance of one across the surface.
    """
    distances, weights, colours, colour_weights, empty = sums
    height, width = layers.shape[1:]
    for block in range(len(blocks)):
        for inside in range(BLOCK**3):
            i = BLOCK * blocks[block, 0] + inside // BLOCK**2
            j = BLOCK * blocks[block, 1] + inside // BLOCK % BLOCK
            k = BLOCK * blocks[block, 2] + inside % BLOCK
            z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
            if z <= 0:
                continue
            u = (matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + matrix[0, 3]) / z
            v = (matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + matrix[1, 3]) / z
            if not (u >= 0 and v >= 0 and u <= width - 1 and v <= height - 1):
                continue
            x, y = min(int(u), width - 2), min(int(v), height - 2)
            point, steep = block * BLOCK**3 + inside, truncation * slant[y, x]
            if z < nearest[y, x] - steep:  # in front of everything that the four pixels around show
                empty[point] += 1
                continue
            if z >= farthest[y, x] + 4 * truncation or farthest[y, x] - nearest[y, x] >= 2 * steep:
                continue
            right, down = u - x, v - y
            inverse = _between(layers[0], x, y, right, down)
            normal = _between(layers[1], x, y, right, down)
            # The surface at this pixel is the plane n·p = 1 with n·ray = 1/z on it: a true distance.
            distance = (1 - z * inverse) / normal
            facing = inverse / (normal * _between(layers[3], x, y, right, down))
            if not (abs(distance) < truncation and facing > GRAZING):
                continue
            # Behind an edge, the face that this view sees is not the nearest one: fade out what it says from there.
            behind = min(max((truncation + distance) / (truncation - spacing), 0.0), 1.0)
            weight = _between(layers[2], x, y, right, down) * facing * facing * behind
            distances[point] += weight * distance
            weights[point] += weight
            weight *= 1.01 - abs(distance) / truncation  # colour is the surface's, not its surroundings'
            for c in range(3):
                colours[point, c] += weight * _between(layers[4 + c], x, y, right, down)
            colour_weights[point] += weight


def compile_kernels() -> None:
    """Compile it for what a volume gives, or load it from numba's cache."""
    floats = [np.zeros(shape, np.float32) for shape in (BLOCK**3, BLOCK**3, (BLOCK**3, 3), BLOCK**3, BLOCK**3)]
    cell = np.ones((1, 1), np.float32)
    layers = np.ones((7, 2, 2), np.float32)
    add_view(np.zeros((1, 3), np.int64), np.ones((3, 4)), layers, cell, cell, cell, 1.0, 0.5, tuple(floats))
