# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversions there and back; what they mean in Blender is checked against Blender in tests/blender."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blender_addon import conversion
from blender_addon.conversion import BlenderCamera, Intrinsics

sizes = st.integers(16, 4096)
lengths = st.floats(0.3, 5.0)
offsets = st.floats(-0.4, 0.4)
angles = st.floats(-math.pi, math.pi)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    def turn(i: int, j: int, angle: float) -> np.ndarray:
        m = np.eye(3)
        m[i, i] = m[j, j] = math.cos(angle)
        m[i, j], m[j, i] = -math.sin(angle), math.sin(angle)
        return m

    return turn(0, 1, a) @ turn(1, 2, b) @ turn(0, 2, c)


def matrix(turn: np.ndarray, position: tuple[float, float, float], scale: float = 1.0) -> np.ndarray:
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = scale * turn, position
    return m


@given(sizes, sizes, lengths, st.floats(0.5, 2.0), offsets, offsets)
def test_intrinsics_survive_blender(w: int, h: int, f: float, ratio: float, ox: float, oy: float) -> None:
    k = Intrinsics(w, h, f * w, f * w * ratio, w * (0.5 + ox), h * (0.5 + oy))
    b = conversion.blender_from_intrinsics(k)
    assert b.pixel_aspect_x >= 1 and b.pixel_aspect_y >= 1 and b.lens >= 1
    back = conversion.intrinsics_from_blender(b)
    assert (back.width, back.height) == (w, h)
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(back, name) == pytest.approx(getattr(k, name), rel=1e-9, abs=1e-6)


def test_a_lens_shorter_than_blenders_shortest_becomes_a_wider_sensor() -> None:
    k = Intrinsics(4000, 3000, 50.0, 50.0, 2000.0, 1500.0)
    b = conversion.blender_from_intrinsics(k)
    assert b.lens == 1.0
    assert conversion.intrinsics_from_blender(b).fx == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("fit", "width", "height", "expected"),
    [("AUTO", 200, 100, 50 / 36 * 200), ("AUTO", 100, 200, 50 / 36 * 200), ("HORIZONTAL", 100, 200, 50 / 36 * 100),
     ("VERTICAL", 100, 200, 50 / 24 * 200)],
)  # fmt: skip
def test_focal_length_by_hand_for_each_sensor_fit(fit: str, width: int, height: int, expected: float) -> None:
    k = conversion.intrinsics_from_blender(BlenderCamera(50, 36, 24, fit, 0, 0, width, height, 1, 1))
    assert k.fx == pytest.approx(expected) and k.fy == pytest.approx(expected)


@given(angles, angles, angles, st.floats(0.01, 100.0), angles, angles, angles)
def test_a_pose_survives_the_root(a: float, b: float, c: float, scale: float, d: float, e: float, f: float) -> None:
    root = matrix(rotation(a, b, c), (3.0, -2.0, 0.5), scale)
    pose = matrix(rotation(d, e, f), (0.3, 5.0, -1.0))
    got = conversion.capture_pose_from_world(
        conversion.matrix_from_rows(root), conversion.matrix_from_rows(root @ pose)
    )
    np.testing.assert_allclose(np.array(got), pose, atol=1e-6)


@given(angles, angles, angles, st.floats(0.01, 100.0))
def test_the_inverse_is_numpys(a: float, b: float, c: float, scale: float) -> None:
    m = matrix(rotation(a, b, c), (3.0, -2.0, 0.5), scale)
    got = np.array(conversion.inverse_of_similarity(conversion.matrix_from_rows(m)))
    np.testing.assert_allclose(got, np.linalg.inv(m), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("root", "word"),
    [(np.diag([1.0, 1.0, 1.1, 1.0]), "stretched"), (np.diag([-1.0, 1.0, 1.0, 1.0]), "mirrored"),
     (np.diag([0.0, 0.0, 0.0, 1.0]), "scale"), (np.eye(4) + np.eye(4, k=1) * 0.1, "sheared")],
)  # fmt: skip
def test_a_root_that_no_pose_survives_is_refused(root: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        conversion.capture_pose_from_world(conversion.matrix_from_rows(root), conversion.IDENTITY)


@given(angles, angles, angles, st.floats(0.001, 1000.0))
def test_a_new_root_stands_upright_around_the_centre(a: float, b: float, c: float, radius: float) -> None:
    up = rotation(a, b, c)[:, 2]
    centre = (1.0, -4.0, 2.0)
    root = np.array(conversion.world_from_capture(tuple(up), centre, radius))
    scale = conversion.scale_of_similarity(conversion.matrix_from_rows(root))
    np.testing.assert_allclose(root[:3, :3] @ up, [0, 0, scale], atol=1e-6 * scale)
    np.testing.assert_allclose(root @ [*centre, 1.0], [0, 0, 0, 1], atol=1e-6 * scale + 1e-12)
    assert scale == pytest.approx(1.0 if 0.5 <= radius <= 20 else 5.0 / radius)
