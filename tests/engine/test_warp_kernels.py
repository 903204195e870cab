# SPDX-License-Identifier: GPL-3.0-or-later
"""Warp's hash encoding, on the CPU and on a GPU where there is one, against nerfstudio's own code: values and
gradients."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.field_components.encodings import HashEncoding

pytest.importorskip("warp")

from engine.scenes.nerfacto import warp_hash

from .test_rays import agree


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), "cuda"])  # the first run compiles them
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    with torch.device(request.param):
        yield


@pytest.mark.parametrize(
    ("kind", "bound"), [(torch.float32, 1e-6), (torch.float16, 1e-4)], ids=["whole precision", "half precision"]
)
@pytest.mark.parametrize(
    ("levels", "features", "log2", "largest"), [(16, 2, 14, 2048), (5, 2, 12, 128), (8, 4, 12, 512)]
)
@pytest.mark.usefixtures("device")
def test_the_hash_encoding_is_nerfstudios(kind, bound, levels, features, log2, largest):
    encoding = HashEncoding(levels, 16, largest, log2, features, hash_init_scale=0.1, implementation="torch")
    with torch.no_grad():  # the same numbers for both
        encoding.hash_table.copy_(encoding.hash_table.to(kind).float())
    points = torch.rand(600, 3)
    scaled = points[..., None] * encoding.scalings
    points = points[(scaled != scaled.floor()).all(dim=-1).all(dim=-1)]  # on a corner nerfstudio has no slope
    theirs, ours = points.clone().requires_grad_(), points.clone().requires_grad_()
    table = encoding.hash_table.detach().to(kind).requires_grad_()
    weight = (torch.randn(len(points), levels * features) / 10).to(kind)
    expected = encoding(theirs)
    (expected * weight.float()).sum().backward()
    got = warp_hash.WarpEncode.apply(ours, table, encoding.scalings.float())
    got.backward(weight)
    assert got.dtype == kind and table.grad.dtype == kind
    agree(got, expected, bound)
    agree(ours.grad, theirs.grad, bound)
    # A sum of many is rounded to half precision once, at its end.
    agree(table.grad, encoding.hash_table.grad, 5e-4 if kind == torch.float16 else bound)
