# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels of a few hundred bytes, and locks that name them, for the installer's tests."""

from __future__ import annotations

import hashlib
import stat
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import distribution
from pathlib import Path


def tiny_wheel(folder: Path, name: str, version: str, files: dict[str, str | bytes], info: str = "") -> Path:
    """A wheel with these files, as a build tool would write it."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    info = info or f"{name.replace('-', '_')}-{version}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            entry = zipfile.ZipInfo(file)
            entry.external_attr = (stat.S_IFREG | (0o755 if ".data/scripts/" in file else 0o644)) << 16
            wheel.writestr(entry, content)
            digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            record += f"{file},sha256={digest},{len(content)}\n"
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


def tiny_engine(folder: Path, body: str = "print('usage: engine')") -> Path:
    """The engine's wheel, with a body that is not an engine's."""
    return tiny_wheel(folder, "instruct-nerf-engine", "0.0.1", {"engine/__init__.py": "", "engine/__main__.py": body})


def uv_wheel(folder: Path) -> tuple[Path, str]:
    """A wheel whose program calls the uv that this environment has, and that one's version."""
    version = distribution("uv").version
    body = f"#!/bin/sh\nexec '{Path(sys.executable).with_name('uv')}' \"$@\"\n"
    return tiny_wheel(folder, "uv", version, {"uv/__init__.py": "", f"uv-{version}.data/scripts/uv": body}), version


def tiny_locks(folder: Path, wheels: Path, versions: dict[str, str]) -> Path:
    """Locks for Linux of packages that have a ``VERSION``, whose wheels (and uv's) are put into ``wheels``."""
    folder.mkdir()

    def line(name: str, version: str, wheel: Path) -> str:
        content = wheel.read_bytes()
        return (
            f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
            f"    # {wheel.name} {len(content)}\n    # installed: {2 * len(content)} bytes, longest name 20\n"
        )

    text = "# by hand\n"
    for name, version in versions.items():
        wheel = tiny_wheel(wheels, name, version, {f"{name}/__init__.py": f"VERSION = '{version}'\n"})
        text += line(name, version, wheel)
    (folder / "linux-x86_64.txt").write_text(text)
    (folder / "linux-x86_64-torch.txt").write_text("# none\n")
    wheel, version = uv_wheel(wheels) if not list(wheels.glob("uv-*")) else (next(wheels.glob("uv-*")), "")
    (folder / "linux-x86_64-uv.txt").write_text(line("uv", version or wheel.name.split("-")[1], wheel))
    return folder


def script(path: Path, body: str) -> str:
    """A shell script that can be run."""
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
