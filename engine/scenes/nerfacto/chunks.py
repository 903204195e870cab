# SPDX-License-Identifier: GPL-3.0-or-later
"""How many rays are rendered at once: by what they take, and by what the device has left."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.counting import LiveBytes
from engine.memory import free_and_total

PROBE = 256  # rays that are rendered to see what one takes; also the fewest at once
SHARE = 0.25  # of the device's free memory, at most
# Bytes at most: on a CPU what stays near its caches, on a GPU what keeps it busy.
MOST_ON_CPU, MOST_ON_GPU = 64 * 2**20, 512 * 2**20


def bytes_a_ray(render: Callable[[], object], rays: int) -> int:
    """What each of the ``rays`` that ``render`` renders takes at the most crowded moment."""
    with LiveBytes() as counted:
        render()
    return max(1, counted.peak // rays)


def chunk_of(ray_bytes: int, device: torch.device) -> int:
    """Rays at once: `PROBE` times a power of two, so that the size, and with it the last bits of a picture, stays
    the same while a job runs."""
    free, _ = free_and_total(str(device))
    most = MOST_ON_CPU if device.type == "cpu" else MOST_ON_GPU
    fitting = int(min(free * SHARE, most)) // ray_bytes
    return PROBE * 2 ** max(0, (fitting // PROBE).bit_length() - 1)
