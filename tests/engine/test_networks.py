# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled networks against nerfstudio's own: values and every gradient."""

import copy

import pytest
import torch
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import nn

from engine.scenes.nerfacto.networks import colors, geometry

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def gradients(module):
    """By name, each tensor once."""
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(plain, compiled, least):
    expected, got = gradients(plain), gradients(compiled)
    assert expected.keys() == got.keys() and len(got) >= least
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


def with_features(module):
    """Tables that make a difference: nerfstudio's begin near zero."""
    for name, parameter in module.named_parameters():
        if name.endswith("hash_table"):
            nn.init.normal_(parameter, std=0.5)
    return module


def field(**kwargs):
    return with_features(
        NerfactoField(
            BOX, num_images=3, hidden_dim=32, num_levels=6, max_res=128, log2_hashmap_size=11, features_per_level=4,
            appearance_embedding_dim=0, implementation="torch", **kwargs,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("hidden", "points"), [(16, 360), (10, 63), (64, 2700), (64, 1)])
def test_a_proposal_is_nerfstudios(hidden, points):
    torch.manual_seed(hidden)
    plain = with_features(
        HashMLPDensityField(
            BOX, hidden_dim=hidden, num_levels=5, max_res=64, log2_hashmap_size=10, implementation="torch"
        )
    )
    assert_geometry_is_nerfstudios(plain.mlp_base, points)


@pytest.mark.parametrize("points", [1200, 15])
def test_the_fields_geometry_is_nerfstudios(points):
    torch.manual_seed(points)
    assert_geometry_is_nerfstudios(field().mlp_base.model, points)


def assert_geometry_is_nerfstudios(plain, points):
    compiled = copy.deepcopy(plain)
    at = torch.rand(points, 3)
    expected, got = plain(at), geometry(*compiled, at)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert_same_gradients(plain, compiled, 5)


@pytest.mark.parametrize(("hidden", "rays", "samples"), [(64, 50, 24), (24, 3, 5)])
def test_the_fields_colors_are_nerfstudios(hidden, rays, samples):
    torch.manual_seed(rays)
    plain = field(hidden_dim_color=hidden).mlp_head
    compiled = copy.deepcopy(plain)
    directions, made = torch.randn(rays, 16), torch.randn(rays * samples, 16)
    theirs, ours = made.clone().requires_grad_(), made.clone().requires_grad_()
    along = directions.repeat_interleave(samples, dim=0)
    expected, got = plain(torch.cat([along, theirs[:, 1:]], dim=1)), colors(compiled, directions, ours)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()))
    assert_same_gradients(plain, compiled, 6)


def test_the_same_whatever_the_number_of_threads():
    import numba

    results = []
    torch.manual_seed(3)
    first = field()
    at, directions = torch.rand(2400, 3), torch.randn(100, 16)
    for threads in {1, numba.config.NUMBA_NUM_THREADS}:
        numba.set_num_threads(threads)
        one = copy.deepcopy(first)
        made = geometry(*one.mlp_base.model, at)
        (colors(one.mlp_head, directions, made).sum() + made.square().sum()).backward()
        results.append(gradients(one))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[-1][name]), name
