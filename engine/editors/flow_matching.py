# SPDX-License-Identifier: GPL-3.0-or-later
"""What editors that denoise by flow matching share: noising a render to a level, and denoising it from there.

The levels are those of diffusers' scheduler for all steps at the working size, shifted as the model's own pipeline
shifts them; an edit from t takes the last of them, as the pipelines' inpainting variants do for a ``strength`` of t. So
a full edit is the pipeline's, and one from below it is its inpainting with a white mask
(tests/engine/test_flow_editors.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import Carried, Check
from engine.editors.carrying import covered, put_back, with_carried
from engine.editors.model_folder import check_pipeline_folder
from engine.editors.numbers import checked
from engine.editors.parts import load_pipeline
from engine.editors.placing import place, precision
from engine.protocol import OptionValue

Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class Condition:
    """What a view's edit is conditioned on."""

    size: Size  # of the edit
    told: Any  # the instruction, as the editor's networks take it
    untold: Any  # what guidance leads away from; None: nothing
    pictures: Tensor  # (1, N, C): the tokens of the original and of what it refers to
    places: Any  # where those tokens lie, as the editor's transformer takes it
    own_words: bool = False  # whether what is told is this view's alone

    def on(self, device: torch.device | str) -> Condition:
        """The same, what is this view's alone on ``device``: between its edits a view waits on the CPU, or hundreds of
        them would fill a card."""
        words = (_on(self.told, device), _on(self.untold, device)) if self.own_words else (self.told, self.untold)
        return Condition(self.size, *words, self.pictures.to(device), _on(self.places, device), self.own_words)


def _on(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return tuple(_on(part, device) for part in value) if isinstance(value, tuple) else value


class FlowEditor:
    """An editor made of a diffusers pipeline's networks, which it drives as the pipeline does. Pictures are (H, W, 3)
    floats, 0–1, of any size. What a family does its own way is in its file."""

    networks: ClassVar[tuple[str, ...]]  # of the pipeline's parts; beside them
    others: ClassVar[tuple[str, ...]]  # must be there, too
    most_pictures: ClassVar[int] = 1  # that it can be conditioned on, the original among them
    multiple: int  # pixels that a side of its pictures is a multiple of

    def __init__(self, pipeline: Any, name: str, device: torch.device | str, dtype: torch.dtype):
        """Take over a loaded ``pipeline`` whose networks compute on ``device`` in ``dtype``."""
        self.pipeline = pipeline
        self.name = name
        self.device = torch.device(device)
        self.dtype = dtype
        self.size = 1024
        self.references = self.most_pictures - 1
        self.multiple = 2 * pipeline.vae_scale_factor

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> Prepared:
        """The editor, told what to do. ``options``: of the knobs in its row of registry.py, checked."""
        return Prepared(self, instruction, dict(options))

    # ---- what a family says ----

    def embed(self, instruction: str, options: Mapping[str, OptionValue]) -> Any:
        """What is made of the words alone, once an edit."""
        raise NotImplementedError

    def condition(self, prepared: Prepared, pictures: list[Tensor], sizes: list[Size]) -> Condition:
        """What an edit is conditioned on: the original and what it refers to, (H, W, 3), 0–1 each, and the sizes to
        take them at, the first of which is the edit's."""
        raise NotImplementedError

    def noise(self, size: Size, generator: torch.Generator) -> Tensor:
        """(1, N, C) tokens of noise, drawn as the pipeline draws them."""
        raise NotImplementedError

    def encode(self, picture: Tensor) -> Tensor:
        """(1, N, C) tokens of a picture (1, 3, h, w), −1…1."""
        raise NotImplementedError

    def decode(self, tokens: Tensor, size: Size) -> Tensor:
        """The picture (1, 3, h, w), −1…1, of tokens."""
        raise NotImplementedError

    def velocity(
        self, tokens: Tensor, timestep: Tensor, condition: Condition, options: Mapping[str, OptionValue]
    ) -> Tensor:
        """What the transformer predicts, guided: noise − picture, (1, N, C). ``timestep``: of 0–1000, (1,)."""
        raise NotImplementedError

    def shift(self, tokens: int, steps: int) -> float:
        """μ: how far the levels are shifted for a picture of so many tokens."""
        config = self.pipeline.scheduler.config
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        return low + (high - low) * (tokens - least) / (most - least)

    def working_size(self, height: int, width: int, native: int) -> Size:
        """The size at which a picture (height, width) is edited: of about native² pixels."""
        scale = native / math.sqrt(height * width)
        return tuple(max(1, round(side * scale / self.multiple)) * self.multiple for side in (height, width))  # type: ignore

    # ---- what they share ----

    def grid(self, size: Size) -> Size:
        """Rows and columns of a picture's tokens."""
        return size[0] // self.multiple, size[1] // self.multiple

    def scheduler(self, tokens: int, steps: int) -> Any:
        """A scheduler of its own for one edit, all its levels set: diffusers' own, as the model came with it."""
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        sigmas = np.linspace(1.0, 1 / steps, steps)
        scheduler.set_timesteps(sigmas=sigmas, mu=self.shift(tokens, steps), device=self.device)
        return scheduler

    def resized(self, picture: Tensor, size: Size) -> Tensor:
        """(H, W, 3), 0–1 → (1, 3, h, w), −1…1."""
        image = picture.to(self.device, torch.float32).permute(2, 0, 1)[None]
        if tuple(image.shape[-2:]) != tuple(size):
            image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
        return (image * 2 - 1).to(self.dtype)

    @classmethod
    def load(cls, pipeline_class: Any, source: str, name: str, device: str, **more: Any) -> Self:
        """An editor from its folder, by diffusers' pipeline for it, safetensors only. Raises BadInput where it cannot
        be had."""
        check_pipeline_folder(Path(source), (*cls.networks, *cls.others))
        on = torch.device(device)
        dtype = precision(on, half=torch.bfloat16)
        pipeline = load_pipeline(pipeline_class, Path(source), name, cls.networks, dtype, **more)
        place(pipeline, on)
        return cls(pipeline, name, on, dtype)


def steps_from(t: float, steps: int) -> int:
    """How many of the schedule's ``steps`` an edit from level ``t`` (0–1) takes, one at least: those of the next level
    up that there is. A schedule of 4 steps has the levels 1/4, 1/2, 3/4 and 1."""
    return min(max(math.ceil(round(t * steps, 6)), 1), steps)


@dataclass
class Prepared:
    """A FlowEditor, told what to do."""

    editor: FlowEditor
    instruction: str
    options: dict[str, OptionValue]

    @cached_property
    def words(self) -> Any:
        return self.editor.embed(self.instruction, self.options)

    @property
    def steps(self) -> int:
        return int(self.options["diffusion_steps"])

    @property
    def levels(self) -> list[float]:
        """The noise levels that an edit can begin at, 0–1."""
        return [step / self.steps for step in range(1, self.steps + 1)]

    @torch.no_grad()
    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> ViewEdit:
        """Edits of the view whose unedited picture is ``original`` (H, W, 3), 0–1."""
        native = int(self.options.get("working_size", self.editor.size))
        pictures = [original, *references][: self.editor.most_pictures]
        sizes = [self.editor.working_size(*picture.shape[:2], native) for picture in pictures]
        return ViewEdit(self, self.editor.condition(self, pictures, sizes).on("cpu"))


@dataclass(frozen=True)
class ViewEdit:
    """A FlowEditor, told what to do and to which view."""

    prepared: Prepared
    condition: Condition  # on the CPU
    relevance: None = None  # these editors do not say where an instruction matters

    @torch.no_grad()
    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        """U(picture, t; original, instruction): noise ``picture`` (H, W, 3) to level ``t`` (0–1) and denoise it,
        conditioned on the original. ``generator`` (CPU) draws the noise; ``check`` is called before every step and may
        raise Cancelled. Returns (H, W, 3), 0–1."""
        editor, options, steps = self.prepared.editor, self.prepared.options, self.prepared.steps
        condition = self.condition.on(editor.device)
        size = condition.size
        check()
        clean = editor.encode(editor.resized(with_carried(picture, carried), size))
        noise = editor.noise(size, generator)
        scheduler = editor.scheduler(clean.shape[1], steps)
        count = steps_from(t, steps)
        scheduler.set_begin_index(steps - count)
        timesteps = scheduler.timesteps[steps - count :]
        latents = scheduler.scale_noise(clean, timesteps[:1], noise)
        stays = None
        if carried is not None:
            stays = covered(carried, *editor.grid(size)).flatten()[None, :, None].to(latents.device)
        for index, timestep in enumerate(timesteps):
            check()
            velocity = editor.velocity(latents, timestep.expand(1).to(latents.dtype), condition, options)
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if stays is not None and index + 1 < count and index < put_back(count):
                latents = torch.where(stays, scheduler.scale_noise(clean, timesteps[index + 1][None], noise), latents)
        check()
        edited = checked(editor.decode(latents, size), editor.name)  # of latents too, for a NaN in them comes through
        edited = (edited.float() / 2 + 0.5).clamp(0, 1)
        if edited.shape[-2:] != picture.shape[:2]:
            edited = F.interpolate(edited, tuple(picture.shape[:2]), mode="bicubic", antialias=True)
        return edited[0].permute(1, 2, 0).clamp(0, 1)
