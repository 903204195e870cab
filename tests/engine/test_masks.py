# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mask hides is not trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.capture import Intrinsics
from engine.geometry import Viewpoint
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import cameras_from, sample_pixels
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import LossConfig, TrainingConfig

from .conftest import TINY_NERF


def test_masked_pixels_are_not_drawn() -> None:
    poses = np.stack([np.eye(4)] * 3)
    poses[:, 2, 3] = (1, 2, 3)
    sizes = [(6, 4), (5, 3), (4, 4)]  # width, height
    views = [Viewpoint(pose, Intrinsics(w, h, 5, 5, w / 2, h / 2)) for pose, (w, h) in zip(poses, sizes, strict=True)]
    cameras = cameras_from(views, NerfFrame(1.0, (0.0, 0.0, 0.0)), "cpu")
    # Each pixel's colour says which it is: view, row, column.
    images = [np.stack(np.meshgrid([v], range(h), range(w), indexing="ij"), axis=-1)[0].astype(np.uint8)
              for v, (w, h) in enumerate(sizes)]  # fmt: skip
    mask = np.zeros((3, 5), bool)
    mask[1, 2:4] = True
    pictures = PictureSet(images, "cpu", [None, mask, np.zeros((4, 4), bool)])
    batch = sample_pixels(pictures, cameras, 2000, torch.Generator().manual_seed(1))
    drawn = {tuple(c) for c in (batch.colours * 255).round().int().tolist()}
    assert drawn == {(0, y, x) for y in range(4) for x in range(6)} | {(1, 1, 2), (1, 1, 3)}
    # The ray of a pixel is its own: through its centre, from its view.
    numbers = batch.rays.camera_indices[:, 0]
    assert torch.equal(numbers.int(), (batch.colours[:, 0] * 255).round().int())
    with pytest.raises(ValueError, match="no pixel"):
        PictureSet(images, "cpu", [np.zeros((h, w), bool) for w, h in sizes])


def test_without_masks_the_draw_is_the_same_as_with_all_white_ones() -> None:
    poses = np.stack([np.eye(4)] * 2)
    poses[:, 0, 3] = (0, 1)
    views = [Viewpoint(pose, Intrinsics(8, 8, 5, 5, 4, 4)) for pose in poses]
    cameras = cameras_from(views, NerfFrame(1.0, (0.0, 0.0, 0.0)), "cpu")
    images = [np.random.default_rng(v).integers(0, 256, (8, 8, 3), dtype=np.uint8) for v in range(2)]
    plain, white = PictureSet(images, "cpu"), PictureSet(images, "cpu", [None, np.ones((8, 8), bool)])
    draws = [sample_pixels(some, cameras, 50, torch.Generator().manual_seed(2)).colours for some in (plain, white)]
    assert torch.equal(*draws)


def test_what_a_mask_hides_pulls_at_nothing(sphere) -> None:
    """Patches over masked pixels: their colours do not change the step, those of seen pixels do."""
    frame, views, images = sphere
    mask = np.ones(images[0].shape[:2], bool)
    mask[:, :12] = False
    training = TrainingConfig(steps=1, rays=6 * 8**2, losses=LossConfig("l1", 1.0), single_rays=0.0, patch=8)

    def stepped(change):
        masked = PictureSet([change(image.copy()) for image in images], "cpu", [mask] * len(images))
        torch.manual_seed(0)
        nerf = Nerfacto(TINY_NERF, len(images))
        measure = lambda a, b: (a - b).square().mean(dim=(1, 2, 3))  # noqa: E731
        losses = Trainer(nerf, frame, views, training, perceptual=measure).step(masked)
        assert losses["perceptual"] > 0  # so these were patches
        return torch.cat([p.detach().flatten() for p in nerf.field.parameters()])

    def hidden(image):
        image[:, :12] = 255 - image[:, :12]
        return image

    def shown(image):
        image[:, 12:] = 255 - image[:, 12:]
        return image

    plain = stepped(lambda image: image)
    assert torch.equal(stepped(hidden), plain)
    assert not torch.equal(stepped(shown), plain)
