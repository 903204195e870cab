# SPDX-License-Identifier: GPL-3.0-or-later
"""The NeRF frame: the capture recentred and rescaled to suit nerfacto. Nothing outside this package sees it."""

from __future__ import annotations

import msgspec
import numpy as np


class NerfFrame(msgspec.Struct, frozen=True):
    """x_nerf = scale · (x_capture − centre). No rotation: nerfacto does not care which way is up."""

    scale: float
    centre: tuple[float, float, float]

    @classmethod
    def around(cls, poses: np.ndarray, centre: np.ndarray) -> NerfFrame:
        """Frame with ``centre`` (3, capture frame) at the origin and every camera of ``poses`` (N, 4, 4) within the
        unit cube, the part of space that nerfacto's contraction leaves straight."""
        reach = np.abs(poses[:, :3, 3] - centre).max()
        if not np.isfinite(reach) or reach <= 0:
            reach = 1.0  # one camera, at the centre itself: any scale is as good
        return cls(scale=float(1.0 / reach), centre=tuple(float(c) for c in centre))

    def nerf_from_capture(self, poses: np.ndarray) -> np.ndarray:
        """Camera-to-world poses (…, 4, 4), capture frame → NeRF frame (rotations stay orthonormal)."""
        moved = np.array(poses, dtype=np.float64)
        moved[..., :3, 3] = (moved[..., :3, 3] - self.centre) * self.scale
        return moved

    def nerf_from_capture_distance(self, distance):
        """Lengths in the capture frame → lengths in the NeRF frame."""
        return distance * self.scale

    def capture_from_nerf_distance(self, distance):
        """Lengths in the NeRF frame → lengths in the capture frame."""
        return distance / self.scale
