# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells a photo from another of the same name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from engine.capture.photos import LARGEST_FILE, SkipView, why_unreadable
from engine.files import open_file

_PIECE = 2**20  # bytes


def digest_of(path: Path, check: Callable[[], None] = lambda: None, size: int | None = None) -> str:
    """A digest of a file's content. `check` is called on the way and may raise.

    Raises SkipView where the file cannot be read, or is not of the `size` in bytes that it had when the capture was
    opened.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_file(path, LARGEST_FILE) as stream:
            read = 0
            while piece := stream.read(_PIECE):
                check()
                digest.update(piece)
                read += len(piece)
    except OSError as problem:
        raise SkipView(why_unreadable(path, problem)) from None
    if size is not None and read != size:
        raise SkipView(f"The picture {path.name} has changed since the capture was opened; open it again.")
    return digest.hexdigest()
