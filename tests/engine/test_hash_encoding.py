# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast hash encoding against nerfstudio's own, values and both gradients."""

import pytest
import torch
from nerfstudio.field_components.encodings import HashEncoding

from engine.scenes.nerfacto.hash_encoding import FusedHashEncoding, use_fused_hash_encoding


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
