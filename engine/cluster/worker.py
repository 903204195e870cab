# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker does: a piece, with what it was sent, and nothing else. It writes in its own folder alone."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.cluster.nodes import Node, code_of_engine, this_node
from engine.errors import BadInput, explained, is_out_of_memory
from engine.files import write_bytes
from engine.pieces import Piece, Place
from engine.runtime import Runtime

log = logging.getLogger(__name__)

TELL_EVERY = 1.0  # seconds between two words of how far a piece is
LARGEST_CACHE = 16 * 2**30  # bytes of files that were sent, before the oldest go
RUNTIME = Runtime()  # what stays loaded in this process, from piece to piece


@dataclass(frozen=True)
class Failed:
    """Why a piece was not done: a sentence, and where."""

    message: str
    node: str
    file: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class SentFile:
    """A file that a piece reads: its content comes beside it."""

    digest: str
    suffix: str
    size: int  # bytes


@dataclass(frozen=True)
class Word:
    """Where a piece tells how far it is: on a board, by its key."""

    board: Any
    key: Any

    def teller(self) -> Callable[[Any], None]:
        """What it tells with: no word more often than now and then."""
        last = -TELL_EVERY

        def tell(what: Any) -> None:
            nonlocal last
            if time.monotonic() - last > TELL_EVERY:
                last = time.monotonic()
                self.board.tell.remote(self.key, what)

        return tell


def do_piece(
    code: str, piece: Piece, shared: Any, item: Any, device: str, files: Sequence[SentFile], word: Word | None,
    *sent: Any,
) -> Any:  # fmt: skip
    """What a piece makes, or `Failed`; what was ``sent`` are the contents of the files, then the piece's objects.
    ``word``: where what it tells goes."""
    node = socket.gethostname()
    try:
        if code != code_of_engine():
            raise BadInput("it has another engine than who asks: install the same there")
        paths = [_at_hand(file, content) for file, content in zip(files, sent, strict=False)]
        place = Place(device, RUNTIME.keep, lambda: None, paths, sent[len(files) :])
        if word is not None:
            place = replace(place, tell=word.teller())
        RUNTIME.make_room()
        return piece(shared, item, place)
    except BaseException as error:
        if not isinstance(error, Exception):
            raise
        return _failed(error, node)


def _failed(error: Exception, node: str) -> Failed:
    if is_out_of_memory(error):
        RUNTIME.release()
        return Failed("it has too little memory for this: choose a smaller preset or editor, or take it out", node)
    known = explained(error)
    if isinstance(known, BadInput):
        return Failed(known.message.rstrip("."), node, known.file, known.field)
    log.exception("a piece failed")
    return Failed(f"it met a defect of the engine ({type(error).__name__}: {error}); Ray's log there says where", node)


def describe(cards: int) -> Node:
    """What this node says of itself."""
    return this_node(cards)


def _at_hand(file: SentFile, content: Any) -> Path:
    """Where a sent file lies here. Raises BadInput where there is no room for it."""
    path = cache_folder() / f"{file.digest}{file.suffix}"
    with contextlib.suppress(OSError):
        found = path.stat()
        if found.st_size == file.size:
            # When it was last used; not when it was written, by which what was loaded from it is known again.
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
            return path
    _make_room(path.parent, file.size)
    write_bytes(path, memoryview(content))
    return path


def cache_folder() -> Path:
    """This user's own folder for what was sent. Raises BadInput where it is another's."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"instruct-nerf-worker-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != user):
        raise BadInput(f"{folder} is not this user's folder; remove it", file=folder)
    return folder


def _make_room(folder: Path, wanted: int) -> None:
    """Remove the files that were used longest ago, where all would take too much room."""
    with contextlib.suppress(OSError):
        found = sorted((entry.stat().st_atime, entry.stat().st_size, entry.path) for entry in os.scandir(folder))
        total = wanted + sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= LARGEST_CACHE:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size
