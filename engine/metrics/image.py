# SPDX-License-Identifier: GPL-3.0-or-later
"""How close a picture is to another, pixel by pixel and window by window."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

WINDOW, SIGMA = 11, 1.5  # of SSIM


def psnr(picture: Tensor | np.ndarray, truth: Tensor | np.ndarray, seen: Tensor | np.ndarray | None = None) -> Tensor:
    """Peak signal-to-noise ratio, dB, of pictures (H, W, 3), 0–1, over the pixels that are ``seen`` (H, W) bool; None:
    over all. Infinite where they are the same there; NaN where none is seen."""
    a, b = _pair(picture, truth)
    error = (a - b).square()
    return -10 * (error if seen is None else error[_seen(seen, a)]).mean().log10()


def ssim(picture: Tensor | np.ndarray, truth: Tensor | np.ndarray, seen: Tensor | np.ndarray | None = None) -> Tensor:
    """Structural similarity (Wang et al. 2004; Gaussian window of 11, σ 1.5) of pictures (H, W, 3), 0–1.

    The mean is over the windows that lie inside the picture, so both sides must be longer than ten pixels. Where only
    some pixels are ``seen`` (H, W) bool, a window's means and variances are those of the pixels in it that are, by
    their weights, and only windows about a seen pixel count; NaN where there is none.
    """
    a, b = (x.permute(2, 0, 1)[None] for x in _pair(picture, truth))
    if min(a.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11 pixels a side, not {tuple(a.shape[-2:])}")
    if seen is not None:
        known = _seen(seen, a[0, 0, ..., None])[None, None]
        inner = known[..., 5:-5, 5:-5].expand(1, 3, -1, -1)
        return _ssim_of_seen(a, b, known.float())[inner].mean()
    _, windows = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    return windows[..., 5:-5, 5:-5].mean()  # torchmetrics' own mean counts windows over its padding


def _ssim_of_seen(a: Tensor, b: Tensor, known: Tensor) -> Tensor:
    """SSIM (1, 3, H − 10, W − 10) of pictures (1, 3, H, W) in windows of their ``known`` (1, 1, H, W) pixels alone."""
    place = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    line = torch.exp(-place.square() / (2 * SIGMA**2))
    line = line / line.sum()

    def weighed(x: Tensor) -> Tensor:
        channels = x.shape[1]
        down = F.conv2d(x, line.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
        return F.conv2d(down, line.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)

    weight = weighed(known).clamp_min(1e-12)
    mean_a, mean_b, aa, bb, ab = (weighed(x * known) / weight for x in (a, b, a * a, b * b, a * b))
    c1, c2 = 0.01**2, 0.03**2
    variances = (aa - mean_a**2).clamp_min(0) + (bb - mean_b**2).clamp_min(0)
    covariance = ab - mean_a * mean_b
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))


def _seen(seen: Tensor | np.ndarray, like: Tensor) -> Tensor:
    mask = torch.as_tensor(seen, device=like.device)
    if mask.dtype != torch.bool or mask.shape != like.shape[:2]:
        raise ValueError(f"a mask of {tuple(mask.shape)} is not of a picture of {tuple(like.shape)}")
    return mask


def _pair(picture: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    a, b = torch.as_tensor(picture).float(), torch.as_tensor(truth).float()
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"pictures of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
    return a, b
