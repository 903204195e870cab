# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes made lighter and whole: of shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from trimesh.visual.color import ColorVisuals

from engine.errors import BadInput
from engine.output.tidying import checked_faces, decimated, filled


def colored(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Each vertex in a color that says where it is."""
    shade = np.clip(128 + 100 * mesh.vertices, 0, 255).astype(np.uint8)
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.column_stack([shade, np.full(len(shade), 255, np.uint8)]))
    return mesh


def ball(without: np.ndarray | None = None) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=4)
    if without is not None:
        mesh.update_faces(~np.isin(np.arange(len(mesh.faces)), without))
    return colored(mesh)


def near(direction: tuple[float, float, float], cosine: float) -> np.ndarray:
    """Faces of a ball about a direction."""
    centers = trimesh.creation.icosphere(subdivisions=4).triangles_center
    return np.flatnonzero(centers @ np.array(direction) > cosine)


def test_a_ball_in_fewer_faces_is_the_same_ball() -> None:
    before = ball()
    after = decimated(before, 800)
    assert len(after.faces) <= 800 < len(before.faces) == 5120
    assert after.is_watertight and after.volume == pytest.approx(before.volume, rel=0.02)
    assert np.abs(np.linalg.norm(after.vertices, axis=1) - 1).max() < 0.02
    off = np.abs(after.visual.vertex_colors[:, :3] - np.clip(128 + 100 * after.vertices, 0, 255))
    assert off.max() < 12  # about the distance to the next vertex


def test_what_is_flat_takes_few_faces() -> None:
    grid = trimesh.creation.box((2, 2, 0.2))
    grid = colored(trimesh.Trimesh(*trimesh.remesh.subdivide_to_size(grid.vertices, grid.faces, 0.08)))
    grid.merge_vertices(merge_tex=True, merge_norm=True)
    after = decimated(colored(grid), 100)
    assert len(grid.faces) > 3000 and len(after.faces) <= 100
    assert after.volume == pytest.approx(0.8, rel=1e-3) and after.area == pytest.approx(grid.area, rel=1e-3)


def test_a_mesh_that_is_light_enough_stays_as_it_is() -> None:
    mesh = ball()
    assert decimated(mesh, 5120) is mesh and filled(mesh) is mesh


@pytest.mark.parametrize("faces", [-1, 1, 99, 10_000_001])
def test_a_number_of_faces_that_makes_no_mesh_is_refused(faces: int) -> None:
    with pytest.raises(BadInput, match="100 to 10,000,000"):
        checked_faces(faces)
    assert checked_faces(100) == 100 and checked_faces(0) == 0  # all


def test_holes_are_filled_outward_and_in_the_color_about_them() -> None:
    lost = near((0.0, 0.0, 1.0), 0.997)
    broken = ball(np.concatenate([lost, near((0.0, 1.0, 0.0), 0.9999)]))
    assert len(lost) > 4 and not broken.is_watertight
    whole = filled(broken)
    assert whole.is_watertight and whole.is_winding_consistent
    assert whole.volume == pytest.approx(ball().volume, rel=0.002)
    assert len(whole.visual.vertex_colors) == len(whole.vertices)
    top = whole.vertices[:, 2].argmax() if whole.vertices[-1, 2] < 0.9 else len(whole.vertices) - 1
    assert np.abs(whole.visual.vertex_colors[top, :3] - np.array([128, 128, 228])).max() < 12


def test_where_the_capture_ends_is_no_hole() -> None:
    half = ball(near((0.0, 0.0, 1.0), 0.0))
    assert filled(half) is half
    both = ball(np.concatenate([near((0.0, 0.0, 1.0), 0.0), near((0.0, 0.0, -1.0), 0.997)]))
    after = filled(both)
    assert len(after.faces) > len(both.faces)
    # What is left open is the large edge alone.
    edges = np.sort(after.edges, axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert (np.abs(after.vertices[unique[counts == 1]][:, :, 2]) < 0.2).all()


def test_holes_that_touch_are_left() -> None:
    mesh = ball()
    vertex = int(mesh.faces[0, 0])
    about = np.flatnonzero((mesh.faces == vertex).any(axis=1))
    center = mesh.triangles_center[about]
    opposite = int(np.linalg.norm(center - center[0], axis=1).argmax())
    broken = ball(about[[0, opposite]])
    assert filled(broken) is broken
