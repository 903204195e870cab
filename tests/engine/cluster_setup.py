# SPDX-License-Identifier: GPL-3.0-or-later
"""What the workers of the tests' clusters know besides: a preset, an editor, a size of the truth benchmark."""

from benchmarks.truth.methods import SIZES, Size
from engine.edit.settings import EditSettings
from engine.editors import registry
from engine.presets import PRESETS
from engine.scenes.settings import LossConfig, TrainingConfig

from .conftest import PRESET, TINY_NERF
from .toy_editor import KIND

TRUTH = Size(
    48, TINY_NERF, TrainingConfig(20, 128),
    EditSettings(steps=16, steps_per_round=4, patches=1, patch=8, losses=LossConfig("l1")),
)  # fmt: skip


def begin():
    PRESETS[PRESET.name] = PRESET
    SIZES["small"] = TRUTH
    if KIND not in registry.KINDS:
        registry.KINDS.append(KIND)
