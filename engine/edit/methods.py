# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods that change a scene, by name, begun alike: by an edit, by the report card, by the benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from engine.edit.baselines import one_time_dataset_update, score_distillation
from engine.edit.iterative import Event, iterative_dataset_update
from engine.edit.originals import Originals
from engine.edit.projected import projected_dataset_update
from engine.edit.prompt import Prompts
from engine.edit.region import Region
from engine.edit.settings import EditSettings
from engine.geometry import Camera
from engine.scenes.base import Check, Perceptual, SavedScene, SceneTrainer
from engine.scenes.picture_set import PictureSet

METHODS = {
    "iterative": iterative_dataset_update,
    "projected": projected_dataset_update,
    "one-time": one_time_dataset_update,
    "sds": score_distillation,
}


def begin(
    settings: EditSettings,
    parent: SavedScene,
    views: Sequence[Camera],
    pictures: PictureSet,
    prompts: Prompts,
    perceptual: Perceptual | None,
    device: str,
    check: Check = lambda: None,
    saved: SavedScene | None = None,
    region: Region | None = None,
) -> tuple[SceneTrainer, Iterator[Event]]:
    """A trainer that goes on from the scene of ``parent`` and the events of ``settings.method`` on it, which begin when
    they are asked for; a run that was stopped goes on from where it ``saved``.

    ``pictures`` holds the original pictures of ``views`` and is changed in place, here already where some were edited
    before; ``perceptual`` is the loss to take where the settings give it weight; outside ``region`` nothing is edited,
    until ``prompts`` name another one.
    """
    loss = perceptual if settings.losses.perceptual_weight else None

    def unedited() -> SceneTrainer:
        return parent.trainer(views, settings.training, settings.seed, device, loss)

    pictures.changing = pictures.confined = None  # known once the region is looked for in them
    captured = [pictures.image(view).to("cpu", copy=True) for view in range(len(pictures))]
    if region is not None:
        prompts.told[0] = msgspec.structs.replace(prompts.told[0], region=region)
    originals = Originals(captured, unedited, pictures.device, prompts.told[0].region)
    if saved is None:
        trainer = unedited()
    else:
        trainer = saved.trainer(views, settings.training, settings.seed, device, loss, resume=True)
        number = {view.name: index for index, view in enumerate(views)}
        sizes = {view.name: (view.intrinsics.height, view.intrinsics.width) for view in views}
        for name, image in saved.images(sizes).items():
            pictures.replace(number[name], image)
    return trainer, METHODS[settings.method](trainer, pictures, originals, prompts, settings, check)
