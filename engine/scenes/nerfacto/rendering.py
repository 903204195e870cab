# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole views rendered from a NeRF, in chunks, cancellable between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto

# Rays rendered at once: what fits the caches of a CPU, and keeps a GPU busy within a few hundred megabytes.
CHUNK = {"cpu": 2048, "cuda": 16384}


@dataclass
class RenderedView:
    """A view as the NeRF sees it."""

    rgb: Tensor  # (H, W, 3), 0–1, display-referred
    depth: Tensor  # (H, W) median distance along the normalised ray, capture frame
    opacity: Tensor  # (H, W), 0–1


@torch.no_grad()
def render_view(
    nerf: Nerfacto, cameras: Cameras, view: int, frame: NerfFrame, check: Callable[[], None] = lambda: None
) -> RenderedView:
    """Render camera ``view`` of ``cameras`` (NeRF frame), calling ``check`` between chunks (it may raise Cancelled)."""
    was_training = nerf.training
    nerf.eval()
    try:
        rays = cameras.generate_rays(camera_indices=view, keep_shape=True)
        height, width = rays.shape
        rays = rays.flatten()
        size = CHUNK[rays.origins.device.type]
        parts = []
        for start in range(0, height * width, size):
            check()
            out = nerf(rays[start : start + size])
            parts.append((out.rgb, out.depth, out.opacity))
        rgb, depth, opacity = (torch.cat(part) for part in zip(*parts, strict=True))
    finally:
        nerf.train(was_training)
    return RenderedView(
        rgb=rgb.view(height, width, 3).clamp(0, 1),
        depth=frame.capture_from_nerf_distance(depth.view(height, width)),
        opacity=opacity.view(height, width),
    )


@torch.no_grad()
def corrected_cameras(nerf: Nerfacto, cameras: Cameras) -> Cameras:
    """The training cameras as the camera optimiser has moved them: where the training images were really taken from.

    ``cameras`` are those that the NeRF was trained with, in that order.
    """
    optimiser = nerf.camera_optimizer
    if optimiser.config.mode == "off":
        return cameras
    correction = optimiser(torch.arange(len(cameras), device=cameras.device))
    moved = cameras.camera_to_worlds.clone()
    moved[:, :, :3] = correction[:, :, :3] @ moved[:, :, :3]
    moved[:, :, 3] += correction[:, :, 3]
    return Cameras(
        camera_to_worlds=moved,
        fx=cameras.fx,
        fy=cameras.fy,
        cx=cameras.cx,
        cy=cameras.cy,
        width=cameras.width,
        height=cameras.height,
    )
