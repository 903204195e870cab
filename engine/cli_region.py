# SPDX-License-Identifier: GPL-3.0-or-later
"""A region from the command line: boxes by their corners' numbers, closed meshes by their files."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from engine import protocol
from engine.errors import BadInput
from engine.files import read_bounded

ENDINGS = (".ply", ".obj", ".stl")
MOST_BYTES = 64 * 2**20  # of a mesh's file: a hundred thousand triangles take 15 as text
_ELEMENT = re.compile(rb"^[ \t]*\S*element\S*[ \t]+\S+[ \t]+(\S+)", re.MULTILINE)  # as lax as its reader
_LONGEST_HEADER = 64 * 1024  # bytes
# The triangles of a box whose corners come in the order of `product`, all turned outwards.
_FACES = [0, 1, 3, 0, 3, 2, 4, 7, 5, 4, 6, 7, 0, 4, 5, 0, 5, 1, 2, 3, 7, 2, 7, 6, 0, 2, 6, 0, 6, 4, 1, 5, 7, 1, 7, 3]

Box = tuple[float, float, float, float, float, float]


@dataclass
class Where:
    """Where alone the scene is to change: inside any of the boxes and meshes, everywhere if there is none. All in the
    capture's frame, in which `open` prints the scene's centre and size and `mesh` writes."""

    region_box: Annotated[tuple[Box, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="X Y Z X Y Z")] = ()
    """A box along the axes, by two opposite corners; may be given several times."""
    region_mesh: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """A closed mesh: a PLY, OBJ or STL file; may be given several times."""
    region_softness: float = 0.0
    """Width over which the region's edge is blended."""
    region_invert: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Change what lies outside of the boxes and meshes instead."""

    def region(self) -> protocol.Region | None:
        """The region, None where the scene may change everywhere. Raises BadInput, naming what is wrong."""
        solids = [box_solid(box) for box in self.region_box] + [mesh_solid(path) for path in self.region_mesh]
        if solids:
            return protocol.Region(solids=solids, softness=self.region_softness, invert=self.region_invert)
        if self.region_softness or self.region_invert:
            raise BadInput(
                "There is no region to soften or invert: give --region-box or --region-mesh.", field="region"
            )
        return None


def box_solid(box: Box) -> protocol.Solid:
    """A box by two opposite corners, of any order. Raises BadInput where it holds nothing."""
    low, high = np.minimum(box[:3], box[3:]), np.maximum(box[:3], box[3:])
    if not (np.isfinite(box).all() and (high > low).all()):
        raise BadInput("A box of the region is flat, or has no finite corners; give two opposite ones.", field="region")
    corners = product(*zip(low.tolist(), high.tolist(), strict=True))
    return protocol.Solid(vertices=[value for corner in corners for value in corner], triangles=_FACES, name="box")


def mesh_solid(path: Path) -> protocol.Solid:
    """The triangles of a mesh's file, which nothing is taken from but those. Raises BadInput."""
    import trimesh

    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise BadInput(f"{path.name} cannot be a region: give a PLY, OBJ or STL file.", file=path, field="region")
    try:
        data = read_bounded(path, MOST_BYTES)
    except OSError as problem:
        raise BadInput(
            f"{path.name} cannot be read: {problem.strerror or problem}.", file=path, field="region"
        ) from None
    _check_counts(path, data)
    try:
        # No resolver: nothing that the file names is looked for.
        mesh = trimesh.load_mesh(
            io.BytesIO(data), file_type=kind[1:], process=False, maintain_order=True, skip_materials=True, resolver=None
        )
        vertices, triangles = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except MemoryError:
        raise
    except Exception as problem:  # of a file that may be anything: whatever its reader stumbles over
        raise BadInput(
            f"{path.name} cannot be read as a mesh ({type(problem).__name__}); triangulate it, and export it again.",
            file=path, field="region",
        ) from None  # fmt: skip
    if vertices.ndim != 2 or triangles.ndim != 2 or not len(triangles):
        raise BadInput(f"{path.name} has no faces; export a closed mesh.", file=path, field="region")
    return protocol.Solid(vertices=vertices.ravel().tolist(), triangles=triangles.ravel().tolist(), name=path.name)


def _check_counts(path: Path, data: bytes) -> None:
    """Refuse a PLY that says it holds more elements than it has bytes, before anything is made for them."""
    if path.suffix.lower() != ".ply":
        return
    header = data[:_LONGEST_HEADER].partition(b"end_header")[0]
    for count in _ELEMENT.findall(header):
        if not count.isdigit() or len(count) > 18 or int(count) > len(data):
            raise BadInput(
                f"{path.name} says that it holds more than it has room for; it may be damaged, export it again.",
                file=path, field="region",
            )  # fmt: skip
