# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs that the add-on runs: how they are started and stopped; of the installer's commands what they may
inherit, and what their failures mean. Free of bpy."""

from __future__ import annotations

import glob
import os
import re
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .client import clean_environment
from .engine_home import PYTHON, InstallError

# Of pip's and uv's settings only those that say where packages come from and how the network is reached may count:
# PIP_USER, PIP_TARGET, UV_SYSTEM_PYTHON and their like would put the packages elsewhere.
KEPT = {
    "PIP_CERT", "PIP_CLIENT_CERT", "PIP_PROXY", "PIP_TRUSTED_HOST", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_CONSTRAINT",
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE",
    "UV_HTTP_TIMEOUT", "UV_HTTP_PROXY", "UV_HTTPS_PROXY", "UV_NO_PROXY", "UV_INSECURE_HOST", "UV_CERT",
    "UV_PYTHON_INSTALL_MIRROR", "UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER",
}  # fmt: skip
FOREIGN = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "PIPENV_", "POETRY_", "__PYVENV")

# What a failed command's output means, most telling first.
MEANINGS = (
    (r"No space left|os error 28\b|os error 112\b|not enough space", 
     "The disk is full: make room and press Install Engine again."),
    (r"invalid peer certificate|UnknownIssuer|CERTIFICATE_VERIFY_FAILED|certificate verify failed",
     "The server's certificate was not trusted. On a company's network, set the environment variable SSL_CERT_FILE to "
     "its certificate file and start Blender again."),
    (r"407 Proxy|Proxy Authentication Required|ProxyError|proxy.*(refused|failed)",
     "The proxy did not let the download through: check HTTPS_PROXY, with name and password where it wants them."),
    (r"github\.com.*python-build-standalone|Failed to download.*cpython",
     f"No Python {PYTHON} was found here and none could be downloaded: install Python {PYTHON} (64-bit) from "
     "python.org, or name one in the add-on's preferences."),
    (r"No interpreter found|no matching Python|No download found",
     f"No Python {PYTHON} was found: install Python {PYTHON} (64-bit) from python.org, or name one in the add-on's "
     "preferences."),
    (r"Hash mismatch|DO NOT MATCH THE HASHES",
     "A package is not the one that was tested (its hash differs): try again; if it stays so, choose another index."),
    (r"dns error|failed to lookup|Name or service not known|getaddrinfo failed|NewConnectionError"
     r"|Network is unreachable|Connection refused|error sending request|Could not connect|Failed to fetch"
     r"|timed out|ConnectTimeout",
     "The packages could not be downloaded, since the package index is not reached: check the connection and press "
     "Install Engine again (what has come is kept), or choose a folder of wheels in the add-on's preferences."),
    (r"Because .*", "A package that the lock names is not there"),
    (r"No matching distribution found.*|Network connectivity is disabled.*|No solution found.*",
     "A package that the lock names is not there"),
    (r"WinError 126|vcruntime140|msvcp140|c10\.dll",
     "Windows lacks Microsoft's Visual C++ Redistributable, which PyTorch needs: install it from Microsoft's site "
     "(x64), then press Repair."),
    (r"Permission denied|Access is denied|os error 5\b",
     "A file could not be written or replaced: stop the engine in every Blender, then press Install Engine again."),
)  # fmt: skip


def command_environment() -> dict[str, str]:
    """The environment variables of the installer's commands: proxies and certificates pass, foreign settings do not."""
    env = {
        key: value
        for key, value in clean_environment().items()
        if key in KEPT or not key.upper().startswith(FOREIGN) or key.startswith("PYTHONUTF8")
    }
    env |= {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "UV_NO_PROGRESS": "1", "UV_NO_MODIFY_PATH": "1"}
    env["UV_SYSTEM_CERTS"] = "1"  # what the system trusts: companies add their own there
    certificate = env.get("PIP_CERT") or env.get("REQUESTS_CA_BUNDLE")
    if certificate and "SSL_CERT_FILE" not in env:
        env["SSL_CERT_FILE"] = certificate
    for scheme, address in urllib.request.getproxies().items():  # of Windows and macOS too, where no variable says it
        name = f"{scheme.upper()}_PROXY"
        if scheme in {"http", "https", "all"} and name not in env and name.lower() not in env:
            env[name] = address
    env["PYTHONUTF8"] = "1"
    return env


def meaning(output: str) -> str:
    """A sentence for what a command said when it failed; empty where it is nothing known."""
    for pattern, sentence in MEANINGS:
        if found := re.search(pattern, output, re.I):
            # One that is not finished is finished by the command's own words.
            return sentence if sentence.endswith(".") else f"{sentence}: {' '.join(found[0].split())[:300]}"
    return ""


class Command:
    """Runs one command after the other, and can be cancelled from another thread."""

    def __init__(self, say: Callable[[str], None]):
        self.cancelled = False
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """End the running command with all its children; no other will begin."""
        with self._lock:
            self.cancelled = True
            if self._process is not None:
                end(self._process)

    def run(self, label: str, command: Sequence[str], extra: Mapping[str, str]) -> str:
        """Run a command with more environment variables; its last line. Raises :class:`InstallError` where it fails."""
        with self._lock:
            if self.cancelled:
                raise InstallError("The installation was cancelled.")
            self._process = process = begin(command, subprocess.DEVNULL, command_environment() | dict(extra))
        said: list[str] = []
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                if line.strip():
                    said = [*said[-80:], line.strip()]
                    self._say(said[-1])
        code = process.wait()
        if self.cancelled:
            raise InstallError("The installation was cancelled.")
        if code != 0:
            known = meaning("\n".join(said))
            words = next((line for line in reversed(said) if re.search(r"\w", line)), f"exit code {code}")
            raise InstallError(known or f"{label} failed: {words.strip(' │')}")
        return said[-1] if said else ""


def begin(
    command: Sequence[str], stdin: int = subprocess.PIPE, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command that :func:`end` can end with all its children; all that it says comes by its standard output."""
    return subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=stdin, text=True, encoding="utf-8",
        errors="replace", env=env, start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    """End a process and its children at once."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL)
            return
        except (ProcessLookupError, PermissionError):
            pass
    else:
        subprocess.run(
            ["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    process.kill()


# -- Pythons -----------------------------------------------------------------------------------------------------------


def _ask(command: str, code: str) -> str:
    try:
        answer = subprocess.run(
            [command, "-I", "-c", code], capture_output=True, text=True, timeout=20, env=clean_environment(),
            stdin=subprocess.DEVNULL, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def version_of(command: str) -> str:
    """The version of a 64-bit Python, ``"3.12"``; empty where it does not run."""
    return _ask(command, "import sys; print('%d.%d' % sys.version_info[:2] if sys.maxsize > 2**32 else '')")


def candidates() -> Iterator[str]:
    """Pythons of the locks' version where uv does not look: pyenv's, which are not in a PATH that Blender inherits."""
    versions = Path.home() / ".pyenv" / "versions"
    yield from (str(p / "bin" / "python") for p in sorted(versions.glob(f"{PYTHON}.*"), reverse=True))


def find_python(preferred: str, own: str) -> str:
    """What uv makes the environment with: the artist's choice, ours or one of pyenv's where it fits, else the version's
    number, for which uv looks in the registry, in the PATH and in the usual folders, and which it brings where none is.

    Raises :class:`InstallError` where the artist's choice does not fit.
    """
    if preferred:
        if version_of(preferred) != PYTHON:
            raise InstallError(f"“{preferred}” is not a 64-bit Python {PYTHON}: choose another, or none.")
        return preferred
    for command in (own, shutil.which(f"python{PYTHON}") or "", *candidates()):
        # Windows' own aliases open its shop where no Python is installed.
        if command and "WindowsApps" not in command and Path(command).exists() and version_of(command) == PYTHON:
            return command
    return PYTHON


def python_that_has_pip(own: str) -> tuple[str, bool]:
    """A Python that can run pip, and whether that pip is its own rather than the one inside its ``ensurepip``.

    Blender's always has it inside; a Blender that a Linux distribution built may not, and then the system's Pythons are
    asked. Raises :class:`InstallError` where none can.
    """
    inside = "import ensurepip, glob, os; print(*glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), '_bundled', 'pip-*.whl')))"  # noqa: E501
    shared = glob.glob("/usr/share/python-wheels/pip-*.whl")
    names = [own, *(shutil.which(name) or "" for name in ("python3", "python")), *candidates()]
    for command in dict.fromkeys(name for name in names if name and "WindowsApps" not in name):
        if _ask(command, inside) or (shared and _ask(command, "import ensurepip; print(1)")):
            return command, False
        if _ask(command, "import pip; print(1)"):
            return command, True
    raise InstallError(f"{own or 'This Blender'} lacks pip, and no other Python has it: install python3-pip first.")
