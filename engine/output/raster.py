# SPDX-License-Identifier: GPL-3.0-or-later
"""What cameras see of triangles: depth along the rays through pixels' centres, by a depth buffer."""

from __future__ import annotations

import numba
import numpy as np

from engine.geometry import Camera, pixel_directions

NEAR = 1e-3  # ahead of a camera, below which nothing is drawn


def depth_of(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) float32 distance along the normalised ray through each pixel's centre, infinite where it meets nothing,
    and (H, W) int32 which face it meets, −1 for none. ``vertices`` (V, 3) capture frame, ``faces`` (F, 3). Faces that
    reach behind the camera are left out."""
    i = camera.intrinsics
    local = (vertices - camera.pose[:3, 3]) @ camera.pose[:3, :3]
    ahead = -local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = local[:, 0] / ahead * i.fx + i.cx - 0.5
        y = i.cy - local[:, 1] / ahead * i.fy - 0.5
    faces = np.ascontiguousarray(faces, np.int32)
    nearness, face = np.zeros((i.height, i.width), np.float64), np.full((i.height, i.width), -1, np.int32)
    drawn = np.flatnonzero((ahead > NEAR)[faces].all(axis=1)).astype(np.int32)
    with np.errstate(divide="ignore"):
        _draw(np.stack([x, y, 1 / ahead], axis=1), faces, drawn, nearness, face)
        z = np.where(face >= 0, 1 / nearness, np.inf)
    return (z * np.linalg.norm(pixel_directions(i), axis=-1)).astype(np.float32), face


@numba.njit(cache=True)
def _draw(points, faces, drawn, nearness, owner):
    """Draw faces whose ``points`` are (x, y) in pixels from the first one's centre and 1 / z, which is linear there."""
    height, width = nearness.shape
    for f in drawn:
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area == 0:
            continue
        low, high = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        left, right = max(int(np.ceil(max(low, 0.0))), 0), min(high, width - 1.0)
        low, high = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        top, bottom = max(int(np.ceil(max(low, 0.0))), 0), min(high, height - 1.0)
        y = top
        while y <= bottom:
            x = left
            while x <= right:
                of_b = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
                of_c = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
                if of_b >= -1e-9 and of_c >= -1e-9 and of_b + of_c <= 1 + 1e-9:
                    near = a[2] + of_b * (b[2] - a[2]) + of_c * (c[2] - a[2])
                    if near > nearness[y, x]:
                        nearness[y, x] = near
                        owner[y, x] = f
                x += 1
            y += 1
