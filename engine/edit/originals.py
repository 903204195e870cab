# SPDX-License-Identifier: GPL-3.0-or-later
"""What is edited and conditioned on: the captured pictures or, of an edit that stands on another, that one's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from engine.edit.region import Region, outside_kept
from engine.scenes.base import Check, SceneTrainer
from engine.scenes.picture_set import PictureSet


@dataclass
class Originals:
    """The unedited pictures of the views that are edited, and the scene that was learnt from them."""

    pictures: Sequence[Tensor]  # (H, W, 3) uint8 each, on the CPU: a card has room for the training pictures alone
    load: Callable[[], SceneTrainer]  # the scene as it was before the edit's first step, on these views
    device: torch.device | str = "cpu"  # where they are asked for
    region: Region | None = None  # where alone they may change; None: everywhere
    _masks: dict[tuple[Region, int], Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, view: int) -> Tensor:
        """(H, W, 3) floats, 0–1, on the device; they never change."""
        return self.pictures[view].to(self.device).float() / 255

    def mask(self, view: int, check: Check = lambda: None) -> Tensor | None:
        """How much of each pixel of a view may change, (H, W, 1), 0–1, by the unedited scene's depth and the region;
        None where all of them may. ``check`` is called while that is rendered."""
        if self.region is None:
            return None
        region = self.region
        if (region, view) not in self._masks:
            camera = self.scene.camera(view)
            self._masks[region, view] = region.mask_of(self.scene.scene, camera, check)
        return self._masks[region, view].to(self.device)

    def outside_kept(self, view: int, edited: Tensor, check: Check = lambda: None) -> Tensor:
        """An edited picture (H, W, 3) of a view with what lies outside the region as it was, to the last bit."""
        mask = self.mask(view, check)
        return edited if mask is None else outside_kept(self[view], edited, mask)

    def confine(self, pictures: PictureSet, check: Check = lambda: None) -> None:
        """Tell the training pictures once, before they are first learned from, which of their pixels may change."""
        if self.region is not None and pictures.changing is None:
            masks = (self.mask(view, check) for view in range(len(self)))
            pictures.confine((mask[..., 0] > 0).cpu().numpy() for mask in masks if mask is not None)

    def give_regions(
        self, regions: Sequence[Region | None], pictures: PictureSet, check: Check = lambda: None
    ) -> Iterator[int]:
        """Keep to other regions than before, one after the other: what of the training pictures lies outside is as it
        was at once. Yields the views whose pictures this changed. To give the same regions again changes nothing."""
        for region in regions:
            self.region = region
            pictures.changing = pictures.confined = None  # looked for anew
            for view in range(len(self)):
                if (mask := self.mask(view, check)) is None:
                    continue
                now = pictures.image(view)
                kept = torch.where(mask.to(now.device) > 0, now, self.pictures[view].to(now.device))
                if not torch.equal(kept, now):
                    pictures.replace(view, kept)
                    yield view

    @cached_property
    def scene(self) -> SceneTrainer:
        """Read when first asked for, so that a resumed edit measures by the same scene as the unbroken one."""
        return self.load()
