"""Edits with an exported model through the engine, exactly as its users get them."""

from pathlib import Path

import msgspec
import numpy as np
import torch
from engine.editors.guidance import Guidance

from engine.edit.settings import EditSettings
from engine.editors.instruct_pix2pix import load_editor
from engine.jobs.edit import TRY_NOISE, with_editor


class Editor:
    """An exported folder on the CPU."""

    def __init__(self, folder: Path):
        self.name = str(folder)
        self.model = load_editor(self.name, "cpu")

    def guidance(self, instruction: str, **changes: float) -> Guidance:
        """What the folder recommends for an instruction, with `changes`."""
        return msgspec.structs.replace(with_editor(EditSettings(), self.name, instruction).guidance, **changes)

    def edit(
        self,
        picture: np.ndarray,
        text: str,
        guidance: Guidance | None = None,
        steps: int | None = None,
        level: float = TRY_NOISE,
        current: np.ndarray | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """The edit of a picture (H, W, 3) in 0..1, with what the folder recommends where nothing is said.

        level: the noise that `current` (the picture itself if None) starts with; 1 is pure noise.
        """
        settings = with_editor(EditSettings(), self.name, text)
        guidance = guidance or settings.guidance
        words, original = self.model.embed(text), torch.from_numpy(picture)
        edited = self.model.edit(
            original if current is None else torch.from_numpy(current),
            self.model.condition(original, words, guidance),
            words,
            level,
            guidance,
            torch.Generator().manual_seed(seed),
            steps or settings.diffusion_steps,
        )
        return edited.numpy()
