# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job says of itself as it goes on, as curves, and a small picture of them. Free of bpy."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from .messages import Progress

LOSS, HELD_OUT, CHANGE = "loss", "held_out", "change"
COLORS = {LOSS: (0.95, 0.55, 0.15), HELD_OUT: (0.35, 0.65, 1.0), CHANGE: (0.35, 0.65, 1.0)}  # RGB, 0–1
LOGARITHMIC = {LOSS, CHANGE}  # what falls to a small part of where it began
STAGES = {"train", "edit"}  # that are worth looking at; a new one begins new curves
MOST = 240  # points of a curve, the oldest of which lie farther apart the more there are
WIDTH, HEIGHT = 180, 120  # pixels
GROUND, RULE = (0.11, 0.11, 0.11, 1.0), (0.22, 0.22, 0.22, 1.0)
THICK = 1  # pixels above and below a curve's middle

Point = tuple[float, float]


@dataclass
class Curves:
    """Values by name, each at the step it was said for; ``latest`` are the last ones."""

    stage: str = ""
    of: int = 0
    points: dict[str, list[Point]] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    changes: int = 0  # grows with each of them

    def add(self, said: Progress) -> None:
        """Take what a progress message says; what is no number counts as not said."""
        values = {LOSS: said.loss, HELD_OUT: said.held_out, CHANGE: said.change}
        found = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        if said.stage not in STAGES or not found:
            return
        if said.stage != self.stage:
            self.stage, self.points, self.latest = said.stage, {}, {}
        self.of = said.of
        for name, value in found.items():
            curve = self.points.setdefault(name, [])
            if curve and curve[-1][0] >= said.step:
                curve[-1] = (curve[-1][0], value)
            else:
                curve.append((float(said.step), value))
            if len(curve) > MOST:
                del curve[1:-1:2]
            self.latest[name] = value
        self.changes += 1

    @property
    def worth_drawing(self) -> bool:
        """Whether there is a line at all."""
        return any(len(curve) > 1 for curve in self.points.values())


def picture(curves: Curves, width: int = WIDTH, height: int = HEIGHT) -> array[int]:
    """The curves, over all steps of their stage: ``width`` × ``height`` pixels of 32 bits (red in the lowest byte,
    alpha in the highest), row by row from the bottom."""
    pixels = array("i", [_packed(GROUND)]) * (width * height)
    for quarter in (1, 2, 3):
        row = quarter * height // 4
        pixels[row * width : (row + 1) * width] = array("i", [_packed(RULE)]) * width
    for name, curve in curves.points.items():
        if len(curve) > 1:
            _draw(pixels, width, height, curve, curves.of, name)
    return pixels


def _draw(pixels: array[int], width: int, height: int, curve: Sequence[Point], of: int, name: str) -> None:
    log = name in LOGARITHMIC and min(value for _, value in curve) > 0
    steps = [step for step, _ in curve]
    values = [math.log(value) if log else value for _, value in curve]
    low, high = min(values), max(values)
    scale = (height - 9) / (high - low) if high > low else 0.0
    color, last_step = _packed((*COLORS[name], 1.0)), max(float(of), steps[-1], 1.0)
    first, last = int(steps[0] / last_step * (width - 1)), int(steps[-1] / last_step * (width - 1))
    before = None
    for x in range(first, last + 1):
        step = x / (width - 1) * last_step
        after = min(max(bisect_left(steps, step), 1), len(steps) - 1)
        begin, end = steps[after - 1], steps[after]
        share = min(1.0, max(0.0, (step - begin) / (end - begin)))
        value = values[after - 1] + share * (values[after] - values[after - 1])
        y = 4 + round((value - low) * scale) if scale else height // 2
        one, other = (y, y) if before is None else (min(y, before), max(y, before))
        for row in range(max(0, one - THICK), min(height, other + THICK + 1)):
            pixels[row * width + x] = color
        before = y


def _packed(color: Sequence[float]) -> int:
    """A color of four numbers, 0–1, as a pixel of 32 bits, which Blender takes with a sign."""
    value = sum(round(255 * channel) << 8 * place for place, channel in enumerate(color))
    return value - 2**32 if value >= 2**31 else value
