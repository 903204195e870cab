# SPDX-License-Identifier: GPL-3.0-or-later
"""The file in which the engine gives a view's pixels, read as Blender takes them. Free of bpy."""

from __future__ import annotations

import os
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .files import open_regular

MAGIC = b"INSVIEW\0"
VERSION = 1
COLOR, DEPTH, NORMAL = 4, 1, 3  # floats a pixel
LARGEST = 8192  # pixels, either side


@dataclass(frozen=True)
class Pixels:
    """32-bit floats, the lowest row first: of each pixel four of its color, linear and premultiplied; where they were
    asked for, all depths in Blender's units (1e10 where there is nothing) and all normals in Blender's world."""

    width: int
    height: int
    color: array
    depth: array | None = None
    normal: array | None = None


def read(path: str | Path, size: tuple[int, int]) -> Pixels:
    """What lies in the engine's file. Raises ``ValueError`` where it is none, of another size, or not whole."""
    try:
        with open_regular(path) as stream:
            head = stream.read(len(MAGIC) + 16)
            version, width, height, floats = struct.unpack("<4I", head[len(MAGIC) :])
            if head[: len(MAGIC)] != MAGIC or version != VERSION or (width, height) != size or max(size) > LARGEST:
                raise ValueError
            if floats not in (COLOR, COLOR + DEPTH + NORMAL):
                raise ValueError
            count = width * height
            if os.fstat(stream.fileno()).st_size != len(head) + 4 * floats * count:
                raise ValueError
            color = _floats(stream, COLOR * count)
            if floats == COLOR:
                return Pixels(width, height, color)
            return Pixels(width, height, color, _floats(stream, DEPTH * count), _floats(stream, NORMAL * count))
    except (OSError, ValueError, struct.error):
        raise ValueError("The engine's picture cannot be read; render again.") from None


def enlarged(pixels: Pixels, width: int, height: int) -> Pixels:
    """The color alone with more pixels, each a repetition of the one that it lies in."""
    rows = []
    raw, across = pixels.color.tobytes(), _shares(pixels.width, width)
    for y, times in enumerate(_shares(pixels.height, height)):
        first = 16 * pixels.width * y
        row = b"".join(raw[first + 16 * x : first + 16 * x + 16] * count for x, count in enumerate(across))
        rows.append(row * times)
    color = array("f")
    color.frombytes(b"".join(rows))
    return Pixels(width, height, color)


def _shares(parts: int, whole: int) -> list[int]:
    """How many of ``whole`` fall to each of as many ``parts``, in order."""
    ends = [whole * part // parts for part in range(parts + 1)]
    return [ends[part + 1] - ends[part] for part in range(parts)]


def _floats(stream: BinaryIO, count: int) -> array:
    values = array("f")
    values.frombytes(stream.read(4 * count))
    if len(values) != count:
        raise ValueError
    if sys.byteorder == "big":
        values.byteswap()
    return values
