# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a mesh that an edit is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
import trimesh
from torch import Tensor
from trimesh.visual.color import ColorVisuals

from engine.errors import BadInput
from engine.geometry import Camera
from engine.output.raster import depth_of
from engine.output.texels import look_at

ROUNDS = 8  # in which what is said of a vertex becomes the mean with its neighbors': else the part's edge is ragged
ENOUGH = 0.5  # of what is said of a face's corners, for it to be part of it


def shown_values(
    mesh: trimesh.Trimesh, maps: Sequence[Tensor], cameras: Sequence[Camera], check: Callable[[], None] = lambda: None
) -> np.ndarray:
    """(V,) what the ``maps`` (1, 1, h, w) of ``cameras`` say of a mesh's vertices, weighed by how well each camera sees
    them; 0 where none does. A map covers its picture from edge to edge. ``check`` is called between cameras."""
    points, normals = (np.asarray(values, np.float32) for values in (mesh.vertices, mesh.vertex_normals))
    sums = np.zeros((len(points), 2), np.float32)
    for values, camera in zip(maps, cameras, strict=True):
        check()
        depth, _ = depth_of(mesh.vertices, mesh.faces, camera)
        layer = F.interpolate(values.float(), depth.shape, mode="bilinear")[0].cpu().numpy()
        look_at(points, normals, camera, np.ascontiguousarray(layer), np.ones_like(depth), depth, sums, 1.0)
    return sums[:, 0] / np.maximum(sums[:, 1], 1e-12)


def part_of(mesh: trimesh.Trimesh, values: np.ndarray) -> trimesh.Trimesh:
    """The faces about whose corners ``values`` (V,), 0–1, say that they are part of it, smoothly along the surface.
    Raises BadInput where there is none."""
    edges = mesh.edges_unique
    count = np.bincount(edges.reshape(-1), minlength=len(values)) + 1
    smooth = np.asarray(values, np.float64)
    for _ in range(ROUNDS):
        beside = np.bincount(edges[:, 0], smooth[edges[:, 1]], len(values))
        beside += np.bincount(edges[:, 1], smooth[edges[:, 0]], len(values))
        smooth = (smooth + beside) / count
    kept = smooth[mesh.faces].mean(axis=1) >= ENOUGH
    if not kept.any():
        raise BadInput(
            "The mesh has nothing in the part that the edit is about; make one of the whole scene.", field="part"
        )
    part = trimesh.Trimesh(mesh.vertices, mesh.faces[kept], process=False)
    part.visual = ColorVisuals(part, vertex_colors=mesh.visual.vertex_colors)
    part.remove_unreferenced_vertices()
    return part
