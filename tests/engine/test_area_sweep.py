# SPDX-License-Identifier: GPL-3.0-or-later
"""Planes by what whole areas show, against scenes in closed form and a slow, obvious comparison."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.geometry import Viewpoint, pixel_directions, to_pixels
from engine.scenes import area_sweep, walls
from engine.scenes.area_sweep import Area, AreaPlane, height_by_areas, plain_parts, planes_of_areas, unlike_if_turned
from engine.scenes.known_depth import KnownDepth
from engine.scenes.many_photos import UNLIKE, ManyPhotos
from engine.scenes.planes import PixelRays, Points, Seen, reaching
from engine.scenes.walls import surfaces_of
from tests.engine.test_plain_areas import BACK, FLOOR, LEFT, PINHOLE, RIGHT, Photographed, arc, ball, slab

CEILING = slab(2, 2.4, 215, x=(-1.8, 1.8), y=(-1, 1.9))


def without(seen: Photographed, number: int, kept: float = 0.0) -> Photographed:
    """Of a thing photos tell nothing, but for a share of what they told."""
    random = np.random.default_rng(3)
    for k, (known, shown) in enumerate(zip(seen.known, seen.shown, strict=True)):
        stays = (shown.ravel()[known.pixels] != number) | (random.random(len(known.pixels)) < kept)
        seen.known[k] = KnownDepth(known.pixels[stays], known.distances[stays], known.sure[stays])
    return seen


def seen_and_others(photographed: Photographed) -> tuple[list[Seen], list[list[int]]]:
    all_seen = []
    for view, known in zip(photographed.views, photographed.known, strict=True):
        z = np.zeros(PINHOLE.height * PINHOLE.width)
        z[known.pixels] = known.distances / np.linalg.norm(pixel_directions(PINHOLE), axis=-1).ravel()[known.pixels]
        all_seen.append(Seen(view, z.reshape(PINHOLE.height, PINHOLE.width)))
    return all_seen, [[k for k in range(len(all_seen)) if k != own] for own in range(len(all_seen))]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_wall_of_which_next_to_nothing_is_known_is_found_by_what_all_photos_show(number):
    """One in thirty of what photos tell of its outline is left: too little for a plane to be found by."""
    photographed = without(Photographed(FLOOR, BACK, LEFT, RIGHT, views=arc(sweep=50), soft=12.0), number, kept=0.03)
    share, off = photographed.new(photographed.whole(), number)
    assert share > 0.5 and np.median(off) < 0.008 and (off < 0.015).mean() > 0.9


def test_where_wrong_depths_lie_within_an_area_it_outdoes_them():
    """Half of what is known of a wall lies 15 % before it, as edges that were taken for others do."""
    photographed = without(Photographed(FLOOR, BACK, LEFT, RIGHT, views=arc(sweep=50), soft=12.0), 3, kept=0.15)
    random = np.random.default_rng(4)
    for known, shown in zip(photographed.known, photographed.shown, strict=True):
        wrong = (shown.ravel()[known.pixels] == 3) & (random.random(len(known.pixels)) < 0.5)
        known.distances[wrong] *= 0.85
    share, off = photographed.new(photographed.whole(), 3)
    assert share > 0.5 and (off < 0.015).mean() > 0.9


def test_a_wall_ends_where_the_ceiling_begins():
    """They look alike, so that a photo's area goes over from one to the other."""
    photographed = Photographed(FLOOR, BACK, LEFT, RIGHT, CEILING)
    all_seen, others = seen_and_others(photographed)
    surfaces = surfaces_of(all_seen, photographed.pictures, others)
    back = next(s.plane for s in surfaces if abs(s.plane.normal[1]) > 0.99 and abs(abs(s.plane.height) - 1.9) < 0.05)
    x, z = np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(0.2, 3.0, 57))
    reached = back.reaches(np.stack([x, np.full(x.shape, 1.9), z], axis=-1))
    assert reached[z < 2.2].mean() > 0.7 and not reached[z > 2.4 + 1.5 * back.cell].any()


def test_a_ball_and_a_sky_lie_on_no_plane():
    photographed = Photographed(FLOOR, BACK, LEFT, RIGHT, ball((0.0, 0.4, 0.75), 0.75, 150))
    all_seen, others = seen_and_others(photographed)
    surfaces = surfaces_of(all_seen, photographed.pictures, others)
    on_ball = on_sky = 0
    for surface in surfaces:
        for view, pixels in surface.shown.items():
            on_ball += (photographed.shown[view].ravel()[pixels] == 4).sum()
            on_sky += (photographed.shown[view].ravel()[pixels] == -1).sum()
    assert on_ball == 0
    assert on_sky < 0.05 * sum((shown == -1).sum() for shown in photographed.shown)


def test_photos_are_copied_only_where_planes_are_swept(monkeypatch):
    made = []
    whole = ManyPhotos.of
    monkeypatch.setattr(ManyPhotos, "of", lambda *given: made.append(1) or whole(*given))
    floor, corner = Photographed(FLOOR, views=arc(5)), Photographed(FLOOR, BACK, views=arc(5))
    for photographed, planes in ((floor, 1), (corner, 2)):
        all_seen, others = seen_and_others(photographed)
        assert len(surfaces_of(all_seen, photographed.pictures, others)) == planes
        assert len(made) == planes - 1  # a floor alone has no three axes


@pytest.mark.parametrize("about", [(0, 0, 1), (1, 0, 0), (0, 1, 0), (0.6, 0, 0.8)])
def test_walls_are_turned_to_where_photos_are_alike(monkeypatch, about):
    """They were put 1.1° off, all together, and all of them are right again; photos of this size tell less than that
    apart."""
    begun, photos, points = _before_turning(monkeypatch)
    monkeypatch.setattr(walls, "EXACT", 0.5)
    made = walls._turned(_turned_by(begun, about), photos, points, lambda: None)
    assert sum(abs(one.plane.normal[2]) < 0.5 for one in made) >= 3
    for plane in (one.plane for one in made):
        axis = np.eye(3)[np.abs(plane.normal).argmax()]
        assert np.arccos(abs(plane.normal @ axis)) < 0.012
        assert min(abs(abs(plane.height) - true) for true in (0.0, 1.8, 1.9)) < 0.02


def test_what_pixels_cannot_tell_turns_nothing(monkeypatch):
    """1.1° are less than a pixel and a half of photos of this size; and what no photo shows is not alike."""
    begun, photos, points = _before_turning(monkeypatch)
    off = _turned_by(begun, (0, 0, 1))
    made = walls._turned(off, photos, points, lambda: None)
    assert [one.plane.normal.tolist() for one in made] == [one.plane.normal.tolist() for one in off]
    wall = next(one for one in begun if one.areas)
    away = [(replace(wall.plane, height=wall.plane.height + 100.0), wall.areas)]
    here = unlike_if_turned(photos, [(wall.plane, wall.areas)], np.eye(3), points.scale)
    assert here < 4.0 < unlike_if_turned(photos, away, np.eye(3), points.scale) == UNLIKE
    assert unlike_if_turned(photos, [], np.eye(3), points.scale) == UNLIKE


@pytest.mark.parametrize("off", [0.09, -0.1])
def test_areas_tell_where_a_wall_is_that_is_more_than_a_pixel_off(monkeypatch, off):
    begun, photos, points = _before_turning(monkeypatch)
    pixel = points.scale / PINHOLE.fx
    told = 0
    for wall in begun:
        if not wall.areas or abs(wall.plane.normal[2]) > 0.5:
            continue
        assert height_by_areas(photos, wall.plane, wall.areas, points.scale) is None  # it is where it is
        away = replace(wall.plane, height=wall.plane.height + off)
        found = height_by_areas(photos, away, wall.areas, points.scale)
        assert found is None or abs(found - wall.plane.height) < pixel < abs(off)
        told += found is not None
        [made] = walls._where_areas_lie([walls._Wall(away, wall.areas)], photos, points, lambda: None)
        assert made.plane.height == (away.height if found is None else found)
    assert told >= 2


def test_what_lies_on_a_sure_plane_does_not_count_against_another(monkeypatch):
    """Most photos show the ceiling and a wall as one area, which is the wall's: of what the ceiling's own areas show,
    others' areas show little on the ceiling, until the wall is sure."""
    own: list[list[Area]] = []

    def grouped(areas, *_) -> list[AreaPlane]:
        own.append(areas[:2])
        return [AreaPlane(2, 1.0, areas[1:2]), AreaPlane(0, 1.0, areas[:1]), AreaPlane(1, 1.0, areas[1:2])]

    monkeypatch.setattr(area_sweep, "_grouped", grouped)
    asked = []

    def met(_, plane, axis, areas, elsewhere, done) -> float:
        assert axis.tolist() == np.eye(3)[plane.axis].tolist()
        counted = [area not in elsewhere for area in own[0]]
        asked.append((plane.axis, *counted))
        return {0: 0.9, 2: 0.2 if counted[0] else 0.9, 1: 0.3}[plane.axis]

    monkeypatch.setattr(area_sweep, "_met", met)
    photographed = Photographed(FLOOR, BACK, views=arc(2))
    all_seen, others = seen_and_others(photographed)
    photos = ManyPhotos.of(all_seen, photographed.pictures, others)
    found = planes_of_areas(photos, photographed.pictures, np.eye(3), np.array([[-1.0, 1.0]] * 3), 4.0)
    assert [plane.axis for plane in found] == [2, 0]
    first, second = [(axis, True, True) for axis in (2, 0, 1)], [(axis, False, True) for axis in (2, 1)]
    assert asked == [*first, *second, (1, False, False)]


def test_what_lies_elsewhere_is_not_counted():
    """Half of what the other photo shows of the wall is an area of it, all of it one of something else."""
    photographed = Photographed(FLOOR, BACK, views=arc(2))
    all_seen, others = seen_and_others(photographed)
    photos = ManyPhotos.of(all_seen, photographed.pictures, others)
    first, second = (np.flatnonzero(shown.ravel() == 1) for shown in photographed.shown)
    whole, half = Area(1, second, second), Area(1, second[second % PINHOLE.width % 2 == 0], second)
    axis = np.array([0.0, 1.0, 0.0])
    plane = AreaPlane(1, 1.9, [Area(0, first, first), half])
    told = [area_sweep._met(photos, plane, axis, [whole, *plane.areas], some, lambda: None) for some in ([], [whole])]
    assert 0.6 < told[0] < 0.85 and told[1] == 1.0  # of itself, and of the other's half
    assert {view: len(own) for view, own in area_sweep._pixels_of([half, whole]).items()} == {1: len(second)}


def test_a_large_photos_areas_are_looked_for_in_a_smaller_one_too():
    """A soft edge of 24 of 255 within a few pixels is none to the pixels of a large photo."""
    x = np.arange(400) - 199.5
    edge = 110 + 24 / (1 + np.exp(-x / 1.4))
    picture = np.repeat(np.broadcast_to(edge, (300, 400))[..., None], 3, axis=-1).round().astype(np.uint8)
    areas = plain_parts(7, picture)
    sides = [{bool(side) for side in (area.pixels % 400 > 200)} for area in areas]
    assert sorted(map(len, sides)) == [1, 1, 2]
    assert all(area.view == 7 and np.isin(area.asked, area.pixels).all() for area in areas)
    smaller = cv2.resize(picture, (200, 150), interpolation=cv2.INTER_AREA)
    assert len(plain_parts(7, smaller)) == 2
    hidden = np.ones((300, 400), bool)
    hidden[:, :150] = False
    assert all((area.pixels % 400 >= 150).all() for area in plain_parts(7, picture, hidden))


def _before_turning(monkeypatch):
    """The walls of a room as they are found before they are turned, with its photos and points."""
    photographed = Photographed(FLOOR, BACK, LEFT, RIGHT, views=arc(sweep=50), soft=12.0)
    all_seen, others = seen_and_others(photographed)
    begun = []
    with monkeypatch.context() as patch:
        patch.setattr(walls, "_turned", lambda found, *_: begun.extend(found) or found)
        surfaces_of(all_seen, photographed.pictures, others)
    return begun, ManyPhotos.of(all_seen, photographed.pictures, others), Points.of(all_seen)


def _turned_by(found, about):
    """1.1°, each about its own middle, so that what lies on it stays there."""
    turn, made = Rotation.from_rotvec(0.02 * np.array(about)).as_matrix(), []
    for wall in found:
        middle = wall.plane.middles()[wall.plane.there].mean(axis=0)
        normal = turn @ wall.plane.normal
        made.append(walls._Wall(replace(wall.plane, normal=normal, height=float(normal @ middle)), wall.areas))
    return made


def test_a_plane_on_which_nothing_lies_reaches_nowhere():
    all_seen, _ = seen_and_others(Photographed(FLOOR, BACK, views=arc(3)))
    nowhere = PixelRays(np.zeros((0, 3)), np.zeros(3), 0)
    assert reaching(Points.of(all_seen), np.array([0.0, 0.0, 1.0]), 500.0, [nowhere]) is None


def test_how_unlike_photos_are_is_what_a_slow_comparison_says():
    photographed = Photographed(FLOOR, BACK, LEFT, RIGHT, views=arc(4))
    all_seen, others = seen_and_others(photographed)
    photos = ManyPhotos.of(all_seen, photographed.pictures, others)
    normal, heights = np.array([0.2, 1.0, 0.1]) / np.linalg.norm([0.2, 1.0, 0.1]), np.array([1.2, 1.7, 2.3])
    pixels = np.random.default_rng(0).permutation(60 * 72)[:200]
    sums, counts, hidden = photos.unlike(1, pixels, normal, heights)
    soft = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.5) for picture in photographed.pictures]
    for row, height in enumerate(heights):
        for column, pixel in enumerate(pixels):
            ray = all_seen[1].rays.reshape(-1, 3)[pixel]
            z = (height - normal @ all_seen[1].eye) / (ray @ normal)
            place, wanted, count, behind = all_seen[1].eye + z * ray, 0.0, 0, 0
            for other in others[1]:
                local = (place - all_seen[other].eye) @ all_seen[other].view.pose[:3, :3]
                if z <= 0 or local[2] >= 0:
                    continue
                x, y = (float(v) - 0.5 for v in to_pixels(local[0], local[1], -local[2], PINHOLE))
                if not (0 <= x < 71 and 0 <= y < 59):
                    continue
                if 0 < all_seen[other].z[int(y + 0.5), int(x + 0.5)] < 0.97 * -local[2]:
                    behind += 1
                    continue
                c, r = int(x), int(y)
                square = soft[other][r : r + 2, c : c + 2].astype(float)
                there = np.einsum("r,c,rck->k", [1 - (y - r), y - r], [1 - (x - c), x - c], square)
                wanted += min(np.abs(there - soft[1].reshape(-1, 3)[pixel]).max(), UNLIKE)
                count += 1
            assert (counts[row, column], hidden[row, column]) == (count, behind)
            assert sums[row, column] == pytest.approx(wanted, abs=0.02)


def test_areas_are_of_what_is_shown_and_plain():
    """A square of texture in a plain picture, whose right half is hidden."""
    picture = np.full((60, 72, 3), 120, np.uint8)
    picture[20:40, 5:25] = np.random.default_rng(0).integers(0, 255, (20, 20, 3))
    shown = np.ones((60, 72), bool)
    shown[:, 40:] = False
    (area,) = plain_parts(0, picture, shown)
    row, column = np.divmod(area.pixels, 72)
    assert column.max() < 40 and not ((row >= 25) & (row < 35) & (column >= 10) & (column < 20)).any()
    assert np.isin(area.asked, area.pixels).all() and len(np.unique(area.asked)) == len(area.asked) == 300
    assert plain_parts(0, np.random.default_rng(1).integers(0, 255, (60, 72, 3)).astype(np.uint8)) == []


def test_cameras_all_at_one_place_tell_nothing():
    views = [Viewpoint(arc(3)[1].pose, PINHOLE, f"v{k}") for k in range(3)]
    photographed = without(Photographed(FLOOR, BACK, LEFT, RIGHT, views=views), 3)
    share, _ = photographed.new(photographed.whole(), 3)
    assert share < 0.05
