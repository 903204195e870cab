# SPDX-License-Identifier: GPL-3.0-or-later
"""What is edited and conditioned on: the captured pictures or, of an edit that stands on another, that one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from engine.scenes.base import SceneTrainer


@dataclass
class Originals:
    """The unedited pictures of the views that are edited, and the scene that was learnt from them."""

    pictures: Sequence[Tensor]  # (H, W, 3) uint8 each, on the CPU: a card has room for the training pictures alone
    load: Callable[[], SceneTrainer]  # the scene as it was before the edit's first step, on these views
    device: torch.device | str = "cpu"  # where they are asked for

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, view: int) -> Tensor:
        """(H, W, 3) floats, 0–1, on the device; they never change."""
        return self.pictures[view].to(self.device).float() / 255

    @cached_property
    def scene(self) -> SceneTrainer:
        """Read when first asked for, so that a resumed edit measures by the same scene as the unbroken one."""
        return self.load()
