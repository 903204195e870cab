# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of photos that have none: a folder of pictures, or a video, becomes a COLMAP model beside copies of them."""

from __future__ import annotations

import errno
import os
import queue
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from engine import typed
from engine.capture import registration_worker as worker
from engine.capture.contents import VIDEOS, Contents, look, nothing_known
from engine.capture.effort import MOST_FRAMES
from engine.capture.photos import SkipView, checking, read_header
from engine.capture.reading import natural
from engine.capture.types import CaptureError, LeftOut
from engine.errors import Cancelled
from engine.files import replacing_folder
from engine.workers import at_work

MOST_PHOTOS = 2000
LONG_SIDE = 1600  # pixels, of the pictures as they are compared
PANORAMA = "It is a 360° panorama, whose pixels no flat camera saw."


def find_photos(source: Path, check: Callable[[], None] = lambda: None) -> list[Path]:
    """The photos of a folder, of its folder `images`, or of folders below (a memory card's DCIM), in natural order of
    their paths; empty where it has none."""
    if not source.is_dir():
        return []
    return sorted(look(source, check).photos, key=lambda path: natural(path.relative_to(source).as_posix()))


def find_video(source: Path, check: Callable[[], None] = lambda: None) -> Path | None:
    """The video that `source` is, or the only one that lies in a folder without photos; None where there is none."""
    if source.is_file():
        return source if source.suffix.lower() in VIDEOS else None
    contents = look(source, check) if source.is_dir() else Contents()
    videos = [] if contents.photos else contents.ending(*VIDEOS)
    return videos[0] if len(videos) == 1 and videos[0].is_file() else None


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

    def check() -> None:
        if should_stop():
            raise Cancelled("stopped while photos were being looked for")

    video = find_video(source, check)
    photos, left_out = ([], []) if video else _usable(source, check)
    with replacing_folder(folder) as part:
        request = worker.Request(
            os.fsencode(part),
            [worker.Photo(os.fsencode(path.resolve()), name) for path, name in photos],
            None if video is None else os.fsencode(video),
            MOST_FRAMES,
            long_side,
            threads or max(1, (os.cpu_count() or 2) - 1),
        )
        found = _run(request, source, on_plan, on_step, should_stop)
    return found, left_out + [LeftOut(name, PANORAMA) for name in found.panoramas]


def _usable(source: Path, check: Callable[[], None]) -> tuple[list[tuple[Path, str]], list[LeftOut]]:
    """The photos that can be read, each with the name that it gets, and those that cannot."""
    found = find_photos(source, check)
    if not found:
        raise (
            nothing_known(source, check) if source.exists() else CaptureError(f"{source} does not exist.", file=source)
        )
    if len(found) > MOST_PHOTOS:
        raise CaptureError(
            f"{source.name} holds {len(found):,} photos; cameras can be found for at most {MOST_PHOTOS:,}.",
            file=source,
            field="photos",
        )
    photos: list[tuple[Path, str]] = []
    left_out: list[LeftOut] = []
    taken: set[str] = set()
    own = found[0].parent if len({path.parent for path in found}) == 1 else source
    for path in found:
        listed = path.relative_to(own).as_posix()
        name = re.sub(r"[\\\ud800-\udfff]", "_", listed)  # names of other encodings, too
        while name.casefold() in taken:
            name = str(PurePosixPath(name).with_name(f"_{PurePosixPath(name).name}"))
        try:
            with checking(check):
                read_header(path)
        except SkipView as problem:
            left_out.append(LeftOut(name, str(problem)))
            continue
        taken.add(name.casefold())
        photos.append((path, name))
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
    with at_work(worker.__name__, request) as finding:
        while True:
            if should_stop():
                raise Cancelled("stopped while cameras were being found")
            try:
                line = finding.next_line()
            except queue.Empty:
                continue
            if line is None:
                status = finding.process.wait()
                if _is_full(Path(os.fsdecode(request.folder)).parent):  # of which COLMAP says nothing
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise CaptureError(
                    f"Finding the cameras of {source.name} ended unexpectedly (status {status}: "
                    f"{finding.last_words()}); a photo may be damaged, or memory too little.",
                    file=source,
                )
            message = typed.decode(line, worker.Plan | worker.Step | worker.Failed | worker.Found)
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


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False
