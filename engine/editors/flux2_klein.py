# SPDX-License-Identifier: GPL-3.0-or-later
"""FLUX.2 [klein] (Black Forest Labs, 2026): four steps, up to four pictures to refer to. Any folder that
diffusers loads as a Flux2KleinPipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.editors.flow_matching import Condition, FlowEditor, Prepared, Size
from engine.protocol import OptionValue


class Flux2Klein(FlowEditor):
    """The editor. Its latents are folded 2×2 into channels and whitened by the encoder's running statistics."""

    networks = ("transformer", "vae", "text_encoder")
    others = ("tokenizer", "scheduler")
    most_pictures = 5  # the original and four to refer to

    def embed(self, instruction: str, options: Mapping[str, OptionValue]) -> tuple[Any, Any]:
        guided = not self.pipeline.config.is_distilled and float(options.get("text_guidance", 1.0)) > 1
        told = self.pipeline.encode_prompt(instruction)
        return told, self.pipeline.encode_prompt("") if guided else None

    def condition(self, prepared: Prepared, pictures: list[Tensor], sizes: list[Size]) -> Condition:
        told, untold = prepared.words
        tokens, places = self.pipeline.prepare_image_latents(
            images=[self.resized(picture, size) for picture, size in zip(pictures, sizes, strict=True)],
            batch_size=1,
            generator=None,
            device=self.device,
            dtype=self.dtype,
        )
        rows, columns = self.grid(sizes[0])
        own = self.pipeline._prepare_latent_ids(tokens.new_empty(1, 1, rows, columns)).to(places)
        return Condition(sizes[0], told, untold, tokens, torch.cat([own, places], dim=1))

    def noise(self, size: Size, generator: torch.Generator) -> Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        shape = (1, self.pipeline.transformer.config.in_channels, *self.grid(size))
        drawn = randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self.pipeline._pack_latents(drawn)

    def encode(self, picture: Tensor) -> Tensor:
        return self.pipeline._pack_latents(self.pipeline._encode_vae_image(picture, generator=None)).to(self.device)

    def decode(self, tokens: Tensor, size: Size) -> Tensor:
        vae = self.pipeline.vae
        rows, columns = self.grid(size)
        latents = tokens.transpose(1, 2).reshape(1, -1, rows, columns)
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents)
        deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1).to(latents.device) + vae.config.batch_norm_eps)
        latents = self.pipeline._unpatchify_latents(latents * deviation.to(latents) + mean)
        return vae.decode(latents, return_dict=False)[0]

    def velocity(
        self, tokens: Tensor, timestep: Tensor, condition: Condition, options: Mapping[str, OptionValue]
    ) -> Tensor:
        def predict(words: tuple[Tensor, Tensor]) -> Tensor:
            return self.pipeline.transformer(
                hidden_states=torch.cat([tokens, condition.pictures], dim=1).to(self.dtype),
                timestep=timestep / 1000,
                guidance=None,
                encoder_hidden_states=words[0],
                txt_ids=words[1],
                img_ids=condition.places,
                return_dict=False,
            )[0][:, : tokens.shape[1]]

        told = predict(condition.told)
        if condition.untold is None:
            return told
        untold = predict(condition.untold)
        return untold + float(options["text_guidance"]) * (told - untold)

    def shift(self, tokens: int, steps: int) -> float:
        """klein's depends on the number of steps, too."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(image_seq_len=tokens, num_steps=steps)


def load(source: str, name: str, device: str) -> Flux2Klein:
    """Load an editor from its folder, safetensors only. Raises BadInput where it cannot be had."""
    from diffusers import Flux2KleinPipeline

    return Flux2Klein.load(Flux2KleinPipeline, source, name, device)
