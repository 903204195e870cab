# SPDX-License-Identifier: GPL-3.0-or-later
"""The file in which a render engine gets its pixels: what Blender takes as it is, without any work."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from engine.files import replacing

MAGIC = b"INSVIEW\0"
VERSION = 1
COLOR, DEPTH, NORMAL = 4, 1, 3  # floats a pixel


def write_view(path: Path, color: np.ndarray, surfaces: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Write `MAGIC`, then as unsigned 32-bit numbers the version, width, height and floats a pixel; then, as 32-bit
    floats, the lowest row first, all of ``color`` (H, W, 4) and, where there are ``surfaces``, all depths (H, W) and
    all normals (H, W, 3); little-endian. Raises BadInput."""
    height, width = color.shape[:2]
    planes = [color, *(surfaces or ())]
    floats = COLOR + (DEPTH + NORMAL if surfaces is not None else 0)
    with replacing(path, durable=False) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + struct.pack("<4I", VERSION, width, height, floats))
        for plane in planes:
            file.write(np.ascontiguousarray(plane[::-1], "<f4").tobytes())
