# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant-NGP's hash encoding in plain PyTorch, for any device, that keeps nothing but its inputs.

nerfstudio's version leaves every intermediate of its eight corners to autograd: 8.5 kB for each point of a full-size
field. Here the backward pass computes them again, corner by corner and a piece of the points at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The primes of instant-ngp, eq. 4 (the first is 1), as signed 32 bits hold them: sizes of tables are powers of two,
# so that only the low bits count.
PRIMES = (1, 2654435761 - 2**32, 805459861)
PIECE = 2**21  # points times levels that are looked up at once: some 150 MB of intermediates


class LeanEncode(torch.autograd.Function):
    """points (N, 3), table (L × T, F), scalings (L,) → features (N, L × F); T a power of two."""

    @staticmethod
    def forward(ctx, points: Tensor, table: Tensor, scalings: Tensor) -> Tensor:
        ctx.save_for_backward(points, table, scalings)
        out = points.new_empty(len(points), len(scalings), table.shape[-1])
        for piece in _pieces(points, scalings):
            part = out[piece].zero_()
            for rows, (x, y, z), _ in _corners(points[piece], table, scalings):
                part.addcmul_((x * y * z)[..., None], _looked_up(table, rows))
        return out.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        points, table, scalings = ctx.saved_tensors
        grad = grads[0].view(len(points), len(scalings), -1)
        wanted_points, wanted_table = ctx.needs_input_grad[:2]
        grad_points = torch.empty_like(points) if wanted_points else None
        grad_table = torch.zeros_like(table) if wanted_table else None
        for piece in _pieces(points, scalings):
            slope = points.new_zeros(*grad[piece].shape[:2], 3) if wanted_points else None
            for rows, (x, y, z), (sx, sy, sz) in _corners(points[piece], table, scalings):
                if grad_table is not None:
                    share = (x * y * z)[..., None] * grad[piece]
                    grad_table.index_add_(0, rows.flatten(), share.view(-1, share.shape[-1]))
                if slope is not None:
                    along = (_looked_up(table, rows) * grad[piece]).sum(-1)
                    for axis, rate in enumerate((sx * y * z, sy * x * z, sz * x * y)):
                        slope[..., axis].addcmul_(rate, along)
            if grad_points is not None:
                grad_points[piece] = (slope * scalings[:, None]).sum(1)
        return grad_points, grad_table, None


def _pieces(points: Tensor, scalings: Tensor) -> Iterator[slice]:
    size = max(1, PIECE // len(scalings))
    return (slice(start, start + size) for start in range(0, len(points), size))


def _corners(
    points: Tensor, table: Tensor, scalings: Tensor
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]]:
    """Of each of the eight corners of the points' cells: its rows in the table (n, L), int32; its weight along x, y
    and z, (n, L) each, whose product is its weight; and how those grow with the offset in the cell, +1 or −1."""
    levels = len(scalings)
    size = len(table) // levels
    first_row = torch.arange(levels, device=points.device, dtype=torch.int32) * size
    hashes, weights = [], []
    for axis, prime in enumerate(PRIMES):
        scaled = points[:, axis, None] * scalings
        cell = scaled.floor()
        low = cell.to(torch.int32) * prime
        hashes.append((low, low + prime))
        offset = scaled - cell
        weights.append((1 - offset, offset))
    for corner in product((0, 1), repeat=3):
        (hx, hy, hz), (x, y, z) = (
            [values[side] for values, side in zip(of_axes, corner, strict=True)] for of_axes in (hashes, weights)
        )
        signs = tuple(2 * side - 1 for side in corner)
        yield ((hx ^ hy ^ hz) & (size - 1)) + first_row, (x, y, z), signs  # type: ignore[misc]


def _looked_up(table: Tensor, rows: Tensor) -> Tensor:
    return table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[-1])
