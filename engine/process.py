# SPDX-License-Identifier: GPL-3.0-or-later
"""How this process's threads wait for each other, numbers devices and keeps memory. Called before torch is loaded."""

from __future__ import annotations

import ctypes
import os
import sys

from engine.memory import empty_caches

# glibc's mallopt: numbers of its parameters (malloc.h).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_MIB = 2**20


def set_up_process(spins: int = 0) -> None:
    """Let threads wait without spinning, or by ``spins`` of OpenMP's, and reuse freed memory.

    Threads that spin starve whatever else runs, Blender first; with one busy program beside the engine an edit was
    measured 10 to 25 times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", str(spins))
    set_up_devices()
    keep_freed_memory()


def set_up_devices() -> None:
    """Number NVIDIA's cards by their PCI buses, as the driver's tool does (CUDA's own order is the fastest first), and
    let a Mac's CPU do what its GPU cannot."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def keep_freed_memory() -> None:
    """Have glibc keep up to 1 GiB of freed memory for the next tensor; without glibc, do nothing.

    Every step of a network frees and takes the same megabytes again. Given back to the system each time, they come back
    as empty pages, which the system must clear one by one.
    """
    mallopt = _of_libc("mallopt")
    if mallopt is None:  # another C library
        return
    mallopt(_MMAP_THRESHOLD, 32 * _MIB)  # the most that glibc takes: larger pieces still go back at once
    mallopt(_TRIM_THRESHOLD, 1024 * _MIB)
    mallopt(_TOP_PAD, 64 * _MIB)
    mallopt(_ARENA_MAX, 1)  # the jobs' thread allocates where this holds


def give_memory_back() -> None:
    """Give what nobody holds any more back to the system: after a job, not within one."""
    empty_caches()
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def _of_libc(name: str):
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
