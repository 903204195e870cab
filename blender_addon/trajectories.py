# SPDX-License-Identifier: GPL-3.0-or-later
"""Where cameras stand: domes to photograph from, paths through views, and whether views hold a scene. Free of bpy."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import TypeVar

from .conversion import Matrix, Vector, add, column, cross, dot, length, matrix_from_columns, normalized
from .words import t

T = TypeVar("T")

NARROW = 20.0  # degrees: views that differ by less show too little of a scene's depth
FAR = 35.0  # degrees: a side this far from every chosen view is not seen by any of them
UNSEEN_SHARE = 0.25  # share of the capture that may be unseen before the artist is told


def looking_at(position: Vector, target: Vector, up: Vector = (0.0, 0.0, 1.0)) -> Matrix:
    """A camera to world pose (OpenGL axes) at ``position`` that looks at ``target`` with ``up`` upward.

    Raises ``ValueError`` where the position is the target. Straight up and down, some upward side is chosen.
    """
    back = normalized(add(position, target, -1.0))
    right = cross(up, back)
    if length(right) < 1e-6 * max(1.0, length(up)):
        right = cross((0.0, 1.0, 0.0) if abs(back[1]) < 0.9 else (1.0, 0.0, 0.0), back)
    right = normalized(right)
    return matrix_from_columns(right, cross(back, right), back, position)


def dome(
    count: int, centre: Vector, radius: float, lowest: float, highest: float, sweep: float = 360.0
) -> list[Matrix]:
    """``count`` poses that look at ``centre`` from a dome of ``radius`` between two elevations, over ``sweep`` of
    azimuth around the front (-Y); angles in degrees.

    They follow a Fibonacci spiral: even in area, and neighbours in the list are never neighbours on the dome, so
    that holding out every eighth leaves no hole.
    """
    low, high = math.sin(math.radians(lowest)), math.sin(math.radians(highest))
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    poses = []
    for index in range(count):
        z = low + (high - low) * (index + 0.5) / count
        ring = math.sqrt(max(0.0, 1.0 - z * z))
        turn = math.radians(sweep * ((golden * (index + 0.5)) % 1.0 - 0.5) - 90.0)
        offset = (ring * math.cos(turn), ring * math.sin(turn), z)
        poses.append(looking_at(add(centre, offset, radius), centre))
    return poses


def evenly(lines: Sequence[tuple[Vector, Vector]], count: int) -> list[Vector]:
    """``count`` points at even distances along straight lines laid end to end; none where they have no length."""
    lengths = [length(add(b, a, -1.0)) for a, b in lines]
    total = sum(lengths)
    if total < 1e-9:
        return []
    points: list[Vector] = []
    passed = 0.0
    for (a, b), own in zip(lines, lengths, strict=True):
        while len(points) < count and (len(points) + 0.5) / count * total <= passed + own:
            share = ((len(points) + 0.5) / count * total - passed) / own if own else 0.0
            points.append(add(a, add(b, a, -1.0), share))
        passed += own
    return points + [lines[-1][1]] * (count - len(points))  # what rounding left over


def order_of_path(points: Sequence[Vector]) -> list[int]:
    """The points' indices along a short open path; see :func:`ordering_path`."""
    return exhausted(ordering_path(points))


def exhausted(steps: Generator[float, None, T]) -> T:
    """What steps come to, all of them done now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def ordering_path(points: Sequence[Vector]) -> Generator[float, None, list[int]]:
    """The points' indices along a short open path: from the point farthest from their middle to each time the
    nearest one left, then untangled (2-opt), so that a camera does not fly back and forth. A few points a step."""
    count = len(points)
    if count < 3:
        return list(range(count))
    middle = (sum(p[0] for p in points) / count, sum(p[1] for p in points) / count, sum(p[2] for p in points) / count)
    left = yield from _Left.of(points)
    order = [max(range(count), key=lambda i: math.dist(points[i], middle))]
    left.remove(order[0])
    while len(order) < count:
        order.append(left.nearest(points[order[-1]]))
        left.remove(order[-1])
        if len(order) % 8 == 0:
            yield 0.5 * len(order) / count
    for _ in range(20 if count <= 200 else 0):  # 2-opt is quadratic; long paths stay as the neighbours gave them
        better = yield from _untangle(order, points)
        if not better:
            break
    return order


class _Left:
    """Points not visited yet, in cubes whose sides grow fourfold from level to level: the nearest of tens of thousands
    is found by looking at a few."""

    def __init__(self, points: Sequence[Vector], side: float, widest: float) -> None:
        self.points = points
        self.sides = [side]
        while self.sides[-1] < widest:
            self.sides.append(4.0 * self.sides[-1])
        self.cubes: list[dict[tuple[int, ...], set[int]]] = [{} for _ in self.sides]

    @classmethod
    def of(cls, points: Sequence[Vector]) -> Generator[float, None, _Left]:
        """All the points, put in a few a step."""
        apart = []
        for some in points[:: max(1, len(points) // 30)]:
            apart.append(min((math.dist(some, other) for other in points if other != some), default=0.0))
            yield 0.0
        widest = max(max(p[axis] for p in points) - min(p[axis] for p in points) for axis in range(3))
        left = cls(points, 2.0 * sorted(apart)[len(apart) // 2] or widest or 1.0, widest)
        for index, point in enumerate(points):
            for side, cubes in zip(left.sides, left.cubes, strict=True):
                cubes.setdefault(_cube(point, side), set()).add(index)
            if index % 64 == 63:
                yield 0.0
        return left

    def remove(self, index: int) -> None:
        for side, cubes in zip(self.sides, self.cubes, strict=True):
            cubes[_cube(self.points[index], side)].remove(index)

    def nearest(self, point: Vector) -> int:
        """The index of the nearest that is left; there must be one."""
        found: set[int] = set()
        for side, cubes in zip(self.sides, self.cubes, strict=True):
            x, y, z = _cube(point, side)
            found = set().union(
                *(cubes.get((x + i, y + j, z + k), ()) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1))
            )
            best = min(((math.dist(point, self.points[index]), index) for index in found), default=None)
            if best is not None and best[0] <= side:  # none outside these cubes is nearer
                return best[1]
        return min(found, key=lambda index: (math.dist(point, self.points[index]), index))


def _cube(point: Vector, side: float) -> tuple[int, ...]:
    return tuple(math.floor(value / side) for value in point)


def _untangle(order: list[int], points: Sequence[Vector]) -> Generator[float, None, bool]:
    """Reverse stretches of the path wherever that shortens it; whether anything was reversed. One point a step."""
    better, dist = False, math.dist
    for i in range(len(order) - 1):
        for j in range(i + 2, len(order)):
            a, b, c = points[order[i]], points[order[i + 1]], points[order[j]]
            d = points[order[j + 1]] if j + 1 < len(order) else None
            old = dist(a, b) + (dist(c, d) if d is not None else 0.0)
            new = dist(a, c) + (dist(b, d) if d is not None else 0.0)
            if new < old - 1e-9:
                order[i + 1 : j + 1] = reversed(order[i + 1 : j + 1])
                better = True
        yield 0.5
    return better


def times_of_path(points: Sequence[Vector], first: int, last: int) -> list[int]:
    """Whole frames from ``first`` to ``last``, one a point, at even speed along the points and strictly rising.

    Raises ``ValueError`` where there are fewer frames than points.
    """
    count = len(points)
    if last - first + 1 < count:
        raise ValueError(f"{count} views need at least {count} frames; make the path longer.")
    travelled = [0.0]
    for a, b in pairwise(points):
        travelled.append(travelled[-1] + length(add(b, a, -1.0)))
    total = travelled[-1] or 1.0
    frames = [first + round(t / total * (last - first)) for t in travelled]
    for index in range(1, count):  # points that almost coincide still get a frame of their own
        frames[index] = max(frames[index], frames[index - 1] + 1)
    for index in range(count - 1, -1, -1):
        frames[index] = min(frames[index], last - (count - 1 - index))
    return frames


def warnings_of_choice(
    chosen: Sequence[Matrix], everything: Sequence[Matrix], centre: Vector, min_views: int
) -> tuple[str, ...]:
    """Sentences on why the chosen views may not hold the scene together; see :func:`looking_at_choice`."""
    return exhausted(looking_at_choice(chosen, everything, centre, min_views))


def looking_at_choice(
    chosen: Sequence[Matrix], everything: Sequence[Matrix], centre: Vector, min_views: int
) -> Generator[float, None, tuple[str, ...]]:
    """Sentences on why the chosen views may not hold the scene together; none where they do. A direction a step.

    Looked at: how many there are, how widely they spread as seen from ``centre``, and how much of the capture's
    directions none of them comes near. All in the capture frame.
    """
    found = []
    if len(chosen) < min_views:
        said = t("{count} chosen, at least {least} wanted: with so few views the scene may fall apart between them.")
        found.append(said.format(count=len(chosen), least=min_views))
    directions = yield from _directions(chosen, centre)
    others = yield from _directions(everything, centre)
    others = others[:: max(1, len(others) // 300)]
    if len(directions) > 600:  # one stands for all that lie within a few degrees of it
        directions = list({tuple(round(10.0 * value) for value in d): d for d in directions}.values())
    if not directions or not others:
        return tuple(found)
    least = 1.0  # the cosine of the widest angle
    for a in directions[:: max(1, len(directions) // 300)]:
        least = min(least, min(dot(a, b) for b in directions))
        yield 0.3
    spread = math.degrees(math.acos(max(-1.0, least)))
    if spread < NARROW:
        said = t("The chosen views lie within {angle}°: too alike to tell near from far.")
        found.append(said.format(angle=f"{spread:.0f}"))
    near, unseen = math.cos(math.radians(FAR)), 0
    for a in others:
        unseen += all(dot(a, b) < near for b in directions)
        yield 0.6
    if unseen / len(others) > UNSEEN_SHARE:
        said = t(
            "No chosen view comes near {share} % of the capture's directions: the scene will be empty or torn there."
        )
        found.append(said.format(share=f"{100 * unseen / len(others):.0f}"))
    return tuple(found)


def _directions(poses: Sequence[Matrix], centre: Vector) -> Generator[float, None, list[Vector]]:
    """Where cameras stand as seen from a point that none of them stands on."""
    found = []
    for index, pose in enumerate(poses):
        offset = add(column(pose, 3), centre, -1.0)
        if length(offset) >= 1e-9:
            found.append(normalized(offset))
        if index % 64 == 63:
            yield 0.0
    return found
