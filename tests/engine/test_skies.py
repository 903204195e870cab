# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain sky is found in photos, and nothing else is taken for one, against scenes in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from engine.capture import Intrinsics
from engine.errors import Cancelled
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.known_depth import KnownDepth
from engine.scenes.skies import skies, with_skies
from tests.engine.conftest import looking_at
from tests.engine.test_plain_areas import slab

PINHOLE = Intrinsics(96, 80, 80.0, 80.0, 48.0, 40.0)
UP = np.array([0.0, 0.0, 1.0])
LAMP = np.array([0.6, -0.4, 2.0])
BOXES = [
    slab(1, y, color, textured, x=(x - 0.3, x + 0.3), z=(0, height))
    for x, y, height, color, textured in (
        (-0.8, 0.3, 0.7, 120, True), (0.4, -0.2, 2.2, 90, True), (0.9, 0.8, 1.9, 150, False)
    )
]  # fmt: skip
GROUND = slab(2, 0.0, 110, True)
INSIDE = (-3.0, 3.0)
ROOM = [
    slab(0, -3.0, 200, y=INSIDE), slab(0, 3.0, 190, y=INSIDE),
    slab(1, -3.0, 196, x=INSIDE), slab(1, 3.0, 205, x=INSIDE),
    slab(2, 2.6, 210, x=INSIDE, y=INSIDE), slab(2, 0.0, 110, True, x=INSIDE, y=INSIDE),
]  # fmt: skip


def views(count: int = 20, distance: float = 2.4, height: float = 1.3) -> list[Viewpoint]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    eyes = [np.array([*distance * way, height + 0.4 * (k % 3)]) for k, way in enumerate(ways)]
    return [Viewpoint(looking_at(eye, np.array([0.0, 0.0, 1.0])), PINHOLE, f"v{k}") for k, eye in enumerate(eyes)]


def clear(rays: np.ndarray) -> np.ndarray:
    """Brighter towards the horizon, and towards a sun: (…, 3), 0–255."""
    above = np.exp(-np.maximum(rays[..., 2], 0) / 0.6)
    sun = np.square(0.5 + 0.5 * rays @ np.array([0.6, 0.0, 0.8]))
    return 120 + above[..., None] * [50, 40, 20] + sun[..., None] * [30, 20, 10]


def photographed(things, sky=clear, lamp: bool = False, noise: float = 0.7, cameras=None):
    """Cameras, pictures and of each (H, W) bool, which pixels show no thing."""
    random = np.random.default_rng(0)
    cameras, pictures, empty = cameras or views(), [], []
    for camera in cameras:
        rays = pixel_directions(PINHOLE) @ camera.pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        distances = np.stack([met(camera.pose[:3, 3], rays) for met, _, _ in things])
        nearest, distance = distances.argmin(axis=0), distances.min(axis=0)
        shown = np.isfinite(distance)
        value = np.array([color for _, color, _ in things], float)[nearest]
        places = camera.pose[:3, 3] + rays * np.where(shown, distance, 1.0)[..., None]
        if lamp:  # as light falls off
            value = value / (1 + 0.12 * np.square(places - LAMP).sum(axis=-1))
        value = value + np.array([texture for _, _, texture in things])[nearest] * random.uniform(-40, 40, shown.shape)
        color = np.where(shown[..., None], value[..., None] * [1.0, 0.97, 0.93], sky(rays))
        pictures.append((color + random.normal(0, noise, color.shape)).clip(0, 255).round().astype(np.uint8))
        empty.append(~shown)
    return cameras, pictures, empty


def nowhere(found) -> bool:
    return not any(where.any() for where in found)


def test_a_sky_is_found_and_nothing_else():
    cameras, pictures, sky = photographed([GROUND, *BOXES])
    found, sky = np.stack(skies(cameras, pictures, UP)), np.stack(sky)
    inside = np.stack([ndimage.binary_erosion(where, np.ones((5, 5)), border_value=1) for where in sky])
    assert sky.mean() > 0.15 and found[sky].mean() > 0.95 and found[inside].mean() > 0.98
    assert not found[~sky].any()


BASE = [slab(axis, at, 100, True, z=(0, 1.6)) for axis in (0, 1) for at in (-2.9, 2.9)]


def crowded() -> list[Viewpoint]:
    """Cameras at three places of a ring, about one another."""
    random, made = np.random.default_rng(5), []
    for view in views(height=1.6)[:3] * 4:
        pose = view.pose.copy()
        pose[:3, 3] += random.uniform(-0.02, 0.02, 3)
        made.append(Viewpoint(pose, PINHOLE, view.name))
    return made


def about(count: int = 40) -> list[Viewpoint]:
    """Cameras anywhere in the room, that look anywhere."""
    random, made = np.random.default_rng(3), []
    for k in range(count):
        eye = np.array([*random.uniform(-1.8, 1.8, 2), random.uniform(0.8, 1.8)])
        ahead = np.array([*random.normal(size=2), random.uniform(-0.2, 0.3)])
        made.append(Viewpoint(looking_at(eye, eye + ahead), PINHOLE, f"v{k}"))
    return made


@pytest.mark.parametrize("things", [ROOM, [*ROOM, *BASE]], ids=["plain", "with a textured base"])
@pytest.mark.parametrize(
    "cameras",
    [about(), views(), views(height=0.5), views(height=0.8, distance=1.2), views(height=1.6), crowded()],
    ids=["anywhere", "ring", "low", "close", "high", "three places"],
)
def test_a_lit_room_has_none(things, cameras):
    """Its plain walls and ceiling are lit by place, not by direction."""
    cameras, pictures, sky = photographed(things, lamp=True, cameras=cameras)
    assert not np.stack(sky).any() and nowhere(skies(cameras, pictures, UP))


def test_walls_that_are_lit_evenly_reach_below_the_horizon_and_ceilings_not_down_to_it():
    cameras, pictures, _ = photographed(ROOM)
    even = [np.where(picture > 150, np.uint8(200), picture) for picture in pictures]
    assert nowhere(skies(cameras, even, UP))
    textured = [slab(axis, at, 120, True) for axis in (0, 1) for at in (-3.0, 3.0)]
    for cameras in (views(), about()):
        cameras, pictures, _ = photographed([*textured, *ROOM[4:]], cameras=cameras)
        assert np.mean([(picture.min(axis=-1) > 190).mean() for picture in pictures]) > 0.02  # the ceiling
        assert nowhere(skies(cameras, pictures, UP))


def test_what_is_even_among_what_is_not_is_no_sky():
    """One wall of a lit room shines by itself."""
    others = [*ROOM[:3], *ROOM[4:], *BASE]
    cameras, pictures, even = photographed(others, lambda rays: 0 * rays + 230, lamp=True, cameras=about())
    assert np.mean(even) > 0.03 and nowhere(skies(cameras, pictures, UP))


def test_a_bright_board_on_a_wall_is_no_sky():
    """That each view sees whole."""
    walls = [slab(axis, at, 120, True) for axis in (0, 1) for at in (-3.0, 3.0)]
    board = slab(1, 2.95, 250, x=(-0.6, 0.6), z=(1.2, 2.4))
    eyes = [np.array([x, -1.5, z]) for x in np.linspace(-1, 1, 6) for z in (1.2, 1.6)]
    cameras = [Viewpoint(looking_at(eye, np.array([0, 2.9, 1.8])), PINHOLE, "") for eye in eyes]
    cameras, pictures, _ = photographed([*walls, GROUND, board], cameras=cameras)
    assert all((picture.min(axis=-1) > 220).mean() > 0.02 for picture in pictures)
    assert nowhere(skies(cameras, pictures, UP))


def test_of_a_sky_with_clouds_nothing_is_said():
    def clouds(rays):
        return clear(rays) + 25 * np.sin(9 * rays[..., :1] + 14 * rays[..., 2:])

    cameras, pictures, _ = photographed([GROUND, *BOXES], sky=clouds)
    assert nowhere(skies(cameras, pictures, UP))


def test_empty_space_and_what_masks_hide_is_no_sky():
    cameras, pictures, sky = photographed([GROUND, *BOXES])
    assert nowhere(skies(cameras, pictures, UP, [~where for where in sky]))
    half = np.ones(sky[0].shape, bool)
    half[:, 45:55] = False
    found = np.stack(skies(cameras, pictures, UP, [half] * len(cameras)))
    assert not found[:, ~half].any() and found[:, half].mean() > 0.1


def test_few_views_have_nothing_to_agree_on():
    cameras, pictures, _ = photographed([GROUND, *BOXES])
    assert nowhere(skies(cameras[:2], pictures[:2], UP)) and nowhere(skies([], [], UP))


def test_it_can_be_stopped_at_each_view():
    cameras, pictures, _ = photographed([GROUND, *BOXES])
    asked = []

    def stop():
        asked.append(1)
        if len(asked) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        skies(cameras, pictures, UP, check=stop)
    asked = [1] * 3
    skies(cameras, pictures, UP, check=stop)
    assert len(asked) - 3 > len(cameras)  # and while what is found is compared


def test_what_is_known_of_a_sky_is_that_it_is_far_away():
    sky = np.zeros((2, 3), bool)
    sky[0, 1:] = True
    known = KnownDepth(np.array([1, 3]), np.float32([5, 6]), np.float32([0.9, 0.8]))
    (made,) = with_skies([known], [sky])
    assert made.pixels.tolist() == [3, 1, 2] and made.distances.tolist() == [6, np.inf, np.inf]
    np.testing.assert_allclose(made.sure, [0.8, 1, 1])
    assert made.pixels.dtype == np.int64 and made.distances.dtype == made.sure.dtype == np.float32
