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
    tethered: bool = False  # an edit goes no further from its picture than the drawn noise lets it: its ratio to signal

    @property
    def sensible(self) -> bool:
        """Whether both scales are numbers from 0 to 100 and relevance is one from 0 to 1."""
        return 0 <= self.text <= 100 and 0 <= self.image <= 100 and 0 <= self.relevance <= 1
