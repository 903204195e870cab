# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the locks: which version of which package every install takes, from the one list in pyproject.toml.

    python packaging/lock.py            # take newer versions where the bounds allow it
    python packaging/lock.py --keep     # change only what pyproject.toml makes necessary

``packaging/development.txt`` is for a checkout, on any system, with Python 3.11 or 3.12. ``blender_addon/locks/`` has
three files for each system that artists have, at the same versions, for Python 3.12: PyTorch and what it alone needs
(which depends on the graphics card, so that the installer may take another build), uv, which installs them, and
everything else. Each package is followed by its wheels and their sizes in bytes, and by what it takes once installed.
Needs the network, and for packages that are new to a lock the time to install them for every system.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = ROOT / "packaging" / "development.txt"
LOCKS = ROOT / "blender_addon" / "locks"
EXTRAS = ("blender", "test", "training", "lock")
PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "windows-x86_64": "x86_64-pc-windows-msvc",
    "macos-arm64": "aarch64-apple-darwin",
}
PYTHON = "3.12"
MACOS = "14.0"  # the oldest that PyTorch's and pycolmap's wheels run on
ENVIRONMENT = os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
TORCH = ("torch", "torchvision", "triton", "cuda-", "nvidia-")


def is_torch(name: str) -> bool:
    """Whether a package is PyTorch, or one that only PyTorch's build for a graphics card needs."""
    return any(name == part or (part.endswith("-") and name.startswith(part)) for part in TORCH)


def uv() -> str:
    """The path of uv: this environment's, or the system's."""
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"


def compile_lock(source: str, output: Path, *options: str) -> None:
    """Run ``uv pip compile`` on a list. Raises ``CalledProcessError`` where it finds no solution."""
    command = [uv(), "pip", "compile", "--quiet", source, "--only-binary", ":all:", "--no-python-downloads"]
    subprocess.run([*command, "--output-file", str(output), *options], check=True, cwd=ROOT, env=ENVIRONMENT)


def wheels_of(package: dict[str, Any]) -> list[tuple[str, int, str]]:
    """File name, bytes and SHA-256 of every wheel of a package that fits; which one is taken is the tool's choice."""
    return [
        (PurePosixPath(unquote(urlsplit(wheel["url"]).path)).name, wheel["size"], wheel["hashes"]["sha256"])
        for wheel in package["wheels"]
    ]


def measured_before() -> dict[tuple[str, str], str]:
    """What the present locks say of each package's size once installed, by platform and ``name==version``."""
    found = {}
    for path in LOCKS.glob("*.txt"):
        platform = next(name for name in PLATFORMS if path.name.startswith(name))
        for name, line in re.findall(
            r"^(\S+==\S+) .*\n(?:    # \S+\.whl .*\n)+    # (installed: .*)$", read(path), re.M
        ):
            found[platform, name] = line
    return found


def measure(platform: str, packages: list[dict[str, Any]], folder: Path) -> dict[str, str]:
    """Install packages for a platform into ``folder``; of each, the bytes it takes and how long its longest name is."""
    lock = folder / "lock.txt"
    lock.write_text(lines_of(packages, {}), encoding="utf-8")
    command = [uv(), "pip", "install", "--no-deps", "--only-binary", ":all:", "--python-version", PYTHON]
    command += ["--python-platform", PLATFORMS[platform], "--target", str(folder / "target"), "-r", str(lock)]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    said = {}
    for distribution in distributions(path=[str(folder / "target")]):
        files = [file for file in distribution.files or () if ".." not in file.parts]
        size = sum(file.size or 0 for file in files)
        longest = max(len(str(file)) for file in files)
        said[canonicalize_name(distribution.metadata["Name"])] = f"installed: {size} bytes, longest name {longest}"
    return said


def lines_of(packages: list[dict[str, Any]], measured: dict[str, str]) -> str:
    """One package after the other, as pip and uv read them."""
    text = ""
    for package in packages:
        wheels = wheels_of(package)
        hashes = "".join(f" --hash=sha256:{digest}" for _, _, digest in wheels)
        text += f"{package['name']}=={package['version']}{hashes}\n"
        text += "".join(f"    # {name} {size}\n" for name, size, _ in wheels)
        if package["name"] in measured:
            text += f"    # {measured[package['name']]}\n"
    return text


def read(path: Path) -> str:
    """A lock's text; empty where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main() -> None:
    """Write all locks, or none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep versions that still fit")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        development = folder / "development.txt"
        if keep and DEVELOPMENT.exists():
            shutil.copy2(DEVELOPMENT, development)
        extras = [word for extra in EXTRAS for word in ("--extra", extra)]
        header = "# Written by packaging/lock.py from pyproject.toml: everything that a checkout's environment has.\n"
        # The same versions for every Python and system: what differs only by chance would behave differently.
        compile_lock("pyproject.toml", development, "--universal", "--fork-strategy", "fewest",
                     "--python-version", "3.11", "--no-header", "--no-annotate", *extras)  # fmt: skip
        files = {DEVELOPMENT: header + read(development)}
        before = measured_before()
        for platform in PLATFORMS:
            files |= locks_of(platform, development, before, folder / platform)
    LOCKS.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path.relative_to(ROOT)}: {len(re.findall('^[a-z].*==', text, re.M))} packages")


def locks_of(platform: str, development: Path, before: dict[tuple[str, str], str], folder: Path) -> dict[Path, str]:
    """The text of a platform's three locks. ``before`` spares measuring again what has not changed."""
    folder.mkdir()
    for_platform = ("--python-platform", PLATFORMS[platform], "--python-version", PYTHON)
    packages = []
    (folder / "uv.in").write_text("uv\n", encoding="utf-8")
    for source in ("pyproject.toml", str(folder / "uv.in")):
        lock = folder / "pylock.toml"
        compile_lock(source, lock, *for_platform, "--constraint", str(development))
        packages += tomllib.loads(read(lock))["packages"]
        lock.unlink()
    known = {p["name"]: before.get((platform, f"{p['name']}=={p['version']}"), "") for p in packages}
    unknown = [p for p in packages if not known[p["name"]]]
    if unknown:
        known |= measure(platform, unknown, folder)
    header = f"# Written by packaging/lock.py from pyproject.toml, for Python {PYTHON} on {platform}.\n"
    parts = {"": [], "-torch": [], "-uv": []}
    for package in packages:
        part = "-uv" if package["name"] == "uv" else "-torch" if is_torch(package["name"]) else ""
        parts[part].append(package)
    return {LOCKS / f"{platform}{part}.txt": header + lines_of(taken, known) for part, taken in parts.items()}


if __name__ == "__main__":
    main()
