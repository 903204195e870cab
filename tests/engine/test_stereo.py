# SPDX-License-Identifier: GPL-3.0-or-later
"""What photos say of each other's depth, against surfaces in closed form."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.stereo import neighbours_of, stereo_depths
from tests.engine.conftest import looking_at

PINHOLE = Intrinsics(72, 60, 66.0, 68.0, 35.0, 31.0)
BALL, FLOOR = 0.8, -0.8  # radius about the origin; height


def arc(count: int = 8, sweep: float = 80.0, distance: float = 4.0) -> list[Viewpoint]:
    angles = np.radians(np.linspace(-sweep / 2, sweep / 2, count))
    heights = 1.2 + 0.6 * (np.arange(count) % 2)
    eyes = [np.array([distance * np.cos(a), distance * np.sin(a), h]) for a, h in zip(angles, heights, strict=True)]
    return [Viewpoint(looking_at(eye, np.zeros(3)), PINHOLE, f"v{k}") for k, eye in enumerate(eyes)]


def pattern(points: np.ndarray) -> np.ndarray:
    """0–1 at points (…, 3), with waves of many directions."""
    random = np.random.default_rng(3)
    waves = random.normal(size=(12, 3))
    waves *= random.uniform(7, 16, (12, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    return 0.5 + 0.13 * np.sin(points @ waves.T + random.uniform(0, 6, 12)).sum(axis=-1)


def photograph(view: Viewpoint, plain_floor: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) uint8 of a ball on a floor, and (H, W) distances along the rays."""
    rays = pixel_directions(view.intrinsics) @ view.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = view.pose[:3, 3]
    along = rays @ eye
    root = along**2 - (eye @ eye - BALL**2)
    ball = np.where(root > 0, -along - np.sqrt(np.maximum(root, 0)), np.inf)
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 2] < 0, (FLOOR - eye[2]) / rays[..., 2], np.inf)
    distance = np.minimum(ball, floor)
    seen = np.isfinite(distance)
    shade = np.where(seen, pattern(eye + rays * np.where(seen, distance, 1.0)[..., None]), 0.5)
    if plain_floor:
        shade = np.where(ball < floor, shade, 0.5)
    return (np.clip(shade, 0, 1)[..., None] * [255, 240, 220]).astype(np.uint8), distance


def errors(found, truths) -> np.ndarray:
    return np.concatenate([
        np.abs(f.distances / truth.ravel()[f.pixels] - 1) for f, truth in zip(found, truths, strict=True)
    ])  # fmt: skip


def test_depths_of_textured_surfaces_are_found():
    views = arc()
    pictures, truths = zip(*map(photograph, views), strict=True)
    found = stereo_depths(views, pictures, np.zeros(3))
    share = sum(len(f.pixels) for f in found) / sum(int(np.isfinite(t).sum()) for t in truths)
    off = errors(found, truths)
    assert share > 0.25 and np.median(off) < 0.004 and (off < 0.01).mean() > 0.85 and (off < 0.03).mean() > 0.98
    for f in found:
        assert len(np.unique(f.pixels)) == len(f.pixels) > 0
        assert (f.sure > 0).all() and (f.sure <= 1.001).all()


def test_of_a_plain_surface_nothing_is_said():
    views = arc()
    pictures, truths = zip(*(photograph(view, plain_floor=True) for view in views), strict=True)
    found = stereo_depths(views, pictures, np.zeros(3))
    assert sum(len(f.pixels) for f in found) > 500
    for f, truth, view in zip(found, truths, views, strict=True):
        points = pixel_directions(PINHOLE).reshape(-1, 3)[f.pixels]
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        points = view.pose[:3, 3] + (points @ view.pose[:3, :3].T) * truth.ravel()[f.pixels][:, None]
        on_ball = np.linalg.norm(points, axis=1) < BALL + 1e-6
        assert on_ball.mean() > 0.85  # a square beside the ball's edge holds some of it


def cut_out(view: Viewpoint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of the ball alone before white, its distances, and (H, W) where it is seen."""
    picture, distance = photograph(view)
    rays = pixel_directions(view.intrinsics) @ view.pose[:3, :3].T
    points = view.pose[:3, 3] + rays / np.linalg.norm(rays, axis=-1, keepdims=True) * distance[..., None]
    ball = np.linalg.norm(np.where(np.isfinite(points), points, 9), axis=-1) < BALL + 1e-6
    return np.where(ball[..., None], picture, 255).astype(np.uint8), distance, ball


def test_an_outline_before_what_is_not_shown_is_no_surface():
    views = arc()
    pictures, truths, shown = zip(*map(cut_out, views), strict=True)
    found = stereo_depths(views, pictures, np.zeros(3), shown=shown)
    blind = stereo_depths(views, pictures, np.zeros(3), shown=[None] * len(views))
    near, deep = 0, []
    for f, b, truth, ball in zip(found, blind, truths, shown, strict=True):
        whole = sliding_window_view(np.pad(ball, 2, constant_values=True), (5, 5)).all(axis=(2, 3))
        assert whole.ravel()[f.pixels].all()
        inside = whole.ravel()[b.pixels]
        # Far from the outline as much is known as before.
        near += np.isin(b.pixels[inside], f.pixels).sum() / max(1, inside.sum())
        edge = ball.ravel()[b.pixels] & ~inside
        deep.append(b.distances[edge] / truth.ravel()[b.pixels][edge] - 1)
    assert near / len(views) > 0.8 and sum(len(f.pixels) for f in found) > 1000
    assert (errors(found, truths) < 0.03).mean() > 0.95
    assert len(np.concatenate(deep)) > 300 and np.median(np.concatenate(deep)) > 0  # behind the surface


def test_pictures_of_other_things_agree_on_nothing():
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (60, 72, 3)).astype(np.uint8) for _ in range(6)]
    found = stereo_depths(arc(6), pictures, np.zeros(3))
    assert sum(len(f.pixels) for f in found) < 0.002 * 6 * 72 * 60


def test_a_wrong_pose_takes_the_depths_away():
    """What one photo says that lies elsewhere is confirmed by no other."""
    views = arc()
    pictures, truths = zip(*map(photograph, views), strict=True)
    moved = views[3].pose.copy()
    moved[:3, 3] += [0, 0, 0.4]
    wrong = [*views[:3], Viewpoint(moved, PINHOLE, "v3"), *views[4:]]
    found, right = stereo_depths(wrong, pictures, np.zeros(3)), stereo_depths(views, pictures, np.zeros(3))
    assert len(found[3].pixels) < 0.1 * len(right[3].pixels)
    others = [k for k in range(8) if k != 3]
    assert (errors([found[k] for k in others], [truths[k] for k in others]) < 0.03).mean() > 0.9


def test_neighbours_see_the_same_from_a_little_aside():
    views = arc(9, sweep=160)
    picked = neighbours_of(4, views, 4.0)
    assert set(picked[:2]) == {3, 5} and 4 not in picked and 0 not in picked and 8 not in picked
    behind = looking_at(np.array([-4.0, 0.0, 1.0]), np.array([-8.0, 0.0, 1.0]))
    assert neighbours_of(0, [views[0], Viewpoint(behind, PINHOLE, "b")], 4.0) == []


def test_one_view_and_views_in_one_place_say_nothing():
    views = arc(1) * 3
    pictures = [photograph(view)[0] for view in views]
    for count in (1, 3):
        found = stereo_depths(views[:count], pictures[:count], np.zeros(3))
        assert [len(f.pixels) for f in found] == [0] * count


def test_it_can_be_stopped():
    class Stop(Exception):
        pass

    def done(count: int) -> None:
        assert count == 0
        raise Stop

    views = arc(3)
    with pytest.raises(Stop):
        stereo_depths(views, [photograph(view)[0] for view in views], np.zeros(3), done)
