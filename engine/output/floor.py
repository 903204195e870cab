# SPDX-License-Identifier: GPL-3.0-or-later
"""A floor that is flat where the floor is: what lies on it but for noise is put there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from scipy import sparse

STEEPEST = 25.0  # degrees between a floor and what is level: a capture's up is often told by its cameras alone
LEAST = 0.1  # of the mesh's area: what is smaller is a step or a lid
NARROWEST, WIDEST = 0.004, 0.015  # of the capture's radius: how far from its plane a floor may lie
SPREADS = 2.5  # times its own standard deviation, between those
FLAT = 0.6  # of what lies within three times as far and looks up: else it is a hill, of which a plane cuts a slice
SMOOTH = 0.01  # of the capture's radius: over which it is asked where a surface looks to
LOOKS_AWAY, LOOKS_UP = 0.3, 0.7  # cosines to the floor's normal, of what stays where it is, and of what moves wholly
GUESSES, LOOKED_AT, FITS = 1000, 4000, 5


@dataclass(frozen=True, eq=False)
class Floor:
    """The plane ``normal`` · x = ``height``, normal (3,) of length 1 upward, and how far from it, in the mesh's unit,
    its surface lies."""

    normal: np.ndarray
    height: float
    reach: float


def flattened(mesh: trimesh.Trimesh, up: np.ndarray, radius: float) -> trimesh.Trimesh:
    """The mesh with its floor flat, or itself where it has none: ``up`` (3,) and ``radius`` are the capture's.

    What lies within the floor's reach moves wholly onto it, what lies twice as far not at all, and what looks sideways
    or down, as the feet of what stands there, stays too."""
    area, normals, neighbors = _surface(mesh, radius)
    floor = _found(np.asarray(mesh.vertices), area, normals, np.asarray(up, float), radius)
    if floor is None:
        return mesh
    above = mesh.vertices @ floor.normal - floor.height
    share = 1 - _rising(np.abs(above) / floor.reach - 1)
    share *= _rising((normals @ floor.normal - LOOKS_AWAY) / (LOOKS_UP - LOOKS_AWAY))
    for _ in range(2):  # so that no step shows beside what stays
        share = neighbors @ share
    made = mesh.copy()
    made.vertices = mesh.vertices - (share * above)[:, None] * floor.normal
    return made


def floor_of(mesh: trimesh.Trimesh, up: np.ndarray, radius: float) -> Floor | None:
    """The largest plane of what looks up (see `flattened`), where there is one; the same for the same mesh."""
    area, normals, _ = _surface(mesh, radius)
    return _found(np.asarray(mesh.vertices), area, normals, np.asarray(up, float), radius)


def _surface(mesh: trimesh.Trimesh, radius: float) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """(V,) area about each vertex, (V, 3) where the surface about it looks to, of length 1 or less, and the (V, V)
    matrix that takes the mean with neighbors."""
    faces, count = np.asarray(mesh.faces), len(mesh.vertices)
    a, b, c = np.asarray(mesh.vertices)[faces.T]
    across = np.cross(b - a, c - a) / 6
    sums = np.stack([np.bincount(faces.ravel(), np.repeat(across[:, k], 3), count) for k in range(3)], axis=1)
    area = np.bincount(faces.ravel(), np.repeat(np.linalg.norm(across, axis=1), 3), count)
    edges = np.asarray(mesh.edges_unique)
    ones = np.ones(2 * len(edges) + count)
    own = np.arange(count)
    rows, columns = np.concatenate([edges[:, 0], edges[:, 1], own]), np.concatenate([edges[:, 1], edges[:, 0], own])
    mean = sparse.csr_matrix((ones, (rows, columns)), (count, count))
    mean = sparse.diags(1 / np.maximum(np.asarray(mean.sum(axis=1))[:, 0], 1)) @ mean
    length = float(np.median(mesh.edges_unique_length)) if len(edges) else 0.0
    rounds = int(np.clip(np.ceil((SMOOTH * radius / length) ** 2), 2, 30)) if length > 0 else 0
    for _ in range(rounds):
        sums = mean @ sums
    return area, sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-30), mean.tocsr()


def _found(vertices: np.ndarray, area: np.ndarray, normals: np.ndarray, up: np.ndarray, radius: float) -> Floor | None:
    up, level = up / np.linalg.norm(up), np.cos(np.radians(STEEPEST))
    looks_up = np.flatnonzero((normals @ up > level / 2) & (area > 0))
    if len(looks_up) < 3 or area[looks_up].sum() < LEAST * area.sum():
        return None
    random = np.random.default_rng(0)
    chance = area[looks_up] / area[looks_up].sum()
    drawn = looks_up[random.choice(len(looks_up), LOOKED_AT, p=chance)]  # evenly over the area
    points = vertices[drawn]
    # RANSAC (Fischler and Bolles 1981): of planes through any three of the points, the one that most lie on.
    a, b, c = points[random.integers(LOOKED_AT, size=(3, GUESSES))]
    guesses = np.cross(b - a, c - a)
    length = np.linalg.norm(guesses, axis=1)
    guesses = guesses / np.maximum(length, 1e-30)[:, None]
    guesses *= np.where(guesses @ up < 0, -1.0, 1.0)[:, None]
    usable = (length > 0) & (guesses @ up > level)
    if not usable.any():
        return None
    guesses, a = guesses[usable], a[usable]
    on_it = np.abs(guesses @ points.T - np.einsum("ij,ij->i", guesses, a)[:, None]) < WIDEST * radius
    best = int(on_it.sum(axis=1).argmax())
    normal, reach = guesses[best], WIDEST * radius
    height = float(normal @ a[best])
    for _ in range(FITS):
        above = points @ normal - height
        near = points[np.abs(above) < reach]
        if len(near) < 3:
            return None
        middle = near.mean(axis=0)
        normal = np.linalg.eigh((near - middle).T @ (near - middle))[1][:, 0]
        normal *= 1.0 if normal @ up > 0 else -1.0
        height = float(normal @ middle)
        above = np.abs(points @ normal - height)
        spread = 1.4826 * float(np.median(above[above < 3 * WIDEST * radius]))
        reach = float(np.clip(SPREADS * spread, NARROWEST * radius, WIDEST * radius))
    above = np.abs(vertices @ normal - height)
    facing = normals @ normal > level / 2
    on_floor = area[(above < reach) & facing].sum()
    about = area[(above < 3 * reach) & facing].sum()
    if normal @ up < level or on_floor < LEAST * area.sum() or on_floor < FLAT * about:
        return None
    return Floor(normal, height, reach)


def _rising(values: np.ndarray) -> np.ndarray:
    """From 0 at 0 to 1 at 1, smoothly."""
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)
