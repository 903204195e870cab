# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that were cut out of their pictures: what is around them is empty, before whatever background."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from engine.capture import Intrinsics
from engine.geometry import Viewpoint
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import RayBatch, cameras_from, sample_patches, sample_pixels
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import LossConfig, TrainingConfig

from .conftest import TINY_NERF, ring

VIEWS = 6
WHITE = (1.0, 1.0, 1.0)
SIZE = Intrinsics(24, 20, 30.0, 31.0, 11.0, 10.5)
CAMERAS = [Viewpoint(pose, SIZE, f"v{k}") for k, pose in enumerate(ring(VIEWS))]
FRAME = NerfFrame.around(ring(VIEWS), np.zeros(3))
RAYS_OF = cameras_from(CAMERAS, FRAME, "cpu")


def cut_out(background: int = 255, changed: bool = False) -> PictureSet:
    """Views of a red disc with a soft edge; ``changed``: the background alone was painted over, as an editor may."""
    y, x = np.mgrid[: SIZE.height, : SIZE.width]
    alpha = np.clip(6.5 - np.hypot(y - 10, x - 11), 0, 1)
    red = np.array([200, 40, 20])
    picture = np.round(alpha[..., None] * red + (1 - alpha[..., None]) * background).astype(np.uint8)
    if changed:
        picture[alpha == 0] = (7, 90, 180)
    whole = np.round(alpha * 255).astype(np.uint8)
    return PictureSet([picture] * VIEWS, "cpu", None, [whole] * VIEWS)


def trainer_of(background: tuple[float, float, float] | None = WHITE, seed: int = 0, losses=None) -> Trainer:
    torch.manual_seed(3)
    nerf = Nerfacto(msgspec.structs.replace(TINY_NERF, background=background), VIEWS)
    training = TrainingConfig(1000, 64, losses or LossConfig())
    return Trainer(nerf, FRAME, CAMERAS, training, seed, lambda a, b: (a - b).square().mean(dim=(1, 2, 3)))


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.nerf.parameters()])


def train(trainer: Trainer, data: PictureSet, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.step(data)
    return trainer


def test_half_of_the_rays_are_of_the_object() -> None:
    data = cut_out()
    batch = sample_pixels(data, RAYS_OF, 4000, torch.Generator().manual_seed(0))
    share = float((data.alpha > 0).float().mean())
    assert share < 0.4 and batch.alpha is not None and len(batch.colours) == 4000
    assert float((batch.alpha > 0).float().mean()) == pytest.approx((1 + share) / 2, abs=0.03)
    # Each ray brings the alpha of its own pixel.
    red = torch.tensor([200, 40, 20]) / 255
    expected = batch.alpha[:, None] * red + (1 - batch.alpha[:, None])
    torch.testing.assert_close(batch.colours, expected, atol=2.5 / 255, rtol=0)


def test_edges_that_are_transparent_are_no_empty_space() -> None:
    images = [np.zeros((SIZE.height, SIZE.width, 3), np.uint8)] * 2
    alpha = np.full((SIZE.height, SIZE.width), 255, np.uint8)
    alpha[0, :3] = 0
    assert PictureSet(images, "cpu", None, [alpha, None]).alpha is None
    with pytest.raises(ValueError, match="transparent everywhere"):
        PictureSet(images, "cpu", None, [alpha * 0, alpha * 0])


def test_another_background_is_put_behind_the_object() -> None:
    rng = np.random.default_rng(0)
    alpha, color, own, other = rng.random(50), rng.random((50, 3)), rng.random(3), rng.random((50, 3))
    shown = alpha[:, None] * color + (1 - alpha[:, None]) * own
    batch = RayBatch(None, torch.tensor(shown), alpha=torch.tensor(alpha))  # type: ignore[arg-type]
    expected = alpha[:, None] * color + (1 - alpha[:, None]) * other
    torch.testing.assert_close(batch.over(torch.tensor(own), torch.tensor(other)), torch.tensor(expected))


def test_nothing_shows_its_background() -> None:
    """A scene without density is its background, exactly; with some it is composited over it."""
    data, trainer = cut_out(), trainer_of((0.2, 0.5, 0.8))
    with torch.no_grad():
        render = trainer.scene.render(CAMERAS[1])
        rays = sample_pixels(data, RAYS_OF, 64, trainer._generator()).rays
        trainer.nerf.eval()
        black, white = (trainer.nerf(rays, torch.full((64, 3), value)).rgb for value in (0.0, 1.0))
        torch.testing.assert_close(white - black, (1 - trainer.nerf(rays).opacity).expand(-1, 3), atol=1e-5, rtol=0)
        trainer.nerf.field.average_init_density = 0.0
        for network in trainer.nerf.proposal_networks:
            network.average_init_density = 0.0
        empty = trainer.scene.render(CAMERAS[1])
    assert float(render.opacity.max()) > 0 and float(empty.opacity.max()) == 0
    torch.testing.assert_close(empty.rgb, torch.tensor([0.2, 0.5, 0.8]).expand_as(empty.rgb))


@pytest.mark.parametrize("patches", [False, True])
def test_what_an_editor_paints_around_the_object_pulls_at_nothing(patches: bool) -> None:
    def stepped(data: PictureSet) -> torch.Tensor:
        trainer = trainer_of(losses=LossConfig("l1", 1.0))
        random = trainer._generator()
        draw = (sample_patches, (3, 8)) if patches else (sample_pixels, (99,))
        trainer._update(draw[0](data, RAYS_OF, *draw[1], random))
        return weights(trainer)

    assert torch.equal(stepped(cut_out(changed=True)), stepped(cut_out()))


def test_the_background_that_is_shown_does_not_matter_to_the_training() -> None:
    """What the rays of a step should see is the same whatever the pictures were composited over, but for rounding; it
    is a function of the seed and the step."""

    def wanted(background: int, seed: int = 0) -> torch.Tensor:
        trainer, data = trainer_of((background / 255,) * 3, seed), cut_out(background)
        return trainer._background(sample_pixels(data, RAYS_OF, 500, torch.Generator().manual_seed(1)))[1]

    torch.testing.assert_close(wanted(0), wanted(255), atol=1.5 / 255, rtol=0)
    assert torch.equal(wanted(9), wanted(9)) and not torch.equal(wanted(9), wanted(9, seed=1))


def test_empty_space_is_supervised() -> None:
    data = cut_out()
    trainer = trainer_of(losses=LossConfig(opacity_weight=2.0))
    assert 0 < trainer.step(data)["opacity"] < 2
    # An older scene of such pictures knows no empty space.
    assert "opacity" not in trainer_of(None).step(data)
    batch = sample_patches(data, RAYS_OF, 4, 8, trainer._generator())
    batch.seen = torch.zeros(len(batch.colours), dtype=torch.bool)  # what is merely hidden may be full or empty
    assert trainer._update(batch)["opacity"] == 0


def test_a_resumed_training_before_random_backgrounds_is_the_unbroken_one(tmp_path) -> None:
    data = cut_out()
    unbroken = train(trainer_of(), data, 12)
    first = train(trainer_of(), data, 7)
    first.save(tmp_path / "c.safetensors")
    opened = Checkpoint(tmp_path / "c.safetensors")
    second = opened.trainer(CAMERAS, first.training, 0, "cpu", resume=True)
    torch.rand(9)
    assert opened.header.nerf.background == WHITE
    assert torch.equal(weights(train(second, data, 5)), weights(unbroken))
    assert not torch.equal(weights(train(trainer_of(seed=1), data, 12)), weights(unbroken))


def test_an_object_is_learnt_and_what_is_around_it_is_empty() -> None:
    data = cut_out()
    trainer = train(trainer_of(), data, 150)
    render = trainer.scene.render(CAMERAS[0])
    alpha = data.alpha[: SIZE.width * SIZE.height].view(SIZE.height, SIZE.width).float() / 255
    assert float(render.opacity[alpha == 1].mean()) > 0.8 and float(render.opacity[alpha == 0].mean()) < 0.2


def test_score_distillation_stands_before_its_own_background() -> None:
    """A target that is what is rendered already pulls at nothing, transparent or not."""
    trainer = trainer_of(losses=LossConfig("mse"))
    trainer.nerf.eval()
    target = trainer.scene.render(CAMERAS[2]).rgb
    losses = trainer.step_towards(2, target, torch.Generator().manual_seed(0))
    assert "opacity" not in losses and losses["colour"] < 0.01
