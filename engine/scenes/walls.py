# SPDX-License-Identifier: GPL-3.0-or-later
"""The flat surfaces of a scene: the planes on which its known points lie, what plain areas show of them and of others,
and all of them at right angles where they nearly are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from engine.scenes.area_sweep import ALIKE, FACES, Area, ManyPhotos, stands, unlike_if_turned
from engine.scenes.plane_search import planes_of
from engine.scenes.planes import LIKE, SAME, UPRIGHT, Plane, Points, Seen, Spread, reaching
from engine.scenes.right_angles import axes_of, height_of, squared

BORNE = 0.8  # of a plane's points, that must lie on it at right angles, too
SPREAD = SAME / 8  # of the distance, that points are off: what lies on another layer, a rug, says little then
STRAIGHT = 0.9999  # cosine to an axis, from which on a plane stands along it
TURNS, EXACT = (0.015, 0.007), 0.006  # radians, by which they are turned, and less than which says nothing
ONE = 0.025  # of the middle distance, that a plane and areas of it are apart at most
ROOM = (0.002, 0.998)  # of the points: what lies between is where planes are looked for
SQUARE = 9  # pixels: of which surface an area's pixel is, is asked of what lies about it
WIDER = 3  # cells, of a plane's, beyond what it reaches, where it may meet others
HELD = 15_000  # points of a plane, at most, that say how it stands
BEFORE = 0.97  # of a plane's points, that lie before another, from which on it ends there
BORNE_BY = 10  # points of a plane, from which on they say how it stands, more exactly than areas do


@dataclass(frozen=True, eq=False)
class Surface:
    """A plane, and of views, by their number, the pixels (K,) int64, row by row, that are told to be of it as a part of
    a plain area."""

    plane: Plane
    shown: Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Begun:
    plane: Plane
    areas: list[Area]


def surfaces_of(
    all_seen: Sequence[Seen],
    pictures: Sequence[np.ndarray],
    others: Sequence[Sequence[int]],
    done: Callable[[], None] = lambda: None,
) -> list[Surface]:
    """The flat surfaces that views show, the largest of points first; the same for the same views.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB; ``others``: of each, those that it is compared with. ``done`` is
    told often, and ends it by raising."""
    points = Points.of(all_seen)
    if points is None:
        return []
    begun = [_Begun(plane, []) for plane in planes_of(all_seen, points, done)]
    begun = _squared(begun, all_seen, points)
    axes = axes_of(*_normals_and_sizes(begun))
    if axes is None:
        return [Surface(each.plane, {}) for each in begun]
    photos = ManyPhotos.of(all_seen, pictures, others)
    bounds = np.quantile(points.places @ axes.T, ROOM, axis=0).T
    shown = stands(photos, pictures, axes, bounds, points.scale, done)
    planes = [reaching(points, axes[s.axis], s.height, _spreads(s.areas, all_seen)) for s in shown]
    more = [_Begun(plane, s.areas) for plane, s in zip(planes, shown, strict=True) if plane is not None]
    begun = _joined([*begun, *more], all_seen, points)
    begun = _squared(begun, all_seen, points)
    begun = _turned(begun, photos, all_seen, points, done)
    begun = _joined(begun, all_seen, points)  # what comes to lie on another now
    return _shared_out(begun, photos, points, done)


def _shared_out(
    begun: Sequence[_Begun], photos: ManyPhotos, points: Points, done: Callable[[], None]
) -> list[Surface]:  # fmt: skip
    """Each surface with the pixels of its areas, less those that look more alike if they are of another: these are that
    one's, for an area may go over from one to another."""
    shown: list[dict[int, np.ndarray]] = [{} for _ in begun]
    for view, seen in enumerate(photos.all_seen):
        done()
        label = np.full(seen.z.size, -1)
        for number, each in enumerate(begun):
            for area in each.areas:
                if area.view == view:
                    label[area.pixels] = number
        pixels = np.flatnonzero(label >= 0)
        if not len(pixels):
            continue
        costs = np.stack([_about(photos, view, pixels, each.plane) for each in begun])
        own = np.take_along_axis(costs, label[pixels][None], axis=0)[0]
        of = np.where(costs.min(axis=0) < FACES * own, costs.argmin(axis=0), label[pixels])
        of[np.take_along_axis(costs, of[None], axis=0)[0] > ALIKE] = -1
        for number, pixels_of in enumerate(shown):
            pixels_of[view] = pixels[of == number]
    whole = []
    for each, pixels_of in zip(begun, shown, strict=True):
        parts = [Spread(s.rays.reshape(-1, 3)[pixels_of[k]], s.eye, k) for k, s in enumerate(photos.all_seen) if k in pixels_of]  # noqa: E501  # fmt: skip
        plane = reaching(points, each.plane.normal, each.plane.height, parts)
        whole.append(plane or each.plane)
    return [Surface(_cut(plane, whole, points), pixels_of) for plane, pixels_of in zip(whole, shown, strict=True)]


def _cut(plane: Plane, others: Sequence[Plane], points: Points) -> Plane:
    """A plane without what is beyond others before which all of its points are: a wall ends at the ceiling."""
    middles, there = plane.middles(), plane.there.copy()
    own = points.places[_held(plane, others, points)]
    for other in others:
        if abs(other.normal @ plane.normal) < UPRIGHT:
            above = own @ other.normal - other.height
            side = np.sign(np.median(above)) if len(above) else 0.0
            if len(above) and (side * above > -SAME * points.scale).mean() > BEFORE:
                beyond = side * (middles @ other.normal - other.height) < -plane.cell / 2
                there &= ~(beyond & _wider(other).reaches(middles))
    return replace(plane, there=there)


def _wider(plane: Plane) -> Plane:
    """A plane that reaches a bit farther: as far as where it may meet others."""
    there = np.pad(plane.there, WIDER).astype(np.uint8)
    there = cv2.dilate(there, np.ones((2 * WIDER + 1, 2 * WIDER + 1), np.uint8)) > 0
    return replace(plane, there=there, corner=plane.corner - WIDER * plane.cell)


def _about(photos: ManyPhotos, view: int, pixels: np.ndarray, plane: Plane) -> np.ndarray:
    """(K,) how unlike photos are about each pixel, of 255, if it is of a plane; infinite where none shows it."""
    shape = photos.all_seen[view].z.shape
    maps = np.zeros((2, shape[0] * shape[1]), np.float32)
    sums, counts, _ = photos.unlike(view, pixels, plane.normal, np.array([plane.height]))
    maps[0, pixels], maps[1, pixels] = sums[0], counts[0]
    sums, counts = (
        cv2.boxFilter(m.reshape(shape), -1, (SQUARE, SQUARE), normalize=False).ravel()[pixels] for m in maps
    )
    return np.where(counts > 0.5, sums / np.maximum(counts, 1), np.inf)


def _joined(begun: Sequence[_Begun], all_seen: Sequence[Seen], points: Points) -> list[_Begun]:
    """The surfaces, each once: what nearly lies on an earlier one is that, and leaves it its areas."""
    made: list[_Begun] = []
    for new in begun:
        middle = new.plane.middles()[new.plane.there].mean(axis=0)
        for k, one in enumerate(made):
            faces, apart = abs(one.plane.normal @ new.plane.normal), abs(one.plane.normal @ middle - one.plane.height)
            if faces > LIKE and apart < ONE * points.scale:
                areas = [*one.areas, *new.areas]
                whole = reaching(points, one.plane.normal, one.plane.height, _spreads(areas, all_seen))
                made[k] = _Begun(whole or one.plane, areas)
                break
        else:
            made.append(new)
    return made


def _squared(begun: Sequence[_Begun], all_seen: Sequence[Seen], points: Points) -> list[_Begun]:
    """Surfaces with those that are nearly so put at right angles to each other, where their points bear that."""
    planes = [surface.plane for surface in begun]
    held = [_held(plane, planes, points) for plane in planes]
    made, many = list(begun), [k for k, own in enumerate(held) if len(own) >= BORNE_BY]
    owns = [points.some(held[k]) for k in many]
    spreads = [SPREAD * np.linalg.norm(own.rays, axis=1) for own in owns]
    normals, sizes = _normals_and_sizes([begun[k] for k in many])
    normals, heights, stand = squared(normals, sizes, [own.places for own in owns], spreads)
    for k, own, normal, height in zip(many, owns, normals, heights, strict=True):
        plane, areas = begun[k].plane, begun[k].areas
        before, after = own.on_each(np.stack([plane.normal, normal]), np.array([plane.height, height]))
        if stand[many.index(k)] and after >= BORNE * before:
            better = reaching(points, normal, height, _spreads(areas, all_seen))
            made[k] = _Begun(better or plane, areas)
    return made


def _turned(
    begun: Sequence[_Begun],
    photos: ManyPhotos,
    all_seen: Sequence[Seen],
    points: Points,
    done: Callable[[], None],
) -> list[_Begun]:
    """Surfaces at right angles, turned about the normal of the one that is known best, mostly a floor, to where areas look
    most alike, as far as points bear it: those of plain walls say where these are, but hardly how they are turned."""
    axes = axes_of(*_normals_and_sizes(begun))
    if axes is None:
        return list(begun)
    along = np.stack([axes @ one.plane.normal for one in begun])
    stand = np.abs(along).max(axis=1) > STRAIGHT
    on = points.on_each(
        *(np.array(each) for each in zip(*((o.plane.normal, o.plane.height) for o in begun), strict=True))
    )
    about = begun[int(np.argmax(np.where(stand, on, -1)))].plane.normal
    shown = [
        (o.plane, o.areas)
        for o, stands in zip(begun, stand, strict=True)
        if stands and abs(o.plane.normal @ about) < 0.5
    ]
    shown = [each for each in shown if each[1]]
    if not shown:
        return list(begun)
    angle = 0.0
    for step in TURNS:
        done()
        turns = [Rotation.from_rotvec((angle + sign * step) * about).as_matrix() for sign in (-1, 0, 1)]
        before, here, after = (unlike_if_turned(photos, shown, turn, points.scale) for turn in turns)
        if (bend := before + after - 2 * here) > 0:
            angle += step * float(np.clip((before - after) / (2 * bend), -1, 1))
    print("turn", about.round(3), angle)
    if abs(angle) < EXACT:
        return list(begun)
    turn = Rotation.from_rotvec(angle * about).as_matrix()
    made = []
    planes = [one.plane for one in begun]
    for one, stands in zip(begun, stand, strict=True):
        plane, held = one.plane, _held(one.plane, planes, points)
        if stands and len(held) >= BORNE_BY:
            own, normal = points.some(held), turn @ plane.normal
            height = height_of(own.places @ normal, SPREAD * np.linalg.norm(own.rays, axis=1))
            before, after = own.on_each(np.stack([plane.normal, normal]), np.array([plane.height, height]))
            print(plane.normal.round(3), plane.height, normal.round(3), height, before, after)
            if after >= BORNE * before:
                plane = reaching(points, normal, height, _spreads(one.areas, all_seen)) or plane
        made.append(_Begun(plane, one.areas))
    return made


def _normals_and_sizes(begun: Sequence[_Begun]) -> tuple[np.ndarray, np.ndarray]:
    normals = np.array([surface.plane.normal for surface in begun]).reshape(-1, 3)
    return normals, np.array([surface.plane.there.sum() for surface in begun])


def _held(plane: Plane, planes: Sequence[Plane], points: Points) -> np.ndarray:
    """The numbers of points, `HELD` at most, that lie about a plane where that reaches, and on none of ``planes`` more
    nearly: of a wall that meets it many lie about it, all of them before it."""
    off = np.abs(points.off(plane.normal[None], np.array([plane.height]))[0])
    held = np.flatnonzero((off < 3 * SAME) & plane.reaches(points.places))
    held = held[:: -(-len(held) // HELD) or 1]
    own, kept = points.some(held), np.ones(len(held), bool)
    for other in planes:
        if other is not plane:
            nearer = np.abs(own.off(other.normal[None], np.array([other.height]))[0]) < off[held]
            kept &= ~(nearer & other.reaches(own.places))
    return held[kept]


def _spreads(areas: Sequence[Area], all_seen: Sequence[Seen]) -> list[Spread]:
    return [Spread(all_seen[a.view].rays.reshape(-1, 3)[a.asked], all_seen[a.view].eye, a.view) for a in areas]
