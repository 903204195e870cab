# SPDX-License-Identifier: GPL-3.0-or-later
"""A nerfacto that is looked at: whole views in the capture frame, rendered in chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.geometry import Camera
from engine.scenes.base import Check, RenderedView
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.occupied import Occupied, can_march, march_rays
from engine.scenes.nerfacto.rays import cameras_from, pixel_rays

# Rays rendered at once, between two looks at whether it is still wanted: less than a second's work, anywhere.
CHUNK = {"cpu": 16384, "cuda": 16384}


class NerfactoScene:
    """A nerfacto and the frame that it lives in."""

    def __init__(self, nerf: Nerfacto, frame: NerfFrame):
        self.nerf = nerf
        self.frame = frame
        self._kept: tuple[object, Occupied] | None = None  # the state of the weights, and what was made of it

    @torch.no_grad()
    def render(self, camera: Camera, check: Check = lambda: None) -> RenderedView:
        """What ``camera`` sees, calling ``check`` between chunks (it may raise Cancelled)."""
        height, width = camera.intrinsics.height, camera.intrinsics.width
        device = next(self.nerf.parameters()).device
        was_training = self.nerf.training
        self.nerf.eval()
        try:
            seen = self._marched(camera) if can_march(self.nerf) else self._sampled(camera, device)
            parts = []
            for start in range(0, height * width, CHUNK[device.type]):
                check()
                parts.append(seen(slice(start, start + CHUNK[device.type])))
        finally:
            self.nerf.train(was_training)
        rgb, depth, opacity = torch.cat(parts).split((3, 1, 1), dim=-1)
        return RenderedView(
            rgb=rgb.view(height, width, 3).clamp(0, 1),
            depth=self.frame.capture_from_nerf_distance(depth.view(height, width)),
            opacity=opacity.view(height, width),
        )

    def _marched(self, camera: Camera) -> Callable[[slice], Tensor]:
        """What some of the camera's rays see, (R, 5): color, distance, opacity; by the compiled kernels."""
        origin, directions = pixel_rays(camera, self.frame)
        return lambda part: march_rays(self.nerf, self.occupied(), origin.expand_as(directions[part]), directions[part])

    def _sampled(self, camera: Camera, device: torch.device) -> Callable[[slice], Tensor]:
        """The same by PyTorch's operations, on any device."""
        rays = cameras_from([camera], self.frame, device).generate_rays(camera_indices=0, keep_shape=True).flatten()

        def seen(part: slice) -> Tensor:
            out = self.nerf(rays[part])
            return torch.cat([out.rgb, out.depth, out.opacity], dim=-1)

        return seen

    def occupied(self) -> Occupied:
        """What is kept beside the NeRF to render it, made again once its weights have changed: a function of them
        alone, so that a resumed edit goes on as an unbroken one."""
        # PyTorch counts changes of a tensor in place, but for those by a fused optimiser; with these, age changes.
        units = [field.average_init_density for field in (self.nerf.field, *self.nerf.proposal_networks)]
        state = self.nerf.age, units, [(p.data_ptr(), p._version) for p in self.nerf.parameters()]
        if self._kept is None or self._kept[0] != state:
            self._kept = state, Occupied.of(self.nerf)
        return self._kept[1]
