# SPDX-License-Identifier: GPL-3.0-or-later
"""What the workers of the tests' clusters know besides: the tests' own preset and editor."""

from engine.editors import registry
from engine.presets import PRESETS

from .conftest import PRESET
from .toy_editor import KIND


def begin():
    PRESETS[PRESET.name] = PRESET
    if KIND not in registry.KINDS:
        registry.KINDS.append(KIND)
