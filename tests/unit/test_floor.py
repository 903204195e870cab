# SPDX-License-Identifier: GPL-3.0-or-later
"""A floor is made flat where there is one, and nothing else is touched: shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from trimesh.visual.color import ColorVisuals

from engine.output.floor import WIDEST, flattened, floor_of

RADIUS = 4.0  # of the capture
UP = np.array([0.0, 0.0, 1.0])


def surface(heights, half: float = 2.0, points: int = 121) -> trimesh.Trimesh:
    """A grid over a square, ``heights`` (x, y) above it, its faces looking up."""
    x, y = np.meshgrid(*2 * [np.linspace(-half, half, points)], indexing="ij")
    vertices = np.stack([x, y, heights(x, y)], axis=-1).reshape(-1, 3)
    index = np.arange(points * points).reshape(points, points)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return trimesh.Trimesh(vertices, faces, process=False)


def bumps(seed: int, size: float):
    """Noise without a pattern, of a standard deviation of ``size``."""
    return lambda x, y: np.random.default_rng(seed).normal(0, size, x.shape)


def turned(mesh: trimesh.Trimesh, degrees: float, about: tuple[float, float, float]) -> trimesh.Trimesh:
    return mesh.copy().apply_transform(trimesh.transformations.rotation_matrix(np.radians(degrees), about))


def with_things(floor: trimesh.Trimesh) -> tuple[trimesh.Trimesh, np.ndarray]:
    """Two balls and a box on a floor at z = 0, and which vertices are theirs."""
    balls = [trimesh.creation.icosphere(4, 0.5).apply_translation(at) for at in ((1, 1, 0.5), (-1, 0.4, 0.48))]
    box = trimesh.creation.box((0.8, 0.6, 0.7)).apply_translation((0.3, -1.2, 0.35))
    box = trimesh.Trimesh(*trimesh.remesh.subdivide_to_size(box.vertices, box.faces, 0.05), process=False)
    mesh = trimesh.util.concatenate([floor, *balls, box])
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.arange(4 * len(mesh.vertices)).reshape(-1, 4) % 255)
    return mesh, np.arange(len(mesh.vertices)) >= len(floor.vertices)


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_a_bumpy_floor_is_flat_and_what_stands_on_it_stays(tilt: float) -> None:
    """Also where the capture's up is some degrees off."""
    level, things = with_things(surface(bumps(1, 0.02)))
    mesh = turned(level, tilt, (1.0, 0.3, 0.0))
    truth = turned(trimesh.Trimesh([UP], np.zeros((0, 3), int)), tilt, (1.0, 0.3, 0.0)).vertices[0]
    made = flattened(mesh, UP, RADIUS)
    before, after = mesh.vertices @ truth, made.vertices @ truth
    assert np.abs(before[~things]).std() > 0.01
    inside = ~things & (np.abs(level.vertices[:, :2]).max(axis=1) < 1.9)
    assert np.abs(after[inside]).mean() < 0.002 and np.quantile(np.abs(after[inside]), 0.99) < 0.012
    moved = np.linalg.norm(made.vertices - mesh.vertices, axis=1)
    assert moved[things & (before > 2.2 * WIDEST * RADIUS)].max() == 0  # all but their feet
    walls = things & (np.abs(level.vertices[:, 0] - 0.3) < 0.41) & (level.vertices[:, 1] < -0.85)
    assert np.median(moved[walls & (before < 0.03) & (before > 0.001)]) < 0.003  # a wall's foot is no floor
    # Along the floor nothing moves, and it stays one surface in the same colors.
    across = made.vertices - mesh.vertices
    assert np.abs(across - (across @ truth)[:, None] * truth).max() < 0.05 * moved.max()
    assert (made.faces == mesh.faces).all() and (made.visual.vertex_colors == mesh.visual.vertex_colors).all()


def test_no_step_shows_where_a_hump_rises_out_of_the_floor() -> None:
    """A hump that begins flat: between what is put onto the floor and what stays there is no jump."""
    hump = surface(lambda x, y: 0.6 * np.exp(-(x * x + y * y) / 0.3) + bumps(2, 0.004)(x, y))
    made = flattened(hump, UP, RADIUS)
    steepness = [np.abs(np.diff(m.vertices[:, 2].reshape(121, 121), axis=0)).max() for m in (hump, made)]
    assert made is not hump and steepness[1] < 1.3 * steepness[0]
    top = hump.vertices[:, 2] > 0.2
    assert np.abs(made.vertices - hump.vertices)[top].max() == 0


def test_a_floor_lies_within_a_plane_to_a_thousandth() -> None:
    floor = floor_of(with_things(surface(lambda x, y: 0.1 * x + bumps(3, 0.01)(x, y)))[0], UP, RADIUS)
    assert floor is not None
    expected = np.array([-0.1, 0, 1]) / np.sqrt(1.01)
    assert np.degrees(np.arccos(floor.normal @ expected)) < 0.2 and abs(floor.height) < 0.001 * RADIUS


def test_the_same_mesh_is_made_flat_in_the_same_way() -> None:
    mesh, _ = with_things(surface(bumps(4, 0.02)))
    assert np.array_equal(flattened(mesh, UP, RADIUS).vertices, flattened(mesh, UP, RADIUS).vertices)


def wall() -> trimesh.Trimesh:
    return turned(surface(bumps(5, 0.02)), 90, (1, 0, 0))


def hills() -> trimesh.Trimesh:
    return surface(lambda x, y: 0.25 * np.sin(3 * x) * np.cos(2.5 * y) + bumps(6, 0.01)(x, y))


def lid() -> trimesh.Trimesh:
    """A plane that looks up, but less than a tenth of all."""
    return trimesh.util.concatenate([surface(bumps(7, 0.01), half=0.5), wall()])


NO_FLOOR = {
    "a ball": lambda: trimesh.creation.icosphere(5, 1.5),
    "a wall": wall,
    "a ceiling": lambda: turned(surface(bumps(5, 0.02)), 180, (1, 0, 0)),
    "a ramp": lambda: turned(surface(bumps(5, 0.02)), 40, (1, 0, 0)),
    "hills": hills,
    "a lid before a wall": lid,
    "one triangle": lambda: trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 0, 1]], [[0, 1, 2]], process=False),
    "no face": lambda: trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False),
}


@pytest.mark.parametrize("shape", NO_FLOOR)
def test_where_there_is_no_floor_nothing_happens(shape: str) -> None:
    mesh = NO_FLOOR[shape]()
    assert floor_of(mesh, UP, RADIUS) is None and flattened(mesh, UP, RADIUS) is mesh
