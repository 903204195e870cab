# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast hash encoding against nerfstudio's own, values and both gradients."""

import pytest
import torch
from nerfstudio.field_components.encodings import HashEncoding

from engine.counting import LiveBytes
from engine.scenes.nerfacto import hash_torch
from engine.scenes.nerfacto.hash_encoding import FusedHashEncoding, use_fused_hash_encoding
from engine.scenes.nerfacto.hash_torch import LeanEncode


@pytest.mark.parametrize(
    ("levels", "features", "log2", "largest"), [(8, 4, 12, 256), (16, 2, 10, 2048), (5, 1, 17, 128)]
)
def test_agrees_with_nerfstudio(levels, features, log2, largest):
    torch.manual_seed(levels)
    encoding = HashEncoding(levels, 16, largest, log2, features, hash_init_scale=1.0, implementation="torch")
    points = torch.rand(500, 3)
    points[0] = 0.0
    points[1] = 1.0
    weight = torch.randn(500, levels * features)

    def run():
        encoding.hash_table.grad = None
        p = points.clone().requires_grad_()
        out = encoding(p)
        (out * weight).sum().backward()
        return out.detach(), p.grad, encoding.hash_table.grad.clone()

    expected = run()
    use_fused_hash_encoding(torch.nn.Sequential(encoding))
    assert type(encoding) is FusedHashEncoding
    got = run()
    torch.testing.assert_close(got[0], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[2], expected[2], rtol=1e-3, atol=1e-3)
    # nerfstudio takes ceil and floor, so a point exactly on a cell's corner has no cell there, and no slope
    inside = slice(2, None)
    torch.testing.assert_close(got[1][inside], expected[1][inside], rtol=2e-3, atol=2e-2)


def test_keeps_leading_shape_and_no_grad():
    encoding = HashEncoding(4, 16, 64, 8, 2, implementation="torch")
    use_fused_hash_encoding(torch.nn.Sequential(encoding))
    with torch.no_grad():
        assert encoding(torch.rand(3, 5, 3)).shape == (3, 5, 8)


@pytest.mark.parametrize(("levels", "features", "log2", "largest"), [(8, 4, 12, 256), (16, 2, 14, 2048), (1, 2, 9, 16)])
def test_the_lean_encoding_is_nerfstudios_to_the_last_digits(levels, features, log2, largest, monkeypatch):
    """Within 5e-7 of the largest value, forward and both gradients, whatever pieces the points come in."""
    torch.manual_seed(levels)
    encoding = HashEncoding(levels, 16, largest, log2, features, hash_init_scale=1.0, implementation="torch")
    points = torch.rand(700, 3)
    scaled = points[..., None] * encoding.scalings
    points = points[(scaled != scaled.floor()).all(dim=-1).all(dim=-1)]  # on a corner nerfstudio has no slope
    points = torch.cat([points, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])])
    weight = torch.randn(len(points), levels * features)

    theirs = points.clone().requires_grad_()
    expected = encoding(theirs)
    (expected * weight).sum().backward()
    for piece in (levels * 97, 2**21):
        monkeypatch.setattr(hash_torch, "PIECE", piece)
        ours, table = points.clone().requires_grad_(), encoding.hash_table.detach().clone().requires_grad_()
        got = LeanEncode.apply(ours, table, encoding.scalings.float())
        (got * weight).sum().backward()
        for a, b in (
            (got, expected),
            (table.grad, encoding.hash_table.grad),
            (ours.grad[:-2], theirs.grad[:-2]),
        ):
            assert float((a - b).detach().abs().max()) <= 5e-7 * max(1, float(b.detach().abs().max()))


def test_the_lean_encoding_keeps_only_what_it_was_given():
    encoding = HashEncoding(16, 16, 2048, 12, 2, implementation="torch")
    scalings = encoding.scalings.float()
    points = torch.rand(20_000, 3, requires_grad=True)
    with LiveBytes() as counted:
        out = LeanEncode.apply(points, encoding.hash_table, scalings)
        assert counted.live < 1.01 * out.nbytes
    with LiveBytes() as counted:
        kept = encoding(points)
    assert counted.live > 20 * kept.nbytes  # nerfstudio's
