# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Blender extension: the add-on, its manifest at the root, and the engine's wheel as a file.

    python packaging/build_extension.py --output dist/instruct_nerf.zip

Blender's own tool makes and checks the zip; it comes with the bpy module or with a Blender (``--blender-ext PATH``).
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = "scripts/addons_core/bl_pkg/cli/blender_ext.py"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "ruff.toml", ".*")


def tool_of_bpy() -> Path:
    """Blender's extension tool inside the installed bpy module. Raises ``FileNotFoundError`` where there is none."""
    found = importlib.util.find_spec("bpy")
    places = list(found.submodule_search_locations or ()) if found else []
    for place in map(Path, places):
        for tool in sorted(place.glob(f"*/{TOOL}"), reverse=True):
            return tool
    raise FileNotFoundError("The bpy module is not installed; install it, or name Blender's tool with --blender-ext.")


def build_wheel(folder: Path) -> Path:
    """The engine's wheel, built into ``folder`` from this checkout."""
    # A copy, since setuptools would leave build/ and *.egg-info in the checkout, and take up what lies there.
    source = folder / "source"
    source.mkdir(parents=True)
    shutil.copytree(ROOT / "engine", source / "engine", ignore=LEFT_OUT)
    for name in ("pyproject.toml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, source / name)
        else:
            (source / name).touch()
    # With this environment's setuptools: nothing is downloaded.
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def stage(folder: Path, wheel: Path) -> None:
    """Lay out the extension's content in ``folder``."""
    shutil.copytree(ROOT / "blender_addon", folder, ignore=LEFT_OUT, dirs_exist_ok=True)
    shutil.copy2(ROOT / "blender_manifest.toml", folder)
    (folder / "engine").mkdir()
    shutil.copy2(wheel, folder / "engine" / wheel.name)
    for name in ("LICENSE", "LICENSE.txt"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder)


def build(output: Path, wheel: Path | None, tool: Path) -> None:
    """Build and validate the extension at ``output``; nothing is left there when a step fails."""
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stage(folder / "extension", wheel or build_wheel(folder / "wheel"))
        made = folder / "extension.zip"
        run = [sys.executable, str(tool)]
        subprocess.run([*run, "validate", str(folder / "extension")], check=True)
        subprocess.run(
            [*run, "build", "--source-dir", str(folder / "extension"), "--output-filepath", str(made)], check=True
        )
        subprocess.run([*run, "validate", str(made)], check=True)
        shutil.copy2(made, output)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "instruct_nerf.zip")
    parser.add_argument("--wheel", type=Path, help="an engine wheel that is built already")
    parser.add_argument("--blender-ext", type=Path, help="Blender's blender_ext.py")
    options = parser.parse_args()
    try:
        build(options.output, options.wheel, options.blender_ext or tool_of_bpy())
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(f"The extension was not built: {error}")
    print(f"{options.output}  {options.output.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    main()
