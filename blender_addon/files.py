# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that another process, or another person, has written: looked at before Blender reads them. Free of bpy.

A project may come from anyone, and a pipe in the place of a picture would hang Blender.
"""

from __future__ import annotations

import os
import stat
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
