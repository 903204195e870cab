# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant-NGP's hash encoding, fast on a CPU.

nerfstudio's PyTorch version gathers each of the eight corners of a cell separately and keeps every intermediate for
the backward pass; most of a training step goes there. Here one pass over the points looks the corners up and blends
them, and one pass scatters the gradient. The parameters, the hash and the values are nerfstudio's own.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor, nn

from engine.scenes.nerfacto.hash_torch import LeanEncode
from engine.scenes.nerfacto.kernels import usable

# The primes of instant-ngp, eq. 4 (the first is 1).
PRIME_Y = np.uint32(2654435761)
PRIME_Z = np.uint32(805459861)


CHUNK = np.int64(8192)  # points that one task looks up in one level, whose table then stays in the cache
ONE = np.float32(1)


@numba.njit(fastmath=True)
def cell_of(points, n, scale, mask):
    """The cell of point ``n`` at one level: the offset in it (0–1, along x, y, z), and its corners' rows in the table,
    x running fastest, then y, then z. 32 bits are enough, for the table's size is a power of two."""
    sx, sy, sz = points[n, 0] * scale, points[n, 1] * scale, points[n, 2] * scale
    fx, fy, fz = np.floor(sx), np.floor(sy), np.floor(sz)
    x0, y0, z0 = np.uint32(np.int32(fx)), np.uint32(np.int32(fy)) * PRIME_Y, np.uint32(np.int32(fz)) * PRIME_Z
    x1, y1, z1 = np.uint32(x0 + np.uint32(1)), np.uint32(y0 + PRIME_Y), np.uint32(z0 + PRIME_Z)
    rows = (
        (x0 ^ y0 ^ z0) & mask,
        (x1 ^ y0 ^ z0) & mask,
        (x0 ^ y1 ^ z0) & mask,
        (x1 ^ y1 ^ z0) & mask,
        (x0 ^ y0 ^ z1) & mask,
        (x1 ^ y0 ^ z1) & mask,
        (x0 ^ y1 ^ z1) & mask,
        (x1 ^ y1 ^ z1) & mask,
    )
    return sx - fx, sy - fy, sz - fz, rows


@lru_cache
def _kernels(features: int):
    """(encode, scatter, slope) for tables of ``features`` a row: a constant, so that the compiler unrolls them.

    points (N, 3), table and its gradient (L, T, F), scalings (L), encoding and its gradient (N, L, F); all float32.
    """

    @numba.njit(parallel=True, fastmath=True, cache=True)
    def encode(points, table, scalings, out):
        levels, size, _ = table.shape
        mask = np.uint32(size - 1)
        chunks = (len(points) + CHUNK - 1) // CHUNK
        for task in numba.prange(levels * chunks):
            level = task // chunks
            first = (task % chunks) * CHUNK
            rows_of = table[level]
            for n in range(first, min(first + CHUNK, len(points))):
                ox, oy, oz, row = cell_of(points, n, scalings[level], mask)
                px, py, pz = ONE - ox, ONE - oy, ONE - oz
                for f in range(features):
                    low = (rows_of[row[0], f] * px + rows_of[row[1], f] * ox) * py
                    low += (rows_of[row[2], f] * px + rows_of[row[3], f] * ox) * oy
                    high = (rows_of[row[4], f] * px + rows_of[row[5], f] * ox) * py
                    high += (rows_of[row[6], f] * px + rows_of[row[7], f] * ox) * oy
                    out[n, level, f] = low * pz + high * oz

    @numba.njit(parallel=True, fastmath=True, cache=True)
    def scatter(points, grad, scalings, grad_table):
        levels, size, _ = grad_table.shape
        mask = np.uint32(size - 1)
        for level in numba.prange(levels):  # levels share no rows, so they need no locks
            rows_of = grad_table[level]
            for n in range(len(points)):
                ox, oy, oz, row = cell_of(points, n, scalings[level], mask)
                px, py, pz = ONE - ox, ONE - oy, ONE - oz
                for f in range(features):
                    g0, g1 = grad[n, level, f] * px, grad[n, level, f] * ox
                    rows_of[row[0], f] += g0 * py * pz
                    rows_of[row[1], f] += g1 * py * pz
                    rows_of[row[2], f] += g0 * oy * pz
                    rows_of[row[3], f] += g1 * oy * pz
                    rows_of[row[4], f] += g0 * py * oz
                    rows_of[row[5], f] += g1 * py * oz
                    rows_of[row[6], f] += g0 * oy * oz
                    rows_of[row[7], f] += g1 * oy * oz

    @numba.njit(parallel=True, fastmath=True, cache=True)
    def slope(points, grad, table, scalings, grad_points):
        """Gradient of the points, (N, 3): the derivative of the trilinear weights."""
        levels, size, _ = table.shape
        mask = np.uint32(size - 1)
        for n in numba.prange(len(points)):
            gx = gy = gz = np.float32(0)
            for level in range(levels):
                ox, oy, oz, row = cell_of(points, n, scalings[level], mask)
                px, py, pz = ONE - ox, ONE - oy, ONE - oz
                for f in range(features):
                    v0, v1 = table[level, row[0], f], table[level, row[1], f]
                    v2, v3 = table[level, row[2], f], table[level, row[3], f]
                    v4, v5 = table[level, row[4], f], table[level, row[5], f]
                    v6, v7 = table[level, row[6], f], table[level, row[7], f]
                    g = grad[n, level, f] * scalings[level]
                    gx += g * (((v1 - v0) * py + (v3 - v2) * oy) * pz + ((v5 - v4) * py + (v7 - v6) * oy) * oz)
                    gy += g * (((v2 - v0) * px + (v3 - v1) * ox) * pz + ((v6 - v4) * px + (v7 - v5) * ox) * oz)
                    gz += g * (((v4 - v0) * px + (v5 - v1) * ox) * py + ((v6 - v2) * px + (v7 - v3) * ox) * oy)
            grad_points[n, 0], grad_points[n, 1], grad_points[n, 2] = gx, gy, gz

    return encode, scatter, slope


def encode_into(table: Tensor, points: np.ndarray, scalings: np.ndarray) -> Tensor:
    """The encoding (N, L · F) of points (N, 3) in a ``table`` (L · T, F); no gradient follows it."""
    rows = table.detach().view(len(scalings), -1, table.shape[-1])
    out = torch.empty(len(points), len(scalings), table.shape[-1])
    encode, _, _ = _kernels(table.shape[-1])
    encode(points, rows.numpy(), scalings, out.numpy())
    return out.flatten(1)


def scatter_into(grad_table: Tensor, points: np.ndarray, grad: np.ndarray, scalings: np.ndarray) -> Tensor:
    """``grad_table`` (L · T, F), to which the gradient of the encoding (N, L, F) of points (N, 3) is added."""
    _, scatter, _ = _kernels(grad.shape[-1])
    scatter(points, grad, scalings, grad_table.view(len(scalings), -1, grad.shape[-1]).numpy())
    return grad_table


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points: Tensor, table: Tensor, scalings: np.ndarray) -> Tensor:
        levels = len(scalings)
        rows = table.detach().view(levels, -1, table.shape[-1])
        out = torch.empty(points.shape[0], levels, table.shape[-1])
        encode, _, _ = _kernels(table.shape[-1])
        encode(points.detach().numpy(), rows.numpy(), scalings, out.numpy())
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
        _, scatter, slope = _kernels(table.shape[-1])
        if ctx.needs_input_grad[0]:
            grad_points = torch.empty_like(points)
            slope(points.detach().numpy(), grad, rows.numpy(), ctx.scalings, grad_points.numpy())
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(rows)
            scatter(points.detach().numpy(), grad, ctx.scalings, grad_table.numpy())
            grad_table = grad_table.view_as(table)
        return grad_points, grad_table, None


class FusedHashEncoding(HashEncoding):
    """nerfstudio's HashEncoding with the same parameters and values; on a CPU the kernels above do the work, on an
    NVIDIA GPU Warp's where they can, else PyTorch, in little memory."""

    _scalings: Tensor | None = None  # where the points are, so that they are moved there once

    def pytorch_fwd(self, in_tensor: Tensor) -> Tensor:
        """Points (…, 3) in [0, 1] → features (…, levels × features a level)."""
        flat = in_tensor.reshape(-1, 3).contiguous()
        # A fake tensor has no memory to read.
        if flat.device.type == "cpu" and flat.dtype == torch.float32 and type(flat.data) is Tensor:
            encoded = _Encode.apply(flat, self.hash_table, self.scalings.numpy().astype(np.float32))
        else:
            if self._scalings is None or self._scalings.device != flat.device:
                self._scalings = self.scalings.to(flat.device, torch.float32)
            encode = LeanEncode
            if usable(flat.device):
                from engine.scenes.nerfacto.warp_hash import WarpEncode as encode
            encoded = encode.apply(flat, self.hash_table, self._scalings)
        return encoded.view(*in_tensor.shape[:-1], -1)


def use_fused_hash_encoding(model: nn.Module) -> None:
    """Let every PyTorch hash encoding inside ``model`` run as FusedHashEncoding, parameters untouched."""
    for module in model.modules():
        if type(module) is HashEncoding and module.tcnn_encoding is None:
            module.__class__ = FusedHashEncoding


def compile_kernels(features: int) -> None:
    """Compile the kernels (or load them from numba's cache) before the first step needs them."""
    points = torch.zeros(1, 3, requires_grad=True)
    table = torch.zeros(2, features, requires_grad=True)
    _Encode.apply(points, table, np.ones(1, np.float32)).sum().backward()
