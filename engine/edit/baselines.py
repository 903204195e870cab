# SPDX-License-Identifier: GPL-3.0-or-later
"""What the paper compares Iterative Dataset Update with (section 4.2): each takes what it takes and yields what it
yields, so that a job or a benchmark can run any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from engine.edit.iterative import ImageUpdated, NerfUpdated, training_batch, view_of_update
from engine.edit.settings import EditSettings
from engine.editors.guidance import Guidance
from engine.editors.instruct_pix2pix import Condition, InstructPix2Pix
from engine.pictures import to_uint8
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.rays import ImageSet, RayBatch
from engine.scenes.nerfacto.rendering import corrected_cameras, render_view
from engine.scenes.nerfacto.training import Trainer, random_seed


def edit_frame(
    editor: InstructPix2Pix,
    frame: Tensor,
    instruction_embedding: Tensor,
    settings: EditSettings,
    number: int,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """Per-frame InstructPix2Pix: ``frame`` (H, W, 3), 0–1, a render of the unedited scene, edited on its own, from
    noise of its own (the ``number``-th). Returns (H, W, 3), 0–1."""
    random = torch.Generator().manual_seed(random_seed(settings.seed, "frame", number))
    condition = editor.condition(frame, instruction_embedding, settings.guidance)
    return editor.edit(
        frame,
        condition,
        instruction_embedding,
        settings.t_max,
        settings.guidance,
        random,
        settings.diffusion_steps,
        check,
        settings.sampler,
    )


def one_time_dataset_update(
    trainer: Trainer,
    dataset: ImageSet,
    originals: Sequence[Tensor],
    frame: NerfFrame,
    editor: InstructPix2Pix,
    instruction: str,
    settings: EditSettings,
    check: Callable[[], None] = lambda: None,
) -> Iterator[ImageUpdated | NerfUpdated]:
    """One-time DU: edit every training image once, at ``settings.t_max``, then only train."""
    if trainer.step_index == 0:
        embedding = editor.embed(instruction)
        for view, original in enumerate(originals):
            picture = original.float() / 255
            edited = edit_frame(editor, picture, embedding, settings, view, check)
            dataset.replace(view, to_uint8(edited))
            yield ImageUpdated(view, dataset.image(view))
    while trainer.step_index < settings.steps:
        check()
        losses = trainer.step(training_batch(dataset, trainer, settings))
        yield NerfUpdated(trainer.step_index, losses)


def score_distillation(
    trainer: Trainer,
    dataset: ImageSet,
    originals: Sequence[Tensor],
    frame: NerfFrame,
    editor: InstructPix2Pix,
    instruction: str,
    settings: EditSettings,
    check: Callable[[], None] = lambda: None,
) -> Iterator[ImageUpdated | NerfUpdated]:
    """SDS with InstructPix2Pix: DreamFusion's gradient (Poole et al. 2023, eq. 3), w(t) = 1 − ᾱ_t, in place of dataset
    updates.

    The gradient is taken at the latents of a whole rendered view and led back to its pixels; ``patches × patch²`` of
    those are drawn at random, rendered again and pulled along it, so that no view has to be kept in memory with all
    its samples. The trainer's pixel loss must be mse: then a target of ``colour − ½·gradient`` is that pull.
    """
    if trainer.losses.pixel != "mse" or trainer.losses.perceptual_weight:
        raise ValueError("score distillation needs a trainer with the mse loss alone")
    embedding = editor.embed(instruction)
    conditions: dict[int, Condition] = {}
    positions = dataset.cameras.camera_to_worlds[:, :3, 3]
    while trainer.step_index < settings.steps:
        check()
        view = view_of_update(trainer.step_index, positions, settings.seed, settings.order)
        if view not in conditions:
            conditions[view] = editor.condition(originals[view].float() / 255, embedding, settings.guidance)
        cameras = corrected_cameras(trainer.nerf, dataset.cameras)
        render = render_view(trainer.nerf, cameras, view, frame, check).rgb
        random = torch.Generator().manual_seed(random_seed(settings.seed, "image", trainer.step_index))
        t = settings.t_min + (settings.t_max - settings.t_min) * float(torch.rand((), generator=random))
        gradient = sds_gradient(editor, render, conditions[view], embedding, t, settings.guidance, random)
        height, width = render.shape[:2]
        count = settings.patches * settings.patch**2
        flat = torch.randint(height * width, (count,), generator=random).to(render.device)
        coords = torch.stack([torch.div(flat, width, rounding_mode="floor"), flat % width], dim=-1) + 0.5
        rays = dataset.cameras.generate_rays(camera_indices=torch.full_like(flat, view)[:, None], coords=coords)
        target = render.view(-1, 3)[flat] - 0.5 * gradient.view(-1, 3)[flat]
        losses = trainer.step(RayBatch(rays, target))
        yield NerfUpdated(trainer.step_index, losses)


def sds_gradient(
    editor: InstructPix2Pix,
    picture: Tensor,
    condition: Condition,
    instruction: Tensor,
    t: float,
    guidance: Guidance,
    generator: torch.Generator,
) -> Tensor:
    """∂L_SDS/∂picture (H, W, 3): w(t)·(ε̂ − ε) at the latents of ``picture``, led back through the encoder; none where
    the original has to stay."""
    picture = picture.detach().requires_grad_()
    with torch.enable_grad():
        latents = editor.latents(picture)
    timestep = editor.schedule.levels(t, 1)[0]
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noised = editor.schedule.add_noise(latents.detach(), noise, timestep)
    with torch.no_grad():
        prediction = editor.guided_prediction(noised, timestep, condition.latents, instruction, guidance)
        _, predicted = editor.schedule.parts(prediction, noised, timestep)
    weight = 1 - editor.schedule.alphas_cumprod[timestep]
    (gradient,) = torch.autograd.grad(latents, picture, (weight * (predicted - noise)).to(latents.dtype))
    return gradient if condition.picture is None else gradient * condition.mask(*picture.shape[:2]).to(gradient)
