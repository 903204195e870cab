# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stand-in for the engine shows to a render engine: a ramp of colors three units away, or a wall."""

from __future__ import annotations

import struct


def view_file(camera: dict, wall: bool, live: bool, surfaces: bool) -> bytes:
    """The file of pixels that a camera sees, as docs/protocol.md and engine/output/view_file.py have it."""
    width, height = camera["width"], camera["height"]
    planes: list[list[float]] = [[], [], []]
    for y in range(height):
        for x in range(width):
            # As the whole picture has it there: where the middle of a part lies says which part it is.
            right = x + 0.5 - camera["cx"]
            if wall:
                shade, depth = ((1.0, 0.0, 0.0), 2.0) if right < 0 else ((0.0, 0.0, 1.0), 6.0)
            else:
                up = camera["cy"] - (height - 0.5 - y)
                shade, depth = (0.5 + right / 1000.0, 0.5 + up / 1000.0, 0.9 if live else 0.1), 3.0
            planes[0] += [*shade, 1.0]
            planes[1].append(depth)
            planes[2] += [0.0, -0.6, 0.8]
    data = b"INSVIEW\0" + struct.pack("<4I", 1, width, height, 8 if surfaces else 4)
    for plane in planes if surfaces else planes[:1]:
        data += struct.pack(f"<{len(plane)}f", *plane)
    return data
