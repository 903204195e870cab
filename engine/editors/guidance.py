# SPDX-License-Identifier: GPL-3.0-or-later
"""How InstructPix2Pix is steered: its two guidance scales, and the sampler."""

from __future__ import annotations

from typing import Literal

import msgspec

Sampler = Literal["ddim", "dpm++"]
"""DDIM (Song et al. 2021), or DPM-Solver++ (2M; Lu et al. 2022), of second order: as good in half the steps."""


class Guidance(msgspec.Struct, frozen=True):
    """How strongly the picture is drawn to the instruction, and to the original."""

    text: float = 7.5
    image: float = 1.5

    @property
    def sensible(self) -> bool:
        """Whether both scales are numbers from 0 to 100."""
        return 0 <= self.text <= 100 and 0 <= self.image <= 100
