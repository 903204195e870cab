# SPDX-License-Identifier: GPL-3.0-or-later
"""The capture's sparse points under its root: where the scene is, before any NeRF has learnt it."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

POINTS = "instruct_nerf_points"  # on the object
_HEADER = [
    "ply", "format binary_little_endian 1.0", "element vertex", "property double x", "property double y",
    "property double z", "property uchar red", "property uchar green", "property uchar blue", "end_header",
]  # fmt: skip
_STORED = np.dtype([("xyz", "<f8", 3), ("rgb", "u1", 3)])


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
    records = _read(Path(path))
    mesh = bpy.data.meshes.new("Sparse Points")
    mesh.vertices.add(len(records))
    mesh.vertices.foreach_set("co", records["xyz"].astype(np.float32).ravel())
    colours = mesh.color_attributes.new("Col", "BYTE_COLOR", "POINT")
    rgba = np.ones((len(records), 4), np.float32)
    rgba[:, :3] = records["rgb"] / np.float32(255)
    colours.data.foreach_set("color_srgb", rgba.ravel())
    mesh.update()
    item = bpy.data.objects.new("Sparse Points", mesh)
    root.users_collection[0].objects.link(item)
    item.parent = root
    item.hide_render = True
    item[POINTS] = True
    return item


def _read(path: Path) -> np.ndarray:
    """The records of `_STORED`. Raises ``ValueError``."""
    sentence = f"{path.name} does not hold the capture's points; open the capture again."
    try:
        with path.open("rb") as stream:
            lines = [stream.readline(200).decode("ascii").strip() for _ in _HEADER]
            count = int(lines[2].removeprefix(_HEADER[2]))
            lines[2] = _HEADER[2]
            if not 0 <= count * _STORED.itemsize <= path.stat().st_size:
                raise ValueError
            data = stream.read(count * _STORED.itemsize)
    except (OSError, ValueError):
        raise ValueError(sentence) from None
    if lines != _HEADER or len(data) != count * _STORED.itemsize:
        raise ValueError(sentence)
    return np.frombuffer(data, _STORED)
