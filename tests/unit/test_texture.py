# SPDX-License-Identifier: GPL-3.0-or-later
"""Textures of bodies whose colors are known: what views see, where they see it, and nothing of what hides it."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from capture_on_disk import looking_at
from test_mesh import CENTRE, RADIUS, cameras, colour_at, render, sphere
from trimesh.visual.color import ColorVisuals

from engine.capture import Intrinsics
from engine.errors import BadInput
from engine.geometry import Viewpoint
from engine.output.raster import depth_of
from engine.output.texels import draw_faces
from engine.output.texture import Texture, checked_size, textured
from engine.output.unwrap import unwrapped
from engine.output.volume import DepthView

VIEW = Intrinsics(160, 160, 150.0, 150.0, 80.0, 80.0)
LIME = np.array([0, 255, 0, 255], np.uint8)


def ball(subdivisions: int = 4) -> trimesh.Trimesh:
    """A sphere about CENTRE in a color that nothing has."""
    mesh = trimesh.creation.icosphere(subdivisions, RADIUS)
    mesh.apply_translation(CENTRE)
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.tile(LIME, (len(mesh.vertices), 1)))
    return mesh


def read(texture: Texture, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, 3) 0–1: the texture, between texels linearly, at places of faces (N,) by their corners' weights (N, 3)."""
    uv = (texture.corners[faces] * weights[..., None]).sum(axis=1)
    size = len(texture.picture)
    x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = (x - column)[:, None], (y - row)[:, None]

    def at(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return texture.picture[i.clip(0, size - 1), j.clip(0, size - 1)] / 255

    upper = at(row, column) * (1 - right) + at(row, column + 1) * right
    lower = at(row + 1, column) * (1 - right) + at(row + 1, column + 1) * right
    return upper * (1 - down) + lower * down


def places(mesh: trimesh.Trimesh, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces, weights of their corners, and points, at random all over a mesh."""
    random = np.random.default_rng(0)
    faces = random.integers(len(mesh.faces), size=count)
    weights = random.dirichlet((1, 1, 1), count)
    return faces, weights, (mesh.vertices[mesh.faces[faces]] * weights[..., None]).sum(axis=1)


def test_a_texture_shows_what_views_see_also_at_the_seams() -> None:
    mesh = ball(3)
    texture = textured(mesh, [render(sphere, pose) for pose in cameras(12)], 1024)
    assert texture.seen > 0.999
    faces, weights, points = places(mesh, 20_000)
    off = np.abs(read(texture, faces, weights) - colour_at(points))
    assert off.mean() < 0.01 and np.quantile(off, 0.999) < 0.05, (off.mean(), off.max())
    for corner in range(3):
        weights = np.tile(np.eye(3)[corner], (len(mesh.faces), 1))
        at_corner = np.abs(read(texture, np.arange(len(mesh.faces)), weights) - colour_at(mesh.triangles[:, corner]))
        assert at_corner.max() < 0.08, at_corner.max()
    assert not (texture.picture == LIME[:3]).all(axis=-1).any(), "space between charts was left"


def test_vertex_colors_stay_where_no_view_looks() -> None:
    mesh = ball(3)
    poses = [pose for pose in cameras() if (pose[:3, 3] - CENTRE)[2] > 2]
    texture = textured(mesh, [render(sphere, pose) for pose in poses], 1024)
    faces, weights, points = places(mesh, 5000)
    shown = read(texture, faces, weights)
    below, above = points[:, 2] < CENTRE[2] - 0.75 * RADIUS, points[:, 2] > CENTRE[2] + 0.6 * RADIUS
    assert np.abs(shown[below] - LIME[:3] / 255).max() < 0.01 and 0.2 < texture.seen < 0.95
    assert np.abs(shown[above] - colour_at(points[above])).mean() < 0.02


def _screen() -> tuple[trimesh.Trimesh, list[DepthView]]:
    """A blue wall with a red board before it, and views of both."""
    wall = trimesh.creation.box((4, 4, 0.02))
    board = trimesh.creation.box((0.8, 0.8, 0.02))
    board.apply_translation((0, 0, 1))
    mesh = trimesh.util.concatenate([wall.subdivide_to_size(0.2), board.subdivide_to_size(0.2)])
    red = mesh.vertices[:, 2] > 0.5
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.tile(LIME, (len(mesh.vertices), 1)))
    views = []
    for x, y in ((-1.5, 0.2), (0.1, 0.1), (1.5, -0.3), (0.2, 1.6)):
        view = Viewpoint(looking_at(np.array([x, y, 4.0]), np.zeros(3), (0, 1, 0)), VIEW)
        depth, face = depth_of(mesh.vertices, mesh.faces, view)
        is_red = (face >= 0) & red[mesh.faces[face, 0]]
        colors = np.where(is_red[..., None], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]).astype(np.float32)
        views.append(DepthView(view.pose, VIEW, depth, colors, np.isfinite(depth).astype(np.float32)))
    return mesh, views


def test_what_hides_a_place_is_not_painted_on_it() -> None:
    """The board stands before the wall in every view, at another place in each; no red comes onto the wall, and no blue
    onto the board, but for what lies at its very edge."""
    mesh, views = _screen()
    texture = textured(mesh, views, 1024)
    faces, weights, points = places(mesh, 20_000)
    front = np.isclose(points[:, 2], [0.01]) | np.isclose(points[:, 2], [1.01])
    shown, on_board = read(texture, faces, weights)[front], points[front][:, 2] > 0.5
    inner = np.abs(points[front][:, :2]).max(axis=1) < 0.36
    wall = shown[~on_board]
    assert (wall[:, 0] < 0.02).mean() > 0.995, (wall[:, 0] >= 0.02).mean()
    board = shown[on_board & inner]
    assert len(board) > 50 and np.abs(board - [1, 0, 0]).max() < 0.02


def test_a_view_whose_surface_is_elsewhere_counts_next_to_nothing() -> None:
    mesh = ball(3)
    views = [render(sphere, pose) for pose in cameras(10)]
    wrong = [DepthView(v.pose, v.intrinsics, v.depth * 0.8, np.zeros_like(v.colour), v.opacity) for v in views]
    texture = textured(mesh, [*views, *wrong, *wrong], 1024)
    faces, weights, points = places(mesh, 5000)
    assert np.abs(read(texture, faces, weights) - colour_at(points)).mean() < 0.015


def test_faces_are_laid_out_without_lying_on_each_other() -> None:
    mesh = ball(3)
    corners = unwrapped(mesh, 1024)
    assert corners.shape == (len(mesh.faces), 3, 2) and corners.min() >= 0 and corners.max() <= 1
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]) / 2 * 1024**2
    owner, off = np.full((1024, 1024), -1, np.int32), np.full((1024, 1024), np.inf, np.float32)
    flat = corners.astype(np.float64) * 1024 - 0.5
    draw_faces(flat, 0.0, owner, np.zeros((1024, 1024, 2), np.float32), off)
    covered = np.bincount(owner[owner >= 0], minlength=len(area))
    assert area.sum() > 0.4 * 1024**2  # of the texture
    assert covered.sum() == pytest.approx(area.sum(), rel=0.01)  # lying on each other, they would cover less


@pytest.mark.parametrize("size", [1, 1000, 8192, -1024])
def test_a_size_that_no_texture_has_is_one_sentence(size: int) -> None:
    with pytest.raises(BadInput, match=f"A texture of {size} texels a side cannot be made; choose 1024, 2048 or 4096"):
        checked_size(size)


def test_sizes() -> None:
    assert [checked_size(size) for size in (0, 1024, 2048, 4096)] == [0, 1024, 2048, 4096]
