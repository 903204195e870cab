# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto's fields on a CPU, compiled: each network runs forward and backward in one pass over its points, a block at
a time. Nothing between two layers is written to memory; the backward pass computes it again, which is cheaper.

Parameters are nerfstudio's own, values the same but for rounding. Sums are taken in a fixed order, whatever the number
of threads, so that a training is a function of its seed.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import get_normalized_directions
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import Tensor, nn

from engine.scenes.nerfacto.blocks import (
    FOUR,
    POINTS,
    contracted,
    dense,
    exponential,
    outer,
    through_rectifier,
)
from engine.scenes.nerfacto.hash_encoding import encode_into, scatter_into

SHARES = 16  # of the points, each with sums of its own
HARMONICS = 16
ZERO, ONE = np.float32(0), np.float32(1)
STEEPEST = np.float32(15)  # exponent up to which nerfstudio's truncated exponential passes gradients on


@numba.njit(parallel=True, fastmath=True, cache=True)
def place_in_cube(positions, places, inside):
    """Positions (N, 3) of the NeRF frame in the unit cube; what lies outside goes to its corner, and is said."""
    for n in numba.prange(len(positions)):
        x, y, z = contracted(positions[n, 0], positions[n, 1], positions[n, 2])
        known = min(x, y, z) > ZERO and max(x, y, z) < ONE
        places[n, 0], places[n, 1], places[n, 2] = (x, y, z) if known else (ZERO, ZERO, ZERO)
        inside[n] = ONE if known else ZERO


@numba.njit(fastmath=True)
def _load(rows, start, count, block):
    """Rows of points (N, K) as a block (K and padding, P)."""
    for n in range(count):
        row = rows[start + n]
        for k in range(len(row)):
            block[k, n] = row[k]


@numba.njit(parallel=True, fastmath=True, cache=True)
def density_forward(encoded, inside, first, first_bias, last, last_bias, unit, out):
    """``out`` (N, J): density at encoded (N, E) points, and what else the network puts out."""
    for share in numba.prange(SHARES):
        asked = np.zeros((first.shape[1], POINTS), np.float32)
        hidden = np.empty((first.shape[0], POINTS), np.float32)
        result, bits = np.empty((last.shape[0], POINTS), np.float32), np.empty(POINTS, np.int32)
        for start in range(share * POINTS, len(encoded), SHARES * POINTS):
            count = min(POINTS, len(encoded) - start)
            _load(encoded, start, count, asked)
            dense(first, first_bias, asked, hidden, True)
            dense(last, last_bias, hidden, result, False)
            exponential(result[0], bits)
            for n in range(count):
                row = out[start + n]
                row[0] = result[0, n] * unit * inside[start + n]
                for j in range(1, len(row)):
                    row[j] = result[j, n]


@numba.njit(parallel=True, fastmath=True, cache=True)
def density_backward(encoded, inside, layers, turned, unit, gradient, encoded_gradient, sums):
    """Gradients of what `density_forward` took, of ``gradient`` (N, J): of the encoding (N, E), and of weights and
    biases, summed share by share. ``turned``: the weights, transposed, the last layer's first."""
    first, first_bias, last, last_bias = layers
    first_sums, first_bias_sums, last_sums, last_bias_sums = sums
    back_last, back_first = turned
    for share in numba.prange(SHARES):
        asked = np.zeros((first.shape[1], POINTS), np.float32)
        hidden = np.empty((first.shape[0], POINTS), np.float32)
        result, bits = np.empty((last.shape[0], POINTS), np.float32), np.empty(POINTS, np.int32)
        on_result = np.zeros((last.shape[0], POINTS), np.float32)
        on_hidden, on_asked = np.empty_like(hidden), np.empty_like(asked)
        none_hidden, none_asked = np.zeros(len(hidden), np.float32), np.zeros(len(asked), np.float32)
        for start in range(share * POINTS, len(encoded), SHARES * POINTS):
            count = min(POINTS, len(encoded) - start)
            _load(encoded, start, count, asked)
            dense(first, first_bias, asked, hidden, True)
            dense(last[:FOUR], last_bias[:FOUR], hidden, result[:FOUR], False)  # density alone is needed again
            density = result[0]
            for n in range(POINTS):
                density[n] = min(max(density[n], -STEEPEST), STEEPEST)
            exponential(density, bits)
            _load(gradient, start, count, on_result)
            for n in range(count):
                on_result[0, n] *= density[n] * unit * inside[start + n]
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


class _Density(torch.autograd.Function):
    """(N, 3) positions, NeRF frame → (N, J): density, and what else the network puts out. Positions get no gradient."""

    @staticmethod
    def forward(ctx, positions: Tensor, scalings: np.ndarray, unit: float, table: Tensor, *layers: Tensor) -> Tensor:
        arrays = tuple(padded(layer) for layer in layers)
        places, inside = torch.empty(len(positions), 3), torch.empty(len(positions))
        place_in_cube(positions.detach().numpy(), places.numpy(), inside.numpy())
        encoded = encode_into(table, places.numpy(), scalings)
        out = torch.empty(len(positions), len(layers[-1]))
        density_forward(encoded.numpy(), inside.numpy(), *arrays, np.float32(unit), out.numpy())
        ctx.save_for_backward(places, inside, encoded, table, *layers)
        ctx.scalings, ctx.unit = scalings, unit
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):
        places, inside, encoded, table, *layers = ctx.saved_tensors
        arrays = tuple(padded(layer) for layer in layers)
        turned = tuple(np.ascontiguousarray(weights.T) for weights in (arrays[2], arrays[0]))
        on_encoded, sums = np.empty(encoded.shape, np.float32), _sums_for(arrays)
        density_backward(
            encoded.numpy(), inside.numpy(), arrays, turned, np.float32(ctx.unit), grads[0].contiguous().numpy(),
            on_encoded, sums,
        )  # fmt: skip
        on_encoded = on_encoded.reshape(len(places), len(ctx.scalings), -1)
        on_table = scatter_into(torch.zeros_like(table), places.numpy(), on_encoded, ctx.scalings)
        return None, None, None, on_table, *_gradients(sums, tuple(layers))


class _Color(torch.autograd.Function):
    """Harmonics (R, 16) of directions, and geometry (R · S, G) with density first → colors (R · S, 3)."""

    @staticmethod
    def forward(ctx, harmonics: Tensor, geometry: Tensor, *layers: Tensor) -> Tensor:
        out = torch.empty(len(geometry), 3)
        samples = len(geometry) // len(harmonics)
        arrays = tuple(padded(layer) for layer in layers)
        color_forward(harmonics.numpy(), samples, geometry.detach().numpy(), *arrays, out.numpy())
        ctx.save_for_backward(harmonics, geometry, *layers)
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):
        harmonics, geometry, *layers = ctx.saved_tensors
        arrays = tuple(padded(layer) for layer in layers)
        turned = tuple(np.ascontiguousarray(arrays[place].T) for place in (4, 2, 0))
        on_geometry, sums = torch.empty_like(geometry), _sums_for(arrays)
        color_backward(
            harmonics.numpy(), len(geometry) // len(harmonics), geometry.detach().numpy(), arrays, turned,
            grads[0].contiguous().numpy(), on_geometry.numpy(), sums,
        )  # fmt: skip
        return None, on_geometry, *_gradients(sums, tuple(layers))


def _can_fuse(positions: Tensor, table: Tensor) -> bool:
    """Whether the kernels can be asked: floats in a CPU's memory, at positions that are given."""
    return (
        positions.device.type == "cpu"
        and positions.dtype == table.dtype == torch.float32
        and type(positions.data) is Tensor  # a fake tensor has no memory to read
        and not positions.requires_grad  # a camera that is corrected while training moves its samples
    )


def _density(field: nn.Module, encoder: nn.Module, network: nn.Module, positions: Tensor) -> Tensor:
    layers = [part for layer in network.layers for part in (layer.weight, layer.bias)]
    scalings = encoder.scalings.numpy().astype(np.float32)
    out = _Density.apply(
        positions.reshape(-1, 3).contiguous(), scalings, field.average_init_density, encoder.hash_table, *layers
    )
    return out.view(*positions.shape[:-1], -1)


class FusedDensityField(HashMLPDensityField):
    """A proposal, with the kernels above where they can be asked."""

    def density_fn(self, positions: Tensor, times: Tensor | None = None) -> Tensor:
        """Density (R, S, 1) at positions (R, S, 3), NeRF frame."""
        if not _can_fuse(positions, self.encoding.hash_table):
            return super().density_fn(positions, times)
        return _density(self, self.encoding, self.mlp_base[1], positions)


class FusedNerfactoField(NerfactoField):
    """The field, with the kernels above where they can be asked."""

    def get_density(self, ray_samples: RaySamples):
        """Density (R, S, 1), and density with what the color network is asked, (R, S, 1 + G)."""
        positions = ray_samples.frustums.get_positions()
        encoder, network = self.mlp_base.model
        if self.embedding_appearance is not None or not _can_fuse(positions, encoder.hash_table):
            return super().get_density(ray_samples)
        out = _density(self, encoder, network, positions)
        return out[..., :1], out

    def get_outputs(self, ray_samples: RaySamples, density_embedding: Tensor | None = None):
        """Colors (R, S, 3)."""
        assert density_embedding is not None
        if density_embedding.shape[-1] == self.geo_feat_dim:  # of nerfstudio's own get_density
            return super().get_outputs(ray_samples, density_embedding)
        directions = get_normalized_directions(ray_samples.frustums.directions[..., 0, :])
        layers = [part for layer in self.mlp_head.layers for part in (layer.weight, layer.bias)]
        harmonics = self.direction_encoding(directions).contiguous()
        rgb = _Color.apply(harmonics, density_embedding.flatten(0, -2), *layers)
        return {FieldHeadNames.RGB: rgb.view(*density_embedding.shape[:-1], 3)}


def use_fused_networks(model: nn.Module) -> None:
    """Let the fields inside ``model`` run as the classes above, parameters untouched."""
    for module in model.modules():
        if type(module) is HashMLPDensityField and not module.use_linear:
            module.__class__ = FusedDensityField
        elif type(module) is NerfactoField:
            module.__class__ = FusedNerfactoField
