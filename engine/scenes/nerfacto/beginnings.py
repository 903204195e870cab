# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training that has collapsed is begun again with."""

from __future__ import annotations

from msgspec.structs import replace

from engine.randomness import random_seed
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.settings import OptimiserConfig

# Times the learning rate, attempt by attempt. Where most of every picture is one color, the first large steps make all
# of space empty, with that color behind it, from where no gradient leads back; small steps find the object first.
BEGINNINGS = (1.0, 0.2, 0.1)


def begun_again(
    nerf: NerfactoConfig, optimiser: OptimiserConfig, seed: int, attempt: int
) -> tuple[NerfactoConfig, OptimiserConfig, int]:
    """A scene's configuration, its optimiser's and its seed at the ``attempt``-th beginning; the 0th is as given."""
    if attempt == 0:
        return nerf, optimiser, seed
    rate = optimiser.learning_rate * BEGINNINGS[min(attempt, len(BEGINNINGS) - 1)]
    return (
        nerf,
        replace(optimiser, learning_rate=rate, final_learning_rate=min(rate, optimiser.final_learning_rate)),
        random_seed(seed, "attempt", attempt),
    )
