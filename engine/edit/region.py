# SPDX-License-Identifier: GPL-3.0-or-later
"""Where alone a scene may change: inside closed surfaces that the artist has put there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine import protocol
from engine.edit.solids import MOST_TRIANGLES, Solid
from engine.errors import BadInput
from engine.geometry import Camera, unproject
from engine.scenes.base import SPAN, RenderedView

MOST_SOLIDS = 64
MEDIAN = 0.5  # share of a pixel that is met by its depth


class Region:
    """The inside of some surfaces (outside, where it is inverted), with an edge of some softness."""

    def __init__(self, asked: protocol.Region):
        """Raises BadInput, naming what is wrong."""
        if not 1 <= len(asked.solids) <= MOST_SOLIDS:
            raise BadInput(f"A region has 1 to {MOST_SOLIDS} meshes, not {len(asked.solids)}.", field="region")
        if not (np.isfinite(asked.softness) and asked.softness >= 0):
            raise BadInput("The softness of a region's edge is a distance, 0 or more.", field="region")
        frame = np.array(asked.frame, np.float64)
        if (
            frame.shape != (16,)
            or not np.isfinite(frame).all()
            or abs(np.linalg.det(frame.reshape(4, 4)[:3, :3])) < 1e-18
        ):
            raise BadInput("The region's frame is no transform that can be undone.", field="region")
        if sum(len(solid.triangles) for solid in asked.solids) > 3 * MOST_TRIANGLES:
            raise BadInput(
                f"The region has more than {MOST_TRIANGLES:,} triangles; use simpler meshes, or boxes.", field="region"
            )
        if any(len(numbers) % 3 for solid in asked.solids for numbers in (solid.vertices, solid.triangles)):
            raise BadInput("The region's vertices and triangles have three numbers each.", field="region")
        self.softness, self.invert = asked.softness, asked.invert
        self._frame = frame.reshape(4, 4)
        self._solids = [
            Solid(
                np.array(solid.vertices, np.float64).reshape(-1, 3),
                np.array(solid.triangles, np.int64).reshape(-1, 3),
                solid.name,
            )
            for solid in asked.solids
        ]

    def may_change(self, points: np.ndarray) -> np.ndarray:
        """(n,) how much of what is at points (n, 3) of the capture frame may change, 0–1: a half on the surfaces, and
        all, or nothing, half a softness away from them."""
        own = points @ self._frame[:3, :3].T + self._frame[:3, 3]
        allowed = np.zeros(len(points))
        for solid in self._solids:
            inside = solid.inside(own)
            if self.softness > 0:
                half = self.softness / 2
                away = solid.distance(own, half)
                inside = 0.5 + np.where(inside, 0.5, -0.5) * away / half
            allowed = np.maximum(allowed, inside)
        return 1.0 - allowed if self.invert else allowed

    def mask(self, seen: RenderedView, camera: Camera) -> Tensor:
        """(H, W, 1) float32, 0–1, on the CPU: how much of each pixel of a camera may change, by what it shows of the
        scene: as much as that third of it which may change most. What shows no surface lies outside.

        By the median of depth alone, a little fog before a surface, or an edge that shows more of what is behind,
        would keep as captured what the region was laid around.
        """
        depths = [(MEDIAN, seen.depth)]
        if seen.span is not None:
            depths += zip(SPAN, seen.span.unbind(dim=-1), strict=True)
        opacity = seen.opacity.detach().cpu().reshape(-1).numpy()
        allowed = np.zeros(len(opacity))
        for share, depth in depths:
            points = unproject(depth.detach().cpu().double(), camera).reshape(-1, 3).numpy()
            surface = (opacity >= share) & np.isfinite(points).all(axis=1)
            shown = np.full(len(points), 1.0 if self.invert else 0.0)
            shown[surface] = self.may_change(points[surface])
            allowed = np.maximum(allowed, shown)
        return torch.from_numpy(allowed.astype(np.float32)).reshape(*seen.depth.shape, 1)


def region_of(asked: protocol.Region | None) -> Region | None:
    """What was asked for, None where the whole scene may change. Raises BadInput."""
    return None if asked is None else Region(asked)
