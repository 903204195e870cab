# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way is up, by how people hold cameras: level, or turned by a quarter or a half."""

from __future__ import annotations

import numpy as np

_LEVEL_FIRST = 0.2  # of a score: a level camera that pitches and a turned one that pans may look the same
_GUESSES = 200


def up_from_cameras(axes: np.ndarray, tops: np.ndarray | None = None) -> np.ndarray:
    """(3,) float64 unit vector: up, by the axes (N, 3, 3) of cameras (columns right, up, back).

    Of a camera held level, the right axis is horizontal, and of one turned by a quarter, the up axis is; up is the
    direction to which one of the two is most nearly perpendicular for all cameras, and the other most nearly parallel.
    `tops` (N, 2) are directions in the pictures, (right, up), that are known to be up, (0, 1) where not given.

    Which end of that direction is up, the cameras' up axes say; where those cancel or lie across it, cameras rather
    look down than up. Where cameras all look one way and turn about it (pictures from straight above), up is what they
    have behind them.
    """
    right, up, back = (axes[:, :, index] for index in range(3))
    if tops is not None:
        x, y = tops[:, :1], tops[:, 1:]
        right, up = y * right - x * up, x * right + y * up
    behind = back.mean(axis=0)
    if np.linalg.norm(behind) > 0.8 and np.linalg.norm(up.mean(axis=0)) < 0.5:
        return behind / np.linalg.norm(behind)
    best, score = np.array([0.0, 0.0, 1.0]), -np.inf
    # A few guesses spread over the sphere find the best one's neighbourhood, whatever the mixture of turns.
    guesses = _half_sphere(_GUESSES)
    guesses = guesses[np.argsort(_scores(guesses, right, up))[-3:]]
    for start in (up.mean(axis=0), _across(right), _across(up), *guesses):
        length = float(np.linalg.norm(start))
        if length < 1e-6:
            continue
        found = _refined(start / length, right, up)
        reached = float(_scores(found[None], right, up)[0])
        if reached > score + 1e-9:
            best, score = found, reached
    along, level = up @ best, _is_level(best, right, up)
    votes = float(along[level].sum()) / len(along)
    if abs(votes) < 0.1:
        votes = float(back.mean(axis=0) @ best)
    return -best if votes < 0 else best


def _is_level(up_found: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    return np.abs(right @ up_found) <= np.abs(up @ up_found)


def _scores(directions: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(M,): how well each camera has one axis along a direction (M, 3) and the other across it; about 1 for up."""
    across, along = np.abs(right @ directions.T), np.abs(up @ directions.T)  # (N, M)
    off = np.sqrt(np.square(np.minimum(across, along)).mean(axis=0))
    return np.maximum(across, along).mean(axis=0) - off + _LEVEL_FIRST * (across <= along).mean(axis=0)


def _half_sphere(count: int) -> np.ndarray:
    """(count, 3) unit vectors, evenly spread."""
    height = (np.arange(count) + 0.5) / count
    around = np.pi * (1 + 5**0.5) * np.arange(count)
    reach = np.sqrt(1 - height**2)
    return np.stack([reach * np.cos(around), reach * np.sin(around), height], axis=1)


def _across(directions: np.ndarray) -> np.ndarray:
    """The direction most nearly perpendicular to all of (N, 3)."""
    return np.linalg.eigh(directions.T @ directions)[1][:, 0]


def _refined(found: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Up from a first guess: the axis across which the cameras' horizontal axes lie."""
    for _ in range(10):
        level = _is_level(found, right, up)
        horizontal = np.where(level[:, None], right, up)
        values, vectors = np.linalg.eigh(horizontal.T @ horizontal / len(horizontal))
        if values[1] > 0.03:  # the horizontal axes span a plane: they turn by more than about ten degrees
            better = vectors[:, 0]
        else:  # they are all one, and what is perpendicular to it is not decided: their own upright axes decide
            upright = np.where(level[:, None], up, right)
            better = (upright * np.sign(upright @ found)[:, None]).mean(axis=0)
            better -= vectors[:, 2] * (vectors[:, 2] @ better)
            better /= max(float(np.linalg.norm(better)), 1e-9)
        better = -better if better @ found < 0 else better
        if np.abs(better - found).max() < 1e-12:
            break
        found = better
    return found
