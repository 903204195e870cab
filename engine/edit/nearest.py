# SPDX-License-Identifier: GPL-3.0-or-later
"""How far points are from a surface of triangles: by a tree of boxes, so that neither many triangles nor a wide reach
makes it slow. Compiled by numba at its first use, which it keeps."""

from __future__ import annotations

import numba
import numpy as np

LEAF = 4  # triangles in a box of the lowest row
BITS = 10  # a side, of the places that triangles are sorted by
STACK = 64  # boxes that wait to be looked at: one a row, of at most 30


class Nearest:
    """A surface's triangles (m, 3, 3), sorted so that neighbours share boxes, and the boxes around them: of a binary
    tree whose rows lie one after another, number 1 at the top, 2 n and 2 n + 1 below n."""

    def __init__(self, corners: np.ndarray):
        middles = corners.mean(axis=1)
        low, high = middles.min(axis=0), middles.max(axis=0)
        side = max(float((high - low).max()), 1e-300)
        places = np.minimum((middles - low) / side * 2**BITS, 2**BITS - 1).astype(np.int64)
        key = np.zeros(len(corners), np.int64)
        for bit in range(BITS):
            for axis in range(3):
                key |= (places[:, axis] >> bit & 1) << (3 * bit + axis)
        ordered = corners[np.argsort(key, kind="stable")]
        leaves = 1
        while leaves * LEAF < len(ordered):
            leaves *= 2
        last = np.repeat(ordered[-1:], leaves * LEAF - len(ordered), axis=0)
        self._corners = np.ascontiguousarray(np.concatenate([ordered, last]), np.float64)
        boxes = self._corners.reshape(leaves, -1, 3)
        rows = [np.stack([boxes.min(axis=1), boxes.max(axis=1)], axis=1)]
        while len(rows[0]) > 1:
            pairs = rows[0].reshape(-1, 2, 2, 3)
            rows.insert(0, np.stack([pairs[:, :, 0].min(axis=1), pairs[:, :, 1].max(axis=1)], axis=1))
        self._boxes = np.concatenate([np.zeros((1, 2, 3)), *rows])  # the first is none

    def distance(self, points: np.ndarray, most: float) -> np.ndarray:
        """(n,) how far points (n, 3) are from the surface, ``most`` where it is no less."""
        found = np.empty(len(points))
        _distances(np.ascontiguousarray(points, np.float64), self._corners, self._boxes, float(most), found)
        return found


@numba.njit(cache=True, error_model="numpy")
def _to_box(p, box):
    """The square of a point's distance to a box (2, 3)."""
    sum_ = 0.0
    for axis in range(3):
        off = max(box[0, axis] - p[axis], p[axis] - box[1, axis], 0.0)
        sum_ += off * off
    return sum_


@numba.njit(cache=True, error_model="numpy")
def _to_side(px, py, pz, x, y, z):
    """The square of the distance from (px, py, pz) to the side from the origin to (x, y, z)."""
    length = x * x + y * y + z * z
    share = min(max((px * x + py * y + pz * z) / length, 0.0), 1.0) if length > 0.0 else 0.0
    dx, dy, dz = px - share * x, py - share * y, pz - share * z
    return dx * dx + dy * dy + dz * dz


@numba.njit(cache=True, error_model="numpy")
def _to_triangle(p, t):
    """The square of a point's distance to a triangle (3, 3): to its plane where the point lies over it, else to the
    nearest side."""
    ax, ay, az = p[0] - t[0, 0], p[1] - t[0, 1], p[2] - t[0, 2]
    bx, by, bz = p[0] - t[1, 0], p[1] - t[1, 1], p[2] - t[1, 2]
    cx, cy, cz = p[0] - t[2, 0], p[1] - t[2, 1], p[2] - t[2, 2]
    ux, uy, uz = ax - bx, ay - by, az - bz  # the sides, one after another
    vx, vy, vz = bx - cx, by - cy, bz - cz
    wx, wy, wz = cx - ax, cy - ay, cz - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    area = nx * nx + ny * ny + nz * nz
    over = (
        area > 0.0
        and (uy * az - uz * ay) * nx + (uz * ax - ux * az) * ny + (ux * ay - uy * ax) * nz >= 0.0
        and (vy * bz - vz * by) * nx + (vz * bx - vx * bz) * ny + (vx * by - vy * bx) * nz >= 0.0
        and (wy * cz - wz * cy) * nx + (wz * cx - wx * cz) * ny + (wx * cy - wy * cx) * nz >= 0.0
    )
    if over:
        height = ax * nx + ay * ny + az * nz
        return height * height / area
    return min(_to_side(ax, ay, az, ux, uy, uz), _to_side(bx, by, bz, vx, vy, vz), _to_side(cx, cy, cz, wx, wy, wz))


@numba.njit(cache=True, error_model="numpy", nogil=True, parallel=True)
def _distances(points, corners, boxes, most, found):
    """The distances of ``points`` (n, 3) into ``found`` (n), at most ``most``."""
    leaves = len(boxes) // 2
    for n in numba.prange(len(points)):
        p = points[n]
        best = most * most
        waiting = np.empty(STACK, np.int64)
        waiting[0], count = 1, 1
        while count:
            count -= 1
            box = waiting[count]
            if not _to_box(p, boxes[box]) < best:
                continue
            if box >= leaves:
                first = (box - leaves) * LEAF
                for t in range(first, first + LEAF):
                    best = min(best, _to_triangle(p, corners[t]))
                continue
            left, right = 2 * box, 2 * box + 1
            to_left, to_right = _to_box(p, boxes[left]), _to_box(p, boxes[right])
            near, far = (left, right) if to_left <= to_right else (right, left)
            if max(to_left, to_right) < best:
                waiting[count] = far
                count += 1
            if min(to_left, to_right) < best:
                waiting[count] = near
                count += 1
        found[n] = np.sqrt(best)
