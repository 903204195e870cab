# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the locks: which version of which package every install takes, from the one list in pyproject.toml.

    python packaging/lock.py            # take newer versions where the bounds allow it
    python packaging/lock.py --keep     # change only what pyproject.toml makes necessary

``packaging/development.txt`` is for a checkout, on any system, with Python 3.11 or 3.12. ``blender_addon/locks/`` has
two files for each system that artists have, at the same versions, for Python 3.12: PyTorch and what it alone needs
(which depends on the graphics card, so that the installer may take another build), and everything else. Each package
is followed by the wheels that it comes as, their sizes and hashes. Needs ``uv`` and the network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

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
TORCH = ("torch", "torchvision", "triton", "cuda-", "nvidia-")


def is_torch(name: str) -> bool:
    """Whether a package is PyTorch, or one that only PyTorch's build for a graphics card needs."""
    return any(name == part or (part.endswith("-") and name.startswith(part)) for part in TORCH)


def compile_lock(output: Path, *options: str) -> None:
    """Run ``uv pip compile`` on pyproject.toml. Raises ``CalledProcessError`` where it finds no solution."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", "--quiet", "pyproject.toml", "--only-binary", ":all:", "--no-python-downloads"]
    env = os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    subprocess.run([*command, "--output-file", str(output), *options], check=True, cwd=ROOT, env=env)


def wheels_of(package: dict[str, Any]) -> list[tuple[str, int, str]]:
    """File name, bytes and SHA-256 of every wheel of a package that fits; which one is taken is the tool's choice."""
    return [
        (PurePosixPath(unquote(urlsplit(wheel["url"]).path)).name, wheel["size"], wheel["hashes"]["sha256"])
        for wheel in package["wheels"]
    ]


def lines_of(packages: list[dict[str, Any]]) -> str:
    """One package after the other, as pip and uv read them."""
    text = ""
    for package in packages:
        wheels = wheels_of(package)
        hashes = "".join(f" --hash=sha256:{digest}" for _, _, digest in wheels)
        text += f"{package['name']}=={package['version']}{hashes}\n"
        text += "".join(f"    # {name} {size}\n" for name, size, _ in wheels)
    return text


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
        compile_lock(development, "--universal", "--fork-strategy", "fewest", "--python-version", "3.11",
                     "--no-header", "--no-annotate", *extras)  # fmt: skip
        files = {DEVELOPMENT: header + development.read_text(encoding="utf-8")}
        for platform, triple in PLATFORMS.items():
            lock = folder / f"pylock.{platform}.toml"
            same = ("--constraint", str(development))
            compile_lock(lock, "--python-platform", triple, "--python-version", PYTHON, *same)
            packages = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
            header = f"# Written by packaging/lock.py from pyproject.toml, for Python {PYTHON} on {platform}.\n"
            for name, taken in (
                (f"{platform}.txt", [p for p in packages if not is_torch(p["name"])]),
                (f"{platform}-torch.txt", [p for p in packages if is_torch(p["name"])]),
            ):
                files[LOCKS / name] = header + lines_of(taken)
    LOCKS.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path.relative_to(ROOT)}: {text.count('==')} packages")


if __name__ == "__main__":
    main()
