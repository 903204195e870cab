# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build of PyTorch machines that are not here get, and what their artists are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_wheels import script, tiny_engine, tiny_locks, tiny_wheel

from blender_addon import engine_home, graphics, install, running
from blender_addon.graphics import Card, backend_for, outcome

NEW, OLD, ANCIENT = Card("RTX 4090", "581.15"), Card("RTX 3060", "560.94"), Card("GTX 780", "470.1")
BUILT = {"torch": "2.14.1+cu130", "cuda": "13.0", "cards": [], "mps": False}
PLAIN = {"torch": "2.14.1", "cuda": None, "cards": [], "mps": False}


@pytest.mark.parametrize(
    ("platform", "card", "cuda", "backend"),
    [
        ("linux-x86_64", None, "13.0.96", "cpu"),
        ("linux-x86_64", NEW, "13.0.96", ""),
        ("linux-x86_64", Card("A100", "580.65.06"), "13.0.96", ""),
        ("linux-x86_64", Card("A100", "580.05"), "13.0.96", "auto"),
        ("linux-x86_64", OLD, "13.0.96", "auto"),
        ("linux-x86_64", NEW, "99.0", "auto"),
        ("windows-x86_64", None, "", ""),
        ("windows-x86_64", NEW, "", "auto"),
        ("windows-x86_64", ANCIENT, "", "auto"),
        ("macos-arm64", None, "", ""),
    ],
)
def test_the_build_for_a_machine(platform: str, card: Card | None, cuda: str, backend: str) -> None:
    assert backend_for(platform, card, cuda) == backend


@pytest.mark.parametrize(
    ("platform", "card", "torch", "words"),
    [
        ("linux-x86_64", NEW, BUILT | {"cards": ["RTX 4090", "GTX 1080"]}, ["computes on RTX 4090, GTX 1080."]),
        ("linux-x86_64", OLD, BUILT, ["RTX 3060 is not used", "driver 560.94 is too old", "CUDA 13.0", "on the CPU"]),
        ("windows-x86_64", ANCIENT, PLAIN, ["GTX 780 is not used", "driver 470.1", "on the CPU", "Repair"]),
        ("windows-x86_64", None, PLAIN, ["No NVIDIA card", "on the CPU"]),
        ("macos-arm64", None, PLAIN | {"mps": True}, ["on this Mac."]),
        ("macos-arm64", None, PLAIN, ["on the CPU"]),
    ],
)
def test_what_computes_is_said(platform: str, card: Card | None, torch: dict, words: list[str]) -> None:
    sentence = outcome(platform, card, torch)
    assert all(word in sentence for word in words), sentence


@pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts as stand-ins")
def test_the_card_is_what_its_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert graphics.find_card() is None
    script(tmp_path / "nvidia-smi", "echo 'NVIDIA GeForce RTX 3060, 12GB, 560.94'\necho 'Other, 560.94'\n")
    card = graphics.find_card()
    assert card == Card("NVIDIA GeForce RTX 3060, 12GB", "560.94") and card.driver_version == (560, 94)
    script(tmp_path / "nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not talk to the driver'; exit 9\n")
    assert graphics.find_card() is None
    script(tmp_path / "nvidia-smi", "echo 'No devices were found'\n")
    assert graphics.find_card() is None


# uv stands in for itself: it is the real one, but for PyTorch's own index, which answers for the builds named here.
STAND_IN = """
case "$*" in
  *--torch-backend*)
    echo "$@" >> "{log}"
    case "$*" in *"--torch-backend {works}"*) ;; *) echo "error: Failed to fetch: dns error"; exit 2;; esac
    exec "{uv}" pip install --python "$4" --offline --no-index --find-links "{wheels}" --no-deps torch==1.0 ;;
esac
exec "{uv}" "$@"
"""
TORCH = """
class cuda:
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
class version: cuda = {cuda!r}
class backends: pass
__version__ = "1.0"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts as stand-ins")
@pytest.mark.parametrize(
    ("card", "works", "asked", "words"),
    [
        (None, "cpu", ["cpu"], ["No NVIDIA card"]),
        (None, "nothing", ["cpu"], ["No NVIDIA card"]),  # the index is not reached: the locked build computes as well
        (OLD, "auto", ["auto"], ["driver 560.94 is too old"]),
        (OLD, "cpu", ["auto", "cpu"], ["RTX 3060 is not used"]),
        (NEW, "nothing", [], ["driver 581.15 is too old"]),  # what this stand-in of PyTorch says of any card
    ],
)
def test_the_installer_takes_the_build_that_is_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: Card | None, works: str, asked: list[str], words: list[str]
) -> None:
    monkeypatch.setattr(running, "PYTHON", f"{sys.version_info[0]}.{sys.version_info[1]}")
    monkeypatch.setattr(install, "find_card", lambda: card)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    locks = tiny_locks(tmp_path / "locks", wheels, {"leaf": "1.0"})
    torch = tiny_wheel(wheels, "torch", "1.0", {"torch/__init__.py": TORCH.format(cuda="13.0")})
    lock = "torch==1.0\n    # torch-1.0-py3-none-any.whl 9\nnvidia-cuda-runtime==13.0\n    # n.whl 9\n"
    (locks / "linux-x86_64-torch.txt").write_text(lock)
    tiny_wheel(wheels, "nvidia-cuda-runtime", "13.0", {"nvidia.py": ""})
    monkeypatch.setattr(install, "PAIR", ("torch",))
    monkeypatch.setattr(
        install.Installer, "_source", lambda _: ["--offline", "--no-index", "--find-links", str(wheels)]
    )
    uv = tmp_path / "root" / "uv" / engine_home.read_locks(locks, "linux-x86_64").version("uv") / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    log = tmp_path / "asked"
    script(uv, STAND_IN.format(uv=Path(sys.executable).with_name("uv"), log=log, works=works, wheels=wheels))
    order = install.Order(
        tmp_path / "root", tiny_engine(tmp_path), locks, "addon", python=sys.executable, platform="linux-x86_64"
    )
    installer = install.Installer(order)
    installer.start()
    assert installer.join(60) and installer.error == "", list(installer.lines)
    tried = log.read_text().split("\n")[:-1] if log.exists() else []
    assert [line.split("--torch-backend ")[1].split()[0] for line in tried] == asked
    assert all(word in installer.outcome for word in words), installer.outcome
    name = engine_home.read_locks(locks, "linux-x86_64").name
    marker = engine_home.read_marker(order.root / "e" / name)
    assert marker is not None and marker["outcome"] == installer.outcome and torch.exists()
    listed = subprocess.run(
        [engine_home.python_of(order.root / "e" / name), "-c",
         "import importlib.util as u; print(u.find_spec('nvidia') is not None)"], capture_output=True, text=True
    )  # fmt: skip
    # Another driver, or an index that is reached again: Repair makes the environment with the build that fits now.
    newer = Card("RTX 3060", "590.10")
    monkeypatch.setattr(install, "find_card", lambda: newer)
    again = install.Installer(order, repair=True)
    again.start()
    assert again.join(60) and again.error == "", list(again.lines)
    rebuilt = any("made anew" in line for line in again.lines)
    assert rebuilt and engine_home.read_marker(order.root / "e" / name)["build"] == ["", "590.10", ""]
    third = install.Installer(order, repair=True)
    third.start()
    assert third.join(60) and third.error == "" and not any("made anew" in line for line in third.lines)
    assert listed.stdout.strip() == str(works not in asked)  # CUDA's own packages come with the locked build alone
