# SPDX-License-Identifier: GPL-3.0-or-later
"""How InstructPix2Pix is steered: its two guidance scales, what it must leave alone, and the sampler."""

from __future__ import annotations

from typing import Literal

import msgspec

Sampler = Literal["ddim", "dpm++"]
"""DDIM (Song et al. 2021), or DPM-Solver++ (2M; Lu et al. 2022), of second order: as good in half the steps."""


class Guidance(msgspec.Struct, frozen=True):
    """How strongly the picture is drawn to the instruction, and to the original; and what keeps the original."""

    text: float = 7.5
    image: float = 1.5
    relevance: float = 0.0  # 0–1: where the instruction matters less than this, the original stays; 0: nowhere
    tethered: bool = False  # of its picture an edit keeps what the drawn noise leaves certain
    guided_above: float = 0.0  # 0–1: the noise level below which both scales are 1, in a third of the time

    @property
    def sensible(self) -> bool:
        """Whether both scales are numbers from 0 to 100, relevance and the level above which they act from 0 to 1."""
        scales, shares = (self.text, self.image), (self.relevance, self.guided_above)
        return all(0 <= scale <= 100 for scale in scales) and all(0 <= share <= 1 for share in shares)

    def at(self, level: float) -> Guidance:
        """The guidance at a noise level (0–1). Low ones do without: by then the edit is made, and more of it only burns
        in (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval")."""
        return self if level >= self.guided_above else msgspec.structs.replace(self, text=1.0, image=1.0)
