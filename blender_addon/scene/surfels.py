# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's file of surfels, small discs that show a scene, read for drawing in small steps."""

from __future__ import annotations

import math
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..files import open_regular

MAGIC = b"INSURFEL"
VERSION = 1
PLACE, COLOR = 16, 4  # bytes of a surfel: three coordinates and a radius; a color
AT_ONCE = 50_000  # surfels that are read in one step, and drawn together
MOST = 5_000_000


@dataclass
class Surfels:
    """Surfels in parts: places and radii, four 32-bit floats each, and colors, four bytes each (sRGB, opacity)."""

    parts: list[tuple[array, bytes]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(colors) // COLOR for _, colors in self.parts)


def reading(path: str | Path, into: Surfels) -> Iterator[float]:
    """Read the engine's file, a part a step. Raises ``ValueError`` where it is none, or holds less, or more, than it
    claims, or places that are no numbers."""
    sentence = f"{Path(path).name} does not hold surfels; press Make Splats again."
    try:
        with open_regular(path) as stream:
            head = stream.read(len(MAGIC) + 8)
            version, count = struct.unpack("<II", head[len(MAGIC) :])
            size = os.fstat(stream.fileno()).st_size
            if head[: len(MAGIC)] != MAGIC or version != VERSION or count > MOST:
                raise ValueError
            if size != len(head) + count * (PLACE + COLOR):
                raise ValueError
            for first in range(0, count, AT_ONCE):
                some = min(AT_ONCE, count - first)
                stream.seek(len(head) + first * PLACE)
                places = array("f")
                places.frombytes(stream.read(some * PLACE))
                if sys.byteorder == "big":
                    places.byteswap()
                stream.seek(len(head) + count * PLACE + first * COLOR)
                colors = stream.read(some * COLOR)
                if len(places) != 4 * some or len(colors) != COLOR * some or not math.isfinite(sum(places)):
                    raise ValueError
                into.parts.append((places, colors))
                yield (first + some) / count
    except (OSError, ValueError, OverflowError, struct.error):
        raise ValueError(sentence) from None
