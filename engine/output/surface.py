# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface that a camera's depth shows."""

from __future__ import annotations

import numpy as np


def normals_of(points: np.ndarray, full: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """(H, W, 3) unit normals of the surface through points (H, W, 3), of which ``full`` (H, W) says whether there is
    one, on the side that ``towards`` (H, W, 3), unit vectors to the camera, look from; where the surface breaks off on
    one side, by the other side."""
    sides = []
    for axis in (1, 0):
        before = points - np.roll(points, 1, axis=axis)
        after = np.roll(before, -1, axis=axis)
        usable = np.roll(full, 1, axis=axis) & full
        index = np.arange(points.shape[axis])
        first = np.expand_dims(index == 0, 1 - axis) | np.zeros_like(full)
        usable &= ~first
        usable_after = np.roll(usable, -1, axis=axis)
        # The side on which depth changes less: the other one may lie on what is behind.
        ways = ((usable, before), (usable_after, after))
        lengths = [np.where(known, np.linalg.norm(way, axis=-1), np.inf) for known, way in ways]
        step = np.where((lengths[0] < lengths[1])[..., None], before, after)
        sides.append(np.where(np.isfinite(np.minimum(*lengths))[..., None], step, 0))
    normals = np.cross(sides[1], sides[0])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(length > 1e-30, normals / np.maximum(length, 1e-30), towards)
    return np.where(np.einsum("hwc,hwc->hw", normals, towards)[..., None] < 0, -normals, normals)
