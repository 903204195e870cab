# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant-NGP's hash encoding in Warp: one kernel forward, two backward, on a GPU (or, to be tested, on a CPU). Import
it through kernels.py, which knows whether Warp can be used. docs/kernels.md says why Warp.

Warp reads the kernels' annotations where the types are arguments of a function, so that none of them may be postponed.
"""

from functools import lru_cache
from typing import Any

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.scenes.nerfacto.warp_launch import array, launch

# The primes of instant-ngp, eq. 4 (the first is 1).
PRIME_Y = wp.constant(wp.uint32(2654435761))
PRIME_Z = wp.constant(wp.uint32(805459861))
NEXT = wp.constant(wp.uint32(1))
KINDS = {torch.float32: wp.float32, torch.float16: wp.float16}


@wp.func
def _row(cell: wp.vec3, corner: int, mask: wp.uint32) -> int:
    """The row of a level's table that holds a corner of a cell; bits 0, 1, 2 of ``corner`` are its x, y, z."""
    x = wp.uint32(int(cell[0]))
    y = wp.uint32(int(cell[1])) * PRIME_Y
    z = wp.uint32(int(cell[2])) * PRIME_Z
    if (corner & 1) != 0:
        x = x + NEXT
    if (corner & 2) != 0:
        y = y + PRIME_Y
    if (corner & 4) != 0:
        z = z + PRIME_Z
    return int((x ^ y ^ z) & mask)


@wp.func
def _weights(offset: wp.vec3, corner: int) -> wp.vec3:
    """A corner's weight along x, y and z, by the offset in its cell."""
    weight = wp.vec3(1.0 - offset[0], 1.0 - offset[1], 1.0 - offset[2])
    if (corner & 1) != 0:
        weight[0] = offset[0]
    if (corner & 2) != 0:
        weight[1] = offset[1]
    if (corner & 4) != 0:
        weight[2] = offset[2]
    return weight


@wp.func
def _floor(p: wp.vec3) -> wp.vec3:
    return wp.vec3(wp.floor(p[0]), wp.floor(p[1]), wp.floor(p[2]))


@lru_cache
def _kernels(features: int, kind: Any) -> tuple[Any, Any, Any]:
    """(encode, scatter, slope) for tables, encodings and their gradients of a ``kind`` of numbers, ``features`` a row:
    a constant, so that the compiler unrolls them. The gradient of a table is of 32 bits."""

    @wp.kernel(enable_backward=False, module="unique")
    def encode(
        points: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=kind, ndim=2),
        scalings: wp.array(dtype=float),
        size: int,
        out: wp.array(dtype=kind, ndim=2),
    ):
        level, n = wp.tid()
        scaled = points[n] * scalings[level]
        cell = _floor(scaled)
        for f in range(wp.static(features)):
            total = float(0.0)
            for corner in range(8):
                w = _weights(scaled - cell, corner)
                row = level * size + _row(cell, corner, wp.uint32(size - 1))
                total += float(table[row, f]) * w[0] * w[1] * w[2]
            out[n, level * wp.static(features) + f] = kind(total)

    @wp.kernel(enable_backward=False, module="unique")
    def scatter(
        points: wp.array(dtype=wp.vec3),
        grad: wp.array(dtype=kind, ndim=2),
        scalings: wp.array(dtype=float),
        size: int,
        grad_table: wp.array(dtype=float, ndim=2),
    ):
        level, n = wp.tid()
        scaled = points[n] * scalings[level]
        cell = _floor(scaled)
        for corner in range(8):
            w = _weights(scaled - cell, corner)
            row = level * size + _row(cell, corner, wp.uint32(size - 1))
            for f in range(wp.static(features)):
                g = float(grad[n, level * wp.static(features) + f])
                wp.atomic_add(grad_table, row, f, g * w[0] * w[1] * w[2])

    @wp.kernel(enable_backward=False, module="unique")
    def slope(
        points: wp.array(dtype=wp.vec3),
        grad: wp.array(dtype=kind, ndim=2),
        table: wp.array(dtype=kind, ndim=2),
        scalings: wp.array(dtype=float),
        size: int,
        grad_points: wp.array(dtype=wp.vec3),
    ):
        n = wp.tid()
        total = wp.vec3(0.0, 0.0, 0.0)
        for level in range(scalings.shape[0]):
            scaled = points[n] * scalings[level]
            cell = _floor(scaled)
            for corner in range(8):
                w = _weights(scaled - cell, corner)
                row = level * size + _row(cell, corner, wp.uint32(size - 1))
                along = float(0.0)
                for f in range(wp.static(features)):
                    along += float(grad[n, level * wp.static(features) + f]) * float(table[row, f])
                along = along * scalings[level]
                sx = float(2 * (corner & 1) - 1)
                sy = float((corner & 2) - 1)
                sz = float((corner & 4) / 2 - 1)
                total += along * wp.vec3(sx * w[1] * w[2], sy * w[0] * w[2], sz * w[0] * w[1])
        grad_points[n] = total

    return encode, scatter, slope


class WarpEncode(torch.autograd.Function):
    """points (N, 3), table (L × T, F), scalings (L,) → features (N, L × F), of the table's kind of numbers; T is a
    power of two."""

    @staticmethod
    def forward(ctx, points: Tensor, table: Tensor, scalings: Tensor) -> Tensor:
        levels, features = len(scalings), table.shape[-1]
        out = table.new_empty(len(points), levels * features)
        encode, _, _ = _kernels(features, KINDS[table.dtype])
        given = (array(points, wp.vec3), array(table), array(scalings), len(table) // levels)
        launch(encode, (levels, len(points)), given, (array(out),), points.device)
        ctx.save_for_backward(points, table, scalings)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        points, table, scalings = ctx.saved_tensors
        levels, features = len(scalings), table.shape[-1]
        _, scatter, slope = _kernels(features, KINDS[table.dtype])
        grad = array(grads[0].contiguous())
        size = len(table) // levels
        grad_points = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_points = torch.empty_like(points)
            given = (array(points, wp.vec3), grad, array(table), array(scalings), size)
            launch(slope, len(points), given, (array(grad_points, wp.vec3),), points.device)
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(table, dtype=torch.float32)
            given = (array(points, wp.vec3), grad, array(scalings), size)
            launch(scatter, (levels, len(points)), given, (array(grad_table),), points.device)
            grad_table = grad_table.to(table.dtype)
        return grad_points, grad_table, None
