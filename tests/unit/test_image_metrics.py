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
