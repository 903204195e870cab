# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the background: where the instruction matters little, the original stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import Carried, Check, ViewEdit

EDGE = 0.1  # of relevance, on both sides of the threshold: there the original is blended in


def may_change(relevance: Tensor, threshold: float) -> Tensor:
    """How much may change where an instruction matters so much, 0–1: nothing below the threshold, all above."""
    return ((relevance - threshold + EDGE) / (2 * EDGE)).clamp(0, 1)


@dataclass(frozen=True)
class KeptView:
    """Edits of a view (a ViewEdit) that leave alone what the instruction is not about."""

    view: ViewEdit
    original: Tensor  # (H, W, 3), 0–1, on any device: the CPU keeps a card free of it
    relevance: Tensor  # (1, 1, h, w), 0–1
    threshold: float  # of the relevance

    def mask(self, height: int, width: int) -> Tensor:
        """How much may change, 0–1, of a picture: (height, width, 1)."""
        allowed = may_change(self.relevance, self.threshold)
        return F.interpolate(allowed, (height, width), mode="bilinear")[0].permute(1, 2, 0)

    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        """As the view's edit; then what has to stay of the original is put back."""
        edited = self.view.edit(picture, t, generator, check, carried)
        original = self.original.to(edited)
        return original + self.mask(*picture.shape[:2]).to(edited) * (edited - original)

    def gradient(self, picture: Tensor, t: float, generator: torch.Generator) -> Tensor:
        """As the view's gradient, none where the original has to stay."""
        gradient = self.view.gradient(picture, t, generator)
        return gradient * self.mask(*picture.shape[:2]).to(gradient)
