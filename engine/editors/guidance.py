# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix's two guidance scales."""

from __future__ import annotations

import msgspec


class Guidance(msgspec.Struct, frozen=True):
    """How strongly the picture is drawn to the instruction, and to the original."""

    text: float = 7.5
    image: float = 1.5
