# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes made lighter and whole: of shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes
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


def spokes_on_a_floor(spacing: float = 0.02) -> trimesh.Trimesh:
    """Six spokes, 2.6 cm thick in the middle and 0.8 m high, above a floor of 4 m that was bumpy and is made flat."""
    sides = (np.arange(a, b, spacing) for a, b in ((-2, 2), (-2, 2), (-0.1, 1.3)))
    x, y, z = np.meshgrid(*sides, indexing="ij", sparse=True)
    distance = z - 0.02 * np.sin(9 * x) * np.sin(7 * y)
    for at_x, at_y in ((-1, -1), (0.3, -1.2), (1, 0), (-0.7, 0.9), (0.9, 1.1), (-0.1, 0.1)):
        spoke = np.maximum(np.hypot(x - at_x - 0.2 * z, y - at_y + 0.1 * z) - 1.3 * spacing, np.abs(z - 0.7) - 0.4)
        distance = np.minimum(distance, spoke)
    vertices, faces, _, _ = marching_cubes(distance, 0.0, gradient_direction="descent", allow_degenerate=False)
    vertices = vertices * spacing + (-2, -2, -0.1)
    vertices[np.abs(vertices[:, 2]) < 0.05, 2] = 0
    return trimesh.Trimesh(vertices, faces, process=False)


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("faces", [8000, 4000])
def test_what_is_thin_stays_beside_what_is_flat_in_any_unit(unit: float, faces: int) -> None:
    mesh = spokes_on_a_floor()
    true = [part.volume for part in mesh.split() if part.vertices[:, 2].min() > 0.2]
    mesh.apply_scale(unit)
    after = decimated(colored(mesh), faces)
    assert len(mesh.faces) > 90_000 and 0.9 * faces < len(after.faces) <= faces
    after.apply_scale(1 / unit)
    parts = after.split(only_watertight=False)
    spokes = [part for part in parts if part.vertices[:, 2].min() > 0.2]
    assert len(parts) == 7 and len(spokes) == len(true) == 6
    assert [part.volume for part in spokes] == pytest.approx(true, rel=0.03)
    assert [np.ptp(part.vertices[:, 2]) for part in spokes] == pytest.approx([0.8] * 6, abs=0.005)


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
