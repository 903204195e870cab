# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos of a corner between textured walls and a floor, by ray casting: enough for COLMAP, and a moment to make."""

from __future__ import annotations

import cv2
import numpy as np


def corner(position: np.ndarray, target: np.ndarray, size: tuple[int, int] = (400, 300), around: bool = False):
    """(H, W, 3) uint8: what a camera at `position` (x right, y down, z ahead) sees; `around`: all of it, 2:1."""
    width, height = size
    ahead = (target - position) / np.linalg.norm(target - position)
    right = np.cross((0, 1, 0), ahead)
    right /= np.linalg.norm(right)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    if around:
        turn, tilt = (x / width - 0.5) * 2 * np.pi, (y / height - 0.5) * np.pi
        rays = np.stack([np.sin(turn) * np.cos(tilt), np.sin(tilt), np.cos(turn) * np.cos(tilt)], axis=-1)
    else:
        rays = np.stack([(x - width / 2) / width, (y - height / 2) / width, np.full(x.shape, 0.9)], axis=-1)
    rays = rays @ np.stack([right, np.cross(ahead, right), ahead])
    rng, picture, nearest = np.random.default_rng(3), np.zeros((height, width, 3), np.uint8), np.full(x.shape, np.inf)
    for axis in range(3):
        for side in (-4.0, 4.0):
            texture = cv2.resize(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), (768, 768))
            distance = (side - position[axis]) / np.where(rays[..., axis] == 0, 1e-9, rays[..., axis])
            hit = (distance > 0) & (distance < nearest)
            at = (position + rays * distance[..., None])[..., [i for i in range(3) if i != axis]]
            u, v = ((at + 4) * 96).astype(np.float32).transpose(2, 0, 1)
            picture[hit] = cv2.remap(texture, u, v, cv2.INTER_LINEAR)[hit]
            nearest[hit] = distance[hit]
    return picture


def walk(count: int, sideways: float = 0.5) -> list[np.ndarray]:
    places = np.linspace(-sideways, sideways, count)
    return [corner(np.array((x, 0.2 * x, -2.0)), np.array((2.5, 1.0, 3.0))) for x in places]
