# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface of a volume of signed distances, found brick by brick: memory is by how much surface there is."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from engine.errors import BadInput
from engine.output.fusing import BLOCK
from engine.output.volume import Volume

BRICK = 16 * BLOCK  # points along a side of a brick, whose last are the next one's first, too
NOTHING = "The renders show no surface in the box, so there is no mesh; train for longer."
SAME = 1e-4  # spacings between two vertices that are one: bricks agree on them to five digits or more


def surface_of(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3), capture frame, and faces (F, 3) where the distance is zero (Lewiner et al. 2003). Some vertices
    may be of no face. Raises BadInput where there is no surface."""
    starts = [range(0, n - 1, BRICK) for n in volume.shape]
    found = [
        brick for low in np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
        if (brick := _in_brick(volume, low)) is not None
    ]  # fmt: skip
    if not found:
        raise BadInput(NOTHING)
    first = np.cumsum([0, *(len(vertices) for vertices, _ in found)])
    vertices = np.concatenate([vertices for vertices, _ in found])
    faces = np.concatenate([faces + start for (_, faces), start in zip(found, first, strict=False)])
    faces = _welded(vertices, faces)
    if not len(faces):  # a single point
        raise BadInput(NOTHING)
    return vertices * volume.spacing + volume.origin, faces


def _in_brick(volume: Volume, low: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices, in points of the grid, and faces of the cells from ``low`` on; None where there is no surface."""
    high = np.minimum(low + BRICK + 1, volume.shape)
    if volume.nothing_in(low, high):
        return None
    distance, known = volume.distances(tuple(low), tuple(high))
    # A cell has a surface only where all eight of its corners are known, else the end of knowledge would be one.
    # skimage asks the mask at a cell's last corner.
    cells = np.zeros_like(known)
    cells[1:, 1:, 1:] = known[1:, 1:, 1:]
    for corner in list(np.ndindex(2, 2, 2))[:-1]:
        cells[1:, 1:, 1:] &= known[tuple(slice(c, n - 1 + c) for c, n in zip(corner, known.shape, strict=True))]
    if not cells.any():
        return None
    try:
        vertices, faces, _, _ = marching_cubes(
            distance, 0.0, mask=cells, gradient_direction="descent", allow_degenerate=False
        )
    except (ValueError, RuntimeError):  # nowhere a change of sign
        return None
    return (vertices.astype(np.float64) + low, faces.astype(np.int64)) if len(faces) else None


def _welded(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The faces of all bricks (F, 3), with each vertex that bricks share once."""
    off = np.abs(vertices - BRICK * np.rint(vertices / BRICK))
    shared = np.flatnonzero((off < SAME).any(axis=1))
    pairs = cKDTree(vertices[shared]).query_pairs(SAME, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(shared), len(shared)))
    _, first, one = np.unique(connected_components(graph, directed=False)[1], return_index=True, return_inverse=True)
    of = np.arange(len(vertices))
    of[shared] = shared[first[one]]
    faces = of[faces]
    return faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
