# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparse points as depths of pixels: of those that show them, as far as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import looking_at

from engine.capture import Intrinsics
from engine.capture.ply import read_points, write_points
from engine.capture.types import SparsePoints
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.known_depth import known_depths

PINHOLE = Intrinsics(80, 60, 70.0, 75.0, 42.0, 28.0)


def camera(at: tuple[float, float, float]) -> Viewpoint:
    return Viewpoint(looking_at(np.array(at), np.zeros(3), (0.1, 0.2, 1)), PINHOLE)


def through(view: Viewpoint, pixels: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Points on the rays through the centres of pixels, counted row by row."""
    rays = pixel_directions(view.intrinsics).reshape(-1, 3)[pixels]
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True) @ view.pose[:3, :3].T
    return view.pose[:3, 3] + rays * distances[:, None]


def test_points_are_known_where_and_as_far_as_they_are() -> None:
    random = np.random.default_rng(1)
    view = camera((3.0, -1.0, 2.0))
    pixels = np.sort(random.choice(80 * 60, 500, replace=False))
    distances = random.uniform(3.0, 3.2, 500)
    order = random.permutation(500)
    (found,) = known_depths(SparsePoints(through(view, pixels, distances)[order]), [view])
    assert np.array_equal(found.pixels, pixels)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    assert (found.sure == 1).all()


def test_what_lies_behind_a_camera_or_beside_its_picture_is_not_known() -> None:
    view = camera((3.0, -1.0, 2.0))
    behind = view.pose[:3, 3] + view.pose[:3, 2]
    beside = view.pose[:3, 3] - view.pose[:3, 2] + 3 * view.pose[:3, 0]
    (found,) = known_depths(SparsePoints(np.stack([behind, beside])), [view])
    assert not len(found.pixels)


def test_a_wall_behind_a_board_is_known_only_beside_it() -> None:
    view = camera((4.0, 0.0, 0.0))
    every = np.arange(0, 80 * 60, 3)
    column = every % 80
    wall = through(view, every, np.full(len(every), 6.0))
    of_board = every[(column > 20) & (column < 50)]
    board = through(view, of_board + 1, np.full(len(of_board), 3.0))  # other pixels than the wall's
    (found,) = known_depths(SparsePoints(np.concatenate([wall, board])), [view])
    column, far = found.pixels % 80, found.distances > 5
    assert (~far).sum() == len(of_board)
    assert not far[(column > 20) & (column < 50)].any()
    assert far[(column < 10) | (column > 60)].all() and far.sum() > 300


def test_the_nearest_of_several_points_in_a_pixel_counts() -> None:
    view = camera((4.0, 0.0, 0.0))
    pixels = np.array([700, 700, 700])
    (found,) = known_depths(SparsePoints(through(view, pixels, np.array([3.2, 3.0, 3.1]))), [view])
    assert found.pixels.tolist() == [700] and found.distances == pytest.approx([3.0])


def test_points_are_believed_by_their_error() -> None:
    view = camera((4.0, 0.0, 0.0))
    pixels = np.arange(100, 1100, 10)
    errors = np.linspace(0.1, 1.9, 100).astype(np.float32)  # mean 1
    points = SparsePoints(through(view, pixels, np.full(100, 3.0)), None, errors)
    (found,) = known_depths(points, [view])
    expected = np.exp(-(errors.astype(np.float64) ** 2) / errors.mean() ** 2)
    kept = expected >= 0.05
    assert 0 < kept.sum() < 100 and np.array_equal(found.pixels, pixels[kept])
    np.testing.assert_allclose(found.sure, expected[kept], rtol=1e-4)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_errors_that_are_none_are_not_taken(bad: float) -> None:
    positions, errors = np.zeros((3, 3)), np.array([0.5, bad, 1.0])
    points = SparsePoints.usable(positions, None, errors)
    assert points is not None and points.errors is None


def test_errors_are_kept_on_disk_and_belong_to_their_points(tmp_path: Path) -> None:
    positions = np.random.default_rng(0).normal(size=(20, 3))
    positions[3] = np.inf
    points = SparsePoints.usable(positions, None, np.arange(20.0))
    assert points is not None and points.errors is not None and points.errors.tolist() == [*range(3), *range(4, 20)]
    write_points(points, tmp_path / "points.ply")
    again = read_points(tmp_path / "points.ply")
    assert again is not None and np.array_equal(again.errors, points.errors)
    assert np.array_equal(again.positions, points.positions)
    write_points(SparsePoints(positions[:2]), tmp_path / "points.ply")
    again = read_points(tmp_path / "points.ply")
    assert again is not None and again.errors is None
