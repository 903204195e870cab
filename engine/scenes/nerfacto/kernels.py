# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Warp's kernels compute on a device (docs/kernels.md). They do on an NVIDIA GPU where Warp is installed, finds
the GPU and gives what PyTorch gives; everywhere else PyTorch, or numba on a CPU, does the work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of what the encoding gives, beside PyTorch's


_off = False


def usable(device: torch.device) -> bool:
    """Whether the kernels compute on ``device``. Tries them there the first time, which compiles one of them."""
    return device.type == "cuda" and not _off and not why_not(device)


def are_off() -> bool:
    """Whether it is inside of `without`."""
    return _off


@contextmanager
def without() -> Iterator[None]:
    """Let PyTorch compute everywhere meanwhile, to compare the two."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@lru_cache
def why_not(device: torch.device) -> str:
    """Why the kernels do not compute on a GPU, as a sentence; empty where they do."""
    try:
        import warp

        from engine.scenes.nerfacto import warp_launch  # noqa: F401, begins it

        if not warp.device_from_torch(device).is_cuda:
            return f"Warp sees no GPU at {device}."
        try_encoding(device)
    except Exception as problem:  # of a package that is missing, a driver too old for it, a card it does not know
        log.info("PyTorch computes in the place of Warp's kernels: %s", problem)
        return f"Warp cannot be used: {str(problem).splitlines()[0] if str(problem) else type(problem).__name__}."
    return ""


def try_encoding(device: torch.device) -> None:
    """Encode points by Warp and by PyTorch. Raises ArithmeticError where they differ."""
    from engine.scenes.nerfacto.hash_torch import LeanEncode
    from engine.scenes.nerfacto.warp_hash import WarpEncode

    random = torch.Generator().manual_seed(0)
    points = torch.rand(512, 3, generator=random, device="cpu").to(device)
    table = (torch.rand(4 * 2**8, 2, generator=random, device="cpu") * 2 - 1).to(device)
    scalings = torch.tensor([16.0, 29.0, 64.0, 128.0], device=device)
    error = float((WarpEncode.apply(points, table, scalings) - LeanEncode.apply(points, table, scalings)).abs().max())
    if not error <= TOLERANCE:
        raise ArithmeticError(f"its values are wrong by {error:.2g}")
