# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering by what is there, against the quadrature that a nerfacto is trained with."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from engine.capture import Intrinsics
from engine.geometry import Viewpoint
from engine.scenes.nerfacto import occupied
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import cameras_from, pixel_rays
from engine.scenes.nerfacto.scene import NerfactoScene
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.settings import OptimiserConfig, TrainingConfig

from .conftest import TINY_NERF, ring

CAMERA = Viewpoint(ring(3)[1], Intrinsics(24, 20, 30.0, 31.0, 11.0, 10.5))
FRAME = NerfFrame(0.25, (0.0, 0.0, 0.0))


def scene_of(config, seed=0, rough=0.3):
    """A scene of random features: fog with things in it."""
    torch.manual_seed(seed)
    nerf = Nerfacto(config, 4)
    with torch.no_grad():
        for name, parameter in nerf.named_parameters():
            if name.endswith("hash_table"):
                parameter.normal_(std=rough)
            elif name.endswith("weight"):
                parameter.mul_(3)
    nerf.at_age(1000)
    return NerfactoScene(nerf, FRAME)


@torch.no_grad()
def sampled(scene, camera=CAMERA, shares=()):
    """What `Nerfacto.forward` makes of all rays: (N, 5 + S)."""
    scene.nerf.eval()
    (height, width), _, seen = scene._sampled(camera, shares)
    return seen(slice(0, height * width))


def decibels(render, expected):
    error = (render.rgb.view(-1, 3) - expected[:, :3].clamp(0, 1)).square().mean()
    return float(-10 * torch.log10(error))


def depth_error(scene, render, expected):
    true = scene.frame.capture_from_nerf_distance(expected[:, 3])
    return float(((render.depth.flatten() - true) / true).abs().median())


ONE_PROPOSAL = replace(TINY_NERF, proposals=TINY_NERF.proposals[:1], proposal_samples=(16,))
CONFIGS = {
    "as it is": TINY_NERF,
    "no view's appearance": replace(TINY_NERF, appearance=0),
    "one proposal": ONE_PROPOSAL,
    "before a color": replace(TINY_NERF, background=(0.1, 0.6, 0.9)),
    "odd sizes": replace(
        TINY_NERF, hidden=18, levels=3, features_per_level=3, nerf_samples=13, proposal_samples=(31, 7)
    ),
    "more samples of the field": replace(TINY_NERF, nerf_samples=30),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_picture_is_the_same(config, monkeypatch):
    scene = scene_of(config)
    expected, render = sampled(scene), scene.render(CAMERA)
    assert expected[:, :3].std() > 0.02  # there is something to see
    assert decibels(render, expected) >= 40
    assert depth_error(scene, render, expected) < 0.005
    torch.testing.assert_close(render.opacity.flatten(), expected[:, 4], atol=4e-3, rtol=0)
    monkeypatch.setattr(occupied, "COLOURS", 400)  # so that no two samples share one
    assert decibels(scene.render(CAMERA), expected) >= 55


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_shares_of_what_is_seen_lie_where_they_lay(config):
    scene, shares = scene_of(config), (1 / 16, 0.5, 15 / 16)
    render, expected = scene.render(CAMERA, shares=shares), sampled(scene, shares=shares)
    met, true = render.met.flatten(0, 1), scene.frame.capture_from_nerf_distance(expected[:, 5:])
    assert float(((met - true) / true).abs().median()) < 0.005
    assert torch.equal(met[:, 1], render.depth.flatten()) and (met.diff(dim=1) >= 0).all()
    assert (met[:, 0] < 0.9 * met[:, 2]).any()
    assert scene.render(CAMERA).met is None


def test_while_the_proposals_are_annealed():
    scene = scene_of(TINY_NERF)
    scene.nerf.at_age(4)
    before = sampled(scene)
    assert decibels(scene.render(CAMERA), before) >= 40
    scene.nerf.at_age(1000)
    assert (sampled(scene)[:, 3] - before[:, 3]).abs().max() > 1e-3  # it makes a difference


def test_empty_space_shows_what_is_behind():
    scene = scene_of(replace(TINY_NERF, background=(0.2, 0.4, 0.8), initial_density=1e-7))
    render = scene.render(CAMERA)
    torch.testing.assert_close(render.rgb, torch.tensor([0.2, 0.4, 0.8]).expand_as(render.rgb), atol=1e-3, rtol=0)
    assert render.opacity.max() < 1e-3


def test_an_opaque_wall_hides_what_is_behind():
    scene = scene_of(replace(TINY_NERF, initial_density=1e4), rough=0.01)
    expected, render = sampled(scene), scene.render(CAMERA)
    assert render.opacity.min() > 0.99
    assert decibels(render, expected) >= 40 and depth_error(scene, render, expected) < 0.005


def test_changed_weights_are_seen(sphere_set, tmp_path):
    """The grid is of the weights as they are, whatever was rendered before, with the optimiser's changes in it."""
    frame, views, pictures = sphere_set
    torch.manual_seed(0)
    config = replace(TINY_NERF, appearance=0, optimise_cameras=False)
    optimiser = OptimiserConfig(final_learning_rate=1e-3, decay_steps=300)
    trainer = Trainer(Nerfacto(config, len(views)), frame, views, TrainingConfig(500, 64, optimiser=optimiser))
    kept = trainer.scene.occupied()
    assert trainer.scene.occupied() is kept
    trainer.scene.render(views[0])
    for _ in range(2):
        trainer.step(pictures)
    now = trainer.scene.occupied()
    assert now is not kept and not np.array_equal(now.grid, kept.grid)
    trainer.save(tmp_path / "c.safetensors")
    fresh = Checkpoint(tmp_path / "c.safetensors").scene("cpu")
    np.testing.assert_array_equal(fresh.occupied().grid, now.grid)
    assert torch.equal(fresh.render(views[0]).rgb, trainer.scene.render(views[0]).rgb)


def test_rays_are_nerfstudios():
    rays = cameras_from([CAMERA], FRAME, "cpu").generate_rays(camera_indices=0, keep_shape=True).flatten()
    origin, directions = pixel_rays(CAMERA, FRAME)
    torch.testing.assert_close(origin.expand_as(directions), rays.origins)
    torch.testing.assert_close(directions, rays.directions, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e30, 3e38, float("nan")])
def test_numbers_of_any_size_do_no_harm(scale):
    """As a checkpoint of somebody's may hold them: there is a picture, whatever it shows."""
    scene = scene_of(TINY_NERF)
    with torch.no_grad():
        for parameter in scene.nerf.parameters():
            parameter.copy_((torch.rand_like(parameter) * 2 - 1) * scale)
    assert scene.render(CAMERA).rgb.shape == (20, 24, 3)
