# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture stands upright however its cameras were held."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_on_disk import looking_at, photo, ring, shared, transforms, write
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.capture import open_capture
from engine.capture.upright import up_from_cameras


def rolled(pose: np.ndarray, degrees: float) -> np.ndarray:
    """The same camera turned about its own axis, counter-clockwise."""
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0, 0, np.radians(degrees)]))[0]
    return pose @ turn


def axes(poses: list[np.ndarray]) -> np.ndarray:
    return np.array([pose[:3, :3] for pose in poses])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


@pytest.mark.parametrize("height", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("rolls", [(0,), (90,), (-90,), (90, -90), (0, 90), (0, 0, 90, -90, 180), (0, 90, 180, 270)])
@pytest.mark.parametrize("span", [360, 200])
def test_rings_however_their_cameras_are_turned(height: float, rolls: tuple[int, ...], span: int) -> None:
    world = cv2.Rodrigues(np.array([0.4, -1.1, 0.7]))[0]
    angles = np.radians(span) * np.arange(24) / 24
    poses = [
        rolled(looking_at((4 * np.cos(a), 4 * np.sin(a), height)), rolls[i % len(rolls)]) for i, a in enumerate(angles)
    ]
    assert angle(up_from_cameras(world @ axes(poses)), world @ (0, 0, 1)) < 0.01


def test_upside_down_all_of_them_up_is_where_the_pictures_have_it_unless_they_say_otherwise() -> None:
    poses = axes([rolled(pose, 180) for pose in ring(12)])
    assert angle(up_from_cameras(poses), np.array([0, 0, -1.0])) < 0.01
    assert angle(up_from_cameras(poses, np.tile([0.0, -1.0], (12, 1))), np.array([0, 0, 1.0])) < 0.01


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(0,), (90,), (0, 0, 90)]))
def test_hands_that_shake(seed: int, rolls: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    poses = [rolled(pose, rolls[i % len(rolls)] + rng.normal(0, 4)) for i, pose in enumerate(ring(24))]
    assert angle(up_from_cameras(axes(poses)), np.array([0, 0, 1.0])) < 6  # degrees


def test_cameras_that_look_one_way() -> None:
    rng = np.random.default_rng(3)
    poses = [looking_at((x, 0, 1), np.array((x, 5, 1)) + rng.normal(0, 0.3, 3)) for x in np.linspace(-1, 1, 9)]
    assert angle(up_from_cameras(axes(poses)), np.array([0, 0, 1.0])) < 3
    assert angle(up_from_cameras(axes(poses[:1])), poses[0][:3, 1]) < 1e-6
    tops = np.tile([-1.0, 0.0], (9, 1))  # known to be turned by a quarter: what is left in them is up
    turned = axes([rolled(pose, -90) for pose in poses])
    assert angle(up_from_cameras(turned, tops), np.array([0, 0, 1.0])) < 3


def test_pictures_from_straight_above_turned_about() -> None:
    for turns in ([0, 180, 0, 180], [0, 45, 90, 135, 180, 225, 270, 315]):
        poses = [rolled(looking_at((i, 0, 5), (i, 0, 0), (0, 1, 0)), turn) for i, turn in enumerate(turns)]
        assert angle(up_from_cameras(axes(poses)), np.array([0, 0, 1.0])) < 0.01


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_that_say_how_they_were_held(tmp_path: Path, orientation: int) -> None:
    """Up as the photo is to be shown, by Pillow's own turning of it, also where the cameras alone cannot tell."""
    exif = Image.Exif()
    exif[274] = orientation
    marked = np.zeros((48, 64), np.uint8)
    marked[20:28, 28:36] = 100  # a middle that stays, and its four neighbours told apart
    for value, (x, y) in {1: (0, 1), 2: (0, -1), 3: (-1, 0), 4: (1, 0)}.items():
        marked[24 - 16 * y, 32 + 16 * x] = value
    stored = Image.fromarray(marked)
    shown = np.array(_turned(stored, exif))
    rows, columns = np.nonzero((shown > 0) & (shown < 5))
    top = {1: (0, 1), 2: (0, -1), 3: (-1, 0), 4: (1, 0)}[int(shown[rows.min(), columns[rows.argmin()]])]
    roll = {(0, 1): 0, (-1, 0): -90, (0, -1): 180, (1, 0): 90}[top]  # the camera was turned so
    meta = transforms(5)
    for index, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"images/{index}.jpg"
        pose = looking_at((index / 5, -4, 0), (index / 5, 0, 0))
        frame["transform_matrix"] = rolled(pose, roll).tolist()
        photo(tmp_path / f"images/{index}.jpg", exif=exif)
    capture = open_capture(write(tmp_path, meta, pictures=False), 64)
    assert angle(capture.up, np.array([0, 0, 1.0])) < 0.01
    assert np.allclose(capture.views[0].pose, meta["frames"][0]["transform_matrix"])  # poses are not touched


def _turned(picture: Image.Image, exif: Image.Exif) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    return ImageOps.exif_transpose(Image.open(stream))


def test_gravity_of_the_source_goes_before_the_cameras() -> None:
    capture = open_capture(shared("fixtures/record3d"), 256)
    assert np.allclose(capture.up, (0, 1, 0))
    assert angle(up_from_cameras(axes([view.pose for view in capture.views])), capture.up) < 15
