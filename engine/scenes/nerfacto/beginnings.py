# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training that has collapsed is begun again with."""

from __future__ import annotations

from msgspec.structs import replace

from engine.randomness import random_seed
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.settings import OptimiserConfig

# What a training is begun again with, attempt by attempt: times the learning rate, times the initial density.
BEGINNINGS = ((1.0, 1.0), (1.0, 1.0), (0.3, 10.0))


def begun_again(
    nerf: NerfactoConfig, optimiser: OptimiserConfig, seed: int, attempt: int
) -> tuple[NerfactoConfig, OptimiserConfig, int]:
    """A scene's configuration, its optimiser's and its seed at the ``attempt``-th beginning; the 0th is as given.

    What collapses most are pictures whose larger part is one color: if nothing is there and that color is behind it,
    little is wrong. Later attempts put random colors there, before which a scene must be opaque.
    """
    if attempt == 0:
        return nerf, optimiser, seed
    rate, density = BEGINNINGS[min(attempt, len(BEGINNINGS) - 1)]
    return (
        replace(
            nerf, background=nerf.background or (0.5, 0.5, 0.5), initial_density=min(nerf.initial_density * density, 10)
        ),
        replace(optimiser, learning_rate=max(optimiser.learning_rate * rate, optimiser.final_learning_rate)),
        random_seed(seed, "attempt", attempt),
    )
