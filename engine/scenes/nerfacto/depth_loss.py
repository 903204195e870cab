# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays whose depth is known."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 0.01  # of the distance: how well a known depth is known
FAINTEST = 1e-3  # share of a ray that ends where it is known to, below which more makes little difference: an outlier


def termination_loss(weights: Tensor, middles: Tensor, distances: Tensor, sure: Tensor) -> Tensor:
    """−log of how much of each ray ends where it is known to, weighed by how ``sure`` (R,) that is, mean over the rays:
    the depth supervision of DS-NeRF (Deng et al. 2022) with a normal distribution about the known ``distances`` (R,),
    widened by the samples' spacing. ``weights``, ``middles`` (R, S): of a ray's samples, and where they lie."""
    known = distances[:, None]
    spacing = torch.gradient(middles.detach(), dim=1)[0]
    width = (TOLERANCE * known).square() + (spacing / 2).square()
    near = torch.exp(-(middles.detach() - known).square() / (2 * width))
    ends = (weights * near).sum(dim=1)
    return -(sure * torch.log(ends + FAINTEST)).mean()
