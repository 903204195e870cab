# SPDX-License-Identifier: GPL-3.0-or-later
"""Which views see the same surfaces, by the depth of the unedited scene: in which order they are edited so that each
finds most of it known already, and what is carried over from one to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.editors.base import Carried
from engine.geometry import Camera, seen_from, unproject, warp
from engine.scenes.base import Check, SceneTrainer

SOURCES = 4  # views, at most, that something is carried over from: each is smoothed by being read between its pixels
COARSE = 24  # points along a picture's longer side by which it is said how much of it another view sees
SOLID = 0.5  # opacity below which a pixel shows no surface


@dataclass(frozen=True)
class Overlap:
    """What the views of a scene see of each other's surfaces."""

    cameras: Sequence[Camera]
    depths: Sequence[Tensor]  # (H, W) each, on the CPU: a card has room for the training pictures alone; 0: no surface
    shares: Tensor  # (V, V): how much of what the row's view shows, 0–1, the column's sees
    device: torch.device | str

    def order(self, first: Sequence[int]) -> list[int]:
        """The other views, each the one of which those before it, ``first`` the first, see most."""
        known = list(first)
        best = self.shares[:, known].amax(dim=1) if known else torch.zeros(len(self.cameras))
        order = []
        while len(known) < len(self.cameras):
            left = best.clone()
            left[known] = -1
            following = int(left.argmax())
            order.append(following)
            known.append(following)
            best = torch.maximum(best, self.shares[:, following])
        return order

    def central(self) -> int:
        """The view that sees most of what all views show."""
        return int(self.shares.mean(dim=0).argmax())

    def nearest(self, view: int, others: Sequence[int]) -> list[int]:
        """``others``, first those that see most of what the view shows."""
        return sorted((other for other in others if other != view), key=lambda other: -float(self.shares[view, other]))

    def carried(
        self, view: int, pictures: Mapping[int, Tensor], first: Sequence[int] = (), blended: bool = False
    ) -> Carried:
        """What the ``pictures`` (H, W, 3), 0–1, of other views say of a view: each pixel's surface in the first of them
        that sees it, those of ``first`` before the others; ``blended``: where none of ``first`` does, the mean of the
        others."""
        depth = self.depths[view].to(self.device)
        ordered = [*self.nearest(view, [v for v in pictures if v in first])]
        ordered += self.nearest(view, [v for v in pictures if v not in first])
        known = torch.zeros(depth.shape, dtype=torch.bool, device=depth.device)
        rgb = torch.zeros(*depth.shape, 3, device=depth.device)
        said = torch.zeros(depth.shape, device=depth.device)  # by how many views, of those that are averaged
        for other in [other for other in ordered if self.shares[view, other] > 0][:SOURCES]:
            warped = warp(
                depth,
                self.cameras[view],
                pictures[other].to(depth),
                self.depths[other].to(self.device),
                self.cameras[other],
            )
            new = warped.known & (depth > 0) & ((~known | (said > 0)) if blended and other not in first else ~known)
            rgb[new] = (rgb[new] * said[new, None] + warped.rgb[new]) / (said[new, None] + 1)
            said[new] += 0 if other in first else 1
            known |= new
        return Carried(rgb, known)


@torch.no_grad()
def overlap_of(unedited: SceneTrainer, views: int, device: torch.device | str, check: Check = lambda: None) -> Overlap:
    """The overlap of the first ``views`` views of an unedited scene. ``check`` is called between views and may raise
    Cancelled."""
    cameras = [unedited.camera(view) for view in range(views)]
    depths = []
    for camera in cameras:
        render = unedited.scene.render(camera, check)
        depths.append(torch.where(render.opacity > SOLID, render.depth, 0).cpu())
    points, counts = [], []
    for camera, depth in zip(cameras, depths, strict=True):
        stride = max(1, max(depth.shape) // COARSE)
        there = depth[stride // 2 :: stride, stride // 2 :: stride]
        points.append(unproject(depth, camera)[stride // 2 :: stride, stride // 2 :: stride][there > 0])
        counts.append(len(points[-1]))
    every = torch.cat(points).to(device)
    columns = []
    for camera, depth in zip(cameras, depths, strict=True):
        check()
        _, known = seen_from(every, camera, depth.to(device))
        columns.append(
            torch.stack([part.float().mean() if len(part) else torch.zeros(()) for part in known.cpu().split(counts)])
        )
    return Overlap(cameras, depths, torch.stack(columns, dim=1), device)
