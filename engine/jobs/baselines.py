# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods that an edit is compared with: each a piece, begun at the same unedited scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from engine.capture import View
from engine.edit.baselines import edited_frames
from engine.edit.iterative import ImageUpdated
from engine.edit.methods import begin
from engine.edit.prompt import Prompts
from engine.edit.region import region_of
from engine.edit.settings import EditSettings, as_published, scheduled
from engine.editors.catalogue import source_of
from engine.editors.registry import kind_of
from engine.jobs.named_editor import editor_at
from engine.jobs.scene import perceptual_at
from engine.metrics.memory import PeakMemory
from engine.pictures import to_uint8
from engine.pieces import Place
from engine.progress import Job, Plan, Stage
from engine.records import EditRecord
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import open_scene
from engine.scenes.settings import LossConfig

PER_FRAME, ONE_TIME, SDS, PAPER, PROJECTED = "Per-frame", "One-time DU", "SDS", "Iterative DU", "Projected"
SECONDS_A_FRAME, SECONDS_A_STEP = 3.0, 0.6  # on two CPU cores, a first guess


class Made(msgspec.Struct, frozen=True):
    """What a baseline took; its frames lie beside it."""

    settings: dict
    seconds: float
    edits: int
    peak_bytes: int


@dataclass(frozen=True, eq=False)
class Common:
    """What the baselines of an edit share."""

    record: EditRecord
    settings: EditSettings
    views: list[View]  # that were edited
    pictures: PictureSet  # that the edit began with, on the CPU
    path: list[View]  # along which methods are compared
    unedited: list[np.ndarray]  # (H, W, 3) float32, 0–1: what the path shows of the scene that the edit stands on


def baselines_of(editor: str, settings: EditSettings, keys: bool) -> list[str]:
    """What an edit is compared with: the paper's baselines that its editor can run (SDS needs its gradient), the
    paper's own schedule, and ours without key views (``keys``: the edit has some); but not with itself."""
    able = kind_of(source_of(editor)).can
    names = [PER_FRAME, ONE_TIME, SDS, PAPER, PROJECTED]
    return [
        name
        for name in names
        if not (name == SDS and "gradient" not in able)
        and not (name in (PAPER, PROJECTED) and not keys and settings_of(name, settings) == settings)
    ]


def settings_of(name: str, settings: EditSettings) -> EditSettings:
    """The settings of a method that trains a scene, beside those of the edit: as many steps, and all but the schedule
    and what belongs to it the same."""
    if name == SDS:
        return msgspec.structs.replace(settings, method="sds", losses=LossConfig("mse"))
    if name == ONE_TIME:
        return msgspec.structs.replace(settings, method="one-time")
    return as_published(settings) if name == PAPER else scheduled(settings, "projected", False)


def run_baseline(common: Common, name: str, place: Place) -> tuple[Made, list[np.ndarray]]:
    """A piece: a baseline, begun at the place's one checkpoint; what it took, and its frames along the path, (H, W, 3)
    uint8. It tells how many of its steps, or frames, are done."""
    record, settings, device = common.record, common.settings, place.device
    place.tell(0)
    editor = editor_at(record.editor, device, place.keep)
    prompts = Prompts(editor, settings.told(record.instruction))
    with PeakMemory(device) as memory:
        if name == PER_FRAME:
            unedited = [torch.tensor(frame).to(device) for frame in common.unedited]
            frames, began = [], place.clock()
            for frame in edited_frames(editor, prompts.at(0), unedited, settings, place.check):
                frames.append(frame)
                place.tell(len(frames))
            edits, seconds = len(frames), place.clock() - began
        else:
            own = settings_of(name, settings)
            perceptual = perceptual_at(device, place.keep) if own.losses.perceptual_weight else None
            parent = open_scene(place.files[0])
            trainer, events = begin(
                own, parent, common.views, common.pictures.copied(device), prompts, perceptual, device, place.check,
                region=region_of(record.last_region),
            )  # fmt: skip
            edits, began = own.steps if name == SDS else 0, place.clock()
            for event in events:
                edits += event.edits if isinstance(event, ImageUpdated) else 0
                place.tell(trainer.step_index)
            seconds = place.clock() - began
            frames = [trainer.scene.render(view, place.check).rgb for view in common.path]
    return Made(as_read(settings), seconds, edits, memory.peak), [to_uint8(frame).cpu().numpy() for frame in frames]


def as_read(settings: EditSettings) -> dict:
    """Settings as they are read again from a file: tuples have become lists."""
    return msgspec.json.decode(msgspec.json.encode(settings))


def slug(name: str) -> str:
    """A method's name, as that of a folder or a stage."""
    return name.lower().replace(" ", "-")


class Stages:
    """The stages of running baselines, one after the other or, where there are several ``workers``, all in one."""

    def __init__(self, units: Mapping[str, int], workers: int):
        """``units``: how much there is to do of each, by name."""
        self._each = [
            Stage(slug(name), name, count, SECONDS_A_FRAME if name == PER_FRAME else SECONDS_A_STEP)
            for name, count in units.items()
        ]
        self._done = dict.fromkeys(range(len(self._each)), 0)
        self.all = self._each
        if workers > 1:
            steps = sum(self._steps(number, stage.units) for number, stage in enumerate(self._each))
            self.all = [Stage("baselines", "Running the baselines", steps, SECONDS_A_STEP)]
        self._at: Stage | None = None

    def _steps(self, number: int, units: int) -> int:
        """What so much of a baseline is, in steps."""
        return round(units * self._each[number].seconds / SECONDS_A_STEP)

    def told(self, plan: Plan, job: Job, number: int, done: int) -> None:
        """So much of a baseline is done."""
        self._done[number] = done
        own = self._each[number] if self.all is self._each else self.all[0]
        if self._at is not own:
            self._at = plan.begin(own.name)
        if self.all is not self._each:
            done = sum(self._steps(other, units) for other, units in self._done.items())
        plan.advance(done)
        job.report(plan, own)

    def ended(self, plan: Plan, job: Job, number: int) -> None:
        """A baseline was made."""
        self.told(plan, job, number, self._each[number].units)
