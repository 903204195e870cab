# SPDX-License-Identifier: GPL-3.0-or-later
"""Which views to choose: those that see something, and the neighbours of those that are chosen."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import bpy
from mathutils import Matrix, Vector

from .cameras import ASPECT, CHOSEN, SIZE, VIEW

NEIGHBOURS = 3  # of each chosen view, that are chosen with it
FILLED = 5  # points along each side of an object's box, one of which must be seen


def points_of(items: Iterable[bpy.types.Object]) -> list[Vector]:
    """Points in and on the boxes around objects, in Blender's world; the middle of each first."""
    found = []
    for item in items:
        corners = [Vector(corner) for corner in item.bound_box]
        low, high = (Vector(pick(c[axis] for c in corners) for axis in range(3)) for pick in (min, max))
        middle = (low + high) / 2
        shares = sorted(
            product([i / (FILLED - 1) for i in range(FILLED)], repeat=3), key=lambda s: math.dist(s, (0.5,) * 3)
        )
        box = {tuple(low[a] + share[a] * (high[a] - low[a]) for a in range(3)) for share in shares}
        found += [item.matrix_world @ p for p in (middle, *(Vector(p) for p in sorted(box)))]
    return found


def seeing(cameras: Sequence[bpy.types.Object], points: Sequence[Vector]) -> list[str]:
    """The views in whose picture one of the points lies, whatever stands before it."""
    return [str(camera[VIEW]) for camera in cameras if _sees(camera, points)]


def _sees(camera: bpy.types.Object, points: Sequence[Vector]) -> bool:
    data, (width, height), (x, y) = camera.data, camera[SIZE], camera[ASPECT]
    half = data.sensor_width / (2.0 * data.lens)  # of the picture's width, at a distance of one
    tall = half * (height * y) / (width * x)
    left, low = 2.0 * half * data.shift_x, 2.0 * half * data.shift_y
    # As Blender looks through a camera: without its scale.
    place, turn, _ = camera.matrix_world.decompose()
    inverse = Matrix.LocRotScale(place, turn, None).inverted()
    for point in points:
        right, up, back = inverse @ point
        if back < 0.0 and abs(-right / back - left) <= half and abs(-up / back - low) <= tall:
            return True
    return False


def growing(cameras: Sequence[bpy.types.Object], into: list[str]) -> Iterator[float]:
    """Write into a list the chosen views and the nearest of the others beside each, one chosen view a step."""
    places = {str(c[VIEW]): tuple(c.matrix_basis.translation) for c in cameras}
    chosen = [str(c[VIEW]) for c in cameras if c.get(CHOSEN)]
    yield 0.0
    others = [name for name in places if name not in set(chosen)]
    found = set(chosen)
    for count, name in enumerate(chosen, 1):
        here = places[name]
        found.update(heapq.nsmallest(NEIGHBOURS, others, key=lambda other: math.dist(places[other], here)))
        yield count / len(chosen)
    into[:] = sorted(found)
