# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix upon Stable Diffusion XL, CosXL-Edit among them: any folder that diffusers loads as a
StableDiffusionXLInstructPix2PixPipeline. Two scales, as the first InstructPix2Pix has them; the levels are those of the
scheduler that the model came with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import Carried, Check
from engine.editors.carrying import covered, put_back, with_carried
from engine.editors.flow_matching import steps_from
from engine.editors.instruct_pix2pix import edit_size
from engine.editors.model_folder import check_pipeline_folder
from engine.editors.numbers import checked, in_full_where_needed
from engine.editors.parts import load_pipeline
from engine.editors.placing import place, precision
from engine.errors import BadInput
from engine.protocol import OptionValue

NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
OTHERS = ("tokenizer", "tokenizer_2", "scheduler")


class InstructPix2PixXL:
    """The editor. Pictures are (H, W, 3) floats, 0–1, of any size."""

    references = 0

    def __init__(self, pipeline: Any, name: str, device: torch.device | str, dtype: torch.dtype):
        """Take over a loaded ``pipeline`` whose networks compute on ``device`` in ``dtype``. Raises BadInput where they
        are not InstructPix2Pix's."""
        if pipeline.unet.config.in_channels != 2 * pipeline.vae.config.latent_channels:
            raise BadInput(
                f"The model {name} is not an InstructPix2Pix: its UNet takes {pipeline.unet.config.in_channels} "
                "channels, not noise and picture. Choose another editor.",
                field="editor",
            )
        self.pipeline = pipeline
        self.name = name
        self.device = torch.device(device)
        self.dtype = dtype
        self.size = int(pipeline.unet.config.sample_size) * pipeline.vae_scale_factor
        self.multiple = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
        # CosXL was trained with the original's latents scaled as its own are, and has its own scheduler; diffusers is
        # told so by whoever loads it and does not write it down.
        self.scaled_condition = type(pipeline.scheduler).__name__ == "EDMEulerScheduler"
        # In 16-bit floats the encoder of SDXL overflows.
        overflows = dtype == torch.float16 and bool(pipeline.vae.config.force_upcast)
        self.vae_dtype = torch.float32 if overflows else dtype
        if overflows:
            pipeline.vae.to(torch.float32)

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> Prepared:
        """The editor, told what to do. ``options``: of the knobs in its row of registry.py, checked."""
        return Prepared(self, instruction, dict(options))

    def encode(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        """(1, C, h, w): the unscaled latents of a picture (H, W, 3), 0–1, at ``size``."""
        vae = self.pipeline.vae
        image = picture.to(self.device, torch.float32).permute(2, 0, 1)[None]
        if tuple(image.shape[-2:]) != size:
            image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)

        def encode(dtype: torch.dtype) -> Tensor:
            return vae.encode((image * 2 - 1).to(dtype)).latent_dist.mode()

        return in_full_where_needed(vae, self.vae_dtype, encode, self.name).to(self.dtype)

    def _statistics(self, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What latents are whitened with: mean and deviation, where the model says so."""
        config = self.pipeline.vae.config
        values = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if None in values:
            return 0.0, 1.0
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in values)
        return mean, deviation

    def scaled(self, latents: Tensor) -> Tensor:
        """Latents as they are noised and denoised."""
        mean, deviation = self._statistics(latents)
        return (latents - mean) * self.pipeline.vae.config.scaling_factor / deviation

    def decode(self, latents: Tensor) -> Tensor:
        """The picture (1, 3, h, w), 0–1, of denoised latents."""
        vae = self.pipeline.vae
        mean, deviation = self._statistics(latents)
        latents = checked(latents, self.name) * deviation / vae.config.scaling_factor + mean

        def decode(dtype: torch.dtype) -> Tensor:
            return vae.decode(latents.to(dtype), return_dict=False)[0]

        decoded = in_full_where_needed(vae, self.vae_dtype, decode, self.name)
        return (decoded.float() / 2 + 0.5).clamp(0, 1)


@dataclass
class Prepared:
    """InstructPix2Pix XL, told what to do."""

    editor: InstructPix2PixXL
    instruction: str
    options: dict[str, OptionValue]

    @cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        """The instruction, and twice the empty one: (3, L, D), and pooled (3, D'). Once an edit."""
        told, untold, pooled, unpooled = self.editor.pipeline.encode_prompt(
            prompt=self.instruction, device=self.editor.device, do_classifier_free_guidance=True
        )
        return torch.cat([told, untold, untold]), torch.cat([pooled, unpooled, unpooled])

    @torch.no_grad()
    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> ViewEdit:
        """Edits of the view whose unedited picture is ``original`` (H, W, 3), 0–1. It takes no references."""
        editor = self.editor
        size = edit_size(*original.shape[:2], editor.size, editor.multiple)
        condition = editor.encode(original, size)
        if editor.scaled_condition:
            condition = condition * editor.pipeline.vae.config.scaling_factor
        return ViewEdit(self, size, torch.cat([condition, condition, torch.zeros_like(condition)]))


@dataclass(frozen=True)
class ViewEdit:
    """InstructPix2Pix XL, told what to do and to which view."""

    prepared: Prepared
    size: tuple[int, int]
    condition: Tensor  # (3, C, h, w): twice the original's latents, and none
    relevance: None = None  # it does not say where an instruction matters

    @torch.no_grad()
    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        """U(picture, t; c_I, c_T): noise ``picture`` (H, W, 3) to level ``t`` (0–1) and denoise it. ``generator`` (CPU)
        draws the noise; ``check`` is called before every step and may raise Cancelled. Returns (H, W, 3), 0–1."""
        from diffusers.utils.torch_utils import randn_tensor

        editor, options = self.prepared.editor, self.prepared.options
        steps = int(options["diffusion_steps"])
        check()
        clean = editor.scaled(editor.encode(with_carried(picture, carried), self.size))
        noise = randn_tensor(clean.shape, generator=generator, device=editor.device, dtype=editor.dtype)
        scheduler = type(editor.pipeline.scheduler).from_config(editor.pipeline.scheduler.config)
        scheduler.set_timesteps(steps, device=editor.device)
        first = (steps - steps_from(t, steps)) * scheduler.order
        timesteps = scheduler.timesteps[first:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        drawing = editor.pipeline.prepare_extra_step_kwargs(generator, 0.0)
        # The highest level is noise alone, as in diffusers' pipelines: what a scheduler calls so is nearly that.
        whole = first == 0
        latents = noise * scheduler.init_noise_sigma if whole else _noised(scheduler, clean, noise, timesteps[:1])
        stays = None if carried is None else covered(carried, *clean.shape[-2:]).to(clean.device)
        for index, timestep in enumerate(timesteps):
            check()
            inputs = scheduler.scale_model_input(latents, timestep)
            prediction = self._guided_prediction(inputs, timestep)
            latents = scheduler.step(prediction, timestep, latents, **drawing, return_dict=False)[0].to(editor.dtype)
            if stays is not None and index + 1 < len(timesteps) and index < put_back(len(timesteps)):
                again = _noised(scheduler, clean, noise, timesteps[index + 1][None])
                latents = torch.where(stays, again, latents)
        check()
        edited = editor.decode(latents)
        if edited.shape[-2:] != picture.shape[:2]:
            edited = F.interpolate(edited, tuple(picture.shape[:2]), mode="bicubic", antialias=True)
        return edited[0].permute(1, 2, 0).clamp(0, 1)

    def _guided_prediction(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """As InstructPix2Pix, eq. 3, of what the scheduler made of the latents (1, C, h, w)."""
        editor, options = self.prepared.editor, self.prepared.options
        words, pooled = self.prepared.words
        times = torch.tensor([[*self.size, 0, 0, *self.size]] * 3, dtype=words.dtype, device=editor.device)
        both, image, neither = editor.pipeline.unet(
            torch.cat([latents.expand(3, -1, -1, -1), self.condition], dim=1),
            timestep,
            encoder_hidden_states=words,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": times},
            return_dict=False,
        )[0].chunk(3)
        text, picture = float(options["text_guidance"]), float(options["image_guidance"])
        return neither + text * (both - image) + picture * (image - neither)


def _noised(scheduler: Any, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    return scheduler.add_noise(clean, noise, timestep).to(clean.dtype)


def load(source: str, name: str, device: str) -> InstructPix2PixXL:
    """Load an editor from its folder, safetensors only. Raises BadInput where it cannot be had."""
    from diffusers import StableDiffusionXLInstructPix2PixPipeline

    check_pipeline_folder(Path(source), (*NETWORKS, *OTHERS))
    on = torch.device(device)
    dtype = precision(on)
    pipeline = load_pipeline(
        StableDiffusionXLInstructPix2PixPipeline, Path(source), name, NETWORKS, dtype, add_watermarker=False
    )
    place(pipeline, on)
    return InstructPix2PixXL(pipeline, name, on, dtype)
