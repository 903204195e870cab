# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the background: where the instruction matters little, the original stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import KEEP_BACKGROUND, Check, Prepared, ViewEdit
from engine.errors import BadInput

EDGE = 0.1  # of relevance, on both sides of the threshold: there the original is blended in


def may_change(relevance: Tensor, threshold: float) -> Tensor:
    """How much may change where an instruction matters so much, 0–1: nothing below the threshold, all above."""
    return ((relevance - threshold + EDGE) / (2 * EDGE)).clamp(0, 1)


def relevance_of(view: ViewEdit) -> Tensor:
    """Where the instruction matters to the view, (1, 1, h, w), 0–1. Raises BadInput where the editor cannot say."""
    if view.relevance is None:
        raise BadInput("This editor cannot keep the background; switch that off.", field=KEEP_BACKGROUND.name)
    return view.relevance


@dataclass(frozen=True)
class Background:
    """What has to stay of a view's original: where the instruction matters less than a threshold."""

    relevance: Tensor  # (1, 1, h, w), 0–1
    threshold: float

    def mask(self, height: int, width: int) -> Tensor:
        """How much may change, 0–1, of a picture: (height, width, 1)."""
        allowed = may_change(self.relevance, self.threshold)
        return F.interpolate(allowed, (height, width), mode="bilinear")[0].permute(1, 2, 0)

    def put_back(self, edited: Tensor, original: Tensor) -> Tensor:
        """``edited`` (H, W, 3), with the ``original`` where it has to stay."""
        original = original.to(edited)
        return original + self.mask(*edited.shape[:2]).to(edited) * (edited - original)

    def leave_out(self, gradient: Tensor) -> Tensor:
        """``gradient`` (H, W, 3) of a picture, none where the original has to stay."""
        return gradient * self.mask(*gradient.shape[:2]).to(gradient)


def background_of(view: ViewEdit, threshold: float) -> Background | None:
    """What has to stay of a view by its own relevance; None where the threshold is 0: nothing has to. Raises BadInput
    where the editor cannot say what the instruction is about."""
    return Background(relevance_of(view), threshold) if threshold else None


def edit_alone(
    prepared: Prepared,
    original: Tensor,
    picture: Tensor,
    t: float,
    keep: float,
    generator: torch.Generator,
    check: Check = lambda: None,
) -> Tensor:
    """An edit of ``picture`` (H, W, 3), 0–1, conditioned on ``original``, outside of any run; the background is kept at
    the threshold ``keep``, where it is not 0."""
    view = prepared.view(original)
    background = background_of(view, keep)
    edited = view.edit(picture, t, generator, check)
    return edited if background is None else background.put_back(edited, original)
