# SPDX-License-Identifier: GPL-3.0-or-later
"""The processors that an edit can run on, found without importing torch."""

from __future__ import annotations

import platform
import shutil
import subprocess

import psutil

from engine.errors import BadInput
from engine.protocol import Device


def find_devices() -> list[Device]:
    """NVIDIA GPUs, largest free memory first, then the CPU."""
    memory = psutil.virtual_memory()
    name = platform.processor() or platform.machine()
    cpu = Device("cpu", f"CPU ({name}, {psutil.cpu_count()} cores)", memory.available, memory.total)
    return [*sorted(_nvidia(), key=lambda device: -device.free_bytes), cpu]


def _nvidia() -> list[Device]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=index,name,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    devices = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        try:
            index, name, free, total = int(parts[0]), parts[1], int(parts[2]), int(parts[3])
        except (IndexError, ValueError):
            continue
        devices.append(Device(f"cuda:{index}", name, free * 2**20, total * 2**20))
    return devices


def choose_device(name: str | None) -> str:
    """``name``, or the best that works: a GPU that torch can use, else the CPU. Raises BadInput where a named device
    cannot be used. Imports torch."""
    import torch

    usable = torch.cuda.is_available()
    if name is None:
        found = [device.name for device in find_devices() if device.name != "cpu"] if usable else []
        return found[0] if found else "cuda:0" if usable else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"{name!r} is no device; choose 'cpu' or 'cuda:0'.", field="device") from None
    if device.type == "cuda":
        if not usable:
            raise BadInput(
                "No CUDA device can be used here (none found, or torch was installed without CUDA); choose 'cpu'.",
                field="device",
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise BadInput(f"There is no {name}; this machine has {torch.cuda.device_count()} GPUs.", field="device")
    elif device.type != "cpu":
        raise BadInput(f"The engine runs on 'cpu' or 'cuda', not on {name!r}.", field="device")
    return str(device)
