# SPDX-License-Identifier: GPL-3.0-or-later
"""The script of a second Blender that photographs a scene (:mod:`second_blender` starts it):

    blender --background --python photographer.py -- ORDER.json

Each line on the standard output that begins with ``MARK`` is a JSON object: ``{"fraction": 0.25}`` after each picture,
``{"failed": "a sentence"}``, or ``{"done": true}``. It ends with the Blender that started it, whose end closes its
standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path

import bpy

MARK = "instruct-nerf: "


def say(**what: object) -> None:
    """One line to the Blender that asked."""
    print(MARK + json.dumps(what), flush=True)


def end_with_the_other() -> None:
    """Wait for the end of whoever holds the other end of the standard input, and leave at once."""
    sys.stdin.buffer.read()
    os._exit(1)


def take(order: dict) -> None:
    """Take all pictures of an order."""
    package = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(package.parent))
    photograph = importlib.import_module(f"{package.name}.scene.photograph")
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(order["file"]) as (_, wanted):
        wanted.scenes = [order["scene"]]
    (scene,) = wanted.scenes
    bpy.context.window_manager.windows[0].scene = scene
    standpoints = [photograph.Standpoint(**one) for one in order["standpoints"]]
    film = photograph.Film(**order["film"]) if order["film"] else None
    for fraction in photograph.photograph(scene.name, standpoints, film, Path(order["folder"])):
        say(fraction=fraction)


def main() -> None:
    """Take the pictures that the file names after ``--`` orders."""
    threading.Thread(target=end_with_the_other, daemon=True).start()
    order = json.loads(Path(sys.argv[sys.argv.index("--") + 1]).read_text(encoding="utf-8"))
    try:
        take(order)
    except (ValueError, RuntimeError, OSError) as error:
        say(failed=str(error).strip() or type(error).__name__)
    except Exception:
        traceback.print_exc()
        raise
    else:
        say(done=True)


if __name__ == "__main__":
    main()
