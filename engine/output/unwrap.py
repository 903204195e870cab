# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh cut open and laid flat, so that a picture can be its texture: by xatlas."""

from __future__ import annotations

import numpy as np
import trimesh
import xatlas
from scipy import sparse

AT_ONCE = 4_000  # faces whose charts are looked for together: of more at once it takes longer, and brings no fewer
ROUNDS = 10  # of smoothing what the charts are looked for on: a noisy surface breaks into twice as many
SHRINK, GROW = 0.5, -0.53  # Taubin (1995)
FILLED = 0.3  # of the texture, by charts alone: in a noisy mesh the space between them takes as much again, and more
PADDING = 3  # texels between charts, more or less: the whole is scaled to the texture's size at the end


def unwrapped(mesh: trimesh.Trimesh, size: int) -> np.ndarray:
    """(F, 3, 2) float32 where each face's corners lie in a texture of ``size`` × ``size`` texels, 0–1 from its lower
    left corner. Faces are cut apart, and none lies on another."""
    smooth = trimesh.Trimesh(_smoothed(mesh), mesh.faces, process=False)
    atlas, parts = xatlas.Atlas(), _parts(smooth)
    for faces in parts:
        corners, own = np.unique(mesh.faces[faces], return_inverse=True)
        atlas.add_mesh(smooth.vertices[corners].astype(np.float32), own.reshape(-1, 3).astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.padding, packing.texels_per_unit = PADDING, size * float(np.sqrt(FILLED / max(smooth.area, 1e-30)))
    atlas.generate(xatlas.ChartOptions(), packing)
    places = np.zeros((len(mesh.faces), 3, 2), np.float32)
    for number, faces in enumerate(parts):
        _, corners, uv = atlas[number]
        places[faces] = uv[corners]
    return places * (np.array([atlas.width, atlas.height], np.float32) / max(atlas.width, atlas.height, 1))


def _smoothed(mesh: trimesh.Trimesh) -> np.ndarray:
    """(V, 3) the vertices, without bumps of a few faces."""
    edges, count = mesh.edges_unique, len(mesh.vertices)
    ones = np.ones(len(edges))
    beside = sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
    beside = beside + beside.T
    number = np.maximum(np.asarray(beside.sum(axis=1)), 1)
    vertices = np.asarray(mesh.vertices, np.float64)
    for _ in range(ROUNDS):
        for step in (SHRINK, GROW):
            vertices = vertices + step * (beside @ vertices / number - vertices)
    return vertices


def _parts(mesh: trimesh.Trimesh) -> list[np.ndarray]:
    """Numbers of faces that lie together, at most AT_ONCE in each part."""
    parts, todo = [], [np.arange(len(mesh.faces))]
    centers = mesh.triangles_center
    while todo:
        faces = todo.pop()
        if len(faces) <= AT_ONCE:
            parts.append(faces)
            continue
        along = centers[faces][:, np.ptp(centers[faces], axis=0).argmax()]
        order = np.argsort(along, kind="stable")
        todo += [faces[order[: len(faces) // 2]], faces[order[len(faces) // 2 :]]]
    return parts
