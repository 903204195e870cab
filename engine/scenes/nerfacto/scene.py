# SPDX-License-Identifier: GPL-3.0-or-later
"""A nerfacto that is looked at: whole views in the capture frame, rendered in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from engine.geometry import Camera, projection_of
from engine.scenes.base import Check, RenderedView
from engine.scenes.finer import see_all, stride_of
from engine.scenes.nerfacto.chunks import PROBE, bytes_a_ray, chunk_of
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.occupied import Occupied, can_march, march_rays
from engine.scenes.nerfacto.rays import bundle_of, pixel_rays

MARCHED = 16384  # rays at once by the compiled kernels, which need little memory: a fraction of a second's work

Seen = Callable[[slice | Tensor], Tensor]
"""What some of a camera's rays see: (R, 5 + S), color, median distance, opacity, and the distances by which S shares of
that are met."""


def pixel_angle(cameras: Iterable[Camera]) -> float:
    """How large the smallest pixel of some cameras is, in radians, where the optical axis meets it; infinite where rays
    are parallel, for then nobody knows."""
    cameras = list(cameras)
    if any(projection_of(camera) == "orthographic" for camera in cameras):
        return math.inf
    return math.atan(1 / max(max(camera.intrinsics.fx, camera.intrinsics.fy) for camera in cameras))


class NerfactoScene:
    """A nerfacto, the frame that it lives in, and how large (radians) the pixels are that it is learned from; 0 where
    nobody knows."""

    def __init__(self, nerf: Nerfacto, frame: NerfFrame, learned: float = 0.0):
        self.nerf = nerf
        self.frame = frame
        self.learned = learned
        self._ray_bytes = 0  # that a ray takes while it is rendered; 0: not measured yet
        self._kept: tuple[object, Occupied] | None = None  # the state of the weights, and what was made of it

    @torch.no_grad()
    def render(self, camera: Camera, check: Check = lambda: None, shares: Sequence[float] = ()) -> RenderedView:
        """What ``camera`` sees, and where ``shares`` of it lie, calling ``check`` between chunks (it may raise
        Cancelled)."""
        was_training = self.nerf.training
        self.nerf.eval()
        try:
            way = self._marched if can_march(self.nerf) else self._sampled
            (height, width), size, seen = way(camera, shares)

            def see(pixels: Tensor) -> Tensor:
                parts = []
                for some in pixels.split(size):
                    check()
                    parts.append(seen(some))
                return torch.cat(parts)

            stride = stride_of(pixel_angle([camera]), self.learned)
            found = see_all(height, width, stride, see)
        finally:
            self.nerf.train(was_training)
        rgb, depth, opacity, met = found.split((3, 1, 1, len(shares)), dim=-1)
        return RenderedView(
            rgb=rgb.reshape(height, width, 3).clamp(0, 1),
            depth=self.frame.capture_from_nerf_distance(depth.reshape(height, width)),
            opacity=opacity.reshape(height, width),
            background=self.nerf.background,
            met=self.frame.capture_from_nerf_distance(met.reshape(height, width, -1)) if shares else None,
        )

    def _marched(self, camera: Camera, shares: Sequence[float]) -> tuple[tuple[int, int], int, Seen]:
        """A picture's height and width, rays at once, and what they see by the compiled kernels."""
        origin, directions = pixel_rays(camera, self.frame)
        kept = self.occupied()

        def seen(part: slice) -> Tensor:
            some = directions[part]
            begin = origin if len(origin) == 1 else origin[part]
            return march_rays(self.nerf, kept, begin.expand_as(some), some, shares)

        return (camera.intrinsics.height, camera.intrinsics.width), MARCHED, seen

    def _sampled(self, camera: Camera, shares: Sequence[float]) -> tuple[tuple[int, int], int, Seen]:
        """The same by PyTorch's operations, on any device."""
        device = next(self.nerf.parameters()).device
        rays = bundle_of(camera, self.frame, device)
        if not self._ray_bytes:
            some = rays[:PROBE]
            self._ray_bytes = bytes_a_ray(lambda: self.nerf(some), len(some))

        def seen(part: slice) -> Tensor:
            out = self.nerf(rays[part])
            met = [out.met(shares)] if shares else []
            return torch.cat([out.rgb, out.depth, out.opacity, *met], dim=-1)

        return (camera.intrinsics.height, camera.intrinsics.width), chunk_of(self._ray_bytes, device), seen

    def occupied(self) -> Occupied:
        """What is kept beside the NeRF to render it, made again once its weights have changed: a function of them
        alone, so that a resumed edit goes on as an unbroken one."""
        # PyTorch counts changes of a tensor in place, but for those by a fused optimiser; with these, age changes.
        units = [field.average_init_density for field in (self.nerf.field, *self.nerf.proposal_networks)]
        state = self.nerf.age, units, [(p.data_ptr(), p._version) for p in self.nerf.parameters()]
        if self._kept is None or self._kept[0] != state:
            self._kept = state, Occupied.of(self.nerf)
        return self._kept[1]
