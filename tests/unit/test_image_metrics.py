# SPDX-License-Identifier: GPL-3.0-or-later
"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # noqa: E402

from engine.metrics.image import psnr, ssim  # noqa: E402


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(11, 40), st.integers(11, 40), st.floats(0.001, 0.6))
def test_as_scikit_image_has_them(seed: int, height: int, width: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 1, (height, width, 3)).cumsum(axis=0).cumsum(axis=1)
    truth = (truth / truth.max()).astype(np.float32)
    picture = np.clip(truth + rng.normal(0, noise, truth.shape), 0, 1).astype(np.float32)
    assert math.isclose(
        float(psnr(picture, truth)), peak_signal_noise_ratio(truth, picture, data_range=1), abs_tol=1e-3
    )
    # Wang's own window: Gaussian, population covariance.
    theirs = structural_similarity(truth, picture, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                                   use_sample_covariance=False)  # fmt: skip
    assert math.isclose(float(ssim(picture, truth)), theirs, abs_tol=1e-4)


def test_tensors_and_arrays_alike() -> None:
    a, b = np.random.default_rng(0).uniform(0, 1, (2, 20, 30, 3)).astype(np.float32)
    assert psnr(a, b) == psnr(torch.tensor(a), torch.tensor(b)) and ssim(a, b) == ssim(torch.tensor(a), b)
    assert math.isinf(psnr(a, a)) and math.isclose(float(ssim(a, a)), 1, abs_tol=1e-6)
    assert math.isclose(float(psnr(a * 0, a * 0 + 0.1)), 20, abs_tol=1e-4)


def test_what_cannot_be_compared() -> None:
    picture = np.zeros((20, 20, 3), np.float32)
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match="cannot be compared"):
            measure(picture, picture[:-1])
    with pytest.raises(ValueError, match="at least 11"):
        ssim(picture[:10], picture[:10])


def slowly(picture: np.ndarray, truth: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """PSNR and SSIM over the pixels that are seen, pixel by pixel."""
    errors = [
        (picture[y, x, c] - truth[y, x, c]) ** 2
        for y in range(truth.shape[0])
        for x in range(truth.shape[1])
        if seen[y, x]
        for c in range(3)
    ]
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window, values = np.outer(line, line), []
    for y in range(5, truth.shape[0] - 5):
        for x in range(5, truth.shape[1] - 5):
            if not seen[y, x]:
                continue
            part = np.s_[y - 5 : y + 6, x - 5 : x + 6]
            weight = (window * seen[part])[seen[part]]
            for c in range(3):
                a, b = picture[part][..., c][seen[part]], truth[part][..., c][seen[part]]
                ma, mb = np.average(a, weights=weight), np.average(b, weights=weight)
                va, vb = (np.average((v - m) ** 2, weights=weight) for v, m in ((a, ma), (b, mb)))
                vab = np.average((a - ma) * (b - mb), weights=weight)
                values.append((2 * ma * mb + 1e-4) * (2 * vab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return -10 * math.log10(np.mean(errors)), float(np.mean(values))


@pytest.mark.parametrize("seed", range(4))
def test_hidden_pixels_do_not_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 1, (24, 27, 3)).cumsum(axis=0).cumsum(axis=1)
    truth = truth / truth.max()
    picture = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1)
    seen = rng.random((24, 27)) < 0.7
    seen[3:15, 8:20] = False
    expected = slowly(picture, truth, seen)
    picture[~seen], spoiled = rng.uniform(0, 1, picture[~seen].shape), truth.copy()
    spoiled[~seen] = 0.5
    assert float(psnr(picture, spoiled, seen)) == pytest.approx(expected[0], abs=1e-3)
    assert float(ssim(picture, spoiled, seen)) == pytest.approx(expected[1], abs=1e-4)
    # Counted as perfect, hidden pixels would flatter.
    filled = np.where(seen[..., None], picture, spoiled)
    assert float(psnr(filled, spoiled)) > expected[0] + 1
    # Where all is seen, a mask changes nothing.
    whole = np.ones_like(seen)
    assert psnr(picture, truth, whole) == psnr(picture, truth)
    assert float(ssim(picture, truth, whole)) == pytest.approx(float(ssim(picture, truth)), abs=1e-5)
    assert math.isnan(float(psnr(picture, truth, ~whole))) and math.isnan(float(ssim(picture, truth, ~whole)))
    with pytest.raises(ValueError, match="mask"):
        psnr(picture, truth, seen[:-1])


def test_the_perceptual_distance_of_what_is_seen() -> None:
    """By a network that tells how far pixels are apart, and looks at their neighbours: hidden ones do not count."""
    from engine.metrics.perceptual import Perceptual

    class Network(torch.nn.Module):
        spatial = False

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            near = torch.nn.functional.avg_pool2d((a - b).abs().mean(dim=1, keepdim=True), 3, 1, 1)
            return near if self.spatial else near.mean(dim=(2, 3), keepdim=True)

    a, b = torch.rand(2, 16, 20, 3, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(16, 20, dtype=torch.bool)
    measure = Perceptual(Network(), "test")
    assert float(measure.of_seen(a, b, seen)) == pytest.approx(float(measure(a[None], b[None])), rel=1e-5)
    seen[4:9, 3:14] = False
    spoiled = torch.where(seen[..., None], a, 1 - a)
    expected = torch.nn.functional.avg_pool2d(
        torch.where(seen, (a - b).abs().mean(dim=-1) * 2, 0.0)[None, None], 3, 1, 1
    )[0, 0][seen].mean()
    assert float(measure.of_seen(a, b, seen)) == float(measure.of_seen(spoiled, b, seen))
    assert float(measure.of_seen(a, b, seen)) == pytest.approx(float(expected), rel=1e-5)
    assert not measure.network.spatial
