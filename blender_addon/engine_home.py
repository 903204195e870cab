# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the installed engine lies, what its locks name, and which environment is whose. Free of bpy.

    <root>/e/<lock>/        an environment, named by what its lock names: a new engine on the same packages goes into it
    <root>/e/<lock>/instruct-nerf-engine.json    written last; without it an environment is half-made and never used
    <root>/cache/           what was downloaded; its files are the environments' own (hard links), so it takes no room
    <root>/uv/<version>/    the tool that installs
    <root>/python/          Pythons that the tool brought, where the system has none that fits

The root is short, for Windows allows 259 characters in a path and PyTorch's files have names of up to 130.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform as machine
import re
import shlex
import shutil
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

PYTHON = "3.12"  # the one that the locks are for
MARKER = "instruct-nerf-engine.json"
ENGINE = "instruct-nerf-engine"


class InstallError(Exception):
    """Why the engine cannot be installed: a sentence for the artist."""


# -- where -------------------------------------------------------------------------------------------------------------


def root_of(system: str, env: Mapping[str, str], home: str) -> PurePath:
    """The root for a system (``sys.platform``'s word), its environment variables and the user's folder."""
    if system == "win32":
        local = env.get("LOCALAPPDATA") or str(PureWindowsPath(home) / "AppData" / "Local")
        return PureWindowsPath(local) / "InstructNeRF"
    if system == "darwin":
        return PurePosixPath(home) / "Library" / "Application Support" / "InstructNeRF"
    data = env.get("XDG_DATA_HOME", "")
    base = PurePosixPath(data) if data.startswith("/") else PurePosixPath(home) / ".local" / "share"
    return base / "instruct-nerf"


def root() -> Path:
    """The root on this machine."""
    return Path(root_of(sys.platform, os.environ, str(Path.home())))


def python_of(environment: Path) -> Path:
    """The interpreter inside an environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def lock_platform(system: str = sys.platform, processor: str = "") -> str:
    """Which locks are for this machine. Raises :class:`InstallError` where none are."""
    processor = (processor or machine.machine()).lower()
    name = {
        ("linux", "x86_64"): "linux-x86_64",
        ("win32", "amd64"): "windows-x86_64",
        ("darwin", "arm64"): "macos-arm64",
    }.get((system, processor))
    if name is None:
        raise InstallError(
            f"The engine's packages are not built for this machine ({system}, {processor}): name an engine on another "
            "machine in the add-on's preferences."
        )
    return name


# -- locks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """One line of a lock; sizes in bytes, of the download and of what it becomes."""

    name: str
    version: str
    download: int
    installed: int
    longest: int  # characters of its longest file's name, from the packages' folder on


@dataclass(frozen=True)
class Locks:
    """What an environment is made of: the packages, PyTorch apart from the rest, and the tool that installs them."""

    folder: Path
    platform: str
    packages: tuple[Package, ...]
    torch: tuple[Package, ...]
    tool: tuple[Package, ...]

    def file(self, part: str) -> Path:
        """The lock ``""``, ``"-torch"`` or ``"-uv"``."""
        return self.folder / f"{self.platform}{part}.txt"

    @property
    def name(self) -> str:
        """Names the environment: the same packages, the same name."""
        words = " ".join(f"{p.name}=={p.version}" for p in sorted((*self.packages, *self.torch), key=lambda p: p.name))
        return hashlib.sha256(f"{PYTHON} {words}".encode()).hexdigest()[:8]

    def version(self, name: str) -> str:
        """The version of a package; empty where the locks do not have it."""
        return next((p.version for p in (*self.packages, *self.torch, *self.tool) if p.name == name), "")


_PACKAGE = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)[^\n]*\n(?P<wheels>(?:    # \S+\.whl \d+\n)*)"
    r"(?:    # installed: (?P<installed>\d+) bytes, longest name (?P<longest>\d+)\n)?",
    re.M,
)


def read_lock(path: Path) -> tuple[Package, ...]:
    """The packages of one lock. Raises :class:`InstallError` where there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise InstallError(f"This copy of the add-on lacks {path.name}; install the extension again.") from None
    return tuple(
        Package(
            found["name"],
            found["version"],
            max(map(int, re.findall(r"\.whl (\d+)$", found["wheels"], re.M)), default=0),
            int(found["installed"] or 0),
            int(found["longest"] or 0),
        )
        for found in _PACKAGE.finditer(text)
    )


@lru_cache(maxsize=4)
def read_locks(folder: Path, platform: str = "") -> Locks:
    """A platform's locks, this machine's where none is named. Raises :class:`InstallError` where there are none."""
    platform = platform or lock_platform()
    parts = [read_lock(folder / f"{platform}{part}.txt") for part in ("", "-torch", "-uv")]
    return Locks(folder, platform, *parts)


# -- what is installed -------------------------------------------------------------------------------------------------


def wheel_in(folder: Path) -> Path | None:
    """The engine's wheel that the extension carries in ``folder``, or None (a checkout has none)."""
    wheels = sorted(folder.glob("instruct_nerf_engine-*.whl"))
    return wheels[-1] if wheels else None


def digest(wheel: Path) -> str:
    """What tells one engine from another."""
    state = wheel.stat()
    return _digest(wheel, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)  # panels ask at each drawing
def _digest(wheel: Path, _written: int, _size: int) -> str:
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def read_marker(environment: Path) -> dict[str, Any] | None:
    """What is known of a finished environment; None for a half-made one."""
    path = environment / MARKER
    try:
        state = path.stat()
        marker = _marker(path, state.st_mtime_ns, state.st_size, state.st_ino)
    except (OSError, ValueError):
        return None
    return dict(marker) if isinstance(marker, dict) and python_of(environment).exists() else None


@lru_cache(maxsize=16)  # panels ask at each drawing
def _marker(path: Path, _written: int, _size: int, _file: int) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_marker(environment: Path, marker: Mapping[str, Any]) -> None:
    """Say that an environment is finished, or forget it again with an empty marker."""
    temporary = environment / (MARKER + ".tmp")
    temporary.write_text(json.dumps(marker, indent=1), encoding="utf-8")
    os.replace(temporary, environment / MARKER)


def installed_python(base: Path, locks: Locks | None, wheel: Path | None) -> Path | None:
    """The interpreter of the finished environment that has this very engine, or None."""
    if locks is None or wheel is None:
        return None
    environment = base / "e" / locks.name
    marker = read_marker(environment)
    return python_of(environment) if marker and marker.get("wheel") == digest(wheel) else None


def missing(base: Path, locks: Locks) -> list[Package]:
    """What the locks name and is not at ``base`` in that version, so that it would be downloaded: everything at first,
    little or nothing once the add-on was updated."""
    there: set[tuple[str, str]] = set()
    for environment in (base / "e").glob("[!.]*"):
        packages = (read_marker(environment) or {}).get("packages")
        if isinstance(packages, dict):
            there |= {(str(name), str(version)) for name, version in packages.items()}
    there |= {("uv", folder.name) for folder in (base / "uv").glob("*")}
    return [p for p in (*locks.packages, *locks.torch, *locks.tool) if (p.name, p.version) not in there]


def unused_environments(base: Path, keep: str, user: str) -> list[Path]:
    """Environments that nobody needs once the add-on at ``user`` uses the one called ``keep``: half-made ones, and
    those whose add-ons are gone or are this one."""
    found = []
    for environment in sorted((base / "e").glob("*")):
        if environment.name == keep or environment.name.startswith("."):
            continue
        marker = read_marker(environment) or {}
        users = [str(path) for path in marker.get("users", ()) if isinstance(path, str)]
        if not any(path != user and Path(path).exists() for path in users):
            found.append(environment)
    return found


def throw_away(path: Path, base: Path) -> None:
    """Take a folder out of the way at once, and delete it in a thread of its own: gigabytes take seconds."""
    if not path.exists():
        return
    away = base / "e" / f".gone-{uuid.uuid4().hex[:8]}"
    away.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(path, away)
    except OSError:  # Windows, where something in it still runs
        away = path
    threading.Thread(target=shutil.rmtree, args=(away, True), name="removing an old engine").start()


def remove_leftovers(base: Path) -> None:
    """Delete what an earlier :func:`throw_away` did not get to."""
    for path in (base / "e").glob(".gone-*"):
        shutil.rmtree(path, ignore_errors=True)


def remove_everything(base: Path) -> None:
    """Take all environments, downloads and tools away. Projects lie elsewhere and stay."""
    for environment in (base / "e").glob("[!.]*"):
        throw_away(environment, base)
    for name in ("cache", "uv", "python"):
        throw_away(base / name, base)


# -- an engine elsewhere -----------------------------------------------------------------------------------------------


def is_command(named: str) -> bool:
    """Whether what the artist names is a command that leads to an engine, and no Python or environment of its own."""
    return not Path(named).exists() and len(shlex.split(named, posix=os.name == "posix")) > 1


def elsewhere(named: str, arguments: Sequence[str]) -> list[str]:
    """What starts an engine that the artist names: a Python, an environment's folder, or a command.

    ``arguments`` are what a Python is given; of them a command gets the last alone, for it names the engine itself.
    """
    path = Path(named)
    if path.is_dir():
        return [str(python_of(path)), *arguments]
    if path.exists():
        return [named, *arguments]
    words = shlex.split(named, posix=os.name == "posix")
    return [named, *arguments] if len(words) < 2 else [*(word.strip('"') for word in words), arguments[-1]]


# What the program between Blender and an engine that sees other files is begun with; its arguments are where the add-on
# lies, its module, the folder there, and the command that leads to the engine.
_RELAY = "import importlib, sys; sys.path.append(sys.argv[1]); importlib.import_module(sys.argv[2]).main(sys.argv[3:])"


def relayed(command: Sequence[str], folder: str, addon: Path) -> list[str]:
    """What starts an engine that a command leads to where its files are sent to a folder there (:mod:`relay`)."""
    arguments = (str(addon.parent), f"{addon.name}.relay.main", folder)
    return [sys.executable, "-I", "-c", _RELAY, *arguments, *command]
