# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine could do at best: the pace of its memory and arithmetic, measured, and the bytes and operations that
a step and a ray cannot do without."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.nerfacto import Nerfacto

GEOMETRY, HARMONICS, COLORS = 16, 16, 3  # of nerfacto's networks
CORNERS = 8  # of a cell


@dataclass(frozen=True)
class Machine:
    """Measured, on all cores at once."""

    bytes_a_second: float  # read and written
    operations_a_second: float  # multiplications and additions, 32 bits

    @classmethod
    def measured(cls) -> Machine:
        """The best of several goes of PyTorch's copy and matrix product."""
        source, target = torch.zeros(2**26), torch.zeros(2**26)
        left, right = torch.rand(1536, 1536), torch.rand(1536, 1536)
        copied = min(_seconds(lambda: target.copy_(source)) for _ in range(7))
        multiplied = min(_seconds(lambda: left @ right) for _ in range(7))
        return cls(2 * 4 * 2**26 / copied, 2 * 1536**3 / multiplied)

    def seconds(self, cost: Cost) -> float:
        """The least time that it takes, arithmetic and memory at once."""
        return max(cost.bytes / self.bytes_a_second, cost.operations / self.operations_a_second)


def _seconds(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Cost:
    """What cannot be avoided."""

    operations: float
    bytes: float


def _a_point(config: NerfactoConfig) -> tuple[list[float], float, float]:
    """Operations at a point of each proposal, of the field's density and of its color."""

    def encoding(levels: int, features: int) -> int:
        return levels * CORNERS * features * 2

    proposals = [encoding(p.levels, 2) + 2 * (2 * p.levels * p.hidden + p.hidden) for p in config.proposals]
    inputs, hidden = config.levels * config.features_per_level, config.hidden
    density = encoding(config.levels, config.features_per_level) + 2 * (inputs * hidden + hidden * GEOMETRY)
    asked = HARMONICS + GEOMETRY - 1 + config.appearance
    color = 2 * (asked * hidden + hidden * hidden + hidden * COLORS)
    return proposals, density, color


def step_cost(config: NerfactoConfig, rays: int) -> Cost:
    """A training step: every network forward once and backward twice as long; of memory, Adam's pass over weights,
    gradients and both moments (seven times four bytes a parameter), and the gradient's zeros."""
    proposals, density, color = _a_point(config)
    samples = sum(n * p for n, p in zip(config.proposal_samples, proposals, strict=True))
    samples += config.nerf_samples * (density + color)
    parameters = sum(p.numel() for p in Nerfacto(config, 1).parameters())
    return Cost(3.0 * rays * samples, (7 + 1) * 4 * parameters)


def ray_cost(config: NerfactoConfig, colors: float) -> Cost:
    """A rendered ray: all samples' densities, and so many colors."""
    proposals, density, color = _a_point(config)
    samples = sum(n * p for n, p in zip(config.proposal_samples, proposals, strict=True))
    return Cost(samples + config.nerf_samples * density + colors * color, 11 * 4)
