# SPDX-License-Identifier: GPL-3.0-or-later
"""The texels of a texture, and what one view shows of places on a surface, compiled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from engine.geometry import Camera

GRAZING = 0.1  # cosine below which a surface is seen too much from the side to say what it looks like


@numba.njit(cache=True, nogil=True)
def _along(x, y, ax, ay, bx, by):
    """Squared distance from a point to the segment a–b, and how far along it (0–1) that is nearest."""
    dx, dy = bx - ax, by - ay
    long = dx * dx + dy * dy
    t = 0.0 if long == 0 else min(max(((x - ax) * dx + (y - ay) * dy) / long, 0.0), 1.0)
    off_x, off_y = x - ax - t * dx, y - ay - t * dy
    return off_x * off_x + off_y * off_y, t


@numba.njit(cache=True, nogil=True)
def draw_faces(corners, reach, owner, place, off):
    """Give the texels of a texture to faces whose ``corners`` (F, 3, 2) lie at (column, row) from the first texel's
    center: to the face that covers the center, else to the nearest within ``reach``. Fills in ``owner`` (H, W) face,
    ``place`` (H, W, 2) the weights of its second and third corner at the nearest point of it, and ``off`` (H, W), the
    squared distance to that, infinite before."""
    height, width = owner.shape
    for f in range(len(corners)):
        ax, ay = corners[f, 0, 0], corners[f, 0, 1]
        bx, by = corners[f, 1, 0], corners[f, 1, 1]
        cx, cy = corners[f, 2, 0], corners[f, 2, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        left, right = max(int(np.ceil(min(ax, bx, cx) - reach)), 0), min(int(max(ax, bx, cx) + reach), width - 1)
        top, bottom = max(int(np.ceil(min(ay, by, cy) - reach)), 0), min(int(max(ay, by, cy) + reach), height - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                if off[y, x] == 0:
                    continue
                of_b = of_c = -1.0
                if area != 0:
                    of_b = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                    of_c = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                square = 0.0
                if of_b < 0 or of_c < 0 or of_b + of_c > 1:
                    square, t = _along(x, y, ax, ay, bx, by)
                    of_b, of_c = t, 0.0
                    other, t = _along(x, y, ax, ay, cx, cy)
                    if other < square:
                        square, of_b, of_c = other, 0.0, t
                    other, t = _along(x, y, bx, by, cx, cy)
                    if other < square:
                        square, of_b, of_c = other, 1 - t, t
                if square <= reach * reach and square < off[y, x]:
                    off[y, x], owner[y, x] = square, f
                    place[y, x, 0], place[y, x, 1] = of_b, of_c


@numba.njit(cache=True, nogil=True)
def _between(layer, x, y, right, down):
    """``layer`` (H, W), bilinear at pixel ``x``, ``y`` plus the parts ``right``, ``down``."""
    upper = layer[y, x] * (1 - right) + layer[y, x + 1] * right
    return upper + (layer[y + 1, x] * (1 - right) + layer[y + 1, x + 1] * right - upper) * down


@numba.njit(cache=True, nogil=True)
def add_look(points, normals, eye, matrix, layers, trust, depth, sharpness, sums):
    """Add what a view shows at ``points`` (N, 3) with unit ``normals`` (N, 3) to their ``sums`` (N, C + 1): values
    times weight, and weights.

    The camera stands at ``eye`` (3,); ``matrix`` (3, 4) takes points to homogeneous pixels from the first pixel's
    center. ``layers`` (C, H, W) are what is shown times ``trust`` (H, W), how much a pixel counts; ``depth`` (H, W)
    distances along the rays. A point counts by how near and how much from the front it is seen, to the power of
    ``sharpness``; what is hidden behind ``depth`` does not.
    """
    count, height, width = layers.shape
    a_pixel = 2 / (matrix[0, 0] ** 2 + matrix[0, 1] ** 2 + matrix[0, 2] ** 2) ** 0.5  # a pixel's width one unit ahead
    for n in range(len(points)):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        z = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]
        if z <= 0:
            continue
        u = (matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]) / z
        v = (matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]) / z
        if not (u >= 0 and v >= 0 and u <= width - 1 and v <= height - 1):
            continue
        dx, dy, dz = eye[0] - px, eye[1] - py, eye[2] - pz
        away = (dx * dx + dy * dy + dz * dz) ** 0.5
        facing = (dx * normals[n, 0] + dy * normals[n, 1] + dz * normals[n, 2]) / away
        if facing < GRAZING:
            continue
        if away > depth[int(v + 0.5), int(u + 0.5)] + a_pixel * away / facing:
            continue
        x, y = min(int(u), width - 2), min(int(v), height - 2)
        right, down = u - x, v - y
        weight = (facing / (a_pixel * away)) ** sharpness
        for c in range(count):
            sums[n, c] += weight * _between(layers[c], x, y, right, down)
        sums[n, count] += weight * _between(trust, x, y, right, down)


def compile_kernels() -> None:
    """Compile them for what a texture gives, or load them from numba's cache."""
    owner, place, off = np.zeros((1, 1), np.int32), np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)
    draw_faces(np.zeros((1, 3, 2)), 1.0, owner, place, off)
    points, shown = np.zeros((1, 3), np.float32), np.zeros((1, 2, 2), np.float32)
    sums = np.zeros((1, 2), np.float32)
    add_look(points, points, np.ones(3), np.ones((3, 4)), shown, shown[0], shown[0], 1.0, sums)


def look_at(
    points: np.ndarray, normals: np.ndarray, camera: Camera, layers: np.ndarray, trust: np.ndarray, depth: np.ndarray,
    sums: np.ndarray, sharpness: float,
) -> None:  # fmt: skip
    """Add what a camera shows at ``points``, of the capture frame, to their ``sums``, on Python's own threads; see
    `add_look`. All are float32 but ``points``' count."""
    world_to_camera = np.linalg.inv(camera.pose)
    world_to_camera[1:3] *= -1  # OpenGL's axes to y down, z forward
    matrix = camera.intrinsics.matrix() @ world_to_camera[:3]
    matrix[:2] -= 0.5 * matrix[2]  # from the first pixel's center
    eye, threads = camera.pose[:3, 3].copy(), numba.get_num_threads()

    def share(number: int) -> None:
        part = slice(number * len(sums) // threads, (number + 1) * len(sums) // threads)
        add_look(points[part], normals[part], eye, matrix, layers, trust, depth, sharpness, sums[part])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, range(threads)))
