# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes at right angles, against rooms in closed form."""

import numpy as np
from scipy.spatial.transform import Rotation

from engine.scenes.right_angles import height_of, squared

TURNED = Rotation.from_euler("zyx", [25, 4, -3], degrees=True).as_matrix()  # the room's axes


def room(noise: float = 0.01):
    """Points on a floor, two walls and a board that leans; what each is, and how far from the middle."""
    random = np.random.default_rng(0)
    normals = [TURNED[2], TURNED[1], TURNED[0], Rotation.from_rotvec(0.5 * TURNED[0]).apply(TURNED[2])]
    heights = np.array([-1.0, 2.0, -1.5, 0.3])
    places = []
    for normal, height in zip(normals, heights, strict=True):
        across = np.linalg.svd(normal[None])[2][1:]
        on = random.uniform(-1, 1, (2000, 2)) @ across + height * normal
        places.append(on + random.normal(0, noise, (2000, 1)) * normal)
    return np.stack(normals), heights, places


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(a @ b), 0, 1))))


def test_a_wall_known_along_an_edge_alone_stands_as_the_others_do():
    normals, heights, places = room()
    edge = places[2] @ TURNED[2] < -0.95  # of one wall only its foot is known: about that its plane can turn
    places[2] = places[2][edge]
    about = [Rotation.from_rotvec(np.radians(lean) * TURNED[axis]).apply(n) for n, lean, axis in zip(normals, (0.4, -0.5, 6), (0, 2, 1), strict=False)]  # noqa: E501  # fmt: skip
    made, found, aligned = squared(
        np.stack([*about, normals[3]]), np.array([9, 5, 4, 3]), places, [np.full(len(p), 0.01) for p in places]
    )
    assert aligned.tolist() == [True, True, True, False]
    for k in range(3):
        assert degrees(made[k], normals[k]) < 0.1
        assert abs(found[k] * np.sign(made[k] @ normals[k]) - heights[k]) < 0.003
    assert np.abs(made[:3] @ made[:3].T - np.eye(3)).max() < 1e-9


def test_the_height_is_that_of_most():
    """Two fifths of the points are of a layer four spreads higher."""
    at = np.random.default_rng(0).normal(1.0, 0.01, 1000)
    at[:400] += 0.04
    assert abs(height_of(at, np.full(1000, 0.01)) - 1.0) < 0.009 < np.mean(at) - 1.0


def test_outliers_turn_nothing():
    normals, _, places = room()
    places[1][:300] += 0.2 * normals[1]  # a shelf before the wall
    made, found, aligned = squared(normals, np.array([9, 5, 4, 3]), places, [np.full(2000, 0.01)] * 4)
    assert aligned[:3].all() and all(degrees(made[k], normals[k]) < 0.15 for k in range(3))
    assert abs(abs(found[1]) - 2.0) < 0.004


def test_without_two_upright_planes_nothing_stands():
    normals, _, places = room()
    for few in ([0], [0, 3], []):
        made, _, aligned = squared(normals[few].reshape(-1, 3), np.ones(len(few)), [places[k] for k in few], [np.full(2000, 0.01)] * len(few))  # noqa: E501  # fmt: skip
        assert not aligned.any() and np.array_equal(made, normals[few].reshape(-1, 3))
