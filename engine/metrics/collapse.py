# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an edit's frames still show a scene, or have collapsed to fog or one color: such frames agree perfectly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

FLAT = 0.02  # root mean square about a frame's mean color, 0–1, below which it is of one color
DETAIL = 0.1  # share of the unedited frame's fine detail below which a frame is fog; a night scene keeps a quarter
SOFT = 2.0  # pixels: σ; what is finer is detail


def has_collapsed(frames: Sequence[Tensor], unedited: Sequence[Tensor]) -> bool:
    """Whether most ``frames`` (H, W, 3), 0–1, show nothing: not a number, one color, or fog without the fine detail
    that the ``unedited`` frames from the same cameras have."""
    gone = [_shows_nothing(frame, before) for frame, before in zip(frames, unedited, strict=True)]
    return sum(gone) > len(gone) / 2


def _shows_nothing(frame: Tensor, before: Tensor) -> bool:
    if not torch.isfinite(frame).all():
        return True
    return float(_spread(frame)) < FLAT or float(_detail(frame)) < DETAIL * float(_detail(before))


def _spread(frame: Tensor) -> Tensor:
    return (frame - frame.mean(dim=(0, 1))).square().mean().sqrt()


def _detail(frame: Tensor) -> Tensor:
    """Root mean square of what is finer than SOFT."""
    picture = frame.permute(2, 0, 1)
    size = 2 * round(3 * SOFT) + 1
    size = min(size, *(side - 1 + side % 2 for side in picture.shape[1:]))
    return (picture - gaussian_blur(picture, [size, size], [SOFT, SOFT])).square().mean().sqrt()
