# SPDX-License-Identifier: GPL-3.0-or-later
"""How close a picture is to another, pixel by pixel and window by window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def psnr(picture: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> Tensor:
    """Peak signal-to-noise ratio, dB, of pictures (H, W, 3), 0–1. Infinite where they are the same."""
    a, b = _pair(picture, truth)
    return -10 * (a - b).square().mean().log10()


def ssim(picture: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window of 11, σ 1.5) of pictures (H, W, 3), 0–1.

    The mean is over the windows that lie inside the picture, so both sides must be longer than ten pixels.
    """
    a, b = (x.permute(2, 0, 1)[None] for x in _pair(picture, truth))
    if min(a.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11 pixels a side, not {tuple(a.shape[-2:])}")
    _, windows = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    return windows[..., 5:-5, 5:-5].mean()  # torchmetrics' own mean counts windows over its padding


def _pair(picture: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    a, b = torch.as_tensor(picture).float(), torch.as_tensor(truth).float()
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"pictures of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
    return a, b
