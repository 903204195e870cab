# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture says of itself: where its cameras look, how far away they are, which way is up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import looking_at, ring
from hypothesis import given
from hypothesis import strategies as st

from engine.capture import Capture, CaptureError, Intrinsics, View


def capture_of(poses: list[np.ndarray]) -> Capture:
    camera = Intrinsics(64, 48, 60, 60, 32, 24)
    views = [View(str(index), pose, camera, f"{index}.png", False) for index, pose in enumerate(poses)]
    return Capture(Path(), Path(), "test", views, [None] * len(views))  # type: ignore[list-item]


def test_intrinsics_scale_with_their_picture() -> None:
    camera = Intrinsics(100, 60, 80, 81, 52, 29).scaled_to(50, 120)
    assert camera == Intrinsics(50, 120, 40, 162, 26, 58)
    assert np.allclose(camera.matrix() @ (0, 0, 1), (26, 58, 1))


@given(st.tuples(*[st.floats(-5, 5)] * 3))
def test_cameras_look_at_the_centre(target: tuple[float, float, float]) -> None:
    poses = [looking_at(np.array(target) + pose[:3, 3], target) for pose in ring(9)]
    capture = capture_of(poses)
    assert np.allclose(capture.centre, target, atol=1e-6)
    assert np.isclose(capture.radius, np.mean([np.linalg.norm(p[:3, 3] - target) for p in poses]))
    assert capture.up @ (0, 0, 1) > 0.99 and np.isclose(np.linalg.norm(capture.up), 1)


def test_a_stray_camera_moves_the_centre_little() -> None:
    stray = looking_at((4, 0, 1), (0, 2, 0))
    assert np.linalg.norm(capture_of([*ring(20), stray]).centre) < 0.2


def test_parallel_axes_meet_nowhere() -> None:
    poses = [looking_at((x, 0, 0), (x, 5, 0)) for x in (-1.0, 0.0, 1.0)]
    capture = capture_of(poses)
    assert np.allclose(capture.centre, (0, 2 / 3, 0)) and 0.5 < capture.radius < 2
    one = capture_of(poses[:1])
    assert np.allclose(one.centre, (-1, 1, 0)) and one.radius == 1


def test_nearly_parallel_axes_give_no_point_at_the_horizon() -> None:
    rng = np.random.default_rng(0)
    poses = [looking_at((x, 0, 0), np.array((x, 50, 0)) + rng.normal(0, 0.05, 3)) for x in np.linspace(-1, 1, 12)]
    assert np.linalg.norm(capture_of(poses).centre) < 3


def test_cameras_that_look_outward() -> None:
    outward = [looking_at(p[:3, 3], 2 * p[:3, 3]) for p in ring(8)]
    capture = capture_of(outward)
    assert np.linalg.norm(capture.centre[:2]) < 1e-6 and 3 < capture.radius < 5


def test_up_where_the_cameras_turn_about_the_vertical() -> None:
    angles = np.arange(8) * np.pi / 4
    above = [looking_at((0.1 * np.cos(a), 0.1 * np.sin(a), 5), (0.1 * np.cos(a), 0.1 * np.sin(a), 0),
                        (np.cos(a), np.sin(a), 0)) for a in angles]  # fmt: skip
    assert np.allclose(capture_of(above).up, (0, 0, 1))


def test_without_moves_views_to_what_is_left_out() -> None:
    capture = capture_of(ring(3)).without({"1": "Its picture is damaged."})
    assert [view.name for view in capture.views] == ["0", "2"] and len(capture.sources) == 2
    assert (capture.left_out[0].name, capture.left_out[0].reason) == ("1", "Its picture is damaged.")
    assert capture.view("2").name == "2"
    with pytest.raises(CaptureError):
        capture.view("1")
