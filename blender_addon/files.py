# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that another process, or another person, has written: looked at before Blender reads them. Free of bpy.

A project may come from anyone, and a pipe in the place of a picture would hang Blender.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO


def regular(path: str | Path) -> os.stat_result | None:
    """What the system knows of a regular file; None for anything else, a pipe or device among them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading. Raises ``OSError`` for anything else; never waits for a pipe's other end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file.")
    return os.fdopen(descriptor, "rb")


def png_pixels(path: str | Path) -> int | None:
    """How many pixels a PNG file claims to have; None where it is none."""
    try:
        with open_regular(path) as stream:
            head = stream.read(24)
    except OSError:
        return None
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return int(width * height)
