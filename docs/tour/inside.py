# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of the window: all parts, one after the other. Runs inside Blender."""

from __future__ import annotations

import importlib
import json
import os
import time

import bpy

from tests.callback_times import Recorder

from . import begin, hand
from .parts import PARTS
from .window import Window


def main() -> None:
    """Go through all parts up to the one that the settings name; ``result.json`` is written at the end alone. After
    each part the file is saved, and in ``progress.json`` what was done, so that a tour that broke off goes on there."""
    settings = json.loads(os.environ["INSTRUCT_NERF_WINDOW"])
    window = Window(settings, Recorder())
    progress = window.folder / "progress.json"
    earlier = json.loads(progress.read_text()) if settings["go_on"] else {"done": []}
    done: list[str] = earlier["done"]

    def program() -> hand.Program:
        if done:
            window.result |= earlier["result"]
            hand.places |= {copied: tuple(place) for copied, place in earlier.get("places", {}).items()}
            window.recorder.passed |= earlier["passed"]
            window.recorder.computed |= earlier["computed"]
            yield from begin.again(window)
        for name in PARTS[: PARTS.index(settings["last"]) + 1]:
            if name in settings["skip"] or name in done:
                continue
            module, part = name.split(".")
            began = time.monotonic()
            yield from getattr(importlib.import_module(f"{__package__}.{module}"), part)(window)
            window.result[f"seconds: {part}"] = round(time.monotonic() - began, 1)
            (window.folder / "callbacks.json").write_text(json.dumps(window.recorder.table(), indent=1))
            print(f"{part}: {window.result[f'seconds: {part}']} s", flush=True)
            bpy.ops.wm.save_mainfile()
            done.append(name)
            times = {"passed": window.recorder.passed, "computed": window.recorder.computed}
            progress.write_text(json.dumps({"done": done, "result": window.result, "places": hand.places, **times}))
        window.result["callbacks"] = window.recorder.table()
        (window.folder / "result.json").write_text(json.dumps(window.result, indent=1))

    hand.run(program, settings["limit"])
