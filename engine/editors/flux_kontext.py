# SPDX-License-Identifier: GPL-3.0-or-later
"""FLUX.1 Kontext [dev] (Black Forest Labs, 2025). Any folder that diffusers loads as a
FluxKontextPipeline. It is distilled: its guidance is a number that the network is told, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.editors.flow_matching import Condition, FlowEditor, Prepared, Size
from engine.protocol import OptionValue

TRAINED = 1024  # pixels along the edge of its training pictures, squared


class FluxKontext(FlowEditor):
    """The editor. Its latents are packed 2×2; the original is a second picture beside the edit's own."""

    networks = ("transformer", "vae", "text_encoder", "text_encoder_2")
    others = ("tokenizer", "tokenizer_2", "scheduler")

    def embed(self, instruction: str, options: Mapping[str, OptionValue]) -> Any:
        return self.pipeline.encode_prompt(prompt=instruction, prompt_2=None)

    def condition(self, prepared: Prepared, pictures: list[Tensor], sizes: list[Size]) -> Condition:
        size = sizes[0]
        rows, columns = self.grid(size)
        own = self.pipeline._prepare_latent_image_ids(1, rows, columns, self.device, self.dtype)
        beside = own.clone()
        beside[..., 0] = 1
        tokens = self.encode(self.resized(pictures[0], size))
        return Condition(size, prepared.words, None, tokens, torch.cat([own, beside]))

    def noise(self, size: Size, generator: torch.Generator) -> Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        rows, columns = self.grid(size)
        shape = (1, self.pipeline.transformer.config.in_channels // 4, 2 * rows, 2 * columns)
        return self._packed(randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype))

    def encode(self, picture: Tensor) -> Tensor:
        return self._packed(self.pipeline._encode_vae_image(image=picture, generator=None).to(self.device))

    def decode(self, tokens: Tensor, size: Size) -> Tensor:
        vae = self.pipeline.vae
        latents = self.pipeline._unpack_latents(tokens, *size, self.pipeline.vae_scale_factor)
        return vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]

    def velocity(
        self, tokens: Tensor, timestep: Tensor, condition: Condition, options: Mapping[str, OptionValue]
    ) -> Tensor:
        words, pooled, places = condition.told
        guidance = None
        if self.pipeline.transformer.config.guidance_embeds:
            guidance = torch.full([1], float(options["text_guidance"]), device=self.device, dtype=torch.float32)
        return self.pipeline.transformer(
            hidden_states=torch.cat([tokens, condition.pictures], dim=1),
            timestep=timestep / 1000,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=words,
            txt_ids=places,
            img_ids=condition.places,
            return_dict=False,
        )[0][:, : tokens.shape[1]]

    def working_size(self, height: int, width: int, native: int) -> Size:
        """The one of the sizes it was trained at that is nearest in aspect; smaller alike where that is asked."""
        from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

        aspect = width / height
        _, w, h = min((abs(aspect - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        return tuple(max(1, round(side * native / TRAINED / self.multiple)) * self.multiple for side in (h, w))  # type: ignore

    def _packed(self, latents: Tensor) -> Tensor:
        return self.pipeline._pack_latents(latents, *latents.shape)


def load(source: str, name: str, device: str) -> FluxKontext:
    """Load an editor from its folder, safetensors only. Raises BadInput where it cannot be had."""
    from diffusers import FluxKontextPipeline

    return FluxKontext.load(FluxKontextPipeline, source, name, device, image_encoder=None, feature_extractor=None)
