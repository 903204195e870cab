# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build of PyTorch a machine's graphics card and driver can use, and the sentence that says so. Free of bpy."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .client import clean_environment

# The oldest driver on Linux that runs programs built for a major version of CUDA (NVIDIA's compatibility table).
OLDEST_DRIVER = {12: (525, 60), 13: (580, 65)}


@dataclass(frozen=True)
class Card:
    """An NVIDIA card as its driver's own tool names it."""

    name: str
    driver: str

    @property
    def driver_version(self) -> tuple[int, int]:
        """Major and minor number of the driver; (0, 0) where it says none."""
        parts = [int(part) for part in self.driver.split(".")[:2] if part.isdigit()]
        return (*parts, 0, 0)[:2]


def find_card() -> Card | None:
    """The first NVIDIA card, or None."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True,
            timeout=10, check=True, stdin=subprocess.DEVNULL, env=clean_environment() | {"LC_ALL": "C"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if os.name == "nt" else 0,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    for line in answer.splitlines():
        name, _, driver = (part.strip() for part in line.rpartition(","))
        if name and driver[:1].isdigit():
            return Card(name, driver)
    return None


def backend_for(platform: str, card: Card | None, locked_cuda: str) -> str:
    """uv's ``--torch-backend`` for a machine; empty where the locked build is the right one.

    ``locked_cuda`` is the CUDA version of the locked PyTorch, empty where that has none (Windows, macOS).
    """
    if platform.startswith("macos"):
        return ""
    if card is None:
        return "cpu" if locked_cuda else ""  # a tenth of the size
    needed = OLDEST_DRIVER.get(int(locked_cuda.split(".")[0])) if locked_cuda else None
    if needed and card.driver_version >= needed:
        return ""
    return "auto"


def outcome(platform: str, card: Card | None, torch: Mapping[str, Any]) -> str:
    """What will compute, and why not the card where there is one.

    ``torch`` is what PyTorch says of itself: its version, its CUDA, the cards that it can use, whether there is MPS.
    """
    if torch["cards"]:
        return f"The engine computes on {', '.join(torch['cards'])}."
    if platform.startswith("macos"):
        return "The engine computes on this Mac." if torch["mps"] else "The engine computes on the CPU."
    if card is None:
        return "No NVIDIA card was found: the engine computes on the CPU, where only small edits are practical."
    if not torch["cuda"]:
        return (
            f"{card.name} is not used: no PyTorch build for it and driver {card.driver} could be had. The engine "
            "computes on the CPU. Update the driver, see that you are online, and press Repair."
        )
    return (
        f"{card.name} is not used: NVIDIA driver {card.driver} is too old for PyTorch {torch['torch']} (CUDA "
        f"{torch['cuda']}). The engine computes on the CPU. Update the driver and press Repair."
    )
