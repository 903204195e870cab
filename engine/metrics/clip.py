# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's measures by CLIP, where its weights are on this computer (engine/hub.py)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.parts import check_whole
from engine.hub import clip_folder

log = logging.getLogger(__name__)


class Clip:
    """CLIP's two encoders; embeddings are unit vectors."""

    def __init__(self, model, processor):
        self.model = model.eval().requires_grad_(False)
        self.processor = processor

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        """Pictures (H, W, 3), 0–1 → (N, D)."""
        arrays = [(p.clamp(0, 1) * 255).round().byte().cpu().numpy() for p in pictures]
        inputs = self.processor(images=arrays, return_tensors="pt").to(self.model.device)
        return F.normalize(_features(self.model.get_image_features(**inputs)), dim=-1)

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """Captions → (N, D)."""
        inputs = self.processor(text=list(captions), return_tensors="pt", padding=True, truncation=True)
        return F.normalize(_features(self.model.get_text_features(**inputs.to(self.model.device))), dim=-1)


def _features(output) -> Tensor:
    """transformers 5 wraps what transformers 4 returned."""
    return output if isinstance(output, Tensor) else output.pooler_output


def load_clip(device, source: Path | None = None) -> Clip | None:
    """CLIP from a folder, else from where a download of it lies, safetensors only; None where it cannot be had."""
    from transformers import CLIPModel, CLIPProcessor

    folder = source or clip_folder()
    if folder is None:
        log.info("CLIP is not on this computer; its measures are left out")
        return None
    try:
        model, told = CLIPModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        check_whole(model, told, folder)
        return Clip(model.to(device), CLIPProcessor.from_pretrained(folder, local_files_only=True))
    except Exception as error:  # transformers raises a dozen kinds; to the artist they are one
        log.info("CLIP's weights cannot be had (%s); its measures are left out", str(error).splitlines()[:1])
        return None


def direction_similarity(original: Tensor, edited: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """cos(C(e) − C(o), C(caption after) − C(caption before)): (N,), of picture embeddings (N, D) and caption embeddings
    (D,)."""
    return F.cosine_similarity(edited - original, (after - before).expand_as(edited), dim=-1)


def direction_consistency(original: Tensor, edited: Tensor) -> Tensor:
    """cos(C(o_{i+1}) − C(o_i), C(e_{i+1}) − C(e_i)): (N − 1,), of the embeddings (N, D) of a path's frames in order."""
    return F.cosine_similarity(original[1:] - original[:-1], edited[1:] - edited[:-1], dim=-1)
