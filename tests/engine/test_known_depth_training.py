# SPDX-License-Identifier: GPL-3.0-or-later
"""Depths that are known teach a scene where its surfaces are, by every way in which it is computed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from msgspec.structs import replace as changed

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.known_depth import KnownDepth
from engine.scenes.nerfacto.depth_loss import FAINTEST, FARTHEST, termination_loss
from engine.scenes.nerfacto.rays import KNOWN, cameras_from, sample_pixels
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import begin_scene, open_scene
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig
from engine.scenes.skies import with_skies
from tests.engine.conftest import TINY_NERF, ring

PINHOLE = Intrinsics(24, 20, 22.0, 22.0, 12.0, 10.0)
RADIUS = 1.5  # of a ball at the origin, in the capture frame


def training(steps: int = 40, weight: float = 0.1) -> TrainingConfig:
    return TrainingConfig(
        steps, 128, LossConfig(depth_weight=weight), OptimiserConfig(final_learning_rate=1e-2, decay_steps=steps)
    )


@pytest.fixture(scope="module")
def gray() -> tuple[list[Viewpoint], list[np.ndarray], list[KnownDepth]]:
    """Cameras about a ball in a fog of its own gray: pictures that tell no depth, and the depths of some pixels."""
    views = [Viewpoint(pose, PINHOLE, f"v{k}") for k, pose in enumerate(ring(8))]
    pictures = [np.full((20, 24, 3), 128, np.uint8) for _ in views]
    known = []
    for view in views:
        rays = pixel_directions(PINHOLE).reshape(-1, 3) @ view.pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        along = -rays @ view.pose[:3, 3]
        root = RADIUS**2 - (view.pose[:3, 3] @ view.pose[:3, 3] - along**2)
        pixels = np.flatnonzero(root > 0.3)[::3]
        distances = (along - np.sqrt(np.maximum(root, 0)))[pixels]
        known.append(KnownDepth(pixels, distances.astype(np.float32), np.ones(len(pixels), np.float32)))
    return views, pictures, known


def learning(gray, known: bool = True) -> PictureSet:
    _, pictures, depths = gray
    data = PictureSet(pictures, "cpu")
    if known:
        data.learn_depths(depths)
    return data


def begun(gray, weight: float = 0.1, **config):
    nerf = changed(TINY_NERF, appearance=0, optimise_cameras=False, **config)
    return begin_scene(nerf, gray[0], np.zeros(3), training(weight=weight), 0, "cpu")


def test_the_loss_is_minus_the_log_of_what_ends_at_the_known_depth():
    middles = torch.arange(1.0, 9.0).expand(3, 8).contiguous()
    weights = torch.zeros(3, 8)
    weights[0, 3], weights[1, 3], weights[1, 6] = 1.0, 0.25, 0.75
    distances, sure = torch.full((3,), 4.0), torch.ones(3)
    near_sample = math.exp(-9 / (2 * (0.04**2 + 0.25)))  # what lies three samples off adds next to nothing
    expected = [-math.log(1 + FAINTEST), -math.log(0.25 + 0.75 * near_sample + FAINTEST), -math.log(FAINTEST)]
    for ray, value in enumerate(expected):
        one = slice(ray, ray + 1)
        found = termination_loss(weights[one], middles[one], distances[one], sure[one])
        assert float(found) == pytest.approx(value, abs=1e-4)
    half = termination_loss(weights, middles, distances, torch.tensor([1.0, 1.0, 0.5]))
    assert float(half) == pytest.approx((expected[0] + expected[1] + expected[2] / 2) / 3, abs=1e-4)


def test_it_draws_weight_to_the_known_depth_alone():
    weights = torch.full((1, 8), 0.1, requires_grad=True)
    middles = torch.arange(1.0, 9.0)[None]
    termination_loss(weights, middles, torch.tensor([4.0]), torch.ones(1)).backward()
    gradient = weights.grad[0]
    assert int(gradient.argmin()) == 3 and gradient[3] < 20 * gradient[[0, 1, 5, 6, 7]].min() < 0
    assert middles.grad is None


def test_of_a_sky_all_that_ends_far_away_is_right_wherever():
    middles = torch.tensor([[1.0, 4.0, FARTHEST + 1, 30.0, 500.0]]).expand(3, 5).contiguous()
    weights = torch.tensor([[0, 0, 0.25, 0.5, 0.25], [0.5, 0.25, 0, 0.25, 0], [0, 1, 0, 0, 0]])
    distances = torch.tensor([math.inf, math.inf, 4.0])
    expected = [-math.log(1 + FAINTEST), -math.log(0.25 + FAINTEST), -math.log(1 + FAINTEST)]
    found = termination_loss(weights, middles, distances, torch.ones(3))
    assert float(found) == pytest.approx(sum(expected) / 3, abs=1e-6)
    weights.requires_grad_(True)
    termination_loss(weights, middles, distances, torch.ones(3)).backward()
    gradient = weights.grad
    assert gradient.isfinite().all() and (gradient[1, :2] == 0).all() and (gradient[1, 2:] < 0).all()


@pytest.mark.parametrize("appearance", [0, 4])  # by the compiled networks, and by nerfstudio's own
def test_a_plain_sky_is_learnt_far_away(gray, appearance):
    """Of one gray all over, as its ground is: nothing else tells them apart."""
    views, pictures, _ = gray
    nothing = KnownDepth(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))

    def far(said: bool) -> float:
        nerf = changed(TINY_NERF, appearance=appearance, optimise_cameras=False, initial_density=0.1)
        how = changed(training(), losses=LossConfig(depth_weight=0.1, solid_weight=0.1))
        trainer = begin_scene(nerf, views, np.zeros(3), how, 0, "cpu")
        data, sky = PictureSet(pictures, "cpu"), [np.arange(480).reshape(20, 24) < 120 for _ in views]
        if said:
            data.learn_depths(with_skies([nothing] * len(views), sky))
        while trainer.step_index < 40:
            trainer.step(data)
        depth = torch.stack([trainer.scene.render(view).depth for view in views[:3]])
        return float((depth[:, :5] > FARTHEST / trainer.scene.frame.scale).float().mean())

    assert far(True) > 0.95 > 0.05 > far(False)


def test_the_last_rays_of_a_batch_go_through_pixels_of_known_depth(gray):
    views = gray[0]
    trainer = begun(gray)
    data, cameras = learning(gray), cameras_from(views, trainer.scene.frame, "cpu")
    batch = sample_pixels(data, cameras, 64, torch.Generator().manual_seed(0))
    distances, sure = batch.known
    assert len(batch.colours) == 64 and len(distances) == len(sure) == int(KNOWN * 64)
    last = slice(-len(distances), None)
    scale = trainer.scene.frame.scale
    points = batch.rays.origins[last] + batch.rays.directions[last] * (distances * scale)[:, None]
    np.testing.assert_allclose(np.linalg.norm(points.numpy() / scale, axis=1), RADIUS, rtol=1e-4)
    plain = sample_pixels(learning(gray, known=False), cameras, 64, torch.Generator().manual_seed(0))
    assert plain.known is None and len(plain.colours) == 64


@pytest.mark.parametrize("layer", ["mask", "alpha"])
def test_what_is_hidden_or_not_full_has_no_known_depth(gray, layer):
    _, pictures, known = gray
    hidden = np.ones((20, 24), bool)
    hidden[:, 12:] = False
    given = {"masks": [hidden] * 8} if layer == "mask" else {"alphas": [np.where(hidden, 255, 40).astype(np.uint8)] * 8}
    if layer == "alpha":
        given["alphas"][0] = given["alphas"][0] * 0  # else there is no empty space
    data = PictureSet(pictures, "cpu", **given)
    data.learn_depths(known)
    places = data.known[0]
    assert len(places) and (places % 480 % 24 < 12).all()
    for k, (view, depths) in enumerate(zip(range(8), known, strict=True)):
        kept = int(((places >= 480 * view) & (places < 480 * view + 480)).sum())
        assert kept == (0 if layer == "alpha" and k == 0 else int((depths.pixels % 24 < 12).sum()))
    nothing = [replace(depths, pixels=depths.pixels[:0], distances=depths.distances[:0], sure=depths.sure[:0]) for depths in known]  # noqa: E501  # fmt: skip
    data = PictureSet(pictures, "cpu")
    data.learn_depths(nothing)
    assert data.known is None


@pytest.mark.parametrize("appearance", [0, 4])  # by the compiled networks, and by nerfstudio's own
def test_a_scene_without_texture_is_learnt_by_its_depths(gray, appearance):
    def off(known: bool) -> float:
        nerf = changed(TINY_NERF, appearance=appearance, optimise_cameras=False)
        trainer = begin_scene(nerf, gray[0], np.zeros(3), training(), 0, "cpu")
        data = learning(gray, known)
        while trainer.step_index < 40:
            losses = trainer.step(data)
            assert ("depth" in losses) == known
        errors = []
        for view, depths in list(zip(gray[0], gray[2], strict=True))[:3]:
            depth = trainer.scene.render(view).depth.reshape(-1).numpy()[depths.pixels]
            errors.append(np.abs(depth - depths.distances))
        return float(np.median(np.concatenate(errors)))

    assert off(known=True) < 0.3 < 0.6 < off(known=False)


def test_a_resumed_training_with_known_depths_is_the_unbroken_one(gray, tmp_path):
    data = learning(gray)
    unbroken, first = begun(gray), begun(gray)
    for _ in range(8):
        unbroken.step(data)
    for _ in range(5):
        first.step(data)
    first.save(tmp_path / "c.safetensors")
    second = open_scene(tmp_path / "c.safetensors").trainer(gray[0], training(), 0, "cpu", resume=True)
    for _ in range(3):
        second.step(learning(gray))
    mine, other = second.nerf.state_dict(), unbroken.nerf.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    without = begun(gray, weight=0.0)
    for _ in range(8):
        assert "depth" not in without.step(data)


def test_photos_become_solid(gray):
    """A scene that fills its photos is opaque where its colors alone would let it be clear."""

    def clear(weight: float) -> float:
        nerf = changed(TINY_NERF, appearance=0, optimise_cameras=False, initial_density=0.05)
        how = changed(training(), losses=LossConfig(solid_weight=weight))
        trainer = begin_scene(nerf, gray[0], np.zeros(3), how, 0, "cpu")
        data = learning(gray, known=False)
        while trainer.step_index < 40:
            assert ("opacity" in trainer.step(data)) == (weight > 0)
        return float((1 - trainer.scene.render(gray[0][0]).opacity).mean())

    assert clear(0.1) < 0.05 < 0.2 < clear(0.0)
