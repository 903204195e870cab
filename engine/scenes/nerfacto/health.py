# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a training learns its pictures, or has collapsed: to nothing, or to one color for all of them; and what to
begin again with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from msgspec.structs import replace

from engine.scenes.nerfacto.config import NerfactoConfig, OptimiserConfig
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import ImageSet
from engine.scenes.nerfacto.training import random_seed

FIRST = 150  # steps after which a training is looked at; then after twice as many, and so on
RAYS = 2048  # looked at
NOT_LEARNT = 0.9  # of the error of the best picture of one color, and nothing else was learnt
FLAT = 1e-4  # squared error of that picture below which there is nothing more to learn
SOLID = 0.2  # by how much an object is less transparent than the empty space around it, at least


# What a training is begun again with, attempt by attempt: times the learning rate, times the initial density.
BEGINNINGS = ((1.0, 1.0), (1.0, 1.0), (0.3, 10.0))
ATTEMPTS = len(BEGINNINGS)


def begun_again(
    nerf: NerfactoConfig, optimiser: OptimiserConfig, seed: int, attempt: int
) -> tuple[NerfactoConfig, OptimiserConfig, int]:
    """A scene's configuration, its optimiser's and its seed at the ``attempt``-th beginning; the 0th is as given.

    What collapses most are pictures whose larger part is one color: if nothing is there and that color is behind it,
    little is wrong. Later attempts put random colors there, before which a scene must be opaque.
    """
    if attempt == 0:
        return nerf, optimiser, seed
    rate, density = BEGINNINGS[min(attempt, ATTEMPTS - 1)]
    return (
        replace(
            nerf, background=nerf.background or (0.5, 0.5, 0.5), initial_density=min(nerf.initial_density * density, 10)
        ),
        replace(optimiser, learning_rate=max(optimiser.learning_rate * rate, optimiser.final_learning_rate)),
        random_seed(seed, "attempt", attempt),
    )


@dataclass(frozen=True)
class Health:
    """How a scene fits some pixels of its pictures."""

    error: float  # mean squared, colors 0–1
    constant: float  # the same of the best picture of one color
    solid: float | None  # mean opacity of the object less that of empty space; None where there is no empty space

    @property
    def collapsed(self) -> bool:
        """Whether nothing was learnt; a value that is not a number is no learning either."""
        if self.solid is not None and not self.solid >= SOLID:
            return True
        return self.constant > FLAT and not self.error < NOT_LEARNT * self.constant


def is_looked_at(step: int) -> bool:
    """Whether a training is to be looked at after ``step`` steps."""
    times, rest = divmod(step, FIRST)
    return rest == 0 and times > 0 and times & (times - 1) == 0


@torch.no_grad()
def health_of(nerf: Nerfacto, dataset: ImageSet, seed: int, step: int) -> Health:
    """How ``nerf`` fits pixels of ``dataset``, which are drawn by ``seed`` and ``step`` alone; changes nothing that a
    training step uses."""
    batch = dataset.sample_pixels(RAYS, torch.Generator().manual_seed(random_seed(seed, "health", step)))
    was_training = nerf.training
    nerf.eval()
    try:
        rendered = nerf(batch.rays)
    finally:
        nerf.train(was_training)
    solid = None
    if batch.alpha is not None and nerf.background is not None:
        opacity, full, empty = rendered.opacity[:, 0], batch.alpha > 0.5, batch.alpha < 0.5
        if full.any() and empty.any():
            solid = float(opacity[full].mean() - opacity[empty].mean())
    return Health(
        error=float((rendered.rgb - batch.colours).square().mean()),
        constant=float((batch.colours - batch.colours.mean(dim=0)).square().mean()),
        solid=solid,
    )
