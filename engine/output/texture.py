# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh's texture, baked from what cameras see of it. Knows nothing of what rendered that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy import ndimage

from engine.errors import BadInput
from engine.output.raster import depth_of
from engine.output.texels import draw_faces, look_at
from engine.output.unwrap import unwrapped
from engine.output.volume import DepthView

REACH = 1.5  # texels beyond a chart's edge that show what is at the edge: what is between texels is read from there
SHARPNESS = 2.0  # the power to which views are weighed: at 0 their mean, at very much the best alone
APART = 0.05  # share of the distance by which neighboring pixels lie apart where a surface ends
BESIDE = 3.0  # pixels beside such an end that count less, of a picture as the scene was learned from: edges are soft
ELSEWHERE = 0.1  # share of the distance by which the mesh may lie off what a view shows, for that to be of it
DOUBTED = 1e-3  # of the trust in a view: what is left where it shows something else
FAINT = 1e-9  # of the colors that a mesh has already, which stay where no view sees it


SIZES = (1024, 2048, 4096)  # texels, either side


def checked_size(size: int) -> int:
    """Itself; 0: no texture. Raises BadInput where no texture is made of so many texels a side."""
    if size and size not in SIZES:
        sizes = ", ".join(map(str, SIZES[:-1]))
        raise BadInput(
            f"A texture of {size} texels a side cannot be made; choose {sizes} or {SIZES[-1]}, or 0 for none.",
            field="texture",
        )
    return size


@dataclass(frozen=True, eq=False)
class Texture:
    """`picture` (S, S, 3) uint8, sRGB, first row on top; `corners` (F, 3, 2) where the corners of each face lie in it,
    0–1 from the lower left; `seen`: the share of the texels on the mesh that a view sees."""

    picture: np.ndarray
    corners: np.ndarray
    seen: float


def textured(
    mesh: trimesh.Trimesh,
    views: Sequence[DepthView],
    size: int,
    finer: float = 1.0,
    check: Callable[[], None] = lambda: None,
) -> Texture:
    """The texture, ``size`` × ``size``, of a mesh with vertex colors: what the views show, each weighed by how near and
    how much from the front it sees a place that nothing hides from it; where none does, the vertices' own colors. Space
    between charts is filled with what is nearest. ``finer``: so many pixels of a view are as wide as one that the scene
    was learned from. ``check`` is called between views, and may raise Cancelled."""
    corners = unwrapped(mesh, size)
    check()
    texels = _Texels.of(mesh, corners, size)
    sums = np.zeros((len(texels.points), 4), np.float32)
    for view in views:
        check()
        texels.look(mesh, view, finer, sums)
    colors = (texels.colors * FAINT + sums[:, :3]) / (FAINT + sums[:, 3:])
    return Texture(texels.picture(colors), corners, float((sums[:, 3] > 0).mean()) if len(sums) else 0.0)


@dataclass(frozen=True, eq=False)
class _Texels:
    """Those of a texture that lie on a mesh: where in the picture (N,), where in the world (N, 3), the surface's normal
    (N, 3) and the mesh's own color (N, 3) there."""

    place: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    size: int

    @classmethod
    def of(cls, mesh: trimesh.Trimesh, corners: np.ndarray, size: int) -> _Texels:
        flat = corners.astype(np.float64) * size
        flat[..., 1] = size - flat[..., 1]
        owner, off = np.full((size, size), -1, np.int32), np.full((size, size), np.inf, np.float32)
        place = np.zeros((size, size, 2), np.float32)
        draw_faces(flat - 0.5, REACH, owner, place, off)
        on = np.flatnonzero(owner >= 0)
        faces, second_third = mesh.faces[owner.reshape(-1)[on]], place.reshape(-1, 2)[on]
        weights = np.column_stack([1 - second_third.sum(axis=1), second_third]).astype(np.float32)

        def at(values: np.ndarray) -> np.ndarray:
            values = np.asarray(values, np.float32)
            return sum(weights[:, k, None] * values[faces[:, k]] for k in range(3))

        normals = at(mesh.vertex_normals)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        colors = at(mesh.visual.vertex_colors[:, :3]) / 255
        return cls(on, at(mesh.vertices), normals, colors, size)

    def look(self, mesh: trimesh.Trimesh, view: DepthView, finer: float, sums: np.ndarray) -> None:
        """Add what a view shows of them to ``sums`` (N, 4): colors times weight, and weights."""
        depth, _ = depth_of(mesh.vertices, mesh.faces, view)
        trust = trust_in(view, depth, BESIDE * finer)
        layers = np.ascontiguousarray(np.moveaxis(view.colour, -1, 0) * trust, np.float32)
        look_at(self.points, self.normals, view, layers, trust, depth, sums, SHARPNESS)

    def picture(self, colors: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 with ``colors`` (N, 3), and of what lies on no face, of the nearest that does."""
        picture, empty = np.zeros((self.size**2, 3), np.uint8), np.ones(self.size**2, bool)
        picture[self.place] = np.clip(colors * 255 + 0.5, 0, 255)
        empty[self.place] = False
        nearest = ndimage.distance_transform_edt(
            empty.reshape(self.size, self.size), return_distances=False, return_indices=True
        )
        return picture.reshape(self.size, self.size, 3)[tuple(nearest)]


def trust_in(view: DepthView, depth: np.ndarray, beside: float) -> np.ndarray:
    """(H, W) float32, 0–1: how much a view's pixels say of a mesh of which it sees ``depth`` (H, W): little where it
    shows something else, and less and less within ``beside`` pixels of the edges of what is seen."""
    ends = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            jump = np.abs(depth[one] - depth[other]) > APART * np.minimum(depth[one], depth[other])
            ends[one] |= jump
            ends[other] |= jump
        same = (view.opacity >= 0.5) & (np.abs(view.depth - depth) < ELSEWHERE * depth)
    away = ndimage.distance_transform_edt(~ends) / beside if ends.any() else np.ones(depth.shape)
    return np.where(same, np.clip(away, DOUBTED, 1), DOUBTED).astype(np.float32)
