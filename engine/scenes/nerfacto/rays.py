# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in the NeRF frame, and batches of rays with the colours they should have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from engine.capture import Intrinsics
from engine.scenes.nerfacto.frame import NerfFrame

LEAST_EMPTY = 0.01  # of all pixels, or what is transparent is an edge, not the space around a scene


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
    alpha: Tensor | None = None  # (R,) 0–1, how much of the pixel is not empty space; None: all of it

    def over(self, own: Tensor, other: Tensor) -> Tensor:
        """The colours (R, 3) over the background ``other`` (R, 3) in the place of their ``own`` (3,)."""
        if self.alpha is None:
            return self.colours
        alpha = self.alpha[:, None]
        # An edited picture may have changed what is behind the object: of that, nothing is kept.
        premultiplied = torch.minimum((self.colours - (1 - alpha) * own).clamp(min=0), alpha)
        return premultiplied + (1 - alpha) * other


class ImageSet:
    """The training images, one flat run of pixels on the device, so that a batch is one gather.

    Pixels are 8-bit, as the files are: what is trained on, what is saved and what a resumed run loads are the same.
    """

    def __init__(
        self,
        cameras: Cameras,
        images: Iterable[np.ndarray],
        device,
        masks: Sequence[np.ndarray | None] | None = None,
        alphas: Sequence[np.ndarray | None] | None = None,
    ):
        """``images``: N arrays (H, W, 3) uint8, of the cameras' sizes, asked for one by one. ``masks``: for each,
        (H, W) bool, false where nothing is known; None where all of it is. ``alphas``: for each, (H, W) uint8, how much
        of a pixel is not empty space; None where all is full. Raises ValueError where no pixel is left."""
        self.cameras = cameras
        self.widths = cameras.width.flatten()
        self.heights = cameras.height.flatten()
        sizes = (self.widths * self.heights).cpu().numpy()
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.starts = torch.from_numpy(self._starts[:-1]).to(device)
        self.pixels = self._together(images, np.zeros((1, 3), np.uint8)).to(device)

        self.seen: Tensor | None = None  # (pixels,) bool, false where a mask hides one; None: all are seen
        self.alpha: Tensor | None = None  # (pixels,) uint8; None: there is no empty space
        self.drawn: Tensor | None = None  # which pixels single ones are drawn from; None: all
        self.object: Tensor | None = None  # and half of them where there is empty space: those that are not empty
        seen = None if masks is None else self._together(masks, np.ones(1, bool))
        if seen is not None and not seen.all():
            self.seen, self.drawn = seen.to(device), _places(seen).to(device)
            if not len(self.drawn):
                raise ValueError("the masks leave no pixel to train on")
        alpha = None if alphas is None else self._together(alphas, np.full(1, 255, np.uint8))
        if alpha is not None and (alpha == 0).float().mean() >= LEAST_EMPTY:
            full = (alpha > 0) if seen is None else (alpha > 0) & seen
            if not full.any():
                raise ValueError("they are transparent everywhere")
            self.alpha, self.object = alpha.to(device), _places(full).to(device)

    def _together(self, parts: Iterable[np.ndarray | None], blank: np.ndarray) -> Tensor:
        """The views' pictures or masks in one run, on the CPU; ``blank`` (1, …) everywhere in the place of None."""
        whole = np.empty((self._starts[-1], *blank.shape[1:]), blank.dtype)
        for view, part in zip(range(len(self)), parts, strict=True):
            whole[self._starts[view] : self._starts[view + 1]] = (
                blank if part is None else part.reshape(-1, *blank.shape[1:])
            )
        return torch.from_numpy(whole)

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
        """``count`` rays, uniform over the pixels of all views that no mask hides; where there is empty space, half of
        them over what is not empty."""
        of_object = 0 if self.object is None else count // 2
        choices = len(self.pixels if self.drawn is None else self.drawn)
        flat = torch.randint(choices, (count - of_object,), generator=generator).to(self.device)
        if self.drawn is not None:
            flat = self.drawn[flat].long()
        if self.object is not None:
            place = torch.randint(len(self.object), (of_object,), generator=generator).to(self.device)
            flat = torch.cat([flat, self.object[place].long()])
        view = torch.bucketize(flat, self.starts, right=True) - 1
        inside = flat - self.starts[view]
        width = self.widths[view]
        y = torch.div(inside, width, rounding_mode="floor")
        return RayBatch(self._rays(view, y, inside - y * width), self._colours(flat), alpha=self._alpha(flat))

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
        return RayBatch(self._rays(view, y, x), self._colours(flat), edge, seen, self._alpha(flat))

    def _colours(self, flat: Tensor) -> Tensor:
        return self.pixels[flat].float() / 255

    def _alpha(self, flat: Tensor) -> Tensor | None:
        return None if self.alpha is None else self.alpha[flat].float() / 255

    def _rays(self, view: Tensor, y: Tensor, x: Tensor) -> RayBundle:
        coords = torch.stack([y, x], dim=-1) + 0.5  # pixel centres at half-integers
        return self.cameras.generate_rays(camera_indices=view[:, None], coords=coords)


def _places(where: Tensor) -> Tensor:
    """Which elements of a flat mask are true, in as few bytes as they fit."""
    places = where.nonzero()[:, 0]
    return places.int() if len(where) < 2**31 else places
