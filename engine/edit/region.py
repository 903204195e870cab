# SPDX-License-Identifier: GPL-3.0-or-later
"""Where alone a scene may change: inside closed surfaces that the artist has put there."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import protocol
from engine.capture import Intrinsics
from engine.edit.solids import MOST_TRIANGLES, Solid
from engine.errors import BadInput
from engine.geometry import Camera, pixel_directions, unproject
from engine.scenes.base import Check, RenderedView, Scene

MOST_SOLIDS = 64
PARTS = 8  # of a pixel, in the order of their distances
SHARES = tuple((part + 0.5) / PARTS for part in range(PARTS))  # by which the middle of each part is met
ENOUGH = 2  # parts that lie inside, for the pixel to
OUTLINE = 120  # pixels along the longer side of an outline: it is a preview
PLACES = 64  # on a ray that are asked for it


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
        inside = self._within(self._own(points))
        return 1.0 - inside if self.invert else inside

    def _own(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the capture frame in that of the surfaces."""
        return points @ self._frame[:3, :3].T + self._frame[:3, 3]

    def _within(self, own: np.ndarray) -> np.ndarray:
        """(n,) how much of what is at points (n, 3) of the surfaces' frame lies inside of them, 0–1."""
        allowed = np.zeros(len(own))
        for solid in self._solids:
            inside = solid.inside(own)
            if self.softness > 0:
                half = self.softness / 2
                away = solid.distance(own, half)
                inside = 0.5 + np.where(inside, 0.5, -0.5) * away / half
            allowed = np.maximum(allowed, inside)
        return allowed

    def outline(self, camera: Camera) -> Tensor:
        """(H, W, 1) float32, 0–1, on the CPU: how much of each pixel of a camera may change while nothing is known of
        what it shows: as much as the place on its ray that may most; of an inverted region, as much as that which may
        least."""
        i = camera.intrinsics
        scale = min(1.0, OUTLINE / max(i.width, i.height))
        width, height = max(1, round(scale * i.width)), max(1, round(scale * i.height))
        across, down = width / i.width, height / i.height
        small = Intrinsics(width, height, i.fx * across, i.fy * down, i.cx * across, i.cy * down)
        rays = pixel_directions(small).reshape(-1, 3) @ camera.pose[:3, :3].T
        corners = np.stack([box for solid in self._solids for box in solid.box])
        reach = self.softness / 2
        low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
        start = self._own(camera.pose[:3, 3])
        ways = rays @ self._frame[:3, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.sort(np.stack([(low - start) / ways, (high - start) / ways]), axis=0)
        near, far = np.nanmax(ends[0], axis=1).clip(min=0.0), np.nanmin(ends[1], axis=1)
        through = np.flatnonzero(near < far)
        shares = (np.arange(PLACES) + 0.5) / PLACES
        most = np.zeros(len(rays))
        for some in np.array_split(through, max(1, len(through) * PLACES // 1_000_000)):
            along = near[some, None] + (far - near)[some, None] * shares
            points = start + along[..., None] * ways[some, None]
            most[some] = self._within(points.reshape(-1, 3)).reshape(len(some), PLACES).max(axis=1, initial=0.0)
        allowed = torch.from_numpy((1.0 - most if self.invert else most).astype(np.float32))
        whole = F.interpolate(allowed.view(1, 1, height, width), (i.height, i.width), mode="bilinear")
        return whole[0].permute(1, 2, 0)

    def mask_of(self, scene: Scene, camera: Camera, check: Check = lambda: None) -> Tensor:
        """(H, W, 1) float32, 0–1, on the CPU: how much of each pixel of a camera may change, by what it shows of a
        scene. ``check`` is called while that is rendered."""
        return self.mask(scene.render(camera, check, SHARES), camera)

    def mask(self, seen: RenderedView, camera: Camera) -> Tensor:
        """The same, of what the camera sees, with SHARES: a pixel lies as far inside as that quarter of it which does
        most. What shows no surface lies outside.

        In the fog of a scene that has learnt for a few minutes the median of depth lies before the surface more often
        than not, and at an object's edge behind it: what the region was laid around would not be found in it.
        """
        if seen.met is None:
            depths, shares, enough = [seen.depth], [0.5], 1
        else:
            depths, shares, enough = list(seen.met.unbind(dim=-1)), list(SHARES), ENOUGH
        opacity = seen.opacity.detach().cpu().reshape(-1).numpy()
        parts = np.zeros((len(depths), len(opacity)))
        for part, depth, share in zip(parts, depths, shares, strict=True):
            points = unproject(depth.detach().cpu().double(), camera).reshape(-1, 3).numpy()
            surface = (opacity >= share) & np.isfinite(points).all(axis=1)
            part[surface] = self._within(self._own(points[surface]))
        inside = np.partition(parts, len(parts) - enough, axis=0)[len(parts) - enough]
        allowed = 1.0 - inside if self.invert else inside
        return torch.from_numpy(allowed.astype(np.float32)).reshape(*seen.depth.shape, 1)


def outside_kept(original: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """``edited`` (H, W, 3) as far as a ``mask`` (H, W, 1), 0–1, lets it change; where that is 0 the ``original``, to
    the last bit."""
    original, mask = original.to(edited), mask.to(edited)
    return torch.where(mask > 0, original + mask * (edited - original), original)


def region_of(asked: protocol.Region | None) -> Region | None:
    """What was asked for, None where the whole scene may change. Raises BadInput."""
    return None if asked is None else Region(asked)
