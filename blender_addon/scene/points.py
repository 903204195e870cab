# SPDX-License-Identifier: GPL-3.0-or-later
"""The capture's sparse points under its root: where the scene is, before any NeRF has learnt it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from pathlib import Path

import bpy

from .. import ply
from ..files import open_regular
from .cameras import collection_of, part_of

POINTS = "instruct_nerf_points"  # on the object
_HEADER = [
    "ply", "format binary_little_endian 1.0", "element vertex", "property double x", "property double y",
    "property double z", "property uchar red", "property uchar green", "property uchar blue", "end_header",
]  # fmt: skip
_ERROR = "property float error"  # before the header's end, where the source knows how well a point fits
_RECORD, _ERROR_BYTES = 27, 4  # <3d3B, and the error behind it
AT_ONCE = 8_000  # points that are read in one step
MOST = 200_000  # shown: of more, evenly picked ones


def show(root: bpy.types.Object, path: str) -> bpy.types.Object | None:
    """Put the points of the engine's PLY under a capture's root; see :func:`showing`."""
    for _ in showing(root, path):
        pass
    return next((item for item in root.children if item.get(POINTS)), None)


def showing(root: bpy.types.Object, path: str) -> Iterator[float]:
    """Put the points of the engine's PLY, in the capture frame, under a capture's root, in place of older ones, in
    small steps; with an empty path there are none. They are never rendered. Raises ``ValueError`` where the file is not
    the engine's."""
    for old in [item for item in root.children if item.get(POINTS)]:
        data = old.data
        bpy.data.objects.remove(old)
        if data.users == 0:
            bpy.data.meshes.remove(data)
    if not path:
        return
    places, colours = array("f"), array("f")
    yield from _reading(Path(path), places, colours)
    mesh = bpy.data.meshes.new("Sparse Points")
    mesh.vertices.add(len(places) // 3)
    mesh.attributes["position"].data.foreach_set("vector", places)
    mesh.color_attributes.new("Col", "FLOAT_COLOR", "POINT").data.foreach_set("color", colours)
    mesh.update()
    item = bpy.data.objects.new("Sparse Points", mesh)
    part_of(collection_of(root), "Sparse Points").objects.link(item)
    item.parent = root
    item.hide_render = True
    item[POINTS] = True
    yield 1.0


def hide(scene: bpy.types.Scene, root: bpy.types.Object) -> None:
    """Hide the points under a capture's root in all viewports: a mesh or splats now show where the scene is."""
    for item in root.children:
        if not item.get(POINTS):
            continue
        for layer in scene.view_layers:
            # Not by name, which a linked object may have, too.
            if item in layer.objects.values() and not item.hide_get(view_layer=layer):
                item.hide_set(True, view_layer=layer)


def _reading(path: Path, places: array, colours: array) -> Iterator[float]:
    """Positions, three numbers a point, and colours, four (linear, 0-1). Raises ``ValueError``."""
    sentence = f"{path.name} does not hold the capture's points; open the capture again."
    try:
        with open_regular(path) as stream:
            lines = [stream.readline(200).decode("ascii").strip() for _ in _HEADER]
            count, record = int(lines[2].removeprefix(_HEADER[2])), _RECORD
            lines[2] = _HEADER[2]
            if lines[-1] == _ERROR:
                lines[-1], record = stream.readline(200).decode("ascii").strip(), _RECORD + _ERROR_BYTES
            if lines != _HEADER or not 0 <= count * record <= path.stat().st_size:
                raise ValueError
            every = max(1, math.ceil(count / MOST))
            for first in range(0, count, AT_ONCE):
                wanted = min(AT_ONCE, count - first) * record
                data = stream.read(wanted)
                if len(data) != wanted:
                    raise ValueError
                _append(data, record, (-first) % every, every, places, colours)
                yield first / count
    except (OSError, ValueError):
        raise ValueError(sentence) from None


def _append(data: bytes, record: int, first: int, every: int, places: array, colours: array) -> None:
    """Append every so many-th of some records of ``record`` bytes."""
    stride = every * record
    data = data[first * record :]
    count = math.ceil(len(data) / stride)
    three, four = array("f", bytes(12 * count)), array("f", (1.0,)) * (4 * count)
    for axis in range(3):
        three[axis::3] = array("f", ply.column(data, 8 * axis, stride, "d"))
        four[axis::4] = array("f", map(ply.LINEAR.__getitem__, data[24 + axis :: stride]))
    places += three
    colours += four
