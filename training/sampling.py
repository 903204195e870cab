"""Edits with an exported model through the engine, exactly as its users get them."""

from pathlib import Path

import numpy as np
import torch

from engine.edit.keep import edit_alone
from engine.edit.settings import EditSettings, with_options
from engine.editors.catalogue import load_editor
from engine.jobs.trying import NOISE
from engine.protocol import OptionValue


class Editor:
    """An exported folder on the CPU."""

    def __init__(self, folder: Path):
        self.name = str(folder)
        self.model = load_editor(self.name, "cpu")

    def edit(
        self,
        picture: np.ndarray,
        text: str,
        options: dict[str, OptionValue] | None = None,
        steps: int | None = None,
        level: float = NOISE,
        current: np.ndarray | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """The edit of a picture (H, W, 3) in 0..1, with what the folder recommends where no option is given.

        level: the noise that `current` (the picture itself if None) starts with; 1 is pure noise.
        """
        given = (options or {}) | ({"diffusion_steps": steps} if steps else {})
        settings = with_options(EditSettings(), self.name, text, given)
        original = torch.from_numpy(picture)
        prepared = self.model.prepare(text, settings.options)
        start = original if current is None else torch.from_numpy(current)
        random = torch.Generator().manual_seed(seed)
        return edit_alone(prepared, original, start, level, settings.keep, random).numpy()
