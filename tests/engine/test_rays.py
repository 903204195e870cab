# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens along rays, by numba's kernels and by Warp's, on the CPU and on a GPU where there is one, against
nerfstudio's own code: values and gradients."""

from __future__ import annotations

from importlib import import_module

import msgspec
import numpy as np
import pytest
import torch
from nerfstudio.cameras.rays import Frustums, RayBundle, RaySamples
from nerfstudio.field_components.activations import trunc_exp
from nerfstudio.model_components.losses import distortion_loss, interlevel_loss
from nerfstudio.model_components.ray_samplers import PDFSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer

from engine.capture import Intrinsics
from engine.geometry import Viewpoint
from engine.scenes.nerfacto import nerfacto
from engine.scenes.nerfacto.along import Along
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.registry import begin_scene
from engine.scenes.settings import TrainingConfig

from .conftest import TINY_NERF

RAYS, SAMPLES = 37, 24


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=["numba", pytest.param("warp", marks=pytest.mark.slow), "warp on a GPU"])
def kernels(request, monkeypatch):  # Warp's first run compiles
    language, _, place = request.param.partition(" on a ")
    if place and not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    if language == "warp":
        pytest.importorskip("warp")
    with torch.device("cuda" if place else "cpu"):
        yield along(language)


def along(language: str) -> Along:
    return import_module(f"engine.scenes.nerfacto.{language}_rays").ALONG


def samples_at(edges: torch.Tensor) -> RaySamples:
    """nerfstudio's samples between edges (R, S + 1), which are distances and places in its spacing at once."""
    starts, ends = edges[:, :-1, None], edges[:, 1:, None]
    shape = starts.shape[:2]
    frustums = Frustums(torch.zeros(*shape, 3), torch.ones(*shape, 3), starts, ends, torch.ones(*shape, 1))
    return RaySamples(
        frustums=frustums,
        deltas=ends - starts,
        spacing_starts=starts,
        spacing_ends=ends,
        spacing_to_euclidean_fn=lambda x: x,
    )


def edges_of(samples: int) -> torch.Tensor:
    return torch.cat([torch.zeros(RAYS, 1), torch.rand(RAYS, samples).cumsum(1)], 1) / samples


def agree(got: torch.Tensor, expected: torch.Tensor, bound: float = 1e-5) -> None:
    error = float((got.detach().float() - expected.detach()).abs().max())
    assert error <= bound * max(1.0, float(expected.detach().abs().max())), error


def test_weights_are_nerfstudios(kernels):
    edges = edges_of(SAMPLES)
    raw = (torch.randn(RAYS, SAMPLES) * 3).requires_grad_()
    with torch.no_grad():
        raw[3, 5:] = -60.0  # empty
        raw[4] = 18.0  # opaque at once
    theirs = raw.detach().clone().requires_grad_()
    samples = samples_at(edges)
    expected = samples.get_weights(0.5 * trunc_exp(theirs)[..., None])[..., 0]
    got = kernels.weighed(raw, samples.deltas[..., 0].contiguous(), 0.5)
    agree(got, expected)
    weight = torch.randn(RAYS, SAMPLES)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    agree(raw.grad, theirs.grad)


@pytest.mark.parametrize("behind", [None, "color"])
def test_pixels_are_nerfstudios(kernels, behind):
    edges = edges_of(SAMPLES)
    samples = samples_at(edges)
    weights = (torch.rand(RAYS, SAMPLES).softmax(1) * torch.rand(RAYS, 1)).requires_grad_()
    colors = torch.rand(RAYS, SAMPLES, 3).requires_grad_()
    theirs = [weights.detach().clone().requires_grad_(), colors.detach().clone().requires_grad_()]
    background = None if behind is None else torch.rand(RAYS, 3)
    render = RGBRenderer(background_color="last_sample")
    rgb = render(rgb=theirs[1], weights=theirs[0][..., None], background_color=background)
    opacity = AccumulationRenderer()(weights=theirs[0][..., None])[:, 0]
    depth = DepthRenderer(method="median")(weights=theirs[0][..., None], ray_samples=samples)[:, 0]
    middles = ((edges[:, 1:] + edges[:, :-1]) / 2).contiguous()
    got = kernels.composited(weights, colors, middles, background)
    for ours, expected in zip(got, (rgb, opacity, depth), strict=True):
        agree(ours, expected)
    weight, other = torch.randn(RAYS, 3), torch.randn(RAYS)
    ((got[0] * weight).sum() + (got[1] * other).sum()).backward()
    ((rgb * weight).sum() + (opacity * other).sum()).backward()
    agree(weights.grad, theirs[0].grad)
    agree(colors.grad, theirs[1].grad)


@pytest.mark.parametrize("anneal", [1.0, 0.3])
@pytest.mark.parametrize("training", [True, False])
def test_new_samples_lie_where_nerfstudios_do(kernels, anneal, training, monkeypatch):
    edges, count = edges_of(SAMPLES), 17
    weights = torch.rand(RAYS, SAMPLES).square()
    weights[2] = 0
    weights[5, :7] = 0
    jitter = torch.rand(RAYS) if training else torch.full((RAYS,), 0.5)
    sampler = PDFSampler(include_original=False, single_jitter=True).train(training)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: jitter[:, None])
    rays = RayBundle(torch.zeros(RAYS, 3), torch.ones(RAYS, 3), torch.ones(RAYS, 1))
    samples = sampler(rays, samples_at(edges), weights[..., None] ** anneal, num_samples=count)
    expected = torch.cat([samples.spacing_starts[..., 0], samples.spacing_ends[:, -1:, 0]], 1)
    agree(kernels.resampled(weights, anneal, edges, jitter, count), expected)


def test_both_losses_are_nerfstudios(kernels):
    edges = [edges_of(32), edges_of(SAMPLES), edges_of(12)]
    for each in edges:
        each /= each[:, -1:]
    weights = [torch.rand(RAYS, each.shape[1] - 1).softmax(1).requires_grad_() for each in edges]
    theirs = [each.detach().clone().requires_grad_() for each in weights]
    samples = [samples_at(each) for each in edges]
    expected = [
        interlevel_loss([each[..., None] for each in theirs], samples),
        distortion_loss([each[..., None] for each in theirs], samples),
    ]
    got = [
        sum(kernels.interlevel(edges[-1], weights[-1], edges[n], weights[n]) for n in range(2)),
        kernels.distortion(edges[-1], weights[-1]),
    ]
    for ours, their in zip(got, expected, strict=True):
        agree(ours, their)
    (got[0] * 3 + got[1] * 5).backward()
    (expected[0] * 3 + expected[1] * 5).backward()
    for ours, their in zip(weights, theirs, strict=True):
        agree(ours.grad * RAYS, their.grad * RAYS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "more",
    [{}, {"optimise_cameras": False, "appearance": 0, "gradient_scaling": True, "background": (0.2, 0.5, 0.9)}],
    ids=["cameras and appearances", "an object"],
)
def test_rays_are_those_of_the_path_without_kernels(kernels, training, more, monkeypatch):
    """Pixels, losses, and the gradient of every weight, camera corrections included, with the same random numbers."""
    if kernels is along("numba") and training and not more:
        pytest.skip("rays that are corrected while training are nerfstudio's on a CPU")
    torch.manual_seed(1)
    nerf = Nerfacto(msgspec.structs.replace(TINY_NERF, **more), 5).to(torch.get_default_device()).train(training)
    with torch.no_grad():
        for name, weight in nerf.named_parameters():
            if "hash_table" in name:
                weight.uniform_(-1, 1)
            if "pose_adjustment" in name:
                weight.normal_(0, 0.01)
    directions = torch.nn.functional.normalize(torch.randn(RAYS, 3), dim=-1)
    origins, views = torch.randn(RAYS, 3) / 2, torch.randint(5, (RAYS, 1))
    background = torch.rand(RAYS, 3) if more else None
    target = torch.rand(RAYS, 3)

    def run(kernels):
        monkeypatch.setattr(nerfacto, "kernels_for", lambda *_: kernels)
        nerf.zero_grad()
        nerf.at_age(3000)
        torch.manual_seed(2)
        rays = RayBundle(origins.clone(), directions.clone(), torch.ones(RAYS, 1), camera_indices=views)
        rendered = nerf(rays, background)
        losses = nerf.regularisers(rendered)
        losses["color"] = (rendered.rgb - target).abs().mean()
        losses["opacity"] = rendered.opacity.square().mean()
        sum(losses.values()).backward()
        slopes = {name: weight.grad.clone() for name, weight in nerf.named_parameters() if weight.grad is not None}
        return rendered, losses, slopes

    expected, expected_losses, expected_slopes = run(None)
    got, losses, slopes = run(kernels)
    assert got.edges is not None and expected.edges is None
    for name in ("rgb", "opacity", "depth"):
        assert getattr(got, name).shape == getattr(expected, name).shape
        agree(getattr(got, name), getattr(expected, name), 1e-4)
    for name, value in expected_losses.items():
        agree(losses[name], value, 1e-4)
    assert slopes.keys() == expected_slopes.keys()
    for name, slope in expected_slopes.items():
        largest = float(slope.abs().max())
        assert float((slopes[name] - slope).abs().max()) <= 1e-3 * largest + 1e-7, name


@pytest.mark.parametrize("path", [None, "numba"])
def test_a_young_scene_learns_from_half_the_samples(path, monkeypatch):
    found = None if path is None else along(path)
    monkeypatch.setattr(nerfacto, "kernels_for", lambda *_: found)
    more = {"coarse_steps": 10, "proposal_samples": (15, 12), "nerf_samples": 7}
    nerf = Nerfacto(msgspec.structs.replace(TINY_NERF, optimise_cameras=False, appearance=0, **more), 2)
    shapes = []
    for age, training in ((9, True), (10, True), (9, False)):
        nerf.train(training).at_age(age)
        rays = RayBundle(torch.zeros(3, 3), torch.eye(3), torch.ones(3, 1), camera_indices=torch.zeros(3, 1).long())
        rendered = nerf(rays)
        shapes.append([weights.shape[1] for weights in rendered.weights])
        assert all(torch.isfinite(loss) for loss in nerf.regularisers(rendered).values())
    assert shapes == [[8, 6, 4], [15, 12, 7], [15, 12, 7]]


@pytest.mark.parametrize(("steps", "expected"), [(1500, 10), (20, 10), (9, 4), (1, 0)])
def test_the_last_half_of_a_training_has_all_samples(steps, expected):
    camera = Viewpoint(np.eye(4), Intrinsics(4, 4, 4.0, 4.0, 2.0, 2.0), "a")
    config = msgspec.structs.replace(TINY_NERF, coarse_steps=10)
    trainer = begin_scene(config, [camera], np.zeros(3), TrainingConfig(steps, 4), 0, "cpu")
    assert trainer.nerf.config.coarse_steps == expected
