# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in the NeRF frame, and batches of rays with the colours they should have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from engine.capture import Intrinsics
from engine.scenes.nerfacto.frame import NerfFrame


def cameras_from(poses: np.ndarray, intrinsics: Sequence[Intrinsics], frame: NerfFrame, device) -> Cameras:
    """nerfstudio's cameras, in the NeRF frame, of N poses (N, 4, 4) in the capture frame."""
    moved = torch.from_numpy(frame.nerf_from_capture(poses)[:, :3]).float()

    def column(name: str, dtype=torch.float32) -> Tensor:
        return torch.tensor([[getattr(i, name)] for i in intrinsics], dtype=dtype)

    return Cameras(
        camera_to_worlds=moved,
        fx=column("fx"),
        fy=column("fy"),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width", torch.int64),
        height=column("height", torch.int64),
    ).to(device)


@dataclass
class RayBatch:
    """R rays and their colours. Where they come in patches, patch by patch and row by row."""

    rays: RayBundle
    colours: Tensor  # (R, 3), 0–1
    patch: int = 1  # edge of a patch in pixels; 1: single pixels
    seen: Tensor | None = None  # (R,) bool, false where a mask hides the pixel and its colour says nothing; None: all


class ImageSet:
    """The training images, one flat run of pixels on the device, so that a batch is one gather.

    Pixels are 8-bit, as the files are: what is trained on, what is saved and what a resumed run loads are the same.
    """

    def __init__(
        self, cameras: Cameras, images: Sequence[np.ndarray], device, masks: Sequence[np.ndarray | None] | None = None
    ):
        """``images``: N arrays (H, W, 3) uint8, of the cameras' sizes. ``masks``: for each, (H, W) bool, false where
        the picture shows nothing of the scene; None where all of it does. Raises ValueError where no pixel is left."""
        self.cameras = cameras
        self.widths = cameras.width.flatten()
        self.heights = cameras.height.flatten()
        sizes = [image.shape[0] * image.shape[1] for image in images]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.starts = torch.from_numpy(self._starts[:-1]).to(device)
        self.pixels = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in images])).to(device)

        self.seen: Tensor | None = None  # (pixels,) bool, false where a mask hides one; None: all are seen
        self.drawn: Tensor | None = None  # the seen ones, which single pixels are drawn from
        if masks is not None and any(mask is not None for mask in masks):
            kept = [
                np.ones(size, bool) if mask is None else mask.reshape(-1)
                for mask, size in zip(masks, sizes, strict=True)
            ]
            self.seen = torch.from_numpy(np.concatenate(kept)).to(device)
            self.drawn = self.seen.nonzero()[:, 0]
            if not len(self.drawn):
                raise ValueError("the masks leave no pixel to train on")

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def image(self, view: int) -> Tensor:
        """(H, W, 3) uint8."""
        height, width = int(self.heights[view]), int(self.widths[view])
        return self.pixels[self._starts[view] : self._starts[view + 1]].view(height, width, 3)

    def replace(self, view: int, image: Tensor) -> None:
        """Put ``image`` (H, W, 3) uint8 in the place of the view's training image."""
        self.image(view).copy_(image)

    def sample_pixels(self, count: int, generator: torch.Generator) -> RayBatch:
        """``count`` rays, uniform over the pixels of all views that no mask hides."""
        choices = len(self.pixels if self.drawn is None else self.drawn)
        flat = torch.randint(choices, (count,), generator=generator).to(self.device)
        if self.drawn is not None:
            flat = self.drawn[flat]
        view = torch.bucketize(flat, self.starts, right=True) - 1
        inside = flat - self.starts[view]
        width = self.widths[view]
        y = torch.div(inside, width, rounding_mode="floor")
        return RayBatch(self._rays(view, y, inside - y * width), self._colours(flat))

    def sample_patches(self, count: int, edge: int, generator: torch.Generator) -> RayBatch:
        """``count`` square patches of ``edge`` pixels (less where a view is smaller): views uniform, places uniform;
        masked pixels are among them, and said."""
        edge = min(edge, int(self.widths.min()), int(self.heights.min()))
        view = torch.randint(len(self), (count,), generator=generator).to(self.device)
        place = torch.rand(2, count, generator=generator).to(self.device)
        top = (place[0] * (self.heights[view] - edge + 1)).long()
        left = (place[1] * (self.widths[view] - edge + 1)).long()
        step = torch.arange(edge, device=self.device)
        y = (top[:, None, None] + step[None, :, None]).expand(-1, -1, edge).flatten()
        x = (left[:, None, None] + step[None, None, :]).expand(-1, edge, -1).flatten()
        view = view.repeat_interleave(edge * edge)
        flat = self.starts[view] + y * self.widths[view] + x
        seen = None if self.seen is None else self.seen[flat]
        return RayBatch(self._rays(view, y, x), self._colours(flat), edge, seen)

    def _colours(self, flat: Tensor) -> Tensor:
        return self.pixels[flat].float() / 255

    def _rays(self, view: Tensor, y: Tensor, x: Tensor) -> RayBundle:
        coords = torch.stack([y, x], dim=-1) + 0.5  # pixel centres at half-integers
        return self.cameras.generate_rays(camera_indices=view[:, None], coords=coords)
