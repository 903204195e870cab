# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh made lighter, or whole."""

from __future__ import annotations

import fast_simplification
import numpy as np
import trimesh
from scipy.spatial import cKDTree
from trimesh.visual.color import ColorVisuals

from engine.errors import BadInput

FEWEST, MOST = 100, 10_000_000  # faces that may be asked for
# What a collapse may cost rises from 0 to 1e-9 · 100^x squared edges, however few were found on the way: where it rises
# fast, what is thin goes before all that is flat has gone. So it begins slowly, but not so slowly that what is flat
# keeps no vertices for its colors.
SLOWEST, FASTEST, FASTER = 4.5, 8.0, 0.3
LARGEST_HOLE = 0.2  # of the mesh's diagonal: how long the edge of a hole may be that is filled


def checked_faces(faces: int) -> int:
    """Itself; 0: all that there are. Raises BadInput where no mesh is made of so many: to be asked before anything is
    rendered."""
    if faces and not FEWEST <= faces <= MOST:
        raise BadInput(
            f"A mesh of {faces:,} faces cannot be made; choose {FEWEST} to {MOST:,}, or 0 for all.", field="faces"
        )
    return faces


def decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """The mesh in about that many faces, or itself where it has no more, by quadric error (Garland and Heckbert 1997):
    what is flat takes few. Colors are those of the nearest vertices before."""
    if len(mesh.faces) <= faces:
        return mesh
    edge = float(np.median(mesh.edges_unique_length)) or 1.0
    vertices, corners = mesh.vertices / edge, mesh.faces
    for speed in np.arange(SLOWEST, FASTEST, FASTER):
        if len(corners) > faces:
            vertices, corners = fast_simplification.simplify(
                np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(corners, np.int32),
                target_count=faces, agg=float(speed),
            )  # fmt: skip
    vertices = vertices * edge
    made = trimesh.Trimesh(vertices, corners, process=False)
    made.update_faces(made.nondegenerate_faces())
    made.remove_unreferenced_vertices()
    _, nearest = cKDTree(mesh.vertices).query(made.vertices)
    made.visual = ColorVisuals(made, vertex_colors=mesh.visual.vertex_colors[nearest])
    return made


def filled(mesh: trimesh.Trimesh, largest: float = LARGEST_HOLE) -> trimesh.Trimesh:
    """The mesh with a fan of faces over each hole whose edge is at most ``largest`` times the mesh's diagonal long.
    What is longer is where the capture ends."""
    longest = largest * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    vertices, faces = [np.asarray(mesh.vertices)], [np.asarray(mesh.faces)]
    colors, count = [np.asarray(mesh.visual.vertex_colors)], len(mesh.vertices)
    for loop in _holes(faces[0]):
        around = vertices[0][loop]
        if np.linalg.norm(around - np.roll(around, -1, axis=0), axis=1).sum() > longest:
            continue
        if len(loop) == 3:
            faces.append(loop[None, ::-1])
            continue
        vertices.append(around.mean(axis=0, keepdims=True))
        colors.append(np.round(colors[0][loop].mean(axis=0, keepdims=True)).astype(np.uint8))
        faces.append(np.stack([np.roll(loop, -1), loop, np.full(len(loop), count)], axis=1))
        count += 1
    if len(faces) == 1:
        return mesh
    made = trimesh.Trimesh(np.concatenate(vertices), np.concatenate(faces), process=False)
    made.visual = ColorVisuals(made, vertex_colors=np.concatenate(colors))
    return made


def _holes(faces: np.ndarray) -> list[np.ndarray]:
    """Loops of vertices along edges that have a face on one side only, in the direction of that face. Where two holes
    touch in a vertex, neither is given."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    size = int(faces.max()) + 1 if len(faces) else 1
    keys = edges[:, 0] * size + edges[:, 1]
    open_edges = edges[~np.isin(keys, edges[:, 1] * size + edges[:, 0])]
    starts, counts = np.unique(open_edges[:, 0], return_counts=True)
    shared = set(starts[counts > 1].tolist())
    after = dict(open_edges.tolist())
    holes = []
    while after:
        first, place = after.popitem()
        loop = [first]
        while place != first and place in after:
            loop.append(place)
            place = after.pop(place)
        if place == first and len(loop) > 2 and not shared.intersection(loop):
            holes.append(np.array(loop))
    return holes
