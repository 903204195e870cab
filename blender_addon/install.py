# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the engine's own Python environment and reports progress. Free of bpy.

A Python 3.11 or 3.12 is found, a virtual environment made, the bundled wheel installed with pip. Nothing is compiled.
An environment counts only once its marker file is written, which happens last: one that was left half-made is never
used, and is removed by the next try. Each wheel has an environment of its own, named by the wheel's hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .client import clean_environment

VERSIONS = ((3, 11), (3, 12))
MARKER = "instruct-nerf-engine.json"
LINES = 200


class InstallError(Exception):
    """Why no environment could be made: one sentence for the artist."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that fits; for ``uv`` the command is uv's and it brings the Python itself."""

    command: str
    version: tuple[int, int]
    is_uv: bool = False


def wheel_in(folder: Path) -> Path | None:
    """The engine's wheel that the extension carries in ``folder``, or None (a checkout has none)."""
    wheels = sorted(folder.glob("instruct_nerf_engine-*.whl"))
    return wheels[-1] if wheels else None


def environment_of(base: Path, wheel: Path) -> Path:
    """Where the environment of ``wheel`` belongs under ``base``."""
    return base / "environments" / hashlib.sha256(wheel.read_bytes()).hexdigest()[:12]


def python_of(environment: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed_python(base: Path, wheel: Path | None) -> Path | None:
    """The interpreter of the finished environment of ``wheel``, or None."""
    if wheel is None:
        return None
    environment = environment_of(base, wheel)
    python = python_of(environment)
    return python if (environment / MARKER).is_file() and python.exists() else None


def version_of(command: str) -> tuple[int, int] | None:
    """The version of a Python, asked of itself; None where it does not run, or cannot make environments."""
    code = "import sys, venv, ensurepip; print('%d %d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [command, "-I", "-c", code], capture_output=True, text=True, timeout=20, env=clean_environment(),
            stdin=subprocess.DEVNULL, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        major, minor = answer.stdout.split()
        return (int(major), int(minor)) if answer.returncode == 0 else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def candidates(preferred: str, own: str) -> Iterator[str]:
    """Pythons worth asking, best first: the artist's choice alone if there is one, else Blender's own, then the
    system's."""
    if preferred:
        yield preferred
        return
    yield own
    for major, minor in VERSIONS:
        for name in (f"python{major}.{minor}", f"python{major}{minor}"):
            if found := shutil.which(name):
                yield found
        if os.name == "nt":
            local = os.environ.get("LOCALAPPDATA", "")
            yield str(Path(local, "Programs", "Python", f"Python{major}{minor}", "python.exe"))
        elif sys.platform == "darwin":
            yield f"/Library/Frameworks/Python.framework/Versions/{major}.{minor}/bin/python3"
            yield f"/opt/homebrew/bin/python{major}.{minor}"
        versions = Path.home() / ".pyenv" / "versions"
        yield from (str(p / "bin" / "python") for p in sorted(versions.glob(f"{major}.{minor}.*"), reverse=True))
    if found := shutil.which("python3"):
        yield found


def find_interpreter(preferred: str = "", own: str = sys.executable) -> Interpreter:
    """A Python 3.11 or 3.12, or uv where none is found. Raises :class:`InstallError` where neither is there."""
    wanted = " or ".join(f"{a}.{b}" for a, b in VERSIONS)
    for command in candidates(preferred, own):
        version = version_of(command) if command and Path(command).exists() else None
        if version in VERSIONS:
            return Interpreter(command, version)
    if preferred:
        raise InstallError(f"“{preferred}” is not a Python {wanted} that can make virtual environments.")
    if uv := shutil.which("uv"):
        return Interpreter(uv, VERSIONS[0], is_uv=True)
    raise InstallError(f"No Python {wanted} was found: install one, or uv, and press Install again.")


def commands(interpreter: Interpreter, environment: Path, wheel: Path, index: str = "") -> list[tuple[str, list[str]]]:
    """What is run, as pairs of a label and an argument list."""
    python = str(python_of(environment))
    if interpreter.is_uv:
        wanted = ".".join(map(str, interpreter.version))
        make = [interpreter.command, "venv", "--seed", "--python", wanted, str(environment)]
    else:
        make = [interpreter.command, "-I", "-m", "venv", str(environment)]
    pip = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    # Wheels are preferred over newer source packages: nothing shall need a compiler.
    pip += ["--prefer-binary", *(["--extra-index-url", index] if index else []), str(wheel)]
    check = [python, "-I", "-m", "engine", "--help"]
    return [("Making the environment", make), ("Downloading and installing", pip), ("Checking the engine", check)]


class Installer:
    """Makes one environment on a thread of its own; ``start``, look at the fields as often as you like, ``cancel``.

    ``lines`` holds the output's end; ``finished`` turns true at the end, and ``error`` then says what went wrong,
    if anything did ("" where nothing did).
    """

    def __init__(self, base: Path, wheel: Path, preferred: str = "", index: str = "", own: str = sys.executable):
        self.lines: deque[str] = deque(maxlen=LINES)
        self.label = "Looking for Python"
        self.count = 0
        self.finished = False
        self.cancelled = False
        self.error = ""
        self.environment = environment_of(base, wheel)
        self._arguments = (wheel, preferred, index, own)
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="engine installer")

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop soon; what was made is removed."""
        with self._lock:
            self.cancelled = True
            if self._process is not None:
                _end(self._process)

    def join(self, timeout: float) -> bool:
        """Wait for the end, at most ``timeout`` seconds; whether it ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        wheel, preferred, index, own = self._arguments
        try:
            interpreter = find_interpreter(preferred, own)
            self._say(f"Using {interpreter.command}")
            shutil.rmtree(self.environment, ignore_errors=True)
            self.environment.parent.mkdir(parents=True, exist_ok=True)
            for label, command in commands(interpreter, self.environment, wheel, index):
                self.label = label
                self._call(command)
            temporary = self.environment / (MARKER + ".tmp")
            temporary.write_text(json.dumps({"wheel": wheel.name}), encoding="utf-8")
            os.replace(temporary, self.environment / MARKER)
            self.label = "Installed"
        except (InstallError, OSError) as error:
            shutil.rmtree(self.environment, ignore_errors=True)
            self.error = "The installation was cancelled." if self.cancelled else str(error)
        finally:
            self.finished = True

    def _call(self, command: Sequence[str]) -> None:
        with self._lock:
            if self.cancelled:
                raise InstallError("The installation was cancelled.")
            self._process = process = subprocess.Popen(
                list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                encoding="utf-8", errors="replace", env=clean_environment(), start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        last = ""
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                if line.strip():
                    last = line.strip()
                    self._say(last)
        if process.wait() != 0:
            raise InstallError(f"{self.label} failed: {last or f'exit code {process.returncode}'}")

    def _say(self, line: str) -> None:
        self.lines.append(line[:500])
        self.count += 1


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL)
            return
        except (ProcessLookupError, PermissionError):
            pass
    process.kill()
