# SPDX-License-Identifier: GPL-3.0-or-later
"""Qwen-Image-Edit-Plus (Qwen team, 2025: -2509, -2511). Any folder that diffusers loads as a
QwenImageEditPlusPipeline. Its text encoder sees the pictures, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.editors.flow_matching import Condition, FlowEditor, Prepared, Size
from engine.protocol import OptionValue

UNTOLD = " "  # the instruction that guidance leads away from, as its authors have it


class QwenImageEdit(FlowEditor):
    """The editor. Its latents are packed 2×2 and whitened by the encoder's configuration; its guidance is true
    classifier-free guidance, each token brought back to the length of the guided one."""

    networks = ("transformer", "vae", "text_encoder")
    others = ("tokenizer", "processor", "scheduler")
    most_pictures = 3  # its authors: "works best with 1 to 3"

    def embed(self, instruction: str, options: Mapping[str, OptionValue]) -> Any:
        return None  # read with each view's pictures

    def condition(self, prepared: Prepared, pictures: list[Tensor], sizes: list[Size]) -> Condition:
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import (
            CONDITION_IMAGE_SIZE,
            calculate_dimensions,
        )
        from torchvision.transforms.functional import to_pil_image

        shown = []
        for picture in pictures:
            whole = to_pil_image((picture.permute(2, 0, 1).clamp(0, 1) * 255).round().to("cpu", torch.uint8))
            width, height = calculate_dimensions(CONDITION_IMAGE_SIZE, whole.width / whole.height)
            shown.append(self.pipeline.image_processor.resize(whole, height, width))
        guided = float(prepared.options["text_guidance"]) > 1
        told, untold = (
            self.pipeline.encode_prompt(image=shown, prompt=text, device=self.device) if wanted else None
            for text, wanted in ((prepared.instruction, True), (UNTOLD, guided))
        )
        tokens = [self.encode(self.resized(p, size)) for p, size in zip(pictures, sizes, strict=True)]
        places = [[(1, *self.grid(size)) for size in (sizes[0], *sizes)]]
        return Condition(sizes[0], told, untold, torch.cat(tokens, dim=1), places, own_words=True)

    def noise(self, size: Size, generator: torch.Generator) -> Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        rows, columns = self.grid(size)
        shape = (1, 1, self.pipeline.transformer.config.in_channels // 4, 2 * rows, 2 * columns)
        return self._packed(randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype))

    def encode(self, picture: Tensor) -> Tensor:
        latents = self.pipeline._encode_vae_image(image=picture[:, :, None], generator=None)
        return self._packed(latents.to(self.device))

    def decode(self, tokens: Tensor, size: Size) -> Tensor:
        vae = self.pipeline.vae
        latents = self.pipeline._unpack_latents(tokens, *size, self.pipeline.vae_scale_factor).to(vae.dtype)
        mean, deviation = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return vae.decode(latents * deviation + mean, return_dict=False)[0][:, :, 0]

    def velocity(
        self, tokens: Tensor, timestep: Tensor, condition: Condition, options: Mapping[str, OptionValue]
    ) -> Tensor:
        def predict(words: tuple[Tensor, Tensor | None]) -> Tensor:
            return self.pipeline.transformer(
                hidden_states=torch.cat([tokens, condition.pictures], dim=1),
                timestep=timestep / 1000,
                guidance=None,
                encoder_hidden_states=words[0],
                encoder_hidden_states_mask=words[1],
                img_shapes=condition.places,
                return_dict=False,
            )[0][:, : tokens.shape[1]]

        told = predict(condition.told)
        if condition.untold is None:
            return told
        untold = predict(condition.untold)
        guided = untold + float(options["text_guidance"]) * (told - untold)
        return guided * (told.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))

    def working_size(self, height: int, width: int, native: int) -> Size:
        """As its pipeline has it: both sides multiples of 32."""
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions

        w, h = calculate_dimensions(native * native, width / height)
        return max(h, 32), max(w, 32)

    def _packed(self, latents: Tensor) -> Tensor:
        channels = self.pipeline.transformer.config.in_channels // 4
        return self.pipeline._pack_latents(latents, 1, channels, *latents.shape[-2:])


def load(source: str, name: str, device: str) -> QwenImageEdit:
    """Load an editor from its folder, safetensors only. Raises BadInput where it cannot be had."""
    from diffusers import QwenImageEditPlusPipeline

    return QwenImageEdit.load(QwenImageEditPlusPipeline, source, name, device)
