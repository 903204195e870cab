# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes at right angles: what is built is mostly aligned with three axes (Coughlan and Yuille 1999). About one edge
that is seen well a plane can turn; the other planes say how."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

LEAN = np.radians(8.0)  # between a plane's normal and an axis, within which these may be the same
ROUNDS = 12


def squared(
    normals: np.ndarray, sizes: np.ndarray, places: Sequence[np.ndarray], errors: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The planes that are nearly along three axes, put along the axes that suit the points of all of them best: normals
    (P, 3), heights (P,), and (P,) bool, which those are; of the others both are of no meaning.

    ``normals`` (P, 3) and ``sizes`` (P,) of planes; ``places``, of each, (K, 3) points on it; ``errors``, of each,
    (K,) how far off those may be."""
    axes = axes_of(normals, sizes)
    made, heights = np.array(normals, np.float64), np.zeros(len(normals))
    if axes is None:
        return made, heights, np.zeros(len(normals), bool)
    along = np.abs(normals @ axes.T)
    which, aligned = along.argmax(axis=1), along.max(axis=1) > np.cos(LEAN)
    for _ in range(ROUNDS):
        pull, turn = 1e-12 * np.eye(3), np.zeros(3)
        for k in np.flatnonzero(aligned):
            axis = axes[which[k]]
            at = places[k] @ axis
            heights[k] = height_of(at, errors[k])
            off = at - heights[k]
            weights = 1 / (np.square(errors[k]) * (1 + np.square(off / errors[k])))
            by_turn = np.cross(axis, places[k])  # d(turned axis · p) for a turn about each axis: turn · (axis × p)
            by_turn = by_turn - np.average(by_turn, axis=0, weights=weights)
            pull += (by_turn * weights[:, None]).T @ by_turn
            turn -= by_turn.T @ (weights * off)
        axes = axes @ Rotation.from_rotvec(np.linalg.solve(pull, turn)).as_matrix().T
    for k in np.flatnonzero(aligned):
        axis = axes[which[k]]
        sign = np.sign(axis @ normals[k])
        made[k], heights[k] = sign * axis, sign * heights[k]
    return made, heights, aligned


def height_of(at: np.ndarray, errors: np.ndarray) -> float:
    """The height along an axis that suits most points: ``at`` (K,), theirs, each off by ``errors`` (K,)."""
    height = np.median(at)
    for _ in range(3):
        weights = 1 / (np.square(errors) * (1 + np.square((at - height) / errors)))
        height = np.average(at, weights=weights)
    return float(height)


def axes_of(normals: np.ndarray, sizes: np.ndarray) -> np.ndarray | None:
    """(3, 3) axes: normals of the largest plane and of the largest one that is perpendicular to it, and their cross
    product; None where there is none."""
    if len(normals) < 2:
        return None
    first = normals[int(np.argmax(sizes))]
    perpendicular = np.abs(normals @ first) < np.sin(LEAN)
    if not perpendicular.any():
        return None
    second = normals[int(np.argmax(np.where(perpendicular, sizes, -1)))]
    second = second - first * (first @ second)
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])
