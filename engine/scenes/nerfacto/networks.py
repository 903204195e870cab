# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto's networks on a CPU, compiled: each runs forward and backward in one pass over its points, by blocks.
Nothing between two layers is written to memory; the backward pass computes it again, which is cheaper.

Parameters are nerfstudio's own, values the same but for rounding. Sums are taken in a fixed order, whatever the number
of threads, so that a training is a function of its seed.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor, nn

from engine.scenes.nerfacto.blocks import POINTS, dense, exponential, outer, through_rectifier
from engine.scenes.nerfacto.hash_encoding import encode_into, scatter_into

SHARES = 16  # of the points, each with sums of its own
HARMONICS = 16
ZERO, ONE = np.float32(0), np.float32(1)


@numba.njit(fastmath=True)
def _load(rows, start, count, block):
    """Rows of points (N, K) as a block (K and padding, P)."""
    for n in range(count):
        row = rows[start + n]
        for k in range(len(row)):
            block[k, n] = row[k]


@numba.njit(parallel=True, fastmath=True, cache=True)
def geometry_forward(encoded, first, first_bias, last, last_bias, out):
    """``out`` (N, J): what a network of two layers says of encoded (N, E) points."""
    for share in numba.prange(SHARES):
        asked = np.zeros((first.shape[1], POINTS), np.float32)
        hidden = np.empty((first.shape[0], POINTS), np.float32)
        result = np.empty((last.shape[0], POINTS), np.float32)
        for start in range(share * POINTS, len(encoded), SHARES * POINTS):
            count = min(POINTS, len(encoded) - start)
            _load(encoded, start, count, asked)
            dense(first, first_bias, asked, hidden, True)
            dense(last, last_bias, hidden, result, False)
            for n in range(count):
                row = out[start + n]
                for j in range(len(row)):
                    row[j] = result[j, n]


@numba.njit(parallel=True, fastmath=True, cache=True)
def geometry_backward(encoded, layers, turned, gradient, encoded_gradient, sums):
    """Gradients of what `geometry_forward` took, of ``gradient`` (N, J): of the encoding (N, E), and of weights and
    biases, summed share by share. ``turned``: the weights, transposed, the last layer's first."""
    first, first_bias, last, _ = layers
    first_sums, first_bias_sums, last_sums, last_bias_sums = sums
    back_last, back_first = turned
    for share in numba.prange(SHARES):
        asked = np.zeros((first.shape[1], POINTS), np.float32)
        hidden = np.empty((first.shape[0], POINTS), np.float32)
        on_result = np.zeros((last.shape[0], POINTS), np.float32)
        on_hidden, on_asked = np.empty_like(hidden), np.empty_like(asked)
        none_hidden, none_asked = np.zeros(len(hidden), np.float32), np.zeros(len(asked), np.float32)
        for start in range(share * POINTS, len(encoded), SHARES * POINTS):
            count = min(POINTS, len(encoded) - start)
            _load(encoded, start, count, asked)
            dense(first, first_bias, asked, hidden, True)
            _load(gradient, start, count, on_result)
            for j in range(gradient.shape[1]):
                row, total = on_result[j], ZERO
                for n in range(count):
                    total += row[n]
                last_bias_sums[share, j] += total
            outer(on_result, hidden, count, last_sums[share])
            dense(back_last, none_hidden, on_result, on_hidden, False)
            through_rectifier(on_hidden, hidden, count, first_bias_sums[share])
            outer(on_hidden, asked, count, first_sums[share])
            dense(back_first, none_asked, on_hidden, on_asked, False)
            for n in range(count):
                row = encoded_gradient[start + n]
                for k in range(len(row)):
                    row[k] = on_asked[k, n]


@numba.njit(fastmath=True)
def _asked(harmonics, samples, geometry, start, count, asked):
    """What the color network is asked at points, each of a ray's ``samples``: its direction's harmonics, and geometry
    (N, G), whose first column is density."""
    for n in range(count):
        ray = (start + n) // samples
        for f in range(HARMONICS):
            asked[f, n] = harmonics[ray, f]
        for f in range(geometry.shape[1] - 1):
            asked[HARMONICS + f, n] = geometry[start + n, 1 + f]


@numba.njit(fastmath=True)
def _sigmoid(values, bits):
    for c in range(values.shape[0]):
        channel = values[c]
        for n in range(len(channel)):
            channel[n] = -channel[n]
        exponential(channel, bits)
        for n in range(len(channel)):
            channel[n] = ONE / (ONE + channel[n])


@numba.njit(parallel=True, fastmath=True, cache=True)
def color_forward(harmonics, samples, geometry, first, first_bias, middle, middle_bias, last, last_bias, out):
    """``out`` (N, 3): colors at points of ``geometry`` (N, G), ``samples`` on each ray of ``harmonics`` (R, 16)."""
    for share in numba.prange(SHARES):
        asked = np.zeros((first.shape[1], POINTS), np.float32)
        layer1 = np.empty((first.shape[0], POINTS), np.float32)
        layer2 = np.empty((middle.shape[0], POINTS), np.float32)
        shown, bits = np.empty((last.shape[0], POINTS), np.float32), np.empty(POINTS, np.int32)
        for start in range(share * POINTS, len(geometry), SHARES * POINTS):
            count = min(POINTS, len(geometry) - start)
            _asked(harmonics, samples, geometry, start, count, asked)
            dense(first, first_bias, asked, layer1, True)
            dense(middle, middle_bias, layer1, layer2, True)
            dense(last, last_bias, layer2, shown, False)
            _sigmoid(shown, bits)
            for n in range(count):
                for c in range(3):
                    out[start + n, c] = shown[c, n]


@numba.njit(parallel=True, fastmath=True, cache=True)
def color_backward(harmonics, samples, geometry, layers, turned, gradient, geometry_gradient, sums):
    """Gradients of what `color_forward` took, of ``gradient`` (N, 3): of geometry (N, G), whose density gets none, and
    of weights and biases, summed share by share. ``turned``: the weights, transposed, the last layer's first."""
    first, first_bias, middle, middle_bias, last, last_bias = layers
    back_last, back_middle, back_first = turned
    first_sums, first_bias_sums, middle_sums, middle_bias_sums, last_sums, last_bias_sums = sums
    for share in numba.prange(SHARES):
        asked = np.zeros((first.shape[1], POINTS), np.float32)
        layer1, layer2 = np.empty((first.shape[0], POINTS), np.float32), np.empty((middle.shape[0], POINTS), np.float32)
        shown, bits = np.empty((last.shape[0], POINTS), np.float32), np.empty(POINTS, np.int32)
        on_shown = np.zeros((last.shape[0], POINTS), np.float32)
        on2, on1 = np.empty_like(layer2), np.empty_like(layer1)
        on_asked = np.empty_like(asked)
        none2, none1 = np.zeros(len(layer2), np.float32), np.zeros(len(layer1), np.float32)
        none = np.zeros(len(asked), np.float32)
        for start in range(share * POINTS, len(geometry), SHARES * POINTS):
            count = min(POINTS, len(geometry) - start)
            _asked(harmonics, samples, geometry, start, count, asked)
            dense(first, first_bias, asked, layer1, True)
            dense(middle, middle_bias, layer1, layer2, True)
            dense(last, last_bias, layer2, shown, False)
            _sigmoid(shown, bits)
            for c in range(3):
                total = ZERO
                for n in range(count):
                    value = gradient[start + n, c] * shown[c, n] * (ONE - shown[c, n])
                    on_shown[c, n] = value
                    total += value
                for n in range(count, POINTS):
                    on_shown[c, n] = ZERO
                last_bias_sums[share, c] += total
            outer(on_shown, layer2, count, last_sums[share])
            dense(back_last, none2, on_shown, on2, False)
            through_rectifier(on2, layer2, count, middle_bias_sums[share])
            outer(on2, layer1, count, middle_sums[share])
            dense(back_middle, none1, on2, on1, False)
            through_rectifier(on1, layer1, count, first_bias_sums[share])
            outer(on1, asked, count, first_sums[share])
            dense(back_first, none, on1, on_asked, False)
            for n in range(count):
                geometry_gradient[start + n, 0] = ZERO
                for f in range(1, geometry_gradient.shape[1]):
                    geometry_gradient[start + n, f] = on_asked[HARMONICS + f - 1, n]


def padded(weights: Tensor) -> np.ndarray:
    """(J, K) or (J), with zeros up to multiples of four: what `dense` takes."""
    array = weights.detach().numpy()
    return np.ascontiguousarray(np.pad(array, [(0, -length % 4) for length in array.shape]))


def _sums_for(layers: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros((SHARES, *layer.shape), np.float32) for layer in layers)


def _gradients(sums: tuple[np.ndarray, ...], parameters: tuple[Tensor, ...]) -> list[Tensor]:
    """The shares' sums together, without what was padded."""
    return [
        torch.from_numpy(np.ascontiguousarray(total.sum(axis=0)[tuple(slice(0, n) for n in parameter.shape)]))
        for total, parameter in zip(sums, parameters, strict=True)
    ]


class _Geometry(torch.autograd.Function):
    """(N, 3) points of the unit cube → (N, J): what the network puts out. Points get no gradient."""

    @staticmethod
    def forward(ctx, points: Tensor, scalings: np.ndarray, table: Tensor, *layers: Tensor) -> Tensor:
        arrays = tuple(padded(layer) for layer in layers)
        encoded = encode_into(table, points.numpy(), scalings)
        out = torch.empty(len(points), len(layers[-1]))
        geometry_forward(encoded.numpy(), *arrays, out.numpy())
        ctx.save_for_backward(points, encoded, table, *layers)
        ctx.scalings, ctx.arrays = scalings, arrays
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):
        points, encoded, table, *layers = ctx.saved_tensors
        arrays = ctx.arrays
        turned = tuple(np.ascontiguousarray(weights.T) for weights in (arrays[2], arrays[0]))
        on_encoded, sums = np.empty(encoded.shape, np.float32), _sums_for(arrays)
        geometry_backward(encoded.numpy(), arrays, turned, grads[0].contiguous().numpy(), on_encoded, sums)
        on_encoded = on_encoded.reshape(len(points), len(ctx.scalings), -1)
        on_table = scatter_into(torch.zeros_like(table), points.numpy(), on_encoded, ctx.scalings)
        return None, None, on_table, *_gradients(sums, tuple(layers))


class _Color(torch.autograd.Function):
    """Harmonics (R, 16) of directions, and geometry (R · S, G) with density first → colors (R · S, 3)."""

    @staticmethod
    def forward(ctx, harmonics: Tensor, geometry: Tensor, *layers: Tensor) -> Tensor:
        out = torch.empty(len(geometry), 3)
        samples = len(geometry) // len(harmonics)
        arrays = tuple(padded(layer) for layer in layers)
        color_forward(harmonics.numpy(), samples, geometry.detach().numpy(), *arrays, out.numpy())
        ctx.save_for_backward(harmonics, geometry, *layers)
        ctx.arrays = arrays
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):
        harmonics, geometry, *layers = ctx.saved_tensors
        arrays = ctx.arrays
        turned = tuple(np.ascontiguousarray(arrays[place].T) for place in (4, 2, 0))
        on_geometry, sums = torch.empty_like(geometry), _sums_for(arrays)
        color_backward(
            harmonics.numpy(), len(geometry) // len(harmonics), geometry.detach().numpy(), arrays, turned,
            grads[0].contiguous().numpy(), on_geometry.numpy(), sums,
        )  # fmt: skip
        return None, on_geometry, *_gradients(sums, tuple(layers))


def _parameters(network: nn.Module) -> list[Tensor]:
    return [part for layer in network.layers for part in (layer.weight, layer.bias)]


def geometry(encoder: nn.Module, network: nn.Module, points: Tensor) -> Tensor:
    """(N, J): what a network of two layers says of encoded points (N, 3) of the unit cube; the first column is density
    before its exponential. Points get no gradient."""
    scalings = encoder.scalings.numpy().astype(np.float32)
    return _Geometry.apply(points, scalings, encoder.hash_table, *_parameters(network))


def colors(network: nn.Module, harmonics: Tensor, geometry: Tensor) -> Tensor:
    """(R · S, 3): what a network of three layers says of geometry (R · S, J), without its first column, seen along
    directions, as their harmonics (R, 16), which get no gradient."""
    return _Color.apply(harmonics, geometry, *_parameters(network))
