# SPDX-License-Identifier: GPL-3.0-or-later
"""The capture's sparse points under its root: where the scene is, before any NeRF has learnt it."""

from __future__ import annotations

import math
import struct
from array import array
from pathlib import Path

import bpy

from ..files import open_regular
from .cameras import collection_of

POINTS = "instruct_nerf_points"  # on the object
_HEADER = [
    "ply", "format binary_little_endian 1.0", "element vertex", "property double x", "property double y",
    "property double z", "property uchar red", "property uchar green", "property uchar blue", "end_header",
]  # fmt: skip
_RECORD = struct.Struct("<3d3B")
MOST = 200_000  # shown: of more, evenly picked ones


def show(root: bpy.types.Object, path: str) -> bpy.types.Object | None:
    """Put the points of the engine's PLY, in the capture frame, under a capture's root, in place of older ones; with
    an empty path there are none. They are never rendered. Raises ``ValueError`` where the file is not the engine's."""
    for old in [item for item in root.children if item.get(POINTS)]:
        data = old.data
        bpy.data.objects.remove(old)
        if data.users == 0:
            bpy.data.meshes.remove(data)
    if not path:
        return None
    places, colours = _read(Path(path))
    mesh = bpy.data.meshes.new("Sparse Points")
    mesh.vertices.add(len(places) // 3)
    mesh.vertices.foreach_set("co", places)
    mesh.color_attributes.new("Col", "BYTE_COLOR", "POINT").data.foreach_set("color_srgb", colours)
    mesh.update()
    item = bpy.data.objects.new("Sparse Points", mesh)
    collection_of(root).objects.link(item)
    item.parent = root
    item.hide_render = True
    item[POINTS] = True
    return item


def _read(path: Path) -> tuple[array, array]:
    """Positions, three numbers a point, and colours, four (sRGB, 0-1). Without numpy, which not every build of Blender
    has. Raises ``ValueError``."""
    sentence = f"{path.name} does not hold the capture's points; open the capture again."
    try:
        with open_regular(path) as stream:
            lines = [stream.readline(200).decode("ascii").strip() for _ in _HEADER]
            count = int(lines[2].removeprefix(_HEADER[2]))
            lines[2] = _HEADER[2]
            if not 0 <= count * _RECORD.size <= path.stat().st_size:
                raise ValueError
            data = stream.read(count * _RECORD.size)
    except (OSError, ValueError):
        raise ValueError(sentence) from None
    if lines != _HEADER or len(data) != count * _RECORD.size:
        raise ValueError(sentence)
    places, colours = array("f"), array("f")
    every = max(1, math.ceil(count / MOST))
    for offset in range(0, len(data), every * _RECORD.size):
        x, y, z, red, green, blue = _RECORD.unpack_from(data, offset)
        places.extend((x, y, z))
        colours.extend((red / 255, green / 255, blue / 255, 1.0))
    return places, colours
