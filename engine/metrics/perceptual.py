# SPDX-License-Identifier: GPL-3.0-or-later
"""LPIPS: as a loss on patches, and as a measure on whole views."""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# File that torchvision's AlexNet weights have in torch's hub cache, and that lpips would fetch; its SHA-256's start.
ALEXNET_FILE, ALEXNET_HASH = "alexnet-owt-7be5be79.pth", "7be5be79"


class Perceptual(nn.Module):
    """A learned perceptual distance with a name: ``lpips-alex`` or ``st-lpips-alex``."""

    def __init__(self, network: nn.Module, name: str):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.name = name

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of pictures (N, H, W, 3), 0–1: (N,). Differentiable in both."""
        a, b = (x.permute(0, 3, 1, 2) * 2 - 1 for x in (a, b))
        return self.network(a, b).reshape(len(a))

    def of_seen(self, a: Tensor, b: Tensor, seen: Tensor) -> Tensor:
        """Distance of pictures (H, W, 3), 0–1, over the pixels that are ``seen`` (H, W) bool: the mean, over those, of
        the network's distances before they are averaged, where both pictures show ``b`` in what is not seen. NaN where
        nothing is."""
        filled = torch.where(seen[..., None], a, b)
        pair = (x.permute(2, 0, 1)[None] * 2 - 1 for x in (filled, b))
        everywhere = copy.copy(self.network)  # its weights are shared; only what it returns is other
        everywhere.spatial = True
        return everywhere(*pair)[0, 0][seen].mean()


def load_perceptual(device) -> Perceptual:
    """LPIPS where its backbone's weights lie in torch's cache, else ST-LPIPS, whose weights ship in its wheel; nothing
    is downloaded. Which one it was is in ``name``."""
    network, name = _lpips(), "lpips-alex"
    if network is None:
        network, name = _st_lpips(), "st-lpips-alex"
    return Perceptual(network, name).to(device)


def _lpips() -> nn.Module | None:
    try:
        with open(Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest().startswith(ALEXNET_HASH)
    except OSError:
        return None
    if not whole:  # a download of somebody's that was cut off
        return None
    import lpips

    try:
        return lpips.LPIPS(net="alex", verbose=False)
    except Exception as error:
        log.info("LPIPS's backbone cannot be had (%s); ST-LPIPS takes its place", error)
        return None


def _st_lpips() -> nn.Module:
    from stlpips_pytorch import stlpips

    return stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
