# SPDX-License-Identifier: GPL-3.0-or-later
"""How far away plain areas are, by what lies about them, against scenes in closed form. What photos tell is given: what
is textured, and what is plain as far as two pixels from its outline, with noise and outliers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.known_depth import KnownDepth
from engine.scenes.plain_areas import with_plain_areas
from engine.scenes.plane_search import planes_of
from engine.scenes.planes import Points, Seen
from tests.engine.conftest import looking_at

PINHOLE = Intrinsics(72, 60, 60.0, 60.0, 36.0, 30.0)
AHEAD = np.array([0.0, 0.6, 1.0])  # what the cameras look at
SKY = -1


def arc(count: int = 9, sweep: float = 70.0, distance: float = 3.4) -> list[Viewpoint]:
    angles = np.radians(np.linspace(-90 - sweep / 2, -90 + sweep / 2, count))
    sides = np.stack([np.cos(angles), np.sin(angles)], axis=1) * distance
    eyes = [AHEAD + np.array([*side, 0.3 + 0.4 * (k % 2)]) for k, side in enumerate(sides)]
    return [Viewpoint(looking_at(eye, AHEAD), PINHOLE, f"v{k}") for k, eye in enumerate(eyes)]


def slab(axis: int, at: float, color: int, textured: bool = False, **within):
    """A part of the plane where one coordinate is ``at``, ``within`` bounds of x, y, z."""

    def met(eye, rays):
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (at - eye[axis]) / rays[..., axis]
        places = eye + rays * np.where(np.isfinite(distance), distance, 0.0)[..., None]
        seen = np.isfinite(distance) & (distance > 1e-6)
        for name, (low, high) in within.items():
            seen &= (places[..., "xyz".index(name)] >= low) & (places[..., "xyz".index(name)] <= high)
        return np.where(seen, distance, np.inf)

    return met, color, textured


def ball(middle, radius: float, color: int):
    def met(eye, rays):
        along = rays @ (np.array(middle) - eye)
        inside = along**2 - ((np.array(middle) - eye) ** 2).sum() + radius**2
        return np.where(inside > 0, along - np.sqrt(np.maximum(inside, 0)), np.inf)

    return met, color, False


def can(middle, radius: float, low: float, high: float, color: int):
    def met(eye, rays):
        flat, from_ = rays[..., :2], eye[:2] - middle
        a, b, c = (flat**2).sum(-1), flat @ from_, (from_**2).sum() - radius**2
        with np.errstate(invalid="ignore"):
            distance = (-b - np.sqrt(b * b - a * c)) / a
        height = eye[2] + distance * rays[..., 2]
        return np.where(np.isfinite(distance) & (height >= low) & (height <= high), distance, np.inf)

    return met, color, False


FLOOR = slab(2, 0.0, 120, True, x=(-4, 4), y=(-4, 4))
BACK, LEFT, RIGHT = (
    slab(1, 1.9, 200, x=(-1.8, 1.8), z=(0, 2.4)),
    slab(0, -1.8, 190, y=(-1, 1.9), z=(0, 2.4)),
    slab(0, 1.8, 206, y=(-1, 1.9), z=(0, 2.4)),
)


class Photographed:
    """Pictures (H, W, 3), (H, W) true distances and numbers of things, and what photos tell."""

    def __init__(
        self, *things, views=None, density: float = 0.6, noise: float = 0.004, sky: int = 170, soft: float = 0.0
    ) -> None:
        """``soft``: how far plain things shade, of 255, in stripes 1.4 m wide or so."""
        self.views = views or arc()
        random = np.random.default_rng(1)
        self.pictures, self.truths, self.shown, self.known = [], [], [], []
        for view in self.views:
            rays = pixel_directions(PINHOLE) @ view.pose[:3, :3].T
            rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
            distances = np.stack([met(view.pose[:3, 3], rays) for met, _, _ in things])
            truth, shown = distances.min(axis=0), distances.argmin(axis=0)
            shown = np.where(np.isfinite(truth), shown, SKY)
            colors, textured = [color for _, color, _ in things], [texture for _, _, texture in things]
            gray = np.array([*colors, sky])[shown].astype(float)
            texture = np.array([*textured, False])[shown]
            gray += texture * random.uniform(-60, 60, gray.shape)
            places = view.pose[:3, 3] + rays * np.where(np.isfinite(truth), truth, 0.0)[..., None]
            gray += ~texture * soft * np.sin(places @ np.array([2.6, 2.9, 2.2]))
            self.pictures.append(np.repeat(gray[..., None], 3, axis=-1).clip(0, 255).astype(np.uint8))
            outline = ndimage.maximum_filter(shown, 5) != ndimage.minimum_filter(shown, 5)
            told = np.isfinite(truth) & (outline | texture) & (random.random(truth.shape) < density)
            off = random.normal(1, noise, truth.shape)
            wrong = random.random(truth.shape) < 0.03
            found = np.where(wrong, random.uniform(0.7, 1.3, truth.shape), off) * np.where(told, truth, 1)
            pixels = np.flatnonzero(told)
            self.known.append(KnownDepth(pixels, found.ravel()[pixels].astype(np.float32), np.full(len(pixels), 0.9, np.float32)))  # noqa: E501  # fmt: skip
            self.truths.append(truth)
            self.shown.append(shown)

    def whole(self, **how) -> list[np.ndarray]:
        """(H, W) of each view: the distances that are known then; NaN where none is."""
        made = with_plain_areas(self.views, self.pictures, self.known, **how)
        maps = [np.full(truth.size, np.nan) for truth in self.truths]
        for one, layer in zip(made, maps, strict=True):
            assert len(np.unique(one.pixels)) == len(one.pixels) == len(one.distances) == len(one.sure)
            layer[one.pixels] = one.distances
        return [layer.reshape(truth.shape) for layer, truth in zip(maps, self.truths, strict=True)]

    def new(self, made, number: int) -> tuple[float, np.ndarray]:
        """Of the pixels that show a thing and of which photos told nothing, the share that is known now, and by how
        much that is off."""
        found, true = [], []
        for layer, truth, shown, known in zip(made, self.truths, self.shown, self.known, strict=True):
            own = (shown == number).ravel()
            own[known.pixels] = False
            found.append(layer.ravel()[own])
            true.append(truth.ravel()[own])
        found, true = np.concatenate(found), np.concatenate(true)
        there = np.isfinite(found)
        with np.errstate(invalid="ignore"):
            return float(there.mean()), np.abs(found[there] / true[there] - 1)


def test_plain_walls_are_as_far_away_as_they_are():
    """Three of nearly one color, and a textured floor."""
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT)
    made = seen.whole()
    for number, least in ((1, 0.65), (2, 0.5), (3, 0.5)):
        share, off = seen.new(made, number)
        assert share > least and np.median(off) < 0.005 and (off < 0.015).mean() > 0.95, number


def test_what_is_on_a_plane_but_for_noise_is_put_onto_it():
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT, noise=0.012)
    made = seen.whole()

    def off(maps) -> np.ndarray:
        return np.concatenate([
            np.abs(m.ravel()[k.pixels] / t.ravel()[k.pixels] - 1)
            for m, t, k in zip(maps, seen.truths, seen.known, strict=True)
        ])  # fmt: skip

    before = [np.full(truth.size, np.nan) for truth in seen.truths]
    for layer, known in zip(before, seen.known, strict=True):
        layer[known.pixels] = known.distances
    after = off(made)
    assert np.nanmedian(after) < 0.5 * np.median(off(before)) and np.isfinite(after).mean() > 0.9


def test_a_relief_on_a_plane_stays():
    """A textured board 6 cm before a wall, well known: the wall is behind it, and it stays where it is."""
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT, slab(1, 1.8, 90, True, x=(-0.6, 0.6), z=(0.9, 1.7)), density=0.95)
    made = seen.whole()
    distances = np.concatenate([layer[shown == 4] for layer, shown in zip(made, seen.shown, strict=True)])
    true = np.concatenate([truth[shown == 4] for truth, shown in zip(seen.truths, seen.shown, strict=True)])
    kept = np.isfinite(distances)
    assert kept.mean() > 0.8 and abs(np.median(distances[kept] / true[kept] - 1)) < 0.004


POSTS = tuple(
    slab(1, y, 90 + 15 * k, True, x=(x - 0.15, x + 0.15), z=(0, h))
    for k, (x, y, h) in enumerate(
        ((-1.6, 0.4, 1.9), (-0.7, 2.2, 2.3), (0.3, 1.1, 1.2), (1.1, 3.1, 2.6), (1.7, 0.2, 1.5))
    )
)


def test_a_sky_between_unrelated_things_is_no_plane():
    seen = Photographed(FLOOR, *POSTS)
    made = seen.whole()
    assert sum((shown == SKY).sum() for shown in seen.shown) > 5000
    assert np.mean([np.isfinite(m[shown == SKY]).mean() for m, shown in zip(made, seen.shown, strict=True)]) < 0.01


def test_a_sky_above_a_facade_is_not_on_it():
    """Squares across the upper edge tell the facade's distance above it, too."""
    facade = slab(1, 1.9, 110, True, x=(-4, 4), z=(0, 1.5))
    seen = Photographed(FLOOR, facade)
    for truth, shown, known in zip(seen.truths, seen.shown, seen.known, strict=True):
        assert (shown == 1).any() and (shown == SKY).any()
        row = np.argmax(shown == 1, axis=0)  # the facade's first in each column
        pixels = np.concatenate([(row - k) * 72 + np.arange(72) for k in (1, 2)])
        pixels = np.setdiff1d(pixels[pixels >= 0], known.pixels)
        edge = truth[row, np.arange(72)][pixels % 72]
        object.__setattr__(known, "pixels", np.concatenate([known.pixels, pixels]))
        object.__setattr__(known, "distances", np.concatenate([known.distances, edge.astype(np.float32)]))
        object.__setattr__(known, "sure", np.concatenate([known.sure, np.full(len(pixels), 0.8, np.float32)]))
    share, _ = seen.new(seen.whole(), SKY)
    assert share < 0.05


@pytest.mark.parametrize(
    "thing", [ball((0.0, 0.4, 0.75), 0.75, 150), can((0.0, 0.4), 0.5, 0.0, 1.6, 150)], ids=["ball", "can"]
)
def test_what_is_curved_is_not_made_flat(thing):
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT, thing)
    made = seen.whole()
    share, off = seen.new(made, 4)
    assert sum((shown == 4).sum() for shown in seen.shown) > 2000
    assert not len(off) or share * (off > 0.02).mean() < 0.06
    share, off = seen.new(made, 1)  # the wall behind it is found all the same
    assert share > 0.6 and (off < 0.015).mean() > 0.9


def test_what_stands_before_a_wall_and_looks_like_it_is_not_the_wall():
    """A plain board of nearly the wall's color."""
    board = slab(1, 0.9, 186, x=(-0.5, 0.5), z=(0.5, 1.4))
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT, board)
    made = seen.whole()
    share, off = seen.new(made, 4)
    assert not len(off) or share * (off > 0.02).mean() < 0.05
    share, off = seen.new(made, 1)
    assert share > 0.5 and (off < 0.015).mean() > 0.9


def test_what_is_burnt_out_is_light():
    """A window: all about it is on the wall, and what is behind it is not."""
    window = slab(1, 30.0, 255, x=(-9, 9), z=(-9, 9))
    walls = (
        slab(1, 1.9, 200, x=(-1.8, -0.5), z=(0, 2.4)), slab(1, 1.9, 200, x=(0.5, 1.8), z=(0, 2.4)),
        slab(1, 1.9, 200, x=(-0.5, 0.5), z=(0, 0.8)), slab(1, 1.9, 200, x=(-0.5, 0.5), z=(1.6, 2.4)),
    )  # fmt: skip
    seen = Photographed(FLOOR, *walls, LEFT, RIGHT, window)
    share, _ = seen.new(seen.whole(), 7)
    assert share == 0


def test_a_plane_that_is_seen_through_is_cut_out_there():
    """An opening, behind which a textured wall is seen: none of the wall is said to be in it."""
    walls = (
        slab(1, 1.9, 200, x=(-1.8, -0.4), z=(0, 2.4)), slab(1, 1.9, 200, x=(0.4, 1.8), z=(0, 2.4)),
        slab(1, 1.9, 200, x=(-0.4, 0.4), z=(0, 0.9)), slab(1, 1.9, 200, x=(-0.4, 0.4), z=(1.6, 2.4)),
    )  # fmt: skip
    seen = Photographed(FLOOR, *walls, LEFT, RIGHT, slab(1, 3.4, 120, True, x=(-4, 4), z=(0, 4)), density=0.5)
    all_seen = [Seen(view, _as_z(view, known)) for view, known in zip(seen.views, seen.known, strict=True)]
    planes = planes_of(all_seen, Points.of(all_seen))
    wall = next(plane for plane in planes if abs(plane.normal[1]) > 0.99 and abs(abs(plane.height) - 1.9) < 0.05)

    def there(place) -> bool:
        cell = np.floor((np.array(place) @ wall.axes.T - wall.corner) / wall.cell).astype(int)
        return bool(((cell >= 0) & (cell < wall.there.shape)).all() and wall.there[tuple(cell)])

    assert there((-1.1, 1.9, 1.2)) and there((1.1, 1.9, 1.2)) and not there((0.0, 1.9, 1.25))


def _as_z(view: Viewpoint, known: KnownDepth) -> np.ndarray:
    z = np.zeros(60 * 72)
    length = np.linalg.norm(pixel_directions(view.intrinsics), axis=-1).ravel()
    z[known.pixels] = known.distances / length[known.pixels]
    return z.reshape(60, 72)


def test_of_what_is_not_shown_nothing_is_told_nor_across_it():
    """A mask hides a column all the way down, and whatever is to the right of it is not known at its outlines."""
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT)
    shown = [np.ones((60, 72), bool) for _ in seen.views]
    for layer, known in zip(shown, seen.known, strict=True):
        layer[:, 34:38] = False
        kept = known.pixels % 72 < 34
        for name in ("pixels", "distances", "sure"):
            object.__setattr__(known, name, getattr(known, name)[kept])
    made = seen.whole(shown=shown)
    assert all(np.isnan(layer[:, 34:]).all() for layer in made)
    assert np.mean([np.isfinite(layer[:, :34]).mean() for layer in made]) > 0.6
    assert np.mean([np.isfinite(layer[:, 38:]).mean() for layer in seen.whole()]) > 0.05  # but for the mask


def test_what_only_one_view_says_is_not_kept():
    """The others look elsewhere, and nobody can say that it is right."""
    views = arc(3)
    turned = [
        Viewpoint(looking_at(view.pose[:3, 3], np.array([0.0, -9.0, 1.0])), PINHOLE, view.name) for view in views[1:]
    ]
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT, views=[views[0], *turned])
    share, _ = seen.new(seen.whole(), 1)
    assert share == 0


def test_where_nothing_is_known_nothing_is_said():
    seen = Photographed(FLOOR, BACK, views=arc(3))
    none = KnownDepth(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
    made = with_plain_areas(seen.views, seen.pictures, [none] * 3)
    assert [len(depth.pixels) for depth in made] == [0, 0, 0]


def test_it_says_the_same_again_tells_how_far_it_is_and_can_be_stopped():
    seen = Photographed(FLOOR, BACK, LEFT, RIGHT, views=arc(5))
    counts: list[int] = []
    first = with_plain_areas(seen.views, seen.pictures, seen.known, counts.append)
    again = with_plain_areas(seen.views, seen.pictures, seen.known)
    assert counts == sorted(counts) and counts[-1] == 5 and len(counts) > 12
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.pixels, other.pixels) and np.array_equal(one.distances, other.distances)

    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        with_plain_areas(seen.views, seen.pictures, seen.known, stop)
