# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods that change a NeRF, by name, begun alike: by an edit, by the report card, by the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engine.edit.baselines import one_time_dataset_update, score_distillation
from engine.edit.iterative import ImageUpdated, NerfUpdated, ViewUnderstood, iterative_dataset_update
from engine.edit.settings import EditSettings
from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.rays import ImageSet
from engine.scenes.nerfacto.training import Trainer

METHODS = {
    "iterative": iterative_dataset_update,
    "one-time": one_time_dataset_update,
    "sds": score_distillation,
}


def begin(
    settings: EditSettings,
    checkpoint: Checkpoint,
    dataset: ImageSet,
    editor: InstructPix2Pix,
    instruction: str,
    perceptual,
    device: str,
    views: Sequence[str] | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[Trainer, Iterator[ViewUnderstood | ImageUpdated | NerfUpdated]]:
    """A trainer that goes on from the scene of ``checkpoint``, and the events of ``settings.method`` on it, which begin
    when they are asked for. ``dataset`` holds the captured pictures of ``views`` (the checkpoint's, by name; all where
    None) and is changed in place; ``perceptual`` is the loss to take where the settings give it weight."""
    nerf = checkpoint.nerf(device, views=views)
    loss = perceptual if settings.losses.perceptual_weight else None
    age = checkpoint.header.age
    trainer = Trainer(nerf, settings.losses, settings.optimiser, loss, settings.seed, earlier_steps=age)
    originals = [dataset.image(index).clone() for index in range(len(dataset))]
    frame = checkpoint.header.frame
    method = METHODS[settings.method]
    return trainer, method(trainer, dataset, originals, frame, editor, instruction, settings, check)
