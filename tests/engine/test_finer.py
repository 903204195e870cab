# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures finer than those that a scene was learned from, beside the same with every ray followed."""

import math

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from engine.capture import Intrinsics
from engine.geometry import Viewpoint
from engine.scenes.finer import see_all, stride_of
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.scene import pixel_angle
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.settings import TrainingConfig

from .conftest import TINY_NERF, ring
from .test_march import scene_of

HEIGHT, WIDTH = 121, 158
FINE = Viewpoint(ring(3)[1], Intrinsics(96, 80, 120.0, 124.0, 44.0, 42.0))


class Seen:
    """What rays see by a function of row and column, and how many were followed."""

    def __init__(self, function, height=HEIGHT, width=WIDTH):
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self.all = torch.from_numpy(np.stack(function(y, x), -1)).reshape(-1, 5)
        self.followed = torch.zeros(height * width)

    def __call__(self, pixels):
        assert len(pixels.unique()) == len(pixels)
        self.followed[pixels] += 1
        return self.all[pixels].clone()


def smooth(y, x):
    """A picture of slow waves on a slope, half of it transparent."""
    red, green = 0.5 + 0.4 * np.sin(y / 30), 0.5 + 0.4 * np.cos((x + y) / 40)
    return red, green, x / WIDTH, 2 + 0.01 * x, 0.5 + 0.5 * np.sin(x / 50)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_smooth_picture_is_told_by_few_rays(stride):
    see = Seen(smooth)
    found = see_all(HEIGHT, WIDTH, stride, see)
    assert see.followed.max() == 1
    error = (found - see.all).abs()
    assert error[:, :3].max() < 1 / 255 and error[:, 4].max() < 1 / 255 and error[:, 3].max() < 0.005
    assert see.followed.mean() < 1 / stride**2 + 0.1


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 3), (7, 5), (16, 16), (17, 33)], ids=lambda n: str(n)
)
def test_every_pixel_of_any_size_is_found(height, width):
    see = Seen(lambda y, x: (0 * y + 0.25, 0 * y + 0.5, 0 * y, 0 * y + 3, 0 * y + 1), height, width)
    torch.testing.assert_close(see_all(height, width, 4, see), see.all)


def test_nothing_is_told_across_an_edge():
    """A disc before a wall of its own color is found at its edge by distance, one of another color by that."""

    def disc(y, x):
        inside = (y - 60) ** 2 + (x - 80) ** 2 < 40**2
        other = (y - 30) ** 2 + (x - 30) ** 2 < 20**2
        return 0.6 - 0.5 * other, 0.6 + 0 * y, 0.6 + 0 * y, np.where(inside, 1, 4) + 0 * y, 1 + 0 * y

    see = Seen(disc)
    found = see_all(HEIGHT, WIDTH, 4, see)
    between = (found[:, 3] > 1.01) & (found[:, 3] < 3.99)
    assert not between.any()
    wrong = ((found - see.all).abs() > 1e-3).any(1).float().mean()
    assert wrong < 0.01 and see.followed.mean() < 0.4


def test_noise_is_followed_ray_by_ray():
    values = np.random.default_rng(0).uniform(0, 1, (5, HEIGHT, WIDTH)).astype(np.float32)
    see = Seen(lambda y, x: tuple(values))
    found = see_all(HEIGHT, WIDTH, 4, see)
    assert see.followed.mean() > 0.97
    assert (found == see.all).all(1).float().mean() > 0.97


def test_the_stride_keeps_the_pixels_that_were_learned_from():
    assert [stride_of(1 / focal, 1 / 100) for focal in (50, 100, 159, 161, 319, 321, 640, 1300, 1e308)] == [
        1, 1, 1, 2, 2, 4, 8, 16, 16,
    ]  # fmt: skip
    assert stride_of(1 / 800, 0.0) == 1  # nobody knows
    assert pixel_angle([FINE, FINE]) == math.atan(1 / 124)


@pytest.mark.parametrize("rough", [0.05, 0.3])
def test_a_scene_looks_the_same(rough):
    """Of smooth features few rays are followed, of rough ones nearly all: either way it is the same picture."""
    scene = scene_of(replace(TINY_NERF, max_resolution=16), rough=rough)
    every = scene.render(FINE)
    scene.learned = 1 / 31
    told = scene.render(FINE)
    error = (told.rgb - every.rgb).square().mean()
    assert -10 * math.log10(float(error) + 1e-12) > 40
    assert (told.depth / every.depth - 1).abs().median() < 0.005
    assert not torch.equal(told.rgb, every.rgb)  # some were not followed


def test_what_it_was_learned_from_is_kept(sphere_set, tmp_path):
    frame, views, _ = sphere_set
    trainer = Trainer(Nerfacto(TINY_NERF, len(views)), frame, views, TrainingConfig(500, 64))
    assert trainer.scene.learned == pixel_angle(views) > 0
    trainer.save(tmp_path / "c.safetensors")
    assert Checkpoint(tmp_path / "c.safetensors").scene("cpu").learned == trainer.scene.learned
