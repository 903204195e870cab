# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a training learns its pictures, or has collapsed: to nothing, or to one color for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import BadInput

FIRST = 150  # steps after which a training is looked at; then after twice as many, and so on
NOT_LEARNT = 0.9  # of the error of the best picture of one color, and nothing else was learnt
FLAT = 1e-4  # squared error of that picture below which there is nothing more to learn
SOLID = 0.2  # by how much an object is less transparent than the empty space around it, at least
ATTEMPTS = 3  # beginnings, each from other values, before it is said that a scene cannot be learnt


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


class Diverged(BadInput):
    """A training whose numbers are none any more; nothing of it is to be saved."""
