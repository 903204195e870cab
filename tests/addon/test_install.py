# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's environment, made for real from a tiny wheel without dependencies."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from blender_addon import install

posix = pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts as stand-ins")


def tiny_wheel(folder: Path, body: str = "print('usage: engine')") -> Path:
    path = folder / "instruct_nerf_engine-0.0.1-py3-none-any.whl"
    info = "instruct_nerf_engine-0.0.1.dist-info"
    files = {
        "engine/__init__.py": "",
        "engine/__main__.py": body,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: instruct-nerf-engine\nVersion: 0.0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def script(path: Path, body: str) -> str:
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_an_environment_is_made_used_and_kept(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    assert install.installed_python(tmp_path / "user", wheel) is None
    installer = install.Installer(tmp_path / "user", wheel, preferred=sys.executable)
    installer.start()
    assert installer.join(120) and installer.error == "", installer.lines
    python = install.installed_python(tmp_path / "user", wheel)
    assert python is not None
    said = subprocess.run([python, "-m", "engine"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.strip() == "usage: engine"
    assert any("instruct_nerf_engine" in line or "instruct-nerf-engine" in line for line in installer.lines)
    # Another wheel is another environment: an update never runs with the old engine.
    (tmp_path / "new").mkdir()
    assert install.installed_python(tmp_path / "user", tiny_wheel(tmp_path / "new", "print('newer')")) is None


@pytest.mark.slow
def test_an_engine_that_does_not_start_leaves_no_environment(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, "raise SystemExit('no torch')")
    installer = install.Installer(tmp_path / "user", wheel, preferred=sys.executable)
    installer.start()
    assert installer.join(120)
    assert "Checking the engine failed: no torch" in installer.error
    assert not installer.environment.exists()


@posix
def test_cancelled_in_the_middle_it_leaves_nothing(tmp_path: Path) -> None:
    real = sys.executable
    slow = script(tmp_path / "python", f'case "$*" in *venv,*) exec {real} "$@";; esac\nmkdir -p "$4"\nsleep 60\n')
    installer = install.Installer(tmp_path / "user", tiny_wheel(tmp_path), preferred=slow)
    installer.start()
    deadline = time.monotonic() + 20
    while not installer.environment.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert installer.environment.exists()
    installer.cancel()
    assert installer.join(5) and installer.error == "The installation was cancelled."
    assert not installer.environment.exists()


def test_a_half_made_environment_is_not_used(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    python = install.python_of(install.environment_of(tmp_path / "user", wheel))
    python.parent.mkdir(parents=True)
    python.touch()
    assert install.installed_python(tmp_path / "user", wheel) is None


@posix
def test_only_pythons_that_fit_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    old = script(tmp_path / "python3", "echo 3 9\n")
    with pytest.raises(install.InstallError, match=r"No Python 3.11 or 3.12 was found"):
        install.find_interpreter(own=old)
    with pytest.raises(install.InstallError, match=r"is not a Python 3.11 or 3.12"):
        install.find_interpreter(preferred=old, own=sys.executable)
    assert install.find_interpreter(own=script(tmp_path / "own", "echo 3 11\n")).command == str(tmp_path / "own")
    fits = script(tmp_path / "python3.12", "echo 3 12\n")
    assert install.find_interpreter(own=old) == install.Interpreter(fits, (3, 12))
    Path(fits).unlink()
    uv = script(tmp_path / "uv", "exit 1\n")
    assert install.find_interpreter(own=old) == install.Interpreter(uv, (3, 11), is_uv=True)


def test_nothing_is_given_to_a_shell_or_compiled(tmp_path: Path) -> None:
    wheel = tmp_path / "a b; rm -rf $HOME.whl"
    (make, _), (pip, arguments), _ = (
        c for c in install.commands(install.Interpreter("/p", (3, 11)), tmp_path / "e", wheel, "https://example.org/x")
    )
    assert arguments[-1] == str(wheel) and "--prefer-binary" in arguments
    assert arguments[arguments.index("--extra-index-url") + 1] == "https://example.org/x"
    assert make and pip
