# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats whose colors, opacities and sizes are fitted to pictures: a few gradient steps, the places staying."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from engine.capture import Intrinsics
from engine.geometry import Camera, Viewpoint
from engine.output.splat_cloud import gather
from engine.output.splats import C0, C1, Splats
from engine.output.splatting import composite, kernel, project_splats, shares
from engine.output.volume import DepthView

# Learning rates: of the color's harmonic of degree 0 and those of degree 1, the opacity's logit, the size's logarithm.
RATES = np.array([0.05] * 3 + [0.015] * 9 + [0.1, 0.02], np.float32)
OPACITY, SIZE = 12, 13  # their places among the values
LARGEST = 1.1  # logarithm of how much larger or smaller a splat may become
LAST = 0.1  # of these rates, at the last step
KEPT, KEPT_SQUARE = np.float32(0.9), np.float32(0.99)  # Adam's
COVERING = 0.1  # weight of the error of how much light comes through


class Fit:
    """Splats while they learn ``steps`` pictures."""

    def __init__(self, splats: Splats, steps: int):
        self._splats = splats
        self._axes = splats.axes
        self.steps, self.step_index = steps, 0
        count = len(splats)
        # As RATES has them; Adam's two means; how often each was seen.
        self._values = np.zeros((count, len(RATES)), np.float32)
        self._values[:, :3] = splats.harmonics[:, 0]
        self._values[:, OPACITY] = np.log(splats.opacity / (1 - splats.opacity))
        self._means = np.zeros((2, count, len(RATES)), np.float32)
        self._seen = np.zeros(count, np.int32)

    def step(self, camera: Camera, picture: np.ndarray, opacity: np.ndarray) -> float:
        """One step towards what a camera sees: ``picture`` (H, W, 3), 0 to 1, before black, and ``opacity`` (H, W). The
        mean squared error of the picture before it."""
        axes = self._axes * np.exp(self._values[:, SIZE])[:, None, None]
        seen = project_splats(self._splats.means, axes, camera.pose, camera.intrinsics)
        colors, alphas, basis = self._towards(camera)
        shown, light = composite(seen, colors, alphas)
        error = shown - picture
        dimmed = np.float32(COVERING) * (light - (1 - opacity))
        each = shares(seen, colors, alphas, shown, light, error, dimmed)
        rate = np.float32(LAST ** (self.step_index / max(self.steps, 1)))
        _update(self._values, self._means, self._seen, seen.order, each, colors, alphas, basis, rate * RATES)
        self.step_index += 1
        return float(np.mean(error**2))

    def _towards(self, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colors (N, 3), opacities (N,) and the harmonics' values (N, 4) in the direction from a camera."""
        ways = self._splats.means - camera.pose[:3, 3]
        ways /= np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-30)
        x, y, z = ways.T
        basis = np.stack([np.full_like(x, C0), -C1 * y, C1 * z, -C1 * x], axis=-1).astype(np.float32)
        own = self._values[:, :12].reshape(-1, 4, 3)
        colors = np.maximum(np.einsum("nk,nkc->nc", basis, own) + np.float32(0.5), 0)
        return colors, self._alphas, basis

    @property
    def _alphas(self) -> np.ndarray:
        return 1 / (1 + np.exp(-self._values[:, OPACITY]))

    @property
    def splats(self) -> Splats:
        """As they are now."""
        harmonics = self._values[:, :12].reshape(-1, 4, 3).astype(np.float64)
        scales = self._splats.scales * np.exp(self._values[:, SIZE, None].astype(np.float64))
        return replace(self._splats, harmonics=harmonics, scales=scales, opacity=self._alphas.astype(np.float64))


@kernel(parallel=True)
def _update(values, means, seen, order, each, colors, alphas, basis, rates):
    """A step of Adam for those in ``order``, each with a count of its own."""
    for index in numba.prange(len(order)):
        n = order[index]
        seen[n] += 1
        first = np.float32(1) - KEPT ** np.float32(seen[n])
        second = np.float32(1) - KEPT_SQUARE ** np.float32(seen[n])
        for k in range(len(rates)):
            if k < OPACITY:
                slope = basis[n, k // 3] * each[n, k % 3] if colors[n, k % 3] > 0 else np.float32(0)
            elif k == OPACITY:
                slope = each[n, 3] * alphas[n] * (np.float32(1) - alphas[n])
            else:
                slope = each[n, 4]
            means[0, n, k] = KEPT * means[0, n, k] + (np.float32(1) - KEPT) * slope
            means[1, n, k] = KEPT_SQUARE * means[1, n, k] + (np.float32(1) - KEPT_SQUARE) * slope * slope
            step = means[0, n, k] / first / (np.sqrt(means[1, n, k] / second) + np.float32(1e-6))
            values[n, k] -= rates[k] * step
        values[n, SIZE] = min(max(values[n, SIZE], -LARGEST), LARGEST)


def compile_kernels() -> None:
    """Compile what making splats uses, or load it from numba's cache."""
    flat = np.ones((4, 4), np.float32)
    color = np.full((4, 4, 3), 0.5, np.float32)
    view = DepthView(np.eye(4), Intrinsics(4, 4, 4.0, 4.0, 2.0, 2.0), flat, color, flat)
    Fit(gather([view], 100), 1).step(Viewpoint(view.pose, view.intrinsics), color, flat)
