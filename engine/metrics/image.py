# SPDX-License-Identifier: GPL-3.0-or-later
"""How close a picture is to another, pixel by pixel and window by window."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def psnr(picture: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, dB, of pictures (H, W, 3), 0–1. Infinite where they are the same."""
    return -10 * (picture.float() - truth.float()).square().mean().log10()


def ssim(picture: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window of 11, σ 1.5) of pictures (H, W, 3), 0–1."""
    a, b = (x.float().permute(2, 0, 1)[None] for x in (picture, truth))
    return structural_similarity_index_measure(a, b, data_range=1.0)
