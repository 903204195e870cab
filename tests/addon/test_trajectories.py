# SPDX-License-Identifier: GPL-3.0-or-later
"""Domes, paths and warnings, against plain geometry."""

from __future__ import annotations

import itertools
import math
import random
import time

import numpy as np
import pytest

from blender_addon import trajectories
from blender_addon.conversion import column


def test_a_dome_looks_at_its_centre_upright_and_within_its_elevations() -> None:
    centre = (1.0, 2.0, 3.0)
    poses = trajectories.dome(50, centre, 4.0, 10.0, 70.0)
    for pose in map(np.array, poses):
        offset = pose[:3, 3] - centre
        assert np.linalg.norm(offset) == pytest.approx(4.0)
        np.testing.assert_allclose(pose[:3, 2], offset / 4.0, atol=1e-9)  # the camera looks along its -Z
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        assert pose[2, 1] > 0 and abs(pose[2, 0]) < 1e-9  # up is upward, right is level
        assert 10.0 <= math.degrees(math.asin(offset[2] / 4.0)) <= 70.0


def test_a_sweep_stays_in_front_and_is_even() -> None:
    poses = [np.array(p) for p in trajectories.dome(60, (0.0, 0.0, 0.0), 2.0, 20.0, 45.0, 120.0)]
    azimuths = sorted(math.degrees(math.atan2(p[1, 3], p[0, 3])) for p in poses)
    assert -150.0 <= azimuths[0] < -140.0 and -40.0 < azimuths[-1] <= -30.0
    assert max(b - a for a, b in itertools.pairwise(azimuths)) < 5.0


@pytest.mark.parametrize("z", [5.0, -5.0])
def test_straight_up_and_down_is_still_a_rotation(z: float) -> None:
    pose = np.array(trajectories.looking_at((0, 0, z), (0, 0, 0)))
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)


def length_of(points: list[tuple[float, float, float]], order: list[int]) -> float:
    return sum(math.dist(points[a], points[b]) for a, b in itertools.pairwise(order))


def test_a_path_through_a_shuffled_line_is_the_line() -> None:
    points = [(float(x), 0.0, 0.0) for x in range(12)]
    random.Random(3).shuffle(points)
    order = trajectories.order_of_path(points)
    assert length_of(points, order) == pytest.approx(11.0)


def test_a_path_visits_every_point_once_and_is_near_the_shortest() -> None:
    rng = random.Random(5)
    points = [(rng.random(), rng.random(), rng.random()) for _ in range(7)]
    order = trajectories.order_of_path(points)
    assert sorted(order) == list(range(7))
    shortest = min(length_of(points, list(p)) for p in itertools.permutations(range(7)))
    assert length_of(points, order) <= 1.15 * shortest


def test_a_path_through_thousands_goes_to_the_nearest_each_time_and_is_soon_found() -> None:
    rng = random.Random(7)
    points = [(rng.gauss(0, 1), rng.gauss(0, 1), rng.gauss(0, 0.01)) for _ in range(300)]
    points += [points[0], points[0], (500.0, 0.0, 0.0)]
    order, left = trajectories.order_of_path(points), set(range(len(points)))
    for a, b in itertools.pairwise(order):
        left.remove(a)
        assert math.dist(points[a], points[b]) == min(math.dist(points[a], points[k]) for k in left)
    ring = [(math.cos(i / 1000.0), math.sin(i / 1000.0), 1e6 + rng.random()) for i in range(6000)]
    began = time.process_time()
    assert sorted(trajectories.order_of_path(ring)) == list(range(6000))
    assert trajectories.order_of_path([(1.0, 2.0, 3.0)] * 4) == [0, 1, 2, 3]
    assert time.process_time() - began < 5


def test_warnings_of_thousands_are_those_of_a_few_and_soon_found() -> None:
    everything = trajectories.dome(20_000, (0.0, 0.0, 0.0), 3.0, 0.0, 60.0)
    began = time.process_time()
    assert trajectories.warnings_of_choice(everything, everything, (0.0, 0.0, 0.0), 12) == ()
    near = [pose for pose in everything if column(pose, 3)[0] > 2.5]
    (far,) = trajectories.warnings_of_choice(near, everything, (0.0, 0.0, 0.0), 12)
    assert len(near) > 600 and "% of the capture's directions" in far
    assert time.process_time() - began < 3


def test_frames_of_a_path_rise_and_fill_the_range() -> None:
    points = [(0.0, 0, 0), (0.0, 0, 0), (1.0, 0, 0), (1.001, 0, 0), (4.0, 0, 0)]
    times = trajectories.times_of_path(points, 10, 50)
    assert times[0] == 10 and times[-1] == 50
    assert all(a < b for a, b in itertools.pairwise(times))
    assert trajectories.times_of_path(points, 1, 5) == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="at least 5 frames"):
        trajectories.times_of_path(points, 1, 4)


def test_warnings_speak_of_number_spread_and_coverage() -> None:
    everything = trajectories.dome(60, (0.0, 0.0, 0.0), 3.0, 0.0, 60.0)
    assert trajectories.warnings_of_choice(everything, everything, (0.0, 0.0, 0.0), 12) == ()
    spread_out = everything[::4]
    assert trajectories.warnings_of_choice(spread_out, everything, (0.0, 0.0, 0.0), 12) == ()
    one_side = sorted(everything, key=lambda pose: column(pose, 3)[0])[-3:]
    few, far = trajectories.warnings_of_choice(one_side, everything, (0.0, 0.0, 0.0), 12)
    assert "3 chosen, at least 12" in few and "% of the capture's directions" in far
    alike = [trajectories.looking_at((3.0, 0.1 * i, 0.0), (0.0, 0.0, 0.0)) for i in range(4)]
    assert any("within" in w for w in trajectories.warnings_of_choice(alike, alike, (0.0, 0.0, 0.0), 2))
