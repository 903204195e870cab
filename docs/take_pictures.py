# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the pictures of the user guide: drives a real Blender window with mouse and keys through all of the add-on.

    BLENDER_GUI="command that runs Blender with a window" \\
        python docs/take_pictures.py --capture FOLDER --engine-python PYTHON [--pictures docs/pictures]

The command gets Blender's own arguments; ``xdotool`` and ImageMagick's ``import`` must be there inside. Everything is
checked on the way, so this is also the window's end-to-end test (tests/window): it ends with exit code 0 and a file
``result.json`` beside the .blend only if every part (docs/tour/parts.py) did what it should. How long the add-on's
callbacks took of Blender's main thread stands in ``callbacks.json`` there. ``--animate`` also makes the README's
pictures and the two-minute film of what was seen. A tour that broke off goes on with ``--go-on`` and its ``--folder``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SCREEN = "1600x900"  # what is drawn there can be read in a picture of the guide


def tour(name: str) -> ModuleType:
    """A module of docs/tour that is free of bpy."""
    spec = importlib.util.spec_from_file_location(f"tour_{name}", ROOT / "docs" / "tour" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PARTS = tour("parts").PARTS


def gui_command() -> list[str] | None:
    """The command that runs Blender with a window: BLENDER_GUI, else ../shared/tools/blender-gui, else None."""
    if named := os.environ.get("BLENDER_GUI"):
        return shlex.split(named)
    beside = ROOT.parent / "shared" / "tools" / "blender-gui"
    return [str(beside)] if beside.exists() else None


def engine_environment(folder: Path) -> Path:
    """A Python that has this checkout's engine: a bare environment that borrows the packages of the running one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    lines = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("\n".join([*lines, str(ROOT)]))
    return folder / "bin" / "python"


def take(options: argparse.Namespace) -> int:
    """Start Blender with this file as its script; the exit code is Blender's."""
    command = gui_command()
    if command is None:
        print("No Blender with a window: set BLENDER_GUI to a command that runs one.", file=sys.stderr)
        return 2
    if not Path(options.capture).exists():
        print(f"There is no capture {options.capture}: name a folder with --capture.", file=sys.stderr)
        return 2
    if options.go_on and not (options.folder and (Path(options.folder) / "progress.json").exists()):
        print("Nothing to go on with: name the folder of a tour that broke off with --folder.", file=sys.stderr)
        return 2
    folder = Path(options.folder or tempfile.mkdtemp(prefix="instruct-nerf-window-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Blender starts the engine in another folder. Not resolved: an environment's Python is a link out of it.
    python = Path(os.path.abspath(options.engine_python or engine_environment(folder / "engine")))
    zip_file = folder / "instruct_nerf.zip"
    build = [sys.executable, str(ROOT / "packaging" / "build_extension.py"), "--output", str(zip_file)]
    subprocess.run([*build, *(["--wheel", str(options.wheel)] if options.wheel else [])], check=True)
    editor = options.editor
    if editor and Path(editor).is_dir():  # beside the .blend, so that no path of this machine is in the pictures
        shutil.copytree(editor, folder / "model", dirs_exist_ok=True)
        editor = "//model"
    settings = {
        "zip": str(zip_file), "python": str(python), "folder": str(folder), "limit": options.limit,
        "capture": str(Path(options.capture).resolve()), "pictures": str(Path(options.pictures).resolve()),
        "instruction": options.instruction, "change": options.change, "further": options.further, "editor": editor,
        "steps": options.steps, "more": options.more, "dozen": options.dozen, "frames": options.frames,
        "percentage": options.percentage, "long_side": options.long_side,
        "last": options.last, "skip": options.skip, "go_on": options.go_on,
        "fake": str(options.fake_engine.resolve() if options.fake_engine else ""),
    }  # fmt: skip
    env = os.environ | {
        "INSTRUCT_NERF_WINDOW": json.dumps(settings),
        "BLENDER_USER_RESOURCES": str(folder / "user"),
        "WINDOW_FAILURE": str(folder / "failure.webp"),
        "BLENDER_GUI_SCREEN": os.environ.get("BLENDER_GUI_SCREEN", SCREEN),
    }
    (folder / "user").mkdir(exist_ok=True)
    print(f"Working in {folder}", flush=True)
    arguments = ["--factory-startup", "--python", str(Path(__file__).resolve())]
    code = subprocess.run([*command, *arguments], env=env, cwd=ROOT).returncode
    if code or not (folder / "result.json").exists():
        return code or 1
    (folder / "callbacks.md").write_text(callbacks(json.loads((folder / "callbacks.json").read_text())))
    if options.animate:
        tour("animate").animate(folder, Path(options.pictures).resolve())
    return 0


def callbacks(rows: list[dict]) -> str:
    """What the add-on's callbacks took of Blender's main thread, as a table of those that took longest."""
    lines = ["| callback | calls | median, ms | worst, ms | worst, ms computed |", "|---|---|---|---|---|"]
    for row in rows[:15]:
        lines.append(f"| `{row['callback']}` | {row['calls']} | {row['p50']} | {row['max']} | {row['computed']} |")
    calls = sum(row["calls"] for row in rows)
    slow = [row for row in rows if row["p50"] > 5 or row["max"] > 20]
    return "\n".join([*lines, "", f"{calls} calls of {len(rows)} callbacks; {len(slow)} above 5 ms at the median or "
                      "20 ms at worst."]) + "\n"  # fmt: skip


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", required=True)
    parser.add_argument("--instruction", default="turn it into bronze")
    parser.add_argument("--change", default="turn it into gold", help="what the running edit is told half way")
    parser.add_argument("--further", default="make it red", help="the edit of the edit, inside a box")
    parser.add_argument("--engine-python", type=Path, help="a Python with the engine (one that borrows this one's)")
    parser.add_argument("--editor", default="", help="a model folder or hub name (the engine's default)")
    parser.add_argument("--steps", type=int, default=0, help="steps of the edit (0: what the preset says)")
    parser.add_argument("--more", type=int, default=0, help="steps of the edit of it (0: what the preset says)")
    parser.add_argument("--dozen", type=int, default=12, help="how many cameras to choose")
    parser.add_argument("--frames", type=int, default=24, help="frames of the strips (at least one a chosen camera)")
    parser.add_argument("--percentage", type=int, default=200, help="of the working size, that the strips have")
    parser.add_argument("--long-side", type=int, default=0, help="of the pictures worked on (0: what the preset says)")
    parser.add_argument("--pictures", default=str(ROOT / "docs" / "pictures"))
    parser.add_argument("--folder", help="where the project goes (a temporary folder)")
    parser.add_argument("--wheel", type=Path, help="an engine wheel that is built already")
    parser.add_argument("--fake-engine", type=Path, help="a script to run in place of the engine, for tests")
    parser.add_argument("--last", choices=PARTS, default=PARTS[-1], help="the part after which to stop")
    parser.add_argument("--skip", choices=PARTS, action="append", default=[], help="a part to leave out; repeatable")
    parser.add_argument("--go-on", action="store_true", help="with what broke off in --folder, at the part that failed")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for everything")
    parser.add_argument("--animate", action="store_true", help="make the animation and the film, too")
    return take(parser.parse_args())


if __name__ == "__main__":
    if "INSTRUCT_NERF_WINDOW" in os.environ:  # inside Blender
        sys.path[:0] = [str(ROOT / "docs"), str(ROOT)]
        from tour import inside

        inside.main()
    else:
        sys.exit(main())
