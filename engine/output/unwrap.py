# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh cut open and laid flat, so that a picture can be its texture: by xatlas."""

from __future__ import annotations

import numpy as np
import trimesh
import xatlas

AT_ONCE = 4_000  # faces whose charts are looked for together: twice as many take more than twice as long
PADDING = 4  # texels between two charts


def unwrapped(mesh: trimesh.Trimesh, size: int) -> np.ndarray:
    """(F, 3, 2) float32 where each face's corners lie in a texture of ``size`` × ``size`` texels, 0–1 from its lower
    left corner. Faces may be cut apart but not overlap. Raises BadInput where they do not fit."""
    atlas, parts = xatlas.Atlas(), _parts(mesh)
    for faces in parts:
        corners, own = np.unique(mesh.faces[faces], return_inverse=True)
        atlas.add_mesh(mesh.vertices[corners].astype(np.float32), own.reshape(-1, 3).astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    packing.padding, packing.bilinear = PADDING, True
    packing.resolution = size
    atlas.generate(charts, packing)
    places = np.zeros((len(mesh.faces), 3, 2), np.float32)
    for number, faces in enumerate(parts):
        _, corners, uv = atlas[number]
        places[faces] = uv[corners]
    return places


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
