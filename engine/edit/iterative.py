# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterative Dataset Update (Haque et al., ICCV 2023, section 3.2): the algorithm of this project."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.edit.agreement import agreed_relevance
from engine.edit.settings import EditSettings, Order
from engine.editors.instruct_pix2pix import Condition, InstructPix2Pix
from engine.pictures import to_uint8
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.rays import ImageSet, RayBatch
from engine.scenes.nerfacto.rendering import corrected_cameras, render_view
from engine.scenes.nerfacto.training import Trainer, random_seed


@dataclass(frozen=True)
class ImageUpdated:
    """A training image was replaced by an edit of its view's current render."""

    view: int
    image: Tensor  # (H, W, 3) uint8
    change: float = 0.0  # mean absolute difference to the picture that it replaced, 0–1


@dataclass(frozen=True)
class NerfUpdated:
    """The NeRF took a step; its weighted losses."""

    step: int
    losses: dict[str, float]


@dataclass(frozen=True)
class ViewUnderstood:
    """What the edits of a view need of its captured picture is known."""

    view: int


def iterative_dataset_update(
    trainer: Trainer,
    dataset: ImageSet,
    originals: Sequence[Tensor],
    frame: NerfFrame,
    editor: InstructPix2Pix,
    instruction: str,
    settings: EditSettings,
    check: Callable[[], None] = lambda: None,
) -> Iterator[ViewUnderstood | ImageUpdated | NerfUpdated]:
    """Alternate d image updates and n NeRF updates until the trainer has taken ``settings.steps``.

    ``dataset`` holds the views' training images, at the start the captured ones, and is changed in place; ``originals``
    are the captured ones, (H, W, 3) uint8 each, and never change. ``check`` is called before every step of anything
    and may raise Cancelled. The run is a function of the seed and of ``trainer.step_index`` alone, so it goes on from
    a checkpoint as if never stopped (only ``settle`` counts its turn anew, and views agree again, by the depth of the
    NeRF as it is).
    """
    instruction_embedding = editor.embed(instruction)
    conditions: dict[int, Condition] = {}  # c_I, and where c_T may change it: once a view
    positions = dataset.cameras.camera_to_worlds[:, :3, 3]
    changes: deque[float] = deque(maxlen=len(dataset))

    def condition(view: int) -> Condition:
        return editor.condition(originals[view].float() / 255, instruction_embedding, settings.guidance)

    def image_update(view: int, draw: int, t_range: tuple[float, float], unedited: bool = False) -> ImageUpdated:
        """I_v^{i+1} ← U(I_v^i, t; I_v^0, c_T), with t drawn from ``t_range``. As long as the NeRF is ``unedited``,
        its render is a copy of the captured picture, which is there already."""
        if view not in conditions:
            conditions[view] = condition(view)
        if unedited:
            render = originals[view].float() / 255
        else:
            cameras = corrected_cameras(trainer.nerf, dataset.cameras)
            render = render_view(trainer.nerf, cameras, view, frame, check).rgb
        random = torch.Generator().manual_seed(random_seed(settings.seed, "image", draw))
        t = t_range[0] + (t_range[1] - t_range[0]) * float(torch.rand((), generator=random))
        if settings.shared_noise:
            random.manual_seed(random_seed(settings.seed, "shared noise", 0))
        edited = editor.edit(
            render,
            conditions[view],
            instruction_embedding,
            t,
            settings.guidance,
            random,
            settings.diffusion_steps,
            check,
            settings.sampler,
        )
        before = dataset.image(view).clone()
        dataset.replace(view, to_uint8(edited))
        after = dataset.image(view)
        return ImageUpdated(view, after, float((after.float() - before.float()).abs().mean()) / 255)

    for view in range(settings.agreed_first(len(dataset))):
        check()
        conditions[view] = condition(view)
        yield ViewUnderstood(view)
    if conditions:
        cameras = corrected_cameras(trainer.nerf, dataset.cameras)
        agreed = agreed_relevance([c.relevance for c in conditions.values()], trainer.nerf, cameras, check)
        conditions = {
            view: replace(conditions[view], relevance=relevance, threshold=settings.agreed_relevance)
            for view, relevance in enumerate(agreed)
        }

    if settings.first_pass and trainer.step_index == 0:
        for view in range(len(dataset)):
            yield image_update(view, -1 - view, (settings.t_max, settings.t_max), unedited=True)

    while trainer.step_index < settings.steps:
        if trainer.step_index % settings.steps_per_round == 0:
            first = trainer.step_index // settings.steps_per_round * settings.images_per_round
            for update in range(first, first + settings.images_per_round):
                view = view_of_update(update, positions, settings.seed, settings.order)
                updated = image_update(view, update, settings.noise_range(update))
                changes.append(updated.change)
                yield updated
            if settled(changes, settings):
                return
        check()
        losses = trainer.step(training_batch(dataset, trainer, settings))
        yield NerfUpdated(trainer.step_index, losses)


def training_batch(dataset: ImageSet, trainer: Trainer, settings: EditSettings) -> RayBatch:
    """The rays of the trainer's next step, always as many: of all views, later in patches where the settings say so."""
    if trainer.step_index < settings.single_rays * settings.steps:
        return dataset.sample_pixels(settings.patches * settings.patch**2, trainer.generator())
    return dataset.sample_patches(settings.patches, settings.patch, trainer.generator())


def settled(changes: deque[float], settings: EditSettings) -> bool:
    """Whether the last whole turn of image updates changed its pictures by less than ``settings.settle``."""
    return len(changes) == changes.maxlen and sum(changes) / len(changes) < settings.settle


def view_of_update(update: int, positions: Tensor, seed: int, order: Order = "shuffled") -> int:
    """Which view the update-th image update takes, of the cameras at ``positions`` (V, 3): a new order over all views
    each time round."""
    turn, place = divmod(update, len(positions))
    shuffled = torch.randperm(
        len(positions), generator=torch.Generator().manual_seed(random_seed(seed, "order", turn))
    ).tolist()
    if order == "shuffled":
        return shuffled[place]
    taken = [shuffled[0]]  # farthest-point order from a random view
    nearest = (positions - positions[taken[0]]).norm(dim=-1)
    while len(taken) <= place:
        nearest[taken] = -1.0
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (positions - positions[taken[-1]]).norm(dim=-1))
    return taken[place]
