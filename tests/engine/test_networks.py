# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled networks against nerfstudio's own: values and every gradient."""

import copy

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import nn

from engine.scenes.nerfacto.nerfacto import CubeContraction
from engine.scenes.nerfacto.networks import FusedDensityField, FusedNerfactoField, use_fused_networks

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
FAR = CubeContraction(order=float("inf"))


def with_features(module):
    """Tables that make a difference: nerfstudio's begin near zero."""
    for name, parameter in module.named_parameters():
        if name.endswith("hash_table"):
            nn.init.normal_(parameter, std=0.5)
    return module


def gradients(module):
    """By name, each tensor once."""
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(plain, fused):
    expected, got = gradients(plain), gradients(fused)
    assert expected.keys() == got.keys() and len(got) >= 5
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize(("hidden", "rays"), [(16, 40), (10, 7), (64, 300)])
def test_a_proposal_is_nerfstudios(hidden, rays):
    torch.manual_seed(hidden)
    plain = HashMLPDensityField(
        BOX, hidden_dim=hidden, num_levels=5, max_res=64, log2_hashmap_size=10, spatial_distortion=FAR,
        average_init_density=0.3, implementation="torch",
    )  # fmt: skip
    fused = copy.deepcopy(with_features(plain))
    use_fused_networks(nn.Sequential(fused))
    assert type(fused) is FusedDensityField
    positions = torch.randn(rays, 9, 3) * torch.tensor([0.5, 2.0, 30.0])
    weight = torch.randn(rays, 9, 1)
    values = []
    for one in (plain, fused):
        values.append(one.density_fn(positions.clone()))
        (values[-1] * weight).sum().backward()
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-5)
    assert_same_gradients(plain, fused)


def fields(seed=0, **kwargs):
    torch.manual_seed(seed)
    plain = NerfactoField(
        BOX, num_images=3, hidden_dim=32, hidden_dim_color=24, num_levels=6, max_res=128, log2_hashmap_size=11,
        features_per_level=4, spatial_distortion=FAR, average_init_density=0.7, implementation="torch", **kwargs,
    )  # fmt: skip
    fused = copy.deepcopy(with_features(plain))
    use_fused_networks(nn.Sequential(fused))
    assert type(fused) is FusedNerfactoField
    return plain, fused


def samples(rays, count):
    directions = nn.functional.normalize(torch.randn(rays, 3), dim=-1)
    bundle = RayBundle(torch.randn(rays, 3), directions, torch.ones(rays, 1), torch.zeros(rays, 1, dtype=torch.long))
    edges = torch.linspace(0.0, 4.0, count + 1).expand(rays, -1)[..., None]
    return bundle.get_ray_samples(edges[:, :-1], edges[:, 1:], edges[:, :-1], edges[:, 1:], lambda x: x)


@pytest.mark.parametrize(("rays", "count"), [(50, 24), (3, 5)])
def test_the_field_is_nerfstudios(rays, count):
    plain, fused = fields(appearance_embedding_dim=0)
    along = samples(rays, count)
    weights = torch.randn(rays, count, 1), torch.randn(rays, count, 3)
    values = []
    for one in (plain, fused):
        out = one(along)
        values.append((out[FieldHeadNames.DENSITY], out[FieldHeadNames.RGB]))
        sum((value * weight).sum() for value, weight in zip(values[-1], weights, strict=True)).backward()
    for got, expected in zip(values[1], values[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert_same_gradients(plain, fused)


def test_what_the_kernels_cannot_is_nerfstudios_own():
    """A field that knows its views, and samples that move with their cameras."""
    plain, fused = fields(appearance_embedding_dim=4)
    along = samples(5, 6)
    torch.testing.assert_close(fused(along)[FieldHeadNames.RGB], plain(along)[FieldHeadNames.RGB])
    _, fused = fields(appearance_embedding_dim=0)
    along.frustums.origins = along.frustums.origins.clone().requires_grad_()
    fused(along)[FieldHeadNames.DENSITY].sum().backward()
    assert along.frustums.origins.grad.abs().sum() > 0


def test_the_same_whatever_the_number_of_threads():
    import numba

    results = []
    for threads in {1, numba.config.NUMBA_NUM_THREADS}:
        numba.set_num_threads(threads)
        _, fused = fields(seed=3, appearance_embedding_dim=0)
        torch.manual_seed(1)
        out = fused(samples(100, 24))
        (out[FieldHeadNames.RGB].sum() + out[FieldHeadNames.DENSITY].square().sum()).backward()
        results.append(gradients(fused))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[-1][name]), name
