# SPDX-License-Identifier: GPL-3.0-or-later
"""A nerfacto that is looked at: whole views in the capture frame, rendered in chunks."""

from __future__ import annotations

import torch

from engine.geometry import Camera
from engine.scenes.base import Check, RenderedView
from engine.scenes.nerfacto.chunks import PROBE, bytes_a_ray, chunk_of
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import cameras_from


class NerfactoScene:
    """A nerfacto and the frame that it lives in."""

    def __init__(self, nerf: Nerfacto, frame: NerfFrame):
        self.nerf = nerf
        self.frame = frame
        self._ray_bytes = 0  # that a ray takes while it is rendered; 0: not measured yet

    @torch.no_grad()
    def render(self, camera: Camera, check: Check = lambda: None) -> RenderedView:
        """What ``camera`` sees, calling ``check`` between chunks (it may raise Cancelled)."""
        was_training = self.nerf.training
        self.nerf.eval()
        try:
            device = next(self.nerf.parameters()).device
            rays = cameras_from([camera], self.frame, device).generate_rays(camera_indices=0, keep_shape=True)
            height, width = rays.shape
            rays = rays.flatten()
            if not self._ray_bytes:
                some = rays[:PROBE]
                self._ray_bytes = bytes_a_ray(lambda: self.nerf(some), len(some))
            size = chunk_of(self._ray_bytes, device)
            parts = []
            for start in range(0, height * width, size):
                check()
                out = self.nerf(rays[start : start + size])
                parts.append((out.rgb, out.depth, out.opacity))
            rgb, depth, opacity = (torch.cat(part) for part in zip(*parts, strict=True))
        finally:
            self.nerf.train(was_training)
        return RenderedView(
            rgb=rgb.view(height, width, 3).clamp(0, 1),
            depth=self.frame.capture_from_nerf_distance(depth.view(height, width)),
            opacity=opacity.view(height, width),
        )
