# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures that a scene is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.capture import View
from engine.errors import BadInput
from engine.pictures import load_mask, read_picture


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

    @classmethod
    def read(
        cls, folder: Path, views: Sequence[View], device: str, others: Mapping[str, Path] | None = None
    ) -> PictureSet:
        """The captured pictures of ``views``, from the ``folder`` of pinhole pictures or, by the view's name, those at
        ``others``. Raises BadInput where one cannot be read or has another size than its camera."""
        paths = [(others or {}).get(view.name, folder / view.image) for view in views]
        images = [read_picture(path) for path in paths]
        for path, image, view in zip(paths, images, views, strict=True):
            if image.shape[:2] != (view.intrinsics.height, view.intrinsics.width):
                raise BadInput(f"{path} is not of its camera's size; open the capture again.", file=path)
        masks = [
            None if view.mask is None else load_mask(folder / view.mask, view.intrinsics.width, view.intrinsics.height)
            for view in views
        ]
        try:
            return cls(images, device, masks)
        except ValueError as error:
            raise BadInput(f"The pictures cannot be trained on: {error}.", field="views") from None

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
