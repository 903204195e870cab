# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of photos that have none: a folder of pictures, or a video, becomes a COLMAP model beside copies of them."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

import engine
from engine.capture import registration_worker as worker
from engine.capture.photos import EXTENSIONS, SkipView, stored_size
from engine.capture.reading import natural
from engine.capture.types import CaptureError, LeftOut
from engine.errors import Cancelled
from engine.files import replacing_folder

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
MOST_PHOTOS = 2000
MOST_FRAMES = 150  # kept of a video
LONG_SIDE = 1600  # pixels, of the pictures as they are compared
_MOST_FILES = 200_000  # looked at in a folder


def find_photos(source: Path) -> list[Path]:
    """The photos of a folder, or of its folder `images`, in natural order; empty where it has none."""
    for folder in (source, source / "images"):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            found = [
                Path(entry.path)
                for entry, _ in zip(entries, range(_MOST_FILES), strict=False)
                if entry.name.endswith(EXTENSIONS) and not entry.name.startswith(".") and entry.is_file()
            ]
        if found:
            return sorted(found, key=lambda path: natural(path.name))
    return []


def is_video(source: Path) -> bool:
    return source.suffix.lower() in VIDEOS and source.is_file()


def register(
    source: Path,
    folder: Path,
    on_plan: Callable[[dict[str, int]], None] = lambda units: None,
    on_step: Callable[[str, int], None] = lambda stage, done: None,
    should_stop: Callable[[], bool] = lambda: False,
    long_side: int = LONG_SIDE,
    threads: int | None = None,
) -> tuple[worker.Found, list[LeftOut]]:
    """Finds the cameras of a folder of photos, or of a video, and makes `folder`: `images/` and `sparse/0/`.

    Stages are `video`, `features`, `matches` and `cameras`; `on_plan` is told the units of those ahead, once or twice.
    Returns what was found and which photos could not be used. Raises CaptureError, whose sentence says what is wrong
    with the photos, and Cancelled within a second of `should_stop()` turning true; then `folder` is as it was.
    """
    photos, left_out = ([], []) if is_video(source) else _usable(source)
    with replacing_folder(folder) as part:
        request = worker.Request(
            str(part),
            [str(photo) for photo in photos],
            str(source) if is_video(source) else None,
            MOST_FRAMES,
            long_side,
            threads or max(1, (os.cpu_count() or 2) - 1),
        )
        found = _run(request, source, on_plan, on_step, should_stop)
    return found, left_out


def _usable(source: Path) -> tuple[list[Path], list[LeftOut]]:
    found = find_photos(source)
    if len(found) > MOST_PHOTOS:
        raise CaptureError(
            f"{source.name} holds {len(found):,} photos; cameras can be found for at most {MOST_PHOTOS:,}.",
            file=source,
            field="photos",
        )
    photos, left_out = [], []
    for path in found:
        try:
            stored_size(path)
            photos.append(path)
        except SkipView as problem:
            left_out.append(LeftOut(path.name, str(problem)))
    if len(photos) < 3:
        why = f" The first left out: {left_out[0].reason}" if left_out else ""
        raise CaptureError(
            f"{source.name} holds {len(photos)} photos that can be read; cameras need at least 3.{why}",
            file=source,
            field="photos",
        )
    return photos, left_out


def _run(
    request: worker.Request,
    source: Path,
    on_plan: Callable[[dict[str, int]], None],
    on_step: Callable[[str, int], None],
    should_stop: Callable[[], bool],
) -> worker.Found:
    packages = os.pathsep.join(filter(None, (str(Path(engine.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", worker.__name__]
    lines: queue.Queue[bytes | None] = queue.Queue()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": packages},
        )
        assert process.stdin is not None and process.stdout is not None
        output = process.stdout

        def read() -> None:
            for line in output:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            with contextlib.suppress(OSError):  # it is gone already, which its status says below
                process.stdin.write(msgspec.json.encode(request) + b"\n")
                process.stdin.flush()
            while True:
                if should_stop():
                    raise Cancelled("stopped while cameras were being found")
                try:
                    line = lines.get(timeout=0.1)
                except queue.Empty:
                    continue
                if line is None:
                    status = process.wait()
                    if _is_full(Path(request.folder).parent):  # of which COLMAP says nothing
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    raise CaptureError(
                        f"Finding the cameras of {source.name} ended unexpectedly (status {status}: {_end_of(log)}); "
                        "a photo may be damaged, or memory too little.",
                        file=source,
                    )
                message = msgspec.json.decode(line, type=worker.Plan | worker.Step | worker.Failed | worker.Found)
                if isinstance(message, worker.Plan):
                    on_plan(message.units)
                elif isinstance(message, worker.Step):
                    on_step(message.stage, message.done)
                elif isinstance(message, worker.Failed) and message.errno is not None:
                    raise OSError(message.errno, os.strerror(message.errno))
                elif isinstance(message, worker.Failed):
                    raise CaptureError(message.sentence, file=source, field="photos")
                else:
                    return message
        finally:
            process.kill()
            process.wait()
            process.stdin.close()


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False


def _end_of(log) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 2000))
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][-200:] if lines else "it said nothing"
