# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are not here: which device computes, with which preset and editor, and what the artist is told; the
same in the engine and in the panel. NVIDIA's tool is a script, PyTorch a stand-in that answers as it does there."""

from __future__ import annotations

import dataclasses
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
from tiny_wheels import script

from blender_addon import choices, messages, wire
from engine import devices, presets, protocol
from engine.editors import catalogue
from engine.editors.catalogue import BUNDLED, HUB_NAME
from engine.errors import BadInput
from engine.server import Server

GIB = 2**30
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 12060). Please update your GPU driver"
BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # as in PyTorch 2.14's build for CUDA 13.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script as NVIDIA's tool")


@dataclass(frozen=True)
class Card:
    """A card: what both NVIDIA's tool and PyTorch say of it. Sizes in GiB."""

    name: str
    total: float
    free: float
    bus: int = 1
    capability: tuple[int, int] = (8, 6)

    @property
    def uuid(self) -> str:
        return f"11111111-2222-3333-4444-{self.bus:012x}"

    def row(self, driver: str) -> str:
        sizes = f"{self.free * 1024:.0f}, {self.total * 1024:.0f}"
        return f"GPU-{self.uuid}, 00000000:{self.bus:02X}:00.0, {driver}, {sizes}, {self.name}"


@dataclass(frozen=True)
class Machine:
    """A machine, and what should come out."""

    device: str
    preset: str
    editor: str
    words: tuple[str, ...]
    cards: tuple[Card, ...] = ()  # in the order of NVIDIA's tool
    seen: tuple[Card, ...] | None = None  # by PyTorch, in its own order; None: the same
    driver: str = "581.15"
    cuda: str | None = "13.0"
    problem: str = ""
    mac: float = 0.0  # GiB that PyTorch would take of a Mac's memory
    known_at_once: bool = False
    uuids: bool = True  # whether PyTorch says them
    environment: dict[str, str] = field(default_factory=dict)


def card_of(total: float, free: float, **more: object) -> Machine:
    return Machine("cuda:0", "standard", HUB_NAME, (f"{free:.1f} GB free",), (Card("RTX", total, free),), **more)


BIG, SMALL = Card("RTX 4090", 24, 3, bus=0x0A), Card("RTX 3070", 8, 7.4, bus=0x41)
MACHINES = {
    "no card": Machine("cpu", "preview", BUNDLED, ("No graphics card was found", "on the CPU"), known_at_once=True),
    "a driver and no card": Machine(
        "cpu", "preview", BUNDLED, ("No graphics card can be used", "on the CPU"), problem=NO_DRIVER,
        environment={"NVIDIA_SMI": "echo 'No devices were found'"},
    ),
    "a card, and PyTorch for the CPU": Machine(
        "cpu", "preview", BUNDLED, ("RTX 3060 is not used", "built without CUDA", "on the CPU"),
        (Card("RTX 3060", 12, 11.2),), (), cuda=None,
    ),
    "an old driver": Machine(
        "cpu", "preview", BUNDLED, ("NVIDIA driver 560.94: too old for this build", "CUDA 13.0", "on the CPU"),
        (Card("RTX 3060", 12, 11.2),), (), driver="560.94", problem=OLD_DRIVER,
    ),
    "an old card": Machine(
        "cpu", "preview", BUNDLED, ("GTX 1080 is too old for this build", "capability 6.1", "on the CPU"),
        (Card("GTX 1080", 8, 7.5, capability=(6, 1)),),
    ),
    "a card newer than the build": Machine(
        "cpu", "preview", BUNDLED, ("RTX 9090 is too new for this build", "on the CPU"),
        (Card("RTX 9090", 48, 47, capability=(15, 0)),),
    ),
    "an old card beside a good one": Machine(
        "cuda:1", "standard", HUB_NAME, ("Computing on RTX 3070 (cuda:1)", "GTX 1080 is too old"),
        (Card("GTX 1080", 11, 10.5, capability=(6, 1)), SMALL),
    ),
    "a hidden card": Machine(
        "cpu", "preview", BUNDLED, ("RTX 3060 is not used", "CUDA_VISIBLE_DEVICES", "on the CPU"),
        (Card("RTX 3060", 12, 11.2),), (), problem="No CUDA GPUs are available",
        environment={"CUDA_VISIBLE_DEVICES": ""},
    ),
    "two cards, the faster in use": Machine(
        "cuda:1", "standard", HUB_NAME, ("Computing on RTX 3070 (cuda:1)", "of 2 GPUs"), (BIG, SMALL)
    ),
    "two cards in PyTorch's own order": Machine(
        "cuda:0", "standard", HUB_NAME, ("Computing on RTX 3070 (cuda:0), 7.4 GB",), (BIG, SMALL), (SMALL, BIG)
    ),
    "two like cards, told apart by their buses": Machine(
        "cuda:1", "standard", HUB_NAME, ("(cuda:1), 23.0 GB",),
        (Card("A5000", 24, 23, bus=0x0A), Card("A5000", 24, 2, bus=0x41)),
        (Card("A5000", 24, 2, bus=0x41), Card("A5000", 24, 23, bus=0x0A)), uuids=False,
    ),
    "4 GB": dataclasses.replace(card_of(4, 3.3), preset="preview", editor=BUNDLED),
    "6 GB": card_of(6, 5.2),
    "8 GB": card_of(8, 7.2),
    "8 GB, half of it in use": dataclasses.replace(card_of(8, 3.8), preset="preview", editor=BUNDLED),
    "8 GB, full": dataclasses.replace(
        card_of(8, 0.9), device="cpu", preset="preview", editor=BUNDLED, words=("has 0.9 GB free", "on the CPU")
    ),
    "16 GB": card_of(16, 14.8),
    "16 GB, most of it in use": card_of(16, 6.0),
    "24 GB": card_of(24, 22.9),
    "a Mac": Machine("mps", "preview", BUNDLED, ("This Mac's GPU (mps)", "No one has measured"), cuda=None, mac=12),
    "a Mac without Metal": Machine("cpu", "preview", BUNDLED, ("No graphics card", "on the CPU"), cuda=None, mac=-1),
}  # fmt: skip


There = Callable[..., messages.EngineInfo]


def pytorch(machine: Machine) -> SimpleNamespace:
    """What a PyTorch there answers."""
    seen = machine.cards if machine.seen is None else machine.seen

    def properties(index: int) -> SimpleNamespace:
        card = seen[index]
        more = {"uuid": card.uuid} if machine.uuids else {}
        return SimpleNamespace(
            name=card.name, total_memory=int(card.total * GIB), major=card.capability[0], minor=card.capability[1],
            pci_domain_id=0, pci_bus_id=card.bus, pci_device_id=0, **more,
        )  # fmt: skip

    def init() -> None:
        raise RuntimeError(machine.problem)

    cuda = SimpleNamespace(
        is_available=lambda: bool(seen), device_count=lambda: len(seen), get_device_properties=properties, init=init,
        get_arch_list=lambda: BUILT_FOR, memory_reserved=lambda _index: 0,
    )  # fmt: skip
    mps = SimpleNamespace(is_available=lambda: machine.mac > 0)
    counts = {"recommended_max_memory": int(machine.mac * GIB)}
    counts |= {"driver_allocated_memory": 0, "current_allocated_memory": 0}
    return SimpleNamespace(
        __version__="2.14.1", cuda=cuda, version=SimpleNamespace(cuda=machine.cuda), backends=SimpleNamespace(mps=mps),
        mps=SimpleNamespace(**{name: (lambda size=size: size) for name, size in counts.items()}),
    )  # fmt: skip


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> There:
    """Be on a machine; what the engine says there, before and then after PyTorch is known, as the add-on reads it."""

    def there(machine: Machine, downloaded: bool = True) -> messages.EngineInfo:
        monkeypatch.setattr(catalogue, "is_here", lambda name: downloaded and name == HUB_NAME)
        tools = tmp_path / "tools"
        tools.mkdir()
        monkeypatch.setenv("PATH", str(tools))
        monkeypatch.delenv(catalogue.VARIABLE, raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name, value in machine.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(devices, "_SIGNS", ())
        monkeypatch.setattr(platform, "system", lambda: "Darwin" if machine.mac else "Linux")
        answer = machine.environment.get("NVIDIA_SMI") or "\n".join(
            f"echo '{card.row(machine.driver)}'" for card in machine.cards
        )
        if answer:
            script(tools / "nvidia-smi", answer + "\n")
        monkeypatch.setitem(sys.modules, "torch", pytorch(machine))
        if machine.known_at_once:
            monkeypatch.delitem(sys.modules, "torch")
        server = Server(lambda _line: None, warm_up=lambda: None)
        try:
            first = wire.parse_engine(msgspec.to_builtins(server._initialize(protocol.Initialize(wire.PROTOCOL))))
            assert first.settled == machine.known_at_once
            # Before PyTorch is known nothing expensive is guessed, and the artist is told.
            assert [d.name for d in first.devices] == ["cpu"]
            assert choices.preset_of(first, "").name == "preview" and choices.editor_of(first, "").name == BUNDLED
            assert first.settled or choices.computing(first, "") == devices.WAITING
            if first.settled:
                return first
            return first.with_devices(*wire.parse_devices(msgspec.to_builtins(server._devices())))
        finally:
            server.close()

    return there


@pytest.mark.parametrize("downloaded", [True, False])
@pytest.mark.parametrize("name", MACHINES)
def test_what_computes_and_how(name: str, downloaded: bool, on: There) -> None:
    machine = MACHINES[name] if downloaded else dataclasses.replace(MACHINES[name], editor=BUNDLED)
    info = on(machine, downloaded)
    chosen = devices.choose_device(None)
    described = devices.device_named(chosen)
    engine = chosen, presets.choose_preset(None, chosen).name, catalogue.default_editor(described)
    assert engine == (machine.device, machine.preset, machine.editor)
    panel = choices.device_of(info, ""), choices.preset_of(info, ""), choices.editor_of(info, "")
    assert tuple(choice.name for choice in panel) == engine
    sentence = choices.computing(info, "")
    assert sentence == devices.find_devices().computing and sentence.count("\n") == 0 and sentence.endswith(".")
    assert all(word in sentence for word in machine.words), sentence
    # Each device that is listed can be named, and what is shown for it is what the engine would do on it.
    for device in info.devices:
        assert devices.choose_device(device.name) == device.name
        shown = choices.preset_of(info, "", device.name).name, choices.editor_of(info, "", device.name).name
        there = devices.device_named(device.name)
        assert shown == (presets.choose_preset(None, device.name).name, catalogue.default_editor(there))


@pytest.mark.parametrize("name", MACHINES)
def test_a_preset_for_gpus_is_asked_for_twice_on_a_cpu(name: str, on: There, monkeypatch: pytest.MonkeyPatch) -> None:
    info = on(MACHINES[name])
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 4)
    for device in info.devices:
        for preset in info.presets:
            refused = choices.too_slow(info, [preset.name], device.name)
            assert bool(refused) == (device.name == "cpu" and preset.name in {"standard", "paper"})
            presets.refuse_days(preset.name, device.name, even_on_cpu=True)
            if not refused:
                presets.refuse_days(preset.name, device.name, even_on_cpu=False)
                continue
            assert re.search(r"takes about (an hour|\d+ hours) on this CPU", refused), refused
            with pytest.raises(BadInput, match=r"about (an hour|\d+ hours)") as caught:
                presets.refuse_days(preset.name, device.name, even_on_cpu=False)
            assert caught.value.field == "preset"


def test_more_cores_and_fewer_steps_take_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def hours(preset: str, cores: int) -> float:
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: cores)
        number, unit = re.search(r"about (\d+|an) (hour|day|minute)", presets.slow_on("cpu")[preset]).groups()
        return (1 if number == "an" else int(number)) * {"minute": 1 / 60, "hour": 1, "day": 24}[unit]

    assert hours("paper", 2) > hours("standard", 1) > hours("standard", 4) >= hours("standard", 64) > 0
    assert hours("paper", 2) == pytest.approx(4 * hours("paper", 8), rel=0.2)


def test_a_device_that_is_not_here_is_said(on: There) -> None:
    on(MACHINES["an old card beside a good one"])
    for name, words in {
        "cuda:0": "GTX 1080 is too old for this build (compute capability 6.1); choose 'cuda:1' or 'cpu'",
        "cuda": "GTX 1080 is too old",
        "cuda:7": "There is no cuda:7 to compute on; choose 'cuda:1' or 'cpu'",
        "mps": "There is no mps",
        "xpu:0": "'xpu:0' is no device; choose 'cuda:1' or 'cpu'",
        "": "'' is no device",
    }.items():
        with pytest.raises(BadInput, match=re.escape(words)) as caught:
            devices.choose_device(name)
        assert caught.value.field == "device"
    assert devices.choose_device("cuda:1") == "cuda:1"


def test_a_device_chosen_in_the_panel_is_said(on: There) -> None:
    info = on(MACHINES["two cards, the faster in use"])
    assert choices.computing(info, "cuda:0") == "Computing on RTX 4090 (cuda:0), as chosen here."
    assert choices.computing(info, "cuda:1") == choices.computing(info, "gone") == info.computing
    assert choices.preset_of(info, "", "cuda:0").name == "preview"  # 3 GB of its 24 are free
    assert choices.computing(None, "") == ""


def test_what_this_process_holds_of_a_card_counts_as_free(on: There) -> None:
    on(MACHINES["8 GB, half of it in use"])
    sys.modules["torch"].cuda.memory_reserved = lambda _index: 3 * GIB
    (card, _) = devices.find_devices().devices
    assert card.free_bytes == pytest.approx(6.8 * GIB, rel=1e-3) and presets.preset_for(card).name == "standard"


def test_a_tool_that_hangs_or_babbles_is_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.nvidia_cards() == []
    row = Card("RTX 3060, 12GB", 12, 11).row("560.94")
    says = {
        f"echo '{row}'": ["RTX 3060, 12GB"],
        f"echo '{row}'; echo 'GPU-1, 2, 3'; echo 'a, b, c, [N/A], [N/A], d'; echo": ["RTX 3060, 12GB"],
        f"echo '{row}'; exit 9": [],
        "printf '\\377\\376'": [],
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'": [],
    }
    for answer, names in says.items():
        script(tmp_path / "nvidia-smi", answer + "\n")
        assert [card.name for card in devices.nvidia_cards()] == names
