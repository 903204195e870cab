# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine with one row more, the toy editor's, and a preset that takes seconds. A program: it serves."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from engine.process import set_up_process  # noqa: E402

set_up_process()

import msgspec  # noqa: E402

from engine import presets  # noqa: E402
from engine.editors import registry  # noqa: E402
from engine.scenes.settings import TrainingConfig  # noqa: E402
from engine.serving import serve  # noqa: E402
from tests.engine.toy_editor import KIND  # noqa: E402

registry.KINDS.append(KIND)
presets.PRESETS["preview"] = presets.PREVIEW = msgspec.structs.replace(
    presets.PREVIEW,
    long_side=64,
    train=TrainingConfig(4, 64),
    edit=msgspec.structs.replace(presets.PREVIEW.edit, steps=2),
)

if __name__ == "__main__":
    serve()
