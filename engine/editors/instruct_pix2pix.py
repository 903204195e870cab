# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix (Brooks, Holynski, Efros; CVPR 2023), from any folder that diffusers loads as a
StableDiffusionInstructPix2PixPipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import RELEVANCE_TOP, Carried, Check
from engine.editors.carrying import covered, put_back, with_carried
from engine.editors.model_folder import check_diffusion_folder
from engine.editors.numbers import checked, in_full_where_needed
from engine.editors.parts import load_pipeline
from engine.errors import BadInput
from engine.protocol import OptionValue


class Options(msgspec.Struct, frozen=True):
    """How the editor is steered; the knobs of its row in registry.py."""

    text_guidance: float = 7.5  # s_T
    image_guidance: float = 1.5  # s_I
    diffusion_steps: int = 20  # from the drawn t down
    sampler: Literal["ddim", "dpm++"] = "ddim"  # Song et al. 2021, or Lu et al. 2022 (2M), of second order
    tethered: bool = False  # of its picture an edit keeps what the drawn noise leaves certain
    guided_above: float = 0.0  # 0–1: the noise level below which both scales are 1, in a third of the time

    def scales(self, level: float) -> tuple[float, float]:
        """(s_T, s_I) at a noise level (0–1). Low ones do without: by then the edit is made, and more of it only burns
        in (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval")."""
        return (self.text_guidance, self.image_guidance) if level >= self.guided_above else (1.0, 1.0)


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process: how much of the signal is left at each of T timesteps, and what the network predicts."""

    alphas_cumprod: Tensor  # (T,)
    final_alpha_cumprod: float  # what the last step goes to; 1: the clean picture
    prediction_type: str  # epsilon, v_prediction or sample

    def levels(self, t: float, steps: int) -> list[int]:
        """Timesteps from noise level ``t`` (0–1) down, evenly spaced, at most ``steps`` of them, none twice."""
        count = len(self.alphas_cumprod)
        top = min(max(round(t * count), 1), count - 1)
        return list(dict.fromkeys(round(top * (1 - k / steps)) for k in range(steps)))

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        alpha = self.alphas_cumprod[timestep]
        return (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise).to(clean.dtype)

    def ddim_step(self, prediction: Tensor, sample: Tensor, timestep: int, following: int | None) -> Tensor:
        """One deterministic DDIM step (Song et al. 2021, eq. 12, σ = 0) from ``timestep`` to ``following`` (None: the
        end). diffusers' own scheduler only steps on its fixed grid, which a drawn t does not lie on."""
        end = torch.as_tensor(self.final_alpha_cumprod) if following is None else self.alphas_cumprod[following]
        clean, noise = self.parts(prediction, sample, timestep)
        return (end.sqrt() * clean + (1 - end).sqrt() * noise).to(sample.dtype)

    def noise_to_signal(self, timestep: int) -> Tensor:
        """The noise's variance over the signal's: (1 − ᾱ)/ᾱ."""
        alpha = self.alphas_cumprod[timestep].float()
        return (1 - alpha) / alpha

    def parts(self, prediction: Tensor, sample: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """What the network's ``prediction`` at ``sample`` says: (clean picture, noise), both float32."""
        alpha = self.alphas_cumprod[timestep].float()
        x, p = sample.float(), prediction.float()
        if self.prediction_type == "epsilon":
            return (x - (1 - alpha).sqrt() * p) / alpha.sqrt(), p
        if self.prediction_type == "v_prediction":
            return alpha.sqrt() * x - (1 - alpha).sqrt() * p, alpha.sqrt() * p + (1 - alpha).sqrt() * x
        return p, (x - alpha.sqrt() * p) / (1 - alpha).sqrt()


RELEVANCE_NOISE = 0.8  # the level at which relevance is measured
RELEVANCE_DRAWS = 2  # of noise, over which it is averaged
EDIT_VARIANCE = 0.25  # of what is wrong in an edit, the latents' own being 1: what a tether weighs the noise against


def relevance_of(difference: Tensor) -> Tensor:
    """How much an instruction matters, 0–1, (B, 1, h, w), by what it changes of a prediction, (B, C, h, w)."""
    strength = F.pad(difference.norm(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    strength = F.avg_pool2d(strength, 3, 1)
    most = strength.flatten(1).quantile(RELEVANCE_TOP, dim=1).clamp_min(1e-6)
    return (strength / most.view(-1, 1, 1, 1)).clamp(max=1)


class InstructPix2Pix:
    """The editor. Pictures are (H, W, 3) floats, 0–1, of any size; the network sees them at the size it was made for,
    with their own aspect."""

    references = 0

    def __init__(self, pipeline, name: str, device):
        """Take the networks out of a loaded diffusers ``pipeline``, at the precision it has. Raises BadInput where they
        are not InstructPix2Pix's."""
        if pipeline.unet.config.in_channels != 2 * pipeline.vae.config.latent_channels:
            raise BadInput(
                f"The model {name} is not an InstructPix2Pix: its UNet takes {pipeline.unet.config.in_channels} "
                "channels, not noise and picture. Choose another editor.",
                field="editor",
            )
        self.name = name
        self.device = torch.device(device)
        self.dtype = pipeline.unet.dtype
        layout = {"device": self.device, "memory_format": torch.channels_last}
        self.unet = pipeline.unet.to(**layout).eval().requires_grad_(False)
        self.vae = pipeline.vae.to(**layout).eval().requires_grad_(False)
        self.text_encoder = pipeline.text_encoder.to(self.device).eval().requires_grad_(False)
        self.tokenizer = pipeline.tokenizer
        scheduler = _ddim(pipeline.scheduler)
        self._scheduler_config = dict(scheduler.config)
        self.schedule = NoiseSchedule(
            scheduler.alphas_cumprod.to(self.device),
            float(scheduler.final_alpha_cumprod),
            scheduler.config.prediction_type,
        )
        factor = pipeline.vae_scale_factor
        self.size = int(self.unet.config.sample_size) * factor  # pixels
        self._multiple = factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> Prepared:
        """The editor, told what to do. ``options``: of the knobs in its row of registry.py, checked; those missing are
        the paper's."""
        return Prepared(self, self.embed(instruction), msgspec.convert(dict(options), Options, strict=False))

    @torch.no_grad()
    def embed(self, instruction: str) -> Tensor:
        """The instruction, and twice the empty one, as the text encoder has them: (3, L, D). Once an edit."""
        tokens = self.tokenizer(
            [instruction, "", ""],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return checked(self.text_encoder(tokens.input_ids.to(self.device))[0].to(self.dtype), self.name)

    @torch.no_grad()
    def condition(self, original: Tensor) -> Tensor:
        """c_I: the latents (1, C, h, w) of the unedited picture (H, W, 3), 0–1. Once a view."""
        return self._encode(self._resized(original))

    @torch.no_grad()
    def relevance(self, original: Tensor, instruction: Tensor) -> Tensor:
        """Where the instruction matters to the picture of condition latents (1, C, h, w): (1, 1, h, w), 1 where most.

        How much the predictions with and without it differ, at one noise level and with the same noises for all views
        (the relevance map of Mirzaei et al. 2023, "Watch Your Steps").
        """
        timestep = self.schedule.levels(RELEVANCE_NOISE, 1)[0]
        noise = torch.randn((RELEVANCE_DRAWS, *original.shape[1:]), generator=torch.Generator().manual_seed(0))
        clean = (original * self.vae.config.scaling_factor).expand(RELEVANCE_DRAWS, -1, -1, -1)
        noised = self.schedule.add_noise(clean, noise.to(clean), timestep)
        inputs = torch.cat([noised, original.expand_as(noised)], dim=1).contiguous(memory_format=torch.channels_last)
        told, untold = (
            self.unet(inputs, timestep, encoder_hidden_states=words.expand(RELEVANCE_DRAWS, -1, -1)).sample.float()
            for words in instruction[:2].split(1)
        )
        return relevance_of(checked(told - untold, self.name).mean(0, keepdim=True))

    def latents(self, picture: Tensor) -> Tensor:
        """What is noised and denoised, of a picture (H, W, 3), 0–1: (1, C, h, w). Differentiable."""
        return self._encode(self._resized(picture)) * self.vae.config.scaling_factor

    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        """The picture (height, width, 3), 0–1, of denoised latents."""
        latents = checked(latents, self.name) / self.vae.config.scaling_factor

        def decode(dtype: torch.dtype) -> Tensor:
            return self.vae.decode(latents.to(dtype)).sample

        decoded = in_full_where_needed(self.vae, self.dtype, decode, self.name).float()
        decoded = (decoded / 2 + 0.5).clamp(0, 1)
        resized = F.interpolate(decoded, (height, width), mode="bicubic", antialias=True)
        return resized[0].permute(1, 2, 0).clamp(0, 1)

    def guided_prediction(
        self, latents: Tensor, timestep: int, original: Tensor, instruction: Tensor, scales: tuple[float, float]
    ) -> Tensor:
        """ε(∅,∅) + s_I·(ε(c_I,∅) − ε(∅,∅)) + s_T·(ε(c_I,c_T) − ε(c_I,∅)): InstructPix2Pix, eq. 3, in a batch of 3; of
        one where both scales are 1, for then ε(c_I,c_T) alone is left."""
        text, picture = scales
        if text == picture == 1:
            inputs = torch.cat([latents, original], dim=1).contiguous(memory_format=torch.channels_last)
            return self.unet(inputs, timestep, encoder_hidden_states=instruction[:1]).sample
        condition = torch.cat([original, original, torch.zeros_like(original)])
        inputs = torch.cat([latents.expand(3, -1, -1, -1), condition], dim=1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        both, image, neither = self.unet(inputs, timestep, encoder_hidden_states=instruction).sample.chunk(3)
        return neither + picture * (image - neither) + text * (both - image)

    def dpm_step(self, timesteps: list[int]) -> Callable[[Tensor, Tensor, int, int | None], Tensor]:
        """A step like the schedule's ``ddim_step``, by diffusers' DPM-Solver++ over ``timesteps``."""
        from diffusers import DPMSolverMultistepScheduler

        solver = DPMSolverMultistepScheduler.from_config(self._scheduler_config, solver_order=2)
        solver.set_timesteps(timesteps=timesteps, device=self.device)

        def step(prediction: Tensor, sample: Tensor, timestep: int, following: int | None) -> Tensor:
            return solver.step(prediction, timestep, sample).prev_sample.to(sample.dtype)

        return step

    def _resized(self, picture: Tensor) -> Tensor:
        """(H, W, 3) → (1, 3, h, w), −1…1, of about the native area, both sides multiples of what the networks halve."""
        height, width = picture.shape[:2]
        h, w = edit_size(height, width, self.size, self._multiple)
        image = picture.to(self.device, torch.float32).permute(2, 0, 1)[None]
        image = F.interpolate(image, (h, w), mode="bicubic", antialias=True).clamp(0, 1)
        return (image * 2 - 1).to(self.dtype, memory_format=torch.channels_last)

    def _encode(self, image: Tensor) -> Tensor:
        def encode(dtype: torch.dtype) -> Tensor:
            encoded = self.vae.encode(image.to(dtype))
            return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()

        return in_full_where_needed(self.vae, self.dtype, encode, self.name).to(self.dtype)


@dataclass(frozen=True)
class Prepared:
    """InstructPix2Pix, told what to do."""

    editor: InstructPix2Pix
    instruction: Tensor  # (3, L, D): c_T and twice ∅
    options: Options

    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> ViewEdit:
        """Edits of the view whose unedited picture is ``original`` (H, W, 3), 0–1. It takes no references."""
        return ViewEdit(self, self.editor.condition(original))


@dataclass(frozen=True)
class ViewEdit:
    """InstructPix2Pix, told what to do and to which view."""

    prepared: Prepared
    condition: Tensor  # (1, C, h, w): c_I

    @cached_property
    def relevance(self) -> Tensor:
        """(1, 1, h, w), 0–1: where the instruction matters."""
        return self.prepared.editor.relevance(self.condition, self.prepared.instruction)

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
        draws the noise; ``check`` is called before every step and may raise Cancelled. Returns (H, W, 3), 0–1.

        Tethered, it is the mean of two that say what the edit is, weighted by their certainty: the editor, wrong by
        `EDIT_VARIANCE`, and the picture, an edit already as far as one can see through the noise.
        """
        editor, options = self.prepared.editor, self.prepared.options
        schedule = editor.schedule
        clean = editor.latents(with_carried(picture, carried))
        timesteps = schedule.levels(t, options.diffusion_steps)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        latents = schedule.add_noise(clean, noise, timesteps[0])
        step = editor.dpm_step(timesteps) if options.sampler == "dpm++" else schedule.ddim_step
        stays = None if carried is None else covered(carried, *clean.shape[-2:]).to(clean.device)
        for index, (timestep, following) in enumerate(zip(timesteps, [*timesteps[1:], None], strict=True)):
            check()
            scales = options.scales(timestep / len(schedule.alphas_cumprod))
            prediction = editor.guided_prediction(latents, timestep, self.condition, self.prepared.instruction, scales)
            latents = step(prediction, latents, timestep, following)
            if stays is not None and following is not None and index < put_back(len(timesteps)):
                latents = torch.where(stays, schedule.add_noise(clean, noise, following), latents)
        check()
        edited = editor.decode(latents, *picture.shape[:2])
        if options.tethered:
            noise_variance = schedule.noise_to_signal(timesteps[0]).to(edited)
            edited = edited + EDIT_VARIANCE / (EDIT_VARIANCE + noise_variance) * (picture.to(edited) - edited)
        return edited

    def gradient(self, picture: Tensor, t: float, generator: torch.Generator) -> Tensor:
        """∂L_SDS/∂picture (H, W, 3) (DreamFusion, Poole et al. 2023, eq. 3): w(t)·(ε̂ − ε), w(t) = 1 − ᾱ_t, at the
        latents of ``picture``, led back through the encoder."""
        editor, options = self.prepared.editor, self.prepared.options
        picture = picture.detach().requires_grad_()
        with torch.enable_grad():
            latents = editor.latents(picture)
        timestep = editor.schedule.levels(t, 1)[0]
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noised = editor.schedule.add_noise(latents.detach(), noise, timestep)
        scales = (options.text_guidance, options.image_guidance)
        with torch.no_grad():
            prediction = editor.guided_prediction(noised, timestep, self.condition, self.prepared.instruction, scales)
            _, predicted = editor.schedule.parts(prediction, noised, timestep)
        weight = 1 - editor.schedule.alphas_cumprod[timestep]
        (gradient,) = torch.autograd.grad(latents, picture, (weight * (predicted - noise)).to(latents.dtype))
        return checked(gradient, editor.name)


def edit_size(height: int, width: int, native: int, multiple: int) -> tuple[int, int]:
    """The size nearest in aspect to (height, width) with about native² pixels, its sides multiples of ``multiple``."""
    scale = native / (height * width) ** 0.5
    return tuple(max(1, round(side * scale / multiple)) * multiple for side in (height, width))  # type: ignore


def _ddim(scheduler):
    """diffusers' DDIM scheduler with the betas of whatever scheduler the model came with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(scheduler.config)


NETWORKS = ("unet", "vae", "text_encoder")


def load(source: str, name: str, device, dtype: torch.dtype | None = None) -> InstructPix2Pix:
    """Load an editor from its folder, safetensors only, half precision on a GPU.

    Raises BadInput where it cannot be had, with the reason.
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline

    device = torch.device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    check_diffusion_folder(Path(source))
    pipeline = load_pipeline(
        StableDiffusionInstructPix2PixPipeline,
        Path(source),
        name,
        NETWORKS,
        dtype,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    return InstructPix2Pix(pipeline, name, device)
