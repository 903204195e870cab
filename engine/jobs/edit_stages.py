# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an edit is: its stages, and what its events mean for them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from engine.edit.iterative import Event, ImageUpdated, LooksCompared, RelevanceComputed
from engine.edit.settings import EditSettings
from engine.presets import (
    SECONDS_A_RELEVANCE,
    SECONDS_A_RENDER,
    SECONDS_A_STEP,
    SECONDS_AN_IMAGE_UPDATE,
    STEP_OF_EDIT,
)
from engine.progress import Job, Plan, Stage


def edit_stages(settings: EditSettings, edited: int, rendered: int, done: int) -> list[Stage]:
    """The stages of an edit of ``edited`` views, after which ``rendered`` are rendered, that has taken ``done``
    steps."""
    updates = settings.updates_later(edited)
    step = SECONDS_A_STEP * STEP_OF_EDIT + SECONDS_AN_IMAGE_UPDATE * updates / settings.steps
    first = settings.updates_first(edited) if done == 0 else 0
    return [
        Stage("understand", "Finding the subject", settings.agreed_first(edited), SECONDS_A_RELEVANCE),
        Stage("first", "Editing every view", first, SECONDS_AN_IMAGE_UPDATE),
        Stage("edit", "Editing", settings.steps, step, done=min(done, settings.steps)),
        Stage("after", "Rendering edited views", rendered, SECONDS_A_RENDER),
    ]


class EditWatch:
    """Follows an edit's events through the stages of its plan."""

    def __init__(self, plan: Plan, job: Job, views: int):
        """``views``: how many are edited."""
        self._plan, self._job = plan, job
        self._changes: deque[float] = deque(maxlen=max(1, views))
        self._stages = {stage.name: stage for stage in plan.stages}
        self._stage: Stage | None = None

    def start(self) -> None:
        """The clock of the first stage starts now."""
        self._enter(next(name for name in ("understand", "first", "edit") if name in self._stages))

    def saw(self, event: Event) -> None:
        """Advance the plan, and tell."""
        if isinstance(event, RelevanceComputed):
            if "understand" in self._stages:  # else an instruction that was changed asks for it
                self._enter("understand")
                self._advance(event.view + 1)
        elif isinstance(event, LooksCompared):
            if self._stage is not None:  # at its end, or nearly: no stage of its own, and a minute of a long one
                self._job.report(self._plan, replace(self._stage, label="Matching the edited views"))
        elif not isinstance(event, ImageUpdated):
            self._enter("edit")
            self._advance(event.step, event.losses)
        else:
            self._changes.append(event.change)
            if (first := self._stages.get("first")) and first.done < first.units:
                self._advance(self._enter("first").done + 1)
            elif self._stage is not None:
                change = sum(self._changes) / len(self._changes)
                self._job.report(self._plan, self._stage, change=change)

    def _enter(self, name: str) -> Stage:
        if self._stage is None or self._stage.name != name:
            self._stage = self._plan.begin(name)
        return self._stage

    def _advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        assert self._stage is not None
        self._plan.advance(done)
        self._job.report(self._plan, self._stage, losses)
