# SPDX-License-Identifier: GPL-3.0-or-later
"""Warp's kernels on PyTorch's tensors, in PyTorch's own stream."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_WARNING  # what it finds and compiles is not for whoever reads the log
wp.init()


def array(tensor: Tensor, kind: Any = None) -> Any:
    """Warp's view of a tensor's memory, which is to be contiguous."""
    return wp.from_torch(tensor.detach(), dtype=kind, requires_grad=False)


def launch(kernel: Any, size: int | tuple[int, ...], given: tuple, made: tuple, device: torch.device) -> None:
    """Run ``kernel`` with so many threads: it reads what is ``given`` and writes what is ``made``."""
    wp.launch(kernel, dim=size, inputs=[*given], outputs=[*made], device=_device(device), stream=_stream(device))


@lru_cache
def _device(device: torch.device) -> Any:
    return wp.device_from_torch(device)


def _stream(device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    return _wrapped(device, torch.cuda.current_stream(device).cuda_stream)


@lru_cache
def _wrapped(device: torch.device, handle: int) -> Any:
    return wp.stream_from_torch(torch.cuda.current_stream(device))
