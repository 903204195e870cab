# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures whose pixels are finer than those that a scene was learned from: most of them lie between neighbors that say
what they are.

Rays go through every S-th pixel of every S-th row, S such that these are about as coarse as what was learned. Then the
distance is halved, first along the rows and then between them, until no pixel is left: a pixel in the middle of two
that are known is what the cubic through the next four says, and its ray is followed where that cannot be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

COARSEST = 16  # stride
COARSER = 1.25  # the rays that are always followed may be so much further apart than the pixels that were learned from
CURVED = 1 / 255  # how far the cubic's middle may lie from the straight line's: color and opacity, 0–1
APART = 0.2  # how far two neighbors may lie apart, color
JUMP = 0.05  # and how far in distance, of the nearer one's
OPACITY = 4
TONES = [0, 1, 2, OPACITY]  # of the columns of what a ray sees, color and opacity; the others are distances

See = Callable[[Tensor], Tensor]
"""What the rays through some pixels (N, row by row) of a picture see: (N, C), color, distance, opacity, distances."""


def stride_of(pixel: float, learned: float) -> int:
    """Every how many pixels a ray is always followed, a power of two, in a picture whose pixels are ``pixel`` large,
    of a scene learned from pixels ``learned`` large (radians both; 0: not known)."""
    ratio = learned * COARSER / pixel
    return min(2 ** int(math.log2(ratio)), COARSEST) if 2 <= ratio < math.inf else 1


def see_all(height: int, width: int, stride: int, see: See) -> Tensor:
    """What all pixels see, (height · width, C), row by row."""
    first = _pixels(range(0, height, stride), range(0, width, stride))
    values = see(first[:, 0] * width + first[:, 1])
    seen = values.new_empty(height, width, values.shape[1])
    seen[first[:, 0], first[:, 1]] = values
    while stride > 1:
        half = stride // 2
        along = _pixels(range(0, height, stride), range(half, width, stride))
        between = _pixels(range(half, height, stride), range(0, width, half))
        for new, axis in (along, 1), (between, 0):
            new = new.to(seen.device)
            if len(new):
                told, values = _interpolated(seen, new, axis, half)
                asked = new[~told]
                if len(asked):
                    values[~told] = see(asked[:, 0] * width + asked[:, 1])
                seen[new[:, 0], new[:, 1]] = values
        stride = half
    return seen.flatten(0, 1)


def _pixels(rows: range, columns: range) -> Tensor:
    """(N, 2) all pixels of some rows and columns."""
    return torch.cartesian_prod(*(torch.tensor(some, dtype=torch.int64) for some in (rows, columns))).view(-1, 2)


def _interpolated(seen: Tensor, new: Tensor, axis: int, half: int) -> tuple[Tensor, Tensor]:
    """Of pixels ``new`` (N, 2): whether those ``half`` and three times ``half`` away along ``axis`` tell what they see,
    and what (N, C)."""
    last = (seen.shape[axis] - 1) // (2 * half) * 2 * half  # that is known

    def away(halves: int) -> Tensor:
        place = new.clone()
        place[:, axis] = (place[:, axis] + halves * half).clamp(0, last)
        return seen[place[:, 0], place[:, 1]]

    a, b, c, d = away(-3), away(-1), away(1), away(3)
    straight, values = (b + c) / 2, (9 * (b + c) - (a + d)) / 16
    distances = [column for column in range(seen.shape[2]) if column not in TONES]
    values[:, distances] = straight[:, distances]
    bend, apart = (values - straight).abs()[:, TONES], (b - c).abs()
    values[:, OPACITY] = values[:, OPACITY].clamp(0, 1)
    nearer = torch.minimum(b, c)[:, distances]
    told = (bend < CURVED).all(1) & (apart[:, :3] < APART).all(1) & (apart[:, distances] < JUMP * nearer).all(1)
    return told & (new[:, axis] + half <= last), values
