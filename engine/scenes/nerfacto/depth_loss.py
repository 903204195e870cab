# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays whose depth is known."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 0.01  # of the distance: how well a known depth is known
FARTHEST = 8.0  # NeRF frame, where no camera is farther than 1 from the middle: from here on all is as far as a sky
FAINTEST = 1e-3  # share of a ray that ends where it is known to, below which more makes little difference: an outlier


def termination_loss(weights: Tensor, middles: Tensor, distances: Tensor, sure: Tensor) -> Tensor:
    """−log of how much of each ray ends where it is known to, weighed by how ``sure`` (R,) that is, mean over the rays:
    the depth supervision of DS-NeRF (Deng et al. 2022) with a normal distribution about the known ``distances`` (R,),
    widened by the samples' spacing. ``weights``, ``middles`` (R, S): of a ray's samples, and where they lie, NeRF
    frame. Of a ray whose distance is infinite, all that ends beyond `FARTHEST` is right."""
    endless = distances.isinf()
    known = torch.where(endless, FARTHEST, distances)[:, None]
    spacing = torch.gradient(middles.detach(), dim=1)[0]
    width = (TOLERANCE * known).square() + (spacing / 2).square()
    near = torch.exp(-(middles.detach() - known).square() / (2 * width))
    near = torch.where(endless[:, None], (middles.detach() > FARTHEST).to(near), near)
    ends = (weights * near).sum(dim=1)
    return -(sure * torch.log(ends + FAINTEST)).mean()
