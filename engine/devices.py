# SPDX-License-Identifier: GPL-3.0-or-later
"""The processors that a job can run on: what PyTorch can use, the best first, and a sentence that says why.

PyTorch alone knows what it can use, and takes seconds to import. It is asked where there is any sign of a graphics card
(`may_have_gpu`); how much of a card is free, NVIDIA's own tool says, since asking CUDA would take memory on every card.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import psutil

from engine.errors import BadInput
from engine.memory import free_and_total
from engine.protocol import Device

LEAST_FREE = 2 * 2**30  # bytes: with less, a GPU computes only where it is named
WAITING = "PyTorch is being loaded: what can compute here is not known yet."
_SIGNS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's driver, AMD's, and Windows' below Linux


class Card(msgspec.Struct, frozen=True):
    """An NVIDIA card as its driver's own tool names it."""

    name: str
    driver: str
    free_bytes: int
    total_bytes: int
    uuid: str  # lower case, without "GPU-"
    bus: str  # PCI bus id: domain:bus:device, hexadecimal


class Gpu(msgspec.Struct, frozen=True):
    """A GPU as PyTorch names it."""

    name: str  # a torch.device: cuda:0, mps
    label: str
    total_bytes: int
    free_bytes: int | None = None  # None: NVIDIA's tool is asked
    held_bytes: int = 0  # by this process, which gives it back
    uuid: str = ""
    bus: str = ""
    fault: str = ""  # why nothing can run on it


class Torch(msgspec.Struct, frozen=True):
    """What PyTorch says of itself."""

    version: str
    cuda: str = ""  # the version that it is built with; empty: without
    gpus: list[Gpu] = []
    problem: str = ""  # why there are none, in its own words


class Machine(msgspec.Struct, frozen=True):
    """What jobs can run on, the one that is taken where none is named first, and a sentence on that choice."""

    devices: list[Device]
    computing: str
    driver: str = ""  # NVIDIA's
    faults: dict[str, str] = {}  # GPU → why it is not among the devices


def may_have_gpu() -> bool:
    """Whether there is any sign of a GPU that PyTorch might use. Imports no torch."""
    if platform.system() == "Darwin" or shutil.which("nvidia-smi") or any(map(os.path.exists, _SIGNS)):
        return True
    return (Path(os.environ.get("SYSTEMROOT", "/nowhere")) / "System32" / "nvcuda.dll").exists()


def find_devices() -> Machine:
    """What can compute here. Imports torch where there is any sign of a GPU, or it is imported already."""
    if "torch" in sys.modules or may_have_gpu():
        return decide(what_torch_says(importlib.import_module("torch")), nvidia_cards(), cpu())
    return decide(None, [], cpu())


def cpu() -> Device:
    """The CPU, and the computer's memory."""
    memory = psutil.virtual_memory()
    name = platform.processor() or platform.machine()
    return Device("cpu", f"CPU ({name}, {psutil.cpu_count()} cores)", memory.available, memory.total)


def nvidia_cards() -> list[Card]:
    """NVIDIA's cards, in the order of their PCI buses; none where there is no driver that answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    columns = "uuid,pci.bus_id,driver_version,memory.free,memory.total,name"
    query = [tool, f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, errors="replace", timeout=10, check=True, creationflags=hidden,
            stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    cards = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",", 5)]  # a name may have a comma
        try:
            free, total = int(parts[3]) * 2**20, int(parts[4]) * 2**20
            cards.append(Card(parts[5], parts[2], free, total, _uuid(parts[0]), _bus(parts[1])))
        except (IndexError, ValueError):  # a sentence, or a card that does not say how much is free
            continue
    return sorted(cards, key=lambda card: card.bus)


def _uuid(text: str) -> str:
    return str(text).lower().removeprefix("gpu-")


def _bus(text: str) -> str:
    """00000000:0A:00.0 → 0:a:0."""
    found = re.fullmatch(r"([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)(\.\d+)?", text)
    return ":".join(f"{int(part, 16):x}" for part in found.groups()[:3]) if found else ""


def what_torch_says(torch: ModuleType) -> Torch:
    """What a PyTorch says of itself: its build, and the GPUs that it sees."""
    cuda = torch.version.cuda or ""
    gpus: list[Gpu] = []
    problem = ""
    if torch.cuda.is_available():
        gpus = [_cuda_gpu(torch, index) for index in range(torch.cuda.device_count())]
    elif cuda:
        try:
            torch.cuda.init()
        except Exception as error:  # torch's, or the driver's own
            problem = (str(error).strip() or type(error).__name__).splitlines()[0]
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        free, total = free_and_total("mps")
        gpus.append(Gpu("mps", "This Mac's GPU", total, free))
    return Torch(str(torch.__version__), cuda, gpus, problem)


def _cuda_gpu(torch: ModuleType, index: int) -> Gpu:
    found = torch.cuda.get_device_properties(index)
    place = [getattr(found, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    bus = "" if None in place else ":".join(f"{part:x}" for part in place)
    held = torch.cuda.memory_reserved(index)
    fault = ""
    if torch.version.cuda and not _runs_on(torch.cuda.get_arch_list(), found.major, found.minor):
        fault = f"too old for this build (compute capability {found.major}.{found.minor})"
        if (found.major, found.minor) >= _newest(torch.cuda.get_arch_list()):
            fault = fault.replace("too old", "too new")
    label, uuid = str(found.name), _uuid(getattr(found, "uuid", ""))
    return Gpu(f"cuda:{index}", label, int(found.total_memory), None, held, uuid, bus, fault)


def _runs_on(architectures: list[str], major: int, minor: int) -> bool:
    """Whether programs built for these run on a card: machine code for its own major number and no later minor one, or
    code that the driver compiles. A build that names none is taken to run."""
    if not architectures:
        return True
    for kind, of_major, of_minor in _numbers(architectures):
        if kind == "compute" and (of_major, of_minor) <= (major, minor):
            return True
        if kind == "sm" and of_major == major and of_minor <= minor:
            return True
    return False


def _numbers(architectures: list[str]) -> list[tuple[str, int, int]]:
    found = (re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name) for name in architectures)
    return [(match[1], int(match[2]), int(match[3])) for match in found if match]


def _newest(architectures: list[str]) -> tuple[int, int]:
    return max(((major, minor) for _, major, minor in _numbers(architectures)), default=(0, 0))


def decide(torch: Torch | None, cards: list[Card], own: Device) -> Machine:
    """The devices by what PyTorch says (None: there is no sign of a GPU), with what NVIDIA's tool says is free of its
    cards, and the sentence."""
    driver = cards[0].driver if cards else ""
    if torch is None:
        return Machine([own], "No graphics card was found: computing on the CPU.")
    faults = {gpu.name: f"{gpu.label} is {gpu.fault}" for gpu in torch.gpus if gpu.fault}
    found = [_device(gpu, cards) for gpu in torch.gpus if not gpu.fault]
    found.sort(key=lambda device: -device.free_bytes)  # equals stay in their order
    roomy = [device for device in found if device.free_bytes >= LEAST_FREE]
    full = [device for device in found if device.free_bytes < LEAST_FREE]
    why = _why(torch, cards, roomy, full, faults)
    return Machine([*roomy, own, *full], why, driver, faults)


def _device(gpu: Gpu, cards: list[Card]) -> Device:
    card = next((c for c in cards if gpu.uuid and c.uuid == gpu.uuid), None)
    card = card or next((c for c in cards if gpu.bus and c.bus == gpu.bus), None)
    if gpu.free_bytes is not None:
        free = gpu.free_bytes
    elif card is not None:
        free = card.free_bytes
    else:
        free = _free_by_cuda(gpu.name)
    return Device(gpu.name, gpu.label, min(free + gpu.held_bytes, gpu.total_bytes), gpu.total_bytes)


def _free_by_cuda(name: str) -> int:
    """Bytes free of a card that NVIDIA's tool does not name, such as an AMD card; takes some memory of it."""
    torch = importlib.import_module("torch")
    return int(torch.cuda.mem_get_info(name)[0])


def _why(torch: Torch, cards: list[Card], roomy: list[Device], full: list[Device], faults: dict[str, str]) -> str:
    unused = "".join(f" {fault}." for fault in faults.values())
    if roomy:
        best = roomy[0]
        most = f", of {len(roomy)} GPUs the one with the most memory free" if len(roomy) > 1 else ""
        said = f"Computing on {best.label} ({best.name}), {_gib(best.free_bytes)} free{most}.{unused}"
        return said + (" No one has measured a Mac's GPU yet." if best.name == "mps" else "")
    if full:
        said = f"{full[0].label} has {_gib(full[0].free_bytes)} free, and {_gib(LEAST_FREE)} are needed"
    elif faults:
        said = f"{'; '.join(faults.values())}, PyTorch {torch.version}"
    elif not cards and not torch.problem:
        said = "No graphics card that PyTorch can use was found"
    elif not cards:
        said = f"No graphics card can be used ({torch.problem.rstrip('.')})" if torch.cuda else torch.problem
    elif not torch.cuda:
        said = f"{cards[0].name} is not used, for PyTorch {torch.version} is built without CUDA"
    elif "too old" in torch.problem:
        said = f"NVIDIA driver {cards[0].driver}: too old for this build (PyTorch {torch.version}, CUDA {torch.cuda})"
    elif os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        said = f"{cards[0].name} is not used, for CUDA_VISIBLE_DEVICES hides it"
    else:
        said = f"{cards[0].name} is not used ({torch.problem.rstrip('.') or 'PyTorch does not say why'})"
    return f"{said}; computing on the CPU."


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GB"


def device_named(name: str) -> Device:
    """The device of that name, with no memory where it is not here. May import torch."""
    return next((d for d in find_devices().devices if d.name == name), Device(name, name, 0, 0))


def choose_device(name: str | None) -> str:
    """``name`` as torch writes it, or the best device. Raises BadInput where a named one cannot be used, with the
    reason. May import torch."""
    machine = find_devices()
    if name is None:
        return machine.devices[0].name
    wanted = f"{name}:0" if name == "cuda" else name.removesuffix(":0") if name == "mps:0" else name
    names = [device.name for device in machine.devices]
    if wanted in names:
        return wanted
    choose = f"choose {' or '.join(repr(known) for known in names)}"
    if wanted in machine.faults:
        raise BadInput(f"{machine.faults[wanted]}; {choose}.", field="device")
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise BadInput(f"There is no {name} to compute on; {choose}. {machine.computing}", field="device")
    raise BadInput(f"{name!r} is no device; {choose}.", field="device")
