# SPDX-License-Identifier: GPL-3.0-or-later
"""What is edited and conditioned on: the captured pictures or, of an edit that stands on another, that one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from engine.scenes.base import SceneTrainer


@dataclass
class Originals:
    """The unedited pictures of the views that are edited, and the scene that was learnt from them."""

    pictures: Sequence[Tensor]  # (H, W, 3) uint8 each; they never change
    load: Callable[[], SceneTrainer]  # the scene as it was before the edit's first step, on these views

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, view: int) -> Tensor:
        """(H, W, 3) floats, 0–1."""
        return self.pictures[view].float() / 255

    @cached_property
    def scene(self) -> SceneTrainer:
        """Read when first asked for, so that a resumed edit measures by the same scene as the unbroken one."""
        return self.load()
