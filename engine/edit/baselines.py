# SPDX-License-Identifier: GPL-3.0-or-later
"""What the paper compares Iterative Dataset Update with (section 4.2): each takes what it takes and yields what it
yields, so that a job or a benchmark can run any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from engine.edit.iterative import ImageUpdated, SceneUpdated, view_of_update
from engine.edit.keep import Background, background_of, edit_alone
from engine.edit.originals import Originals
from engine.edit.prompt import Prompts
from engine.edit.settings import EditSettings, Told
from engine.editors.base import Editor, ViewEdit
from engine.pictures import to_uint8
from engine.randomness import random_seed
from engine.scenes.base import Check, SceneTrainer
from engine.scenes.picture_set import PictureSet


def edited_frames(
    editor: Editor, told: Told, frames: Iterable[Tensor], settings: EditSettings, check: Check = lambda: None
) -> Iterator[Tensor]:
    """Per-frame editing: ``frames`` (H, W, 3), 0–1, renders of the unedited scene, each edited on its own, from its own
    noise. Yields (H, W, 3), 0–1."""
    prepared = editor.prepare(told.instruction, told.options)
    for number, frame in enumerate(frames):
        random = torch.Generator().manual_seed(random_seed(settings.seed, "frame", number))
        yield edit_alone(prepared, frame, frame, settings.t_max, told.keep, random, check)


def one_time_dataset_update(
    trainer: SceneTrainer,
    pictures: PictureSet,
    originals: Originals,
    prompts: Prompts,
    settings: EditSettings,
    check: Check = lambda: None,
) -> Iterator[ImageUpdated | SceneUpdated]:
    """One-time DU: edit every training image once, at ``settings.t_max``, then only train."""
    if trainer.step_index == 0:
        frames = (originals[view] for view in range(len(originals)))
        for view, edited in enumerate(edited_frames(prompts.editor, prompts.at(0), frames, settings, check)):
            pictures.replace(view, to_uint8(originals.outside_kept(view, edited, check)))
            yield ImageUpdated(view, pictures.image(view))
    while trainer.step_index < settings.steps:
        check()
        originals.confine(pictures, check)
        losses = trainer.step(pictures)
        yield SceneUpdated(trainer.step_index, losses)


def score_distillation(
    trainer: SceneTrainer,
    pictures: PictureSet,
    originals: Originals,
    prompts: Prompts,
    settings: EditSettings,
    check: Check = lambda: None,
) -> Iterator[SceneUpdated]:
    """SDS with the editor: DreamFusion's gradient (Poole et al. 2023, eq. 3) in place of dataset updates.

    The gradient is taken of a whole rendered view; some of its pixels, drawn at random, are rendered again and pulled
    along it, so that no view has to be kept in memory with all its samples. The pixel loss must be mse: then a target
    of ``colour − ½·gradient`` is that pull.
    """
    if settings.losses.pixel != "mse" or settings.losses.perceptual_weight:
        raise ValueError("score distillation needs the mse loss alone")
    told = prompts.at(0)
    prepared = prompts.editor.prepare(told.instruction, told.options)
    views: dict[int, tuple[ViewEdit, Background | None]] = {}
    positions = torch.from_numpy(np.stack([view.pose[:3, 3] for view in trainer.views]))
    while trainer.step_index < settings.steps:
        check()
        view = view_of_update(trainer.step_index, positions, settings.seed, settings.order)
        if view not in views:
            edit = prepared.view(originals[view])
            views[view] = edit, background_of(edit, told.keep)
        render = trainer.scene.render(trainer.camera(view), check).rgb
        random = torch.Generator().manual_seed(random_seed(settings.seed, "image", trainer.step_index))
        t = settings.t_min + (settings.t_max - settings.t_min) * float(torch.rand((), generator=random))
        edit, background = views[view]
        gradient = edit.gradient(render, t, random)
        if background is not None:
            gradient = background.leave_out(gradient)
        if (mask := originals.mask(view, check)) is not None:
            gradient = gradient * mask.to(gradient)
        losses = trainer.step_towards(view, render - 0.5 * gradient, random)
        yield SceneUpdated(trainer.step_index, losses)
