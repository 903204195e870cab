# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a scene shows what it does not learn from is looked at in a few pixels, seldom, and changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.metrics import held_out
from engine.metrics.held_out import HeldOut
from engine.scenes.base import RenderedView


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Sky:
    """A scene whose color is a function of the direction alone; it takes a second a look."""

    def __init__(self, clock: Clock, off: float = 0.0) -> None:
        self.clock, self.off, self.pixels = clock, off, 0

    def render(self, camera: Viewpoint, check=None, shares=()) -> RenderedView:
        self.clock.now += 1.0
        color = torch.from_numpy(0.5 + 0.4 * pixel_directions(camera.intrinsics) @ camera.pose[:3, :3].T)
        self.pixels += color.shape[0] * color.shape[1]
        flat = torch.zeros(color.shape[:2])
        return RenderedView((color + self.off).float(), flat, flat + 1)


def photos(count: int, width: int, height: int) -> tuple[list[Viewpoint], list[np.ndarray]]:
    cameras = []
    for number in range(count):
        turned = np.eye(4)
        angle = 0.3 * number
        turned[:3, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        intrinsics = Intrinsics(width, height, 0.8 * width, 0.9 * width, 0.45 * width, 0.55 * height)
        cameras.append(Viewpoint(turned, intrinsics, f"{number}"))
    taken = [Sky(Clock()).render(camera).rgb.numpy() for camera in cameras]
    return cameras, [np.round(255 * picture).astype(np.uint8) for picture in taken]


@pytest.mark.parametrize(("count", "width", "height"), [(1, 17, 9), (3, 192, 108), (8, 640, 361), (2, 2000, 3)])
def test_its_pixels_are_the_pictures_own(count: int, width: int, height: int) -> None:
    """A scene that is right is found to be, but for the pictures' 8 bits: no ray beside its pixel would be."""
    clock = Clock()
    cameras, pictures = photos(count, width, height)
    scene = Sky(clock)
    found = HeldOut(cameras, pictures, [None] * count, clock).decibels(scene)
    assert found > 55 and scene.pixels <= 1.3 * held_out.PIXELS
    off = HeldOut(cameras, pictures, [None] * count, Clock()).decibels(Sky(Clock(), off=0.1))
    assert off == pytest.approx(20.0, abs=0.1)


def test_what_a_mask_hides_does_not_count() -> None:
    cameras, pictures = photos(2, 90, 60)
    wrong = [picture.copy() for picture in pictures]
    mask = np.ones((60, 90), bool)
    mask[:30] = False
    wrong[0][:30] = 0
    assert HeldOut(cameras, wrong, [mask, None], Clock()).decibels(Sky(Clock())) > 55
    assert HeldOut(cameras, wrong, [None, None], Clock()).decibels(Sky(Clock())) < 20
    nothing = np.zeros((60, 90), bool)
    assert HeldOut(cameras, wrong, [nothing, nothing], Clock()).decibels(Sky(Clock())) is None


def test_it_is_looked_at_for_a_small_share_of_the_time() -> None:
    clock = Clock()
    cameras, pictures = photos(2, 90, 60)
    watched, scene, looks = HeldOut(cameras, pictures, [None, None], clock), Sky(clock), []
    for _ in range(1000):
        clock.now += 1.0  # a step
        began = clock.now
        if watched.decibels(scene) is not None:
            looks.append(clock.now - began)
    assert len(looks) > 5 and sum(looks) / clock.now < 1.6 * held_out.SHARE


def test_without_pictures_there_is_nothing_to_say_and_a_broken_scene_says_nothing() -> None:
    assert HeldOut([], [], [], Clock()).decibels(Sky(Clock())) is None
    cameras, pictures = photos(1, 30, 20)
    assert HeldOut(cameras, pictures, [None], Clock()).decibels(Sky(Clock(), off=math.nan)) is None
