# SPDX-License-Identifier: GPL-3.0-or-later
"""The representations of a scene there are: one row each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import BadInput
from engine.geometry import Camera
from engine.scenes.base import SavedScene, SceneTrainer
from engine.scenes.settings import TrainingConfig
from engine.scenes.stored import TensorFile

# Name → where it begins and where it is read from disk: (function, class), each as module:name. The name stands in a
# checkpoint's metadata, as "representation", and in its configuration's class.
REPRESENTATIONS = {
    "nerfacto": ("engine.scenes.nerfacto.training:begin", "engine.scenes.nerfacto.checkpoint:Checkpoint"),
}
FIRST = "nerfacto"  # of checkpoints that do not say


def begin_scene(
    config: Any,
    views: Sequence[Camera],
    centre: np.ndarray,
    training: TrainingConfig,
    seed: int,
    device: str,
    background: tuple[float, float, float] | None = None,
    attempt: int = 0,
) -> SceneTrainer:
    """A trainer of a scene that knows nothing yet. ``config``: a representation's own; ``centre`` (3,): what the
    cameras look at, capture frame; ``background``: the color (0–1) behind a scene that stands in empty space;
    ``attempt``: how often it was begun before, for others from the same values have collapsed."""
    begin, _ = REPRESENTATIONS[config.representation]
    return _named(begin)(config, views, centre, training, seed, device, background, attempt)


def open_scene(path: Path) -> SavedScene:
    """The scene that was saved at ``path``. Raises BadInput where it is none."""
    name = FIRST
    if path.exists():  # else its own reader says so
        name = TensorFile(path, "train again").metadata.get("representation", FIRST)
    if name not in REPRESENTATIONS:
        raise BadInput(f"{path} holds a scene of a kind that this engine does not know; update it.", file=path)
    _, opened = REPRESENTATIONS[name]
    return _named(opened)(path)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
