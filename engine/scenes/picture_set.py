# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures that a scene is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class PictureSet:
    """The training pictures, one flat run of pixels on the device, so that a batch is one gather.

    Pixels are 8-bit, as the files are: what is trained on, what is saved and what a resumed run loads are the same.
    """

    def __init__(self, images: Sequence[np.ndarray], device, masks: Sequence[np.ndarray | None] | None = None):
        """``images``: N arrays (H, W, 3) uint8. ``masks``: for each, (H, W) bool, false where the picture shows nothing
        of the scene; None where all of it does. Raises ValueError where no pixel is left."""
        self._shapes = [image.shape[:2] for image in images]
        sizes = [height * width for height, width in self._shapes]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.starts = torch.from_numpy(self._starts[:-1]).to(device)
        self.heights = torch.tensor([height for height, _ in self._shapes], device=device)
        self.widths = torch.tensor([width for _, width in self._shapes], device=device)
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
        return len(self._shapes)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def image(self, view: int) -> Tensor:
        """(H, W, 3) uint8."""
        height, width = self._shapes[view]
        return self.pixels[self._starts[view] : self._starts[view + 1]].view(height, width, 3)

    def replace(self, view: int, image: Tensor) -> None:
        """Put ``image`` (H, W, 3) uint8 in the place of the view's training picture."""
        self.image(view).copy_(image)
