# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels of along.py in numba, for training on a CPU; rays that are moved while training have none.

R rays, S samples on each, in order; all tensors are contiguous and of 32 bits. Every ray is computed by itself and sums
over rays are PyTorch's, so that nothing depends on the number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
from torch import Tensor

from engine.scenes.nerfacto.along import Along
from engine.scenes.nerfacto.blocks import contracted

PADDING = np.float32(0.01)  # of every bin's weight, as nerfstudio's PDFSampler has it
LEAST = np.float32(1e-5)
EPSILON = np.float32(1e-7)  # of the interlevel loss
STEEPEST = np.float32(15)  # exponent up to which nerfstudio's truncated exponential passes gradients on
HALF, ONE, TWO, THREE, ZERO = np.float32(0.5), np.float32(1), np.float32(2), np.float32(3), np.float32(0)

# Whether a weight is a number is asked, so that the compiler may not take it for granted.
kernel = partial(numba.njit, fastmath={"contract", "arcp", "nsz"}, error_model="numpy")
over_rays = partial(kernel, parallel=True, cache=True)


@kernel()
def _spaced(x):
    """nerfstudio's spacing: even up to a distance of 1, then in disparity."""
    return x / TWO if x < ONE else ONE - ONE / (TWO * x)


@kernel()
def _distance(place, near, far):
    """How far along a ray a place (0–1) between its ends, both spaced, lies."""
    x = place * far + (ONE - place) * near
    return TWO * x if x < HALF else ONE / (TWO - TWO * x)


@over_rays()
def _placed(origins, directions, edges, nears, fars, points, deltas, middles):
    for ray in numba.prange(len(edges)):
        near, far = _spaced(nears[ray]), _spaced(fars[ray])
        start = _distance(edges[ray, 0], near, far)
        for i in range(edges.shape[1] - 1):
            end = _distance(edges[ray, i + 1], near, far)
            middle = (start + end) / TWO
            x, y, z = contracted(
                origins[ray, 0] + directions[ray, 0] * middle,
                origins[ray, 1] + directions[ray, 1] * middle,
                origins[ray, 2] + directions[ray, 2] * middle,
            )
            inside = min(x, y, z) > ZERO and max(x, y, z) < ONE  # or no number: it adds nothing
            points[ray, i, 0], points[ray, i, 1], points[ray, i, 2] = (x, y, z) if inside else (ZERO, ZERO, ZERO)
            deltas[ray, i] = end - start if inside else ZERO
            middles[ray, i] = middle
            start = end


@over_rays()
def _weights(raw, initial, deltas, weights):
    for ray in numba.prange(len(raw)):
        passed = ZERO
        for i in range(raw.shape[1]):
            thick = initial * np.exp(raw[ray, i]) * deltas[ray, i]
            weight = (ONE - np.exp(-thick)) * np.exp(-passed)
            passed += thick
            weights[ray, i] = weight if np.isfinite(weight) else ZERO


@over_rays()
def _weights_back(raw, initial, deltas, weights, grad, grad_raw):
    """∂w_j/∂(σ_i δ_i) is what still passes sample i where j = i, and −w_j behind it. The slope of σ = e^raw is bounded,
    as nerfstudio's is."""
    for ray in numba.prange(len(raw)):
        behind = ZERO
        for i in range(raw.shape[1]):
            behind += grad[ray, i] * weights[ray, i]
        passed = ZERO
        for i in range(raw.shape[1]):
            behind -= grad[ray, i] * weights[ray, i]
            passed += initial * np.exp(raw[ray, i]) * deltas[ray, i]
            of_density = deltas[ray, i] * (grad[ray, i] * np.exp(-passed) - behind)
            grad_raw[ray, i] = of_density * initial * np.exp(min(max(raw[ray, i], -STEEPEST), STEEPEST))


@over_rays()
def _composite(weights, colors, middles, background, last_sample, rgb, opacity, depth):
    count = weights.shape[1]
    for ray in numba.prange(len(weights)):
        red, green, blue, full, median = ZERO, ZERO, ZERO, ZERO, count
        for i in range(count):
            weight = weights[ray, i]
            red += weight * colors[ray, i, 0]
            green += weight * colors[ray, i, 1]
            blue += weight * colors[ray, i, 2]
            full += weight
            if median == count and full >= HALF:
                median = i
        behind = colors[ray, count - 1] if last_sample else background[ray]
        rgb[ray, 0] = red + (ONE - full) * behind[0]
        rgb[ray, 1] = green + (ONE - full) * behind[1]
        rgb[ray, 2] = blue + (ONE - full) * behind[2]
        opacity[ray] = full
        depth[ray] = middles[ray, min(median, count - 1)]


@over_rays()
def _composite_back(weights, colors, background, last_sample, grad_rgb, grad_opacity, grad_weights, grad_colors):
    count = weights.shape[1]
    for ray in numba.prange(len(weights)):
        behind = colors[ray, count - 1] if last_sample else background[ray]
        red, green, blue = grad_rgb[ray, 0], grad_rgb[ray, 1], grad_rgb[ray, 2]
        full = ZERO
        for i in range(count):
            weight, color = weights[ray, i], colors[ray, i]
            full += weight
            along = red * (color[0] - behind[0]) + green * (color[1] - behind[1]) + blue * (color[2] - behind[2])
            grad_weights[ray, i] = along + grad_opacity[ray]
            share = weight + ONE - full if i == count - 1 and last_sample else weight
            for c in range(3):
                grad_colors[ray, i, c] = share * grad_rgb[ray, c]


@over_rays()
def _resampled(weights, anneal, edges, jitter, made):
    """Invert a ray's cumulative distribution at evenly spaced places, each ``jitter`` (of a step) later: both only
    grow, so that one walk along the bins does."""
    bins, places = weights.shape[1], made.shape[1]
    for ray in numba.prange(len(weights)):
        shares = np.empty(bins, np.float32)
        total = ZERO
        for i in range(bins):
            shares[i] = (weights[ray, i] if anneal == ONE else weights[ray, i] ** anneal) + PADDING
            total += shares[i]
        padding = max(LEAST - total, ZERO)
        total += padding
        for i in range(bins):
            shares[i] = (shares[i] + padding / np.float32(bins)) / total
        place, low, summed = 0, ZERO, shares[0]
        high = min(ONE, summed)
        for k in range(places):
            u = (np.float32(k) + jitter[ray]) / np.float32(places)
            while place < bins - 1 and high <= u:
                place += 1
                low = high
                summed += shares[place]
                high = min(ONE, summed)
            t = min(max((u - low) / (high - low), ZERO), ONE) if high > low else ZERO
            made[ray, k] = edges[ray, place] + t * (edges[ray, place + 1] - edges[ray, place])


@over_rays()
def _interlevel(edges, weights, coarse_edges, coarse_weights, losses, slopes):
    """How far the fine histogram stands out of the coarse one (Mip-NeRF 360, eq. 13), and its slope there."""
    bins = coarse_weights.shape[1]
    for ray in numba.prange(len(weights)):
        for j in range(bins):
            slopes[ray, j] = ZERO
        total, low = ZERO, 0
        for i in range(weights.shape[1]):
            while low + 1 < bins and coarse_edges[ray, low + 1] <= edges[ray, i]:
                low += 1
            high, bound = low, coarse_weights[ray, low]
            while high + 1 < bins and coarse_edges[ray, high + 1] <= edges[ray, i + 1]:
                high += 1
                bound += coarse_weights[ray, high]
            weight = weights[ray, i]
            over = max(weight - bound, ZERO)
            if over > ZERO:
                total += over * over / (weight + EPSILON)
                for j in range(low, high + 1):
                    slopes[ray, j] -= TWO * over / (weight + EPSILON)
        losses[ray] = total


@over_rays()
def _distortion(edges, weights, losses, slopes):
    """How spread out a ray's weights are (Mip-NeRF 360, eq. 15), in one walk instead of all pairs, and its slope."""
    for ray in numba.prange(len(weights)):
        mass, moment = ZERO, ZERO
        for i in range(weights.shape[1]):
            mass += weights[ray, i]
            moment += weights[ray, i] * (edges[ray, i] + edges[ray, i + 1]) / TWO
        before, moment_before, total = ZERO, ZERO, ZERO
        for i in range(weights.shape[1]):
            weight, width = weights[ray, i], edges[ray, i + 1] - edges[ray, i]
            middle = (edges[ray, i] + edges[ray, i + 1]) / TWO
            behind = mass - before - weight
            apart = middle * before - moment_before + (moment - moment_before - weight * middle) - middle * behind
            total += weight * apart + weight * weight * width / THREE
            slopes[ray, i] = TWO * apart + TWO * weight * width / THREE
            before += weight
            moment_before += weight * middle
        losses[ray] = total


@over_rays()
def _harmonics(directions, made):
    """nerfstudio's spherical harmonics of degree 0 to 3, of a direction that it has moved into the unit cube."""
    for ray in numba.prange(len(directions)):
        x, y, z = (directions[ray, 0] + ONE) / TWO, (directions[ray, 1] + ONE) / TWO, (directions[ray, 2] + ONE) / TWO
        xx, yy, zz = x * x, y * y, z * z
        made[ray, 0] = 0.28209479177387814
        made[ray, 1] = 0.4886025119029199 * y
        made[ray, 2] = 0.4886025119029199 * z
        made[ray, 3] = 0.4886025119029199 * x
        made[ray, 4] = 1.0925484305920792 * x * y
        made[ray, 5] = 1.0925484305920792 * y * z
        made[ray, 6] = 0.9461746957575601 * zz - 0.31539156525251999
        made[ray, 7] = 1.0925484305920792 * x * z
        made[ray, 8] = 0.5462742152960396 * (xx - yy)
        made[ray, 9] = 0.5900435899266435 * y * (3 * xx - yy)
        made[ray, 10] = 2.890611442640554 * x * y * z
        made[ray, 11] = 0.4570457994644658 * y * (5 * zz - 1)
        made[ray, 12] = 0.3731763325901154 * z * (5 * zz - 3)
        made[ray, 13] = 0.4570457994644658 * x * (5 * zz - 1)
        made[ray, 14] = 1.445305721320277 * z * (xx - yy)
        made[ray, 15] = 0.5900435899266435 * x * (xx - 3 * yy)


KERNELS = {
    "placed": _placed,
    "weights": _weights,
    "weights_back": _weights_back,
    "composite": _composite,
    "composite_back": _composite_back,
    "resampled": _resampled,
    "interlevel": _interlevel,
    "distortion": _distortion,
    "harmonics": _harmonics,
}


def _run(name: str, given: tuple[Tensor | float, ...], made: tuple[Tensor, ...]) -> None:
    KERNELS[name](*map(_argument, given), *(each.numpy() for each in made))


def _argument(value: Tensor | float) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy()
    return np.float32(value) if isinstance(value, float) else value


ALONG = Along(_run, compiled_networks=True)
