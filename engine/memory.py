# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a device has left. Imports no torch: without it, no GPU is in use."""

from __future__ import annotations

import gc
import sys

import psutil


def free_and_total(device: str = "cpu") -> tuple[int, int]:
    """Bytes that this process can still take of a device (``"cpu"``, ``"cuda:0"``, ``"mps"``), and its bytes in all.
    What PyTorch keeps of a GPU without using it counts as free."""
    torch = sys.modules.get("torch")
    kind = device.partition(":")[0]
    if kind == "cuda" and torch is not None:
        free, total = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
    if kind == "mps" and torch is not None:
        # The computer's own memory, of which Metal takes no more than it recommends.
        total = torch.mps.recommended_max_memory()
        left = total - torch.mps.current_allocated_memory()
        kept = torch.mps.driver_allocated_memory() - torch.mps.current_allocated_memory()
        return max(0, min(left, psutil.virtual_memory().available + kept)), total
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def least_free_share() -> float:
    """How much of the memory is free, 0–1: of the computer's or of a GPU's in use, whichever is less."""
    devices = ["cpu"]
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # of a torch that is still being imported, perhaps
    if getattr(cuda, "is_initialized", bool)():
        devices += [f"cuda:{n}" for n in range(cuda.device_count()) if cuda.memory_reserved(n)]
    if _metal_in_use(torch):
        devices.append("mps")
    return min(free / total for free, total in map(free_and_total, devices))


def empty_caches() -> None:
    """Have PyTorch give back what nobody holds any more of GPUs."""
    gc.collect()
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if getattr(cuda, "is_initialized", bool)():
        cuda.empty_cache()
    if _metal_in_use(torch):
        torch.mps.empty_cache()


def _metal_in_use(torch) -> bool:
    """Whether a Mac's GPU holds anything of ours; not while torch is still being imported."""
    backend = getattr(getattr(torch, "backends", None), "mps", None)
    held = getattr(getattr(torch, "mps", None), "driver_allocated_memory", int)
    return getattr(backend, "is_available", bool)() and held() > 0
