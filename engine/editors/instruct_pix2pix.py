# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix (Brooks, Holynski, Efros; CVPR 2023), from any folder that diffusers loads as a
StableDiffusionInstructPix2PixPipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine import typed
from engine.editors.base import RELEVANCE_TOP, Carried, Check
from engine.editors.carrying import covered, put_back, with_carried
from engine.editors.key_attention import attending
from engine.editors.model_folder import check_diffusion_folder
from engine.editors.noise_schedule import NoiseSchedule
from engine.editors.numbers import checked, cpu_has_bfloat16, in_full_where_needed
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
    key_attention: float = 0.0  # 0–1: of what a view attends to in itself, how much it attends to in a key view instead

    def scales(self, level: float) -> tuple[float, float]:
        """(s_T, s_I) at a noise level (0–1). Low ones do without: by then the edit is made, and more of it only burns
        in (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval")."""
        return (self.text_guidance, self.image_guidance) if level >= self.guided_above else (1.0, 1.0)


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
        return Prepared(self, self.embed(instruction), typed.convert(dict(options), Options, strict=False))

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
            self._predicted(inputs, timestep, words.expand(RELEVANCE_DRAWS, -1, -1)).float()
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
        """ε(∅,∅) + s_I·(ε(c_I,∅) − ε(∅,∅)) + s_T·(ε(c_I,c_T) − ε(c_I,∅)): InstructPix2Pix, eq. 3, of B views, in a
        batch of 3 B; of B where both scales are 1, for then ε(c_I,c_T) alone is left."""
        text, picture = scales
        if text == picture == 1:
            inputs = torch.cat([latents, original], dim=1).contiguous(memory_format=torch.channels_last)
            words = instruction[:1].expand(len(latents), -1, -1)
            return self._predicted(inputs, timestep, words)
        condition = torch.cat([original, original, torch.zeros_like(original)])
        inputs = torch.cat([latents.repeat(3, 1, 1, 1), condition], dim=1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        words = instruction.repeat_interleave(len(latents), dim=0)
        both, image, neither = self._predicted(inputs, timestep, words).chunk(3)
        return neither + picture * (image - neither) + text * (both - image)

    def _predicted(self, inputs: Tensor, timestep: int, words: Tensor) -> Tensor:
        """What the denoiser says, which may compute in less precision than all the rest."""
        own = self.unet.dtype
        return self.unet(inputs.to(own), timestep, encoder_hidden_states=words.to(own)).sample.to(inputs.dtype)

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

    @torch.no_grad()
    def edit_many(
        self,
        views: Sequence[ViewEdit],
        pictures: Sequence[Tensor],
        t: float,
        generators: Sequence[torch.Generator],
        check: Check = lambda: None,
        carried: Sequence[Carried | None] | None = None,
        keys: Sequence[tuple[ViewEdit, Tensor]] = (),
    ) -> list[Tensor]:
        """`ViewEdit.edit` of several views at once, at one noise level, each from its own generator: the networks see
        those of one shape in one batch. With ``key_attention`` all of a batch attend, in each step, to a random one of
        the ``keys``, (view, its approved picture (H, W, 3)), or of the batch where there are none."""
        carried = carried or [None] * len(views)
        shapes: dict[torch.Size, list[int]] = {}
        for number, view in enumerate(views):
            shapes.setdefault(view.condition.shape, []).append(number)
        edited: dict[int, Tensor] = {}
        for shape, numbers in shapes.items():
            own = [(view, picture) for view, picture in keys if view.condition.shape == shape]
            parts = ([given[n] for n in numbers] for given in (views, pictures, generators, carried))
            edited |= dict(zip(numbers, self._edit_alike(*parts, t, check, own), strict=True))
        return [edited[number] for number in range(len(views))]

    def _edit_alike(
        self,
        views: Sequence[ViewEdit],
        pictures: Sequence[Tensor],
        generators: Sequence[torch.Generator],
        carried: Sequence[Carried | None],
        t: float,
        check: Check,
        keys: Sequence[tuple[ViewEdit, Tensor]],
    ) -> list[Tensor]:
        """Those of one shape."""
        editor, options, schedule = self.editor, self.options, self.editor.schedule
        clean = torch.cat([editor.latents(with_carried(p, c)) for p, c in zip(pictures, carried, strict=True)])
        timesteps = schedule.levels(t, options.diffusion_steps)
        noise = torch.cat([torch.randn((1, *clean.shape[1:]), generator=random) for random in generators]).to(clean)
        latents = schedule.add_noise(clean, noise, timesteps[0])
        condition = torch.cat([view.condition for view in views])
        step = editor.dpm_step(timesteps) if options.sampler == "dpm++" else schedule.ddim_step
        stays = torch.zeros((len(views), 1, *clean.shape[-2:]), dtype=torch.bool)
        for number, said in enumerate(carried):
            if said is not None:
                stays[number] = covered(said, *clean.shape[-2:])[0]
        stays = stays.to(clean.device)
        shown = self._shown(keys, generators[0]) if options.key_attention else []
        for index, (timestep, following) in enumerate(zip(timesteps, [*timesteps[1:], None], strict=True)):
            check()
            scales = options.scales(timestep / len(schedule.alphas_cumprod))
            seen, seen_condition, key = latents, condition, None
            if options.key_attention:
                key = int(torch.randint(len(shown) or len(views), (), generator=generators[0]))
            if shown and key is not None:
                picture, its_noise, its_condition = shown[key]
                seen = torch.cat([latents, schedule.add_noise(picture, its_noise, timestep)])
                seen_condition, key = torch.cat([condition, its_condition]), len(views)
            with nullcontext() if key is None else attending(editor.unet, len(seen), key, options.key_attention):
                prediction = editor.guided_prediction(seen, timestep, seen_condition, self.instruction, scales)
            latents = step(prediction[: len(views)], latents, timestep, following)
            if following is not None and index < put_back(len(timesteps)):
                latents = torch.where(stays, schedule.add_noise(clean, noise, following), latents)
        check()
        edited = [
            editor.decode(own, *picture.shape[:2]) for own, picture in zip(latents.split(1), pictures, strict=True)
        ]
        if not options.tethered:
            return edited
        noise_variance = schedule.noise_to_signal(timesteps[0]).to(edited[0])
        share = EDIT_VARIANCE / (EDIT_VARIANCE + noise_variance)
        return [e + share * (picture.to(e) - e) for e, picture in zip(edited, pictures, strict=True)]

    def _shown(
        self, keys: Sequence[tuple[ViewEdit, Tensor]], random: torch.Generator
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of key views, their approved pictures' latents, the noise that they are seen through, and c_I."""
        shown = []
        for view, picture in keys:
            clean = self.editor.latents(picture)
            shown.append((clean, torch.randn(clean.shape, generator=random).to(clean), view.condition))
        return shown


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
        return self.prepared.edit_many([self], [picture], t, [generator], check, [carried])[0]

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
    """Load an editor from its folder, safetensors only, half precision on a GPU, and where a CPU is made for it, of the
    denoiser on a CPU.

    Raises BadInput where it cannot be had, with the reason.
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline

    device = torch.device(device)
    in_half = dtype is None and device.type == "cpu" and cpu_has_bfloat16()
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
    editor = InstructPix2Pix(pipeline, name, device)
    if in_half:
        nn.Module.to(editor.unet, torch.bfloat16)  # diffusers' own warns of layers that this one has not
    return editor
