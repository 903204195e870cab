# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant-NGP's hash encoding, fast on a CPU.

nerfstudio's PyTorch version gathers each of the eight corners of a cell separately and keeps every intermediate for
the backward pass; most of a training step goes there. Here one pass over the points looks the corners up and blends
them, and one pass scatters the gradient. The parameters, the hash and the values are nerfstudio's own.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor, nn

# The primes of instant-ngp, eq. 4 (the first is 1).
PRIME_Y = np.uint32(2654435761)
PRIME_Z = np.uint32(805459861)


@numba.njit(inline="always")
def _corner(ix, iy, iz, c, mask):
    """Row, within its level, of corner ``c`` (bits x, y, z) of the cell (ix, iy, iz): 32 bits are enough, for the
    table's size is a power of two."""
    x = np.uint32(ix + (c & 1))
    y = np.uint32(iy + ((c >> 1) & 1)) * PRIME_Y
    z = np.uint32(iz + (c >> 2)) * PRIME_Z
    return (x ^ y ^ z) & mask


@numba.njit(parallel=True, fastmath=True, cache=True)
def _encode(points, table, scalings, out):
    """points (N, 3), table (L, T, F), scalings (L) → out (N, L, F)."""
    levels, size, features = table.shape
    mask = np.uint32(size - 1)
    for n in numba.prange(points.shape[0]):
        for level in range(levels):
            sx = points[n, 0] * scalings[level]
            sy = points[n, 1] * scalings[level]
            sz = points[n, 2] * scalings[level]
            ix, iy, iz = np.int32(np.floor(sx)), np.int32(np.floor(sy)), np.int32(np.floor(sz))
            ox, oy, oz = sx - ix, sy - iy, sz - iz
            for f in range(features):
                out[n, level, f] = 0.0
            for c in range(8):
                wx = ox if c & 1 else np.float32(1) - ox
                wy = oy if c & 2 else np.float32(1) - oy
                wz = oz if c & 4 else np.float32(1) - oz
                row = _corner(ix, iy, iz, c, mask)
                for f in range(features):
                    out[n, level, f] += wx * wy * wz * table[level, row, f]


@numba.njit(parallel=True, fastmath=True, cache=True)
def _scatter(points, grad, scalings, grad_table):
    """Add the gradient of the table, (L, T, F), given that of the encoding, (N, L, F). Levels do not share rows, so
    they run in parallel without locks."""
    levels, size, features = grad_table.shape
    mask = np.uint32(size - 1)
    for level in numba.prange(levels):
        for n in range(points.shape[0]):
            sx = points[n, 0] * scalings[level]
            sy = points[n, 1] * scalings[level]
            sz = points[n, 2] * scalings[level]
            ix, iy, iz = np.int32(np.floor(sx)), np.int32(np.floor(sy)), np.int32(np.floor(sz))
            ox, oy, oz = sx - ix, sy - iy, sz - iz
            for c in range(8):
                wx = ox if c & 1 else np.float32(1) - ox
                wy = oy if c & 2 else np.float32(1) - oy
                wz = oz if c & 4 else np.float32(1) - oz
                row = _corner(ix, iy, iz, c, mask)
                for f in range(features):
                    grad_table[level, row, f] += wx * wy * wz * grad[n, level, f]


@numba.njit(parallel=True, fastmath=True, cache=True)
def _slope(points, grad, table, scalings, grad_points):
    """Gradient of the points, (N, 3): the derivative of the trilinear weights."""
    levels, size, features = table.shape
    mask = np.uint32(size - 1)
    for n in numba.prange(points.shape[0]):
        for axis in range(3):
            grad_points[n, axis] = 0.0
        for level in range(levels):
            scale = scalings[level]
            sx, sy, sz = points[n, 0] * scale, points[n, 1] * scale, points[n, 2] * scale
            ix, iy, iz = np.int32(np.floor(sx)), np.int32(np.floor(sy)), np.int32(np.floor(sz))
            ox, oy, oz = sx - ix, sy - iy, sz - iz
            for c in range(8):
                wx = ox if c & 1 else np.float32(1) - ox
                wy = oy if c & 2 else np.float32(1) - oy
                wz = oz if c & 4 else np.float32(1) - oz
                row = _corner(ix, iy, iz, c, mask)
                value = np.float32(0)
                for f in range(features):
                    value += table[level, row, f] * grad[n, level, f]
                value *= scale
                grad_points[n, 0] += value * wy * wz * (np.float32(1) if c & 1 else np.float32(-1))
                grad_points[n, 1] += value * wx * wz * (np.float32(1) if c & 2 else np.float32(-1))
                grad_points[n, 2] += value * wx * wy * (np.float32(1) if c & 4 else np.float32(-1))


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points: Tensor, table: Tensor, scalings: np.ndarray) -> Tensor:
        levels = len(scalings)
        rows = table.detach().view(levels, -1, table.shape[-1])
        out = torch.empty(points.shape[0], levels, table.shape[-1])
        _encode(points.detach().numpy(), rows.numpy(), scalings, out.numpy())
        ctx.save_for_backward(points, table)
        ctx.scalings = scalings
        return out.flatten(1)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        points, table = ctx.saved_tensors
        levels = len(ctx.scalings)
        rows = table.detach().view(levels, -1, table.shape[-1])
        grad = grads[0].contiguous().view(points.shape[0], levels, -1).numpy()
        grad_points = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_points = torch.empty_like(points)
            _slope(points.detach().numpy(), grad, rows.numpy(), ctx.scalings, grad_points.numpy())
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(rows)
            _scatter(points.detach().numpy(), grad, ctx.scalings, grad_table.numpy())
            grad_table = grad_table.view_as(table)
        return grad_points, grad_table, None


class FusedHashEncoding(HashEncoding):
    """nerfstudio's HashEncoding with the same parameters and values; on a CPU the kernels above do the work, on any
    other device nerfstudio's."""

    def pytorch_fwd(self, in_tensor: Tensor) -> Tensor:
        """Points (…, 3) in [0, 1] → features (…, levels × features a level)."""
        fusable = in_tensor.device.type == "cpu" and in_tensor.dtype == torch.float32
        if not fusable or type(in_tensor.data) is not Tensor:  # a fake tensor has no memory to read
            return super().pytorch_fwd(in_tensor)
        flat = in_tensor.reshape(-1, 3).contiguous()
        encoded = _Encode.apply(flat, self.hash_table, self.scalings.numpy().astype(np.float32))
        return encoded.view(*in_tensor.shape[:-1], -1)


def use_fused_hash_encoding(model: nn.Module) -> None:
    """Let every PyTorch hash encoding inside ``model`` run as FusedHashEncoding, parameters untouched."""
    for module in model.modules():
        if type(module) is HashEncoding and module.tcnn_encoding is None:
            module.__class__ = FusedHashEncoding


def compile_kernels() -> None:
    """Compile the kernels (or load them from numba's cache) before the first step needs them."""
    scalings = np.ones(1, np.float32)
    points = torch.zeros(1, 3, requires_grad=True)
    table = torch.zeros(2, 1, requires_grad=True)
    _Encode.apply(points, table, scalings).sum().backward()
