# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs a scene in a second Blender, without a window, so that the artist goes on in the first meanwhile.

The scene is written into a file of its own as it is now: what is changed afterwards does not reach the photographs,
which are to be of one and the same scene.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import bpy

from . import running, state
from .scene import photographer
from .scene.photograph import Film, Standpoint, photograph

LAST_WORDS = 20  # lines of what the second Blender said that are kept
SAVED_APART = {"FILE", "GENERATED", "TILED"}  # images that are painted are not saved with the scene


def command() -> list[str]:
    """Blender without a window, with the settings that this one has; empty where there is none to start, or no window
    here that it would hold up."""
    if bpy.app.background or not bpy.app.binary_path:
        return []
    # Drivers and scripts run there where they may run here.
    scripts = "--disable-autoexec" if bpy.app.autoexec_fail else "--enable-autoexec"
    factory = ["--factory-startup"] if bpy.app.factory_startup else []
    return [bpy.app.binary_path, "--background", *factory, scripts]


def photographing(
    scene: bpy.types.Scene, standpoints: Sequence[Standpoint], film: Film | None, folder: Path
) -> Iterator[float | None]:
    """As :func:`photograph`, in a second Blender where there is one; yields None where there is nothing new.

    Where that does not begin (a machine without memory for two, say), and where there are images whose changes are in
    this Blender's memory alone, this Blender takes the pictures itself. Raises ``ValueError`` as ``photograph``.
    """
    blender = command()
    painted = any(item.is_dirty and item.users and item.source in SAVED_APART for item in bpy.data.images)
    if not blender or painted:
        return photograph(scene.name, standpoints, film, folder)
    for item in scene.objects:
        if item.mode == "EDIT":
            item.update_from_editmode()
    place = Path(tempfile.mkdtemp(prefix="photographs-", dir=bpy.app.tempdir))
    try:
        file, order = place / "scene.blend", place / "order.json"
        bpy.data.libraries.write(str(file), {scene}, path_remap="ABSOLUTE")
        said = {
            "file": str(file), "scene": scene.name, "standpoints": [asdict(one) for one in standpoints],
            "film": asdict(film) if film else None, "folder": str(folder),
        }  # fmt: skip
        order.write_text(json.dumps(said), encoding="utf-8")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    state.get().release_wanted = True  # a render may be short of memory
    return _awaited([*blender, "--python", photographer.__file__, "--", str(order)], place, said["scene"], standpoints,
                    film, folder)  # fmt: skip


def _awaited(
    line: list[str], place: Path, scene_name: str, standpoints: Sequence[Standpoint], film: Film | None, folder: Path
) -> Iterator[float | None]:
    process, taken, ended = None, False, False
    heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    words: list[str] = []
    try:
        try:
            process = running.begin(line)
            threading.Thread(target=_listen, args=(process, heard), daemon=True, name="second Blender").start()
        except OSError as error:
            words, ended = [str(error)], True
        while not ended:
            try:
                text = heard.get_nowait()
            except queue.Empty:
                yield None
                continue
            if text is None:
                ended = True
            elif not text.startswith(photographer.MARK):
                words = [*words[1 - LAST_WORDS :], text]
            elif "fraction" in (what := json.loads(text.removeprefix(photographer.MARK))):
                taken = True
                yield float(what["fraction"])
            elif "failed" in what:
                raise ValueError(str(what["failed"]))
            else:
                return
    finally:
        if process is not None:
            running.end(process)
        shutil.rmtree(place, ignore_errors=True)
    print("The second Blender ended without a word:", *words, sep="\n")
    if taken:
        raise ValueError("Blender ended while it rendered the pictures; the system console has its last words.")
    yield from photograph(scene_name, standpoints, film, folder)


def _listen(process: subprocess.Popen[str], heard: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout
    with process.stdout:
        for text in process.stdout:
            heard.put(text.rstrip())
    process.wait()
    heard.put(None)
