# SPDX-License-Identifier: GPL-3.0-or-later
"""How a scene is trained, whatever represents it, as plain values: importable without torch."""

from __future__ import annotations

from typing import Literal

import msgspec


class LossConfig(msgspec.Struct, frozen=True):
    """How far a rendered ray is from its pixel. A representation's own regularisers are always added."""

    pixel: Literal["mse", "l1"] = "mse"
    perceptual_weight: float = 0.0  # of LPIPS, where the batch comes in patches; 0: not computed
    opacity_weight: float = 0.1  # of the squared error of opacity, where a scene stands in empty space
    depth_weight: float = 0.0  # of the loss of known depth, where there is any
    flat_weight: float = 0.0  # of how far from flat it is where pictures are plain, at the last step
    solid_weight: float = (
        0.0  # of the square of what comes through a scene that does not: photos show something all over
    )


class OptimiserConfig(msgspec.Struct, frozen=True):
    """Adam with an exponential decay, as nerfstudio's nerfacto has it."""

    learning_rate: float = 1e-2
    final_learning_rate: float = 1e-4
    decay_steps: int = 200_000
    camera_learning_rate: float = 1e-3
    camera_final_learning_rate: float = 1e-4
    camera_decay_steps: int = 5000


class TrainingConfig(msgspec.Struct, frozen=True):
    """What a step learns from: single rays of all pixels of all views or, later, square patches of them."""

    steps: int
    rays: int  # a step, whether single or in patches
    losses: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    single_rays: float = 1.0  # share of the steps, from the first, on single rays; then come patches
    patch: int = 32  # edge of a patch, pixels

    @property
    def patches(self) -> int:
        """Patches in a step."""
        return max(1, self.rays // self.patch**2)
