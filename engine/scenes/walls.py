# SPDX-License-Identifier: GPL-3.0-or-later
"""The flat surfaces of a scene: the planes on which its known points lie, and what plain areas show of those and of
others, all at right angles where they nearly are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from engine.scenes.area_sweep import ALIKE, FACES, NOISE, Area, height_by_areas, planes_of_areas, unlike_if_turned
from engine.scenes.many_photos import ManyPhotos
from engine.scenes.plane_search import planes_of
from engine.scenes.planes import LIKE, PERPENDICULAR, SAME, PixelRays, Plane, Points, Seen, reaching
from engine.scenes.right_angles import axes_of, height_of, squared

BORNE, BORNE_TURNED = 0.8, 0.9  # of a plane's points, that must lie on it as it is put, and turned, too
HELD = 15_000  # points, at most, that say where a plane lies
FEWEST = 10  # of them, from how many on they do so better than areas
ERROR = SAME / 2  # of the distance, that those are off
ONE = 0.025  # of the middle distance, that a plane is apart from itself, found another way, at most
ROOM = (0.002, 0.998)  # of the points: what lies between is where planes are looked for
STRAIGHT = 0.9999  # cosine to an axis, from which on a plane is perpendicular to it
TURNS = (0.03, 0.01)  # radians, by which planes are turned
EXACT = 1.5  # pixels, as an angle: less of a turn moves what is compared by less than one
BENT = 0.002  # of how unlike photos are, that they are more so turned either way, from which on that says something
SQUARE = 9  # pixels: of which surface one is, is asked of a square about it
BEFORE = 0.97  # of a plane's points, that lie before another, where it ends
WIDER = 3  # cells of that other, beyond those that it reaches, where a plane still ends at it


@dataclass(frozen=True, eq=False)
class Surface:
    """A plane, and by the number of a view those of its pixels (K,) int64, row by row, that show it in a plain area."""

    plane: Plane
    shown: Mapping[int, np.ndarray]


def surfaces_of(
    all_seen: Sequence[Seen],
    pictures: Sequence[np.ndarray],
    others: Sequence[Sequence[int]],
    done: Callable[[float], None] = lambda share: None,
) -> list[Surface]:
    """The flat surfaces that views show, those of points first, the largest first; the same for the same views.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB; ``others``: of each, those that it is compared with. ``done`` is
    told often which share of it is done, and ends it by raising."""
    points = Points.of(all_seen)
    if points is None:
        return []
    check = partial(done, 0.0)
    found = [_Wall(plane, []) for plane in planes_of(all_seen, points, check)]
    found = _squared(found, all_seen, points, check)
    axes = _axes(found)
    if axes is None:
        return [Surface(wall.plane, {}) for wall in found]
    photos = ManyPhotos.of(all_seen, pictures, others)
    bounds = np.quantile(points.places @ axes.T, ROOM, axis=0).T
    for flat in planes_of_areas(photos, pictures, axes, bounds, points.scale, done):
        plane = _reaching(axes[flat.axis], flat.height, flat.areas, all_seen, points)
        found += [_Wall(plane, flat.areas)] if plane else []
    check = partial(done, 1.0)
    walls = _squared(_each_once(found, all_seen, points), all_seen, points, check)
    walls = _where_areas_lie(_turned(walls, photos, points, check), photos, points, check)
    walls = _each_once(walls, all_seen, points)  # some come to lie on others
    return _shared_out(walls, photos, points, check)


@dataclass(frozen=True, eq=False)
class _Wall:
    """A surface that is not settled yet, and the areas that lie on it."""

    plane: Plane
    areas: list[Area]


def _reaching(
    normal: np.ndarray, height: float, areas: Sequence[Area], all_seen: Sequence[Seen], points: Points
) -> Plane | None:
    return reaching(points, normal, height, [area.rays(all_seen) for area in areas])


def _each_once(walls: Sequence[_Wall], all_seen: Sequence[Seen], points: Points) -> list[_Wall]:
    """The walls, each once: what nearly lies on an earlier one is that, and leaves it its areas."""
    made: list[_Wall] = []
    for wall in walls:
        middle = wall.plane.middles()[wall.plane.there].mean(axis=0)
        for k, one in enumerate(made):
            faces, apart = abs(one.plane.normal @ wall.plane.normal), abs(one.plane.normal @ middle - one.plane.height)
            if faces > LIKE and apart < ONE * points.scale:
                areas = [*one.areas, *wall.areas]
                whole = _reaching(one.plane.normal, one.plane.height, areas, all_seen, points)
                made[k] = _Wall(whole or one.plane, areas)
                break
        else:
            made.append(wall)
    return made


def _squared(walls: Sequence[_Wall], all_seen: Sequence[Seen], points: Points, done: Callable[[], None]) -> list[_Wall]:
    """Walls with those that are nearly so put at right angles to each other, where their points bear that."""
    held = _held([wall.plane for wall in walls], points, done)
    many = [k for k, own in enumerate(held) if len(own.rays) >= FEWEST]
    told = [walls[k].plane for k in many]
    normals = np.array([plane.normal for plane in told]).reshape(-1, 3)
    sizes = np.array([plane.there.sum() for plane in told])
    places, errors = [held[k].places for k in many], [_errors(held[k]) for k in many]
    normals, heights, aligned = squared(normals, sizes, places, errors)
    made = list(walls)
    for k, normal, height, is_aligned in zip(many, normals, heights, aligned, strict=True):
        done()
        if is_aligned:
            made[k] = _put(walls[k], held[k], normal, height, BORNE, all_seen, points)
    return made


def _put(
    wall: _Wall, own: Points, normal: np.ndarray, height: float, share: float, all_seen: Sequence[Seen], points: Points
) -> _Wall:
    """A wall on another plane, where that ``share`` of its ``own`` points lies on that, too."""
    before, after = own.on_each(np.stack([wall.plane.normal, normal]), np.array([wall.plane.height, height]))
    plane = _reaching(normal, height, wall.areas, all_seen, points) if after >= share * before else None
    return _Wall(plane or wall.plane, wall.areas)


def _turned(walls: Sequence[_Wall], photos: ManyPhotos, points: Points, done: Callable[[], None]) -> list[_Wall]:
    """Walls at right angles, turned together to where areas look most alike, as far as points bear it: those of plain
    walls say where these stand, but hardly how they are turned."""
    axes = _axes(walls)
    if axes is None:
        return list(walls)
    normals = np.stack([wall.plane.normal for wall in walls])
    straight = np.abs(normals @ axes.T).max(axis=1) > STRAIGHT
    plain = [
        (wall.plane, wall.areas)
        for wall, is_straight in zip(walls, straight, strict=True)
        if is_straight and wall.areas
    ]
    turn = np.eye(3)
    for about in axes if plain else ():
        turn = Rotation.from_rotvec(_angle(photos, plain, about, turn, points.scale, done) * about).as_matrix() @ turn
    if np.allclose(turn, np.eye(3), atol=1e-9):
        return list(walls)
    made = list(walls)
    for k, own in enumerate(_held([wall.plane for wall in walls], points, done)):
        done()
        if straight[k] and len(own.rays) >= FEWEST:
            normal = turn @ normals[k]
            height = height_of(own.places @ normal, _errors(own))
            made[k] = _put(walls[k], own, normal, height, BORNE_TURNED, photos.all_seen, points)
    return made


def _where_areas_lie(
    walls: Sequence[_Wall], photos: ManyPhotos, points: Points, done: Callable[[], None]
) -> list[_Wall]:
    """Walls at the heights that their areas tell clearly: their points may be of what hangs on them."""
    made = []
    for wall in walls:
        height = height_by_areas(photos, wall.plane, wall.areas, points.scale, done) if wall.areas else None
        if height is not None:
            plane = _reaching(wall.plane.normal, height, wall.areas, photos.all_seen, points)
            wall = _Wall(plane or wall.plane, wall.areas)
        made.append(wall)
    return made


def _angle(
    photos: ManyPhotos, plain: Sequence[tuple[Plane, Sequence[Area]]], about: np.ndarray, turn: np.ndarray,
    scale: float, done: Callable[[], None],
) -> float:  # fmt: skip
    """By how much more than ``turn`` planes look most alike if they are turned on about an axis: where a parabola
    through three angles is lowest, then once more, about that. 0 where pixels cannot tell."""
    angle = 0.0
    for step in TURNS:
        tried = [Rotation.from_rotvec((angle + sign * step) * about).as_matrix() @ turn for sign in (-1, 0, 1)]
        before, here, after = (unlike_if_turned(photos, plain, one, scale, done) for one in tried)
        bend = before + after - 2 * here
        if bend <= BENT * here:  # it says nothing
            return 0.0
        lowest = step * (before - after) / (2 * bend)
        if step == TURNS[0] and abs(lowest) > step:  # or not how far
            return 0.0
        angle += float(np.clip(lowest, -step, step))
    least = EXACT / np.median([seen.view.intrinsics.fx for seen in photos.all_seen])
    return angle if abs(angle) > least else 0.0


def _axes(walls: Sequence[_Wall]) -> np.ndarray | None:
    """(3, 3) that walls are perpendicular to, one each; None where there are none."""
    normals = np.array([wall.plane.normal for wall in walls]).reshape(-1, 3)
    return axes_of(normals, np.array([wall.plane.there.sum() for wall in walls]))


def _errors(points: Points) -> np.ndarray:
    """(N,) how far off points are."""
    return ERROR * np.linalg.norm(points.rays, axis=1)


def _held(planes: Sequence[Plane], points: Points, done: Callable[[], None]) -> list[Points]:
    """Of each plane, `HELD` points at most that lie about it where it reaches, and on none of the others more nearly:
    of what a wall meets much lies about it, all of it before it."""
    made = []
    for plane in planes:
        done()
        off = np.abs(points.off(plane.normal[None], np.array([plane.height]))[0])
        held = np.flatnonzero((off < 3 * SAME) & plane.reaches(points.places))
        held = held[:: -(-len(held) // HELD) or 1]
        own, kept = points.some(held), np.ones(len(held), bool)
        for other in planes:
            if other is not plane:
                nearer = np.abs(own.off(other.normal[None], np.array([other.height]))[0]) < off[held]
                kept &= ~(nearer & other.reaches(own.places))
        made.append(own.some(np.flatnonzero(kept)))
    return made


def _shared_out(
    walls: Sequence[_Wall], photos: ManyPhotos, points: Points, done: Callable[[], None]
) -> list[Surface]:  # fmt: skip
    """Each wall with the pixels of its areas, less those that look more alike if they are of another, and with such of
    others: an area may go over from one to another."""
    shown: list[dict[int, np.ndarray]] = [{} for _ in walls]
    for view, seen in enumerate(photos.all_seen):
        label = np.full(seen.z.size, -1)
        for number, wall in enumerate(walls):
            for area in wall.areas:
                if area.view == view:
                    label[area.pixels] = number
        pixels = np.flatnonzero(label >= 0)
        if not len(pixels):
            continue
        costs = np.stack([_about(photos, view, pixels, wall.plane, done) for wall in walls])
        own = np.take_along_axis(costs, label[pixels][None], axis=0)[0]
        of = np.where(costs.min(axis=0) + NOISE < FACES * (own + NOISE), costs.argmin(axis=0), label[pixels])
        of[np.take_along_axis(costs, of[None], axis=0)[0] > ALIKE] = -1
        for number in np.unique(of[of >= 0]):
            shown[number][view] = pixels[of == number]
    whole = []
    for wall, pixels_of in zip(walls, shown, strict=True):
        done()
        seen = photos.all_seen
        rays = [PixelRays(seen[k].rays.reshape(-1, 3)[own], seen[k].eye, k) for k, own in pixels_of.items()]
        whole.append(reaching(points, wall.plane.normal, wall.plane.height, rays) or wall.plane)
    held = _held(whole, points, done)
    cut = [_cut(plane, own, whole, points.scale) for plane, own in zip(whole, held, strict=True)]
    return [Surface(plane, pixels_of) for plane, pixels_of in zip(cut, shown, strict=True)]


def _about(
    photos: ManyPhotos, view: int, pixels: np.ndarray, plane: Plane, done: Callable[[], None]
) -> np.ndarray:  # fmt: skip
    """(K,) how unlike photos are about each pixel, of 255, if it is of a plane; infinite where none shows it."""
    done()
    shape = photos.all_seen[view].z.shape
    maps = np.zeros((2, shape[0] * shape[1]), np.float32)
    sums, counts, _ = photos.unlike(view, pixels, plane.normal, np.array([plane.height]))
    maps[0, pixels], maps[1, pixels] = sums[0], counts[0]
    sums, counts = (
        cv2.boxFilter(m.reshape(shape), -1, (SQUARE, SQUARE), normalize=False).ravel()[pixels] for m in maps
    )
    return np.where(counts > 0.5, sums / np.maximum(counts, 1), np.inf)


def _cut(plane: Plane, own: Points, others: Sequence[Plane], scale: float) -> Plane:
    """A plane without what is beyond others before which all of its ``own`` points are: a wall ends at the ceiling."""
    middles, there = plane.middles(), plane.there.copy()
    for other in others:
        if abs(other.normal @ plane.normal) < PERPENDICULAR and len(own.rays):
            above = own.places @ other.normal - other.height
            side = np.sign(np.median(above))
            if (side * above > -SAME * scale).mean() > BEFORE:
                beyond = side * (middles @ other.normal - other.height) < -plane.cell / 2
                there &= ~(beyond & _wider(other).reaches(middles))
    return replace(plane, there=there)


def _wider(plane: Plane) -> Plane:
    """A plane that reaches a bit farther: as far as where it may meet others."""
    there = np.pad(plane.there, WIDER).astype(np.uint8)
    there = cv2.dilate(there, np.ones((2 * WIDER + 1, 2 * WIDER + 1), np.uint8)) > 0
    return replace(plane, there=there, corner=plane.corner - WIDER * plane.cell)
