# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job tells while it runs, and how long it will still take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import Cancelled
from engine.pieces import Here, Pieces, Place
from engine.protocol import LOOK, Progress
from engine.runtime import Runtime, load_alone
from engine.wishes import Wishes

T = TypeVar("T")


@dataclass
class Stage:
    """A part of a job: ``units`` of work that each take about ``seconds``, a first guess until it is measured."""

    name: str
    label: str
    units: int
    seconds: float
    done: int = 0


class Plan:
    """A job's stages in order. The time left is what the current stage's recent units took, and for the stages to come
    the guess, scaled by how this machine compares with the guesses so far."""

    WINDOW = 64  # units
    SETTLED = 3.0  # seconds to watch before saying anything

    def __init__(self, *stages: Stage, clock: Callable[[], float] = time.monotonic):
        self.stages = [stage for stage in stages if stage.units > 0]
        self._clock = clock
        self._current: Stage | None = None
        self._marks: deque[tuple[float, int]] = deque(maxlen=self.WINDOW + 1)
        self._rates: dict[str, float] = {}  # measured seconds a unit, by stage
        self._watched = 0.0

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    def begin(self, name: str) -> Stage:
        """Enter a stage; its clock starts now."""
        self._current = self.stage(name)
        self._marks.clear()
        self._marks.append((self._clock(), self._current.done))
        return self._current

    def skip(self, name: str) -> Stage:
        """Enter a stage whose work was done before: it says nothing of how fast this machine is."""
        stage = self.begin(name)
        stage.done = stage.units
        return stage

    def advance(self, done: int) -> None:
        """The current stage has done ``done`` units."""
        assert self._current is not None
        now = self._clock()
        self._watched += now - self._marks[-1][0]
        self._current.done = done
        self._marks.append((now, done))
        (first, was), (last, is_) = self._marks[0], self._marks[-1]
        if is_ > was:
            self._rates[self._current.name] = (last - first) / (is_ - was)

    @property
    def seconds_left(self) -> float | None:
        """Of the whole job; None until enough was seen."""
        if self._watched < self.SETTLED or not self._rates:
            return None
        return sum((stage.units - stage.done) * self._seconds(stage) for stage in self.stages)

    @property
    def fraction(self) -> float:
        """Of the whole job's time, 0–1."""
        total = sum(stage.units * self._seconds(stage) for stage in self.stages)
        done = sum(stage.done * self._seconds(stage) for stage in self.stages)
        return done / total if total else 1.0

    def _seconds(self, stage: Stage) -> float:
        if stage.name in self._rates:
            return self._rates[stage.name]
        guessed = sum(s.seconds * s.done for s in self.stages if s.name in self._rates)
        took = sum(self._rates[s.name] * s.done for s in self.stages if s.name in self._rates)
        return stage.seconds * (took / guessed if guessed else 1.0)


@dataclass(frozen=True)
class Live:
    """A scene that a job works on: of which edit (None: the unedited scene) in which workspace's folder, what it is
    now, and after how many steps."""

    folder: Path
    edit: str | None
    scene: Callable[[], Any]  # engine.scenes.base.Scene
    step: Callable[[], int]


@dataclass
class Job:
    """A running job's ties to whoever started it. The defaults are deaf and never stop."""

    on_progress: Callable[[Progress], None] = lambda progress: None
    on_view: Callable[[str, str, str], None] = lambda view, kind, image: None
    log: Callable[[str], None] = lambda text: None
    cancelled: Callable[[], bool] = lambda: False
    leaving: Callable[[], bool] = lambda: False  # whether it is to stop because this program ends, or lets go of it
    runtime: Runtime = field(default_factory=Runtime)  # what is loaded; the server's jobs share one
    wishes: Wishes = field(default_factory=Wishes)  # what is asked of the job while it runs
    live: Live | None = None  # what it works on, while others may see it
    pieces: Pieces = field(default_factory=Here)  # who does what can be done in pieces
    every: float = 0.25  # seconds between two progress messages of a stage
    _last: float = field(default=0.0, repr=False)
    _idle: float = field(default=0.0, repr=False)  # seconds

    def check(self) -> None:
        """Grant what was wished for, wait where the job is to pause, and raise Cancelled where it is to stop. Called
        before every step of anything, from the job's own thread."""
        began = time.monotonic()
        self.wishes.serve(self.cancelled)
        self._idle += time.monotonic() - began
        if self.cancelled():
            raise Cancelled("The job was cancelled; what it had made is saved.")

    def clock(self) -> float:
        """Seconds of the job's own work: it stands still while the job pauses or grants wishes."""
        return time.monotonic() - self._idle

    def plan(self, *stages: Stage) -> Plan:
        """A plan by the job's own clock."""
        return Plan(*stages, clock=self.clock)

    def wait_for(self, work: Callable[[], T]) -> T:
        """The result of work that cannot be interrupted, such as loading a model, while still answering a cancel: the
        work is then left to end by itself, its result dropped. One such work at a time in the whole process."""
        return load_alone(work, self._check_waiting)

    def keep(self, kind: str, key: Hashable, work: Callable[[], T]) -> T:
        """As `wait_for`, but what is loaded stays loaded for later jobs that ask for the same key (`Runtime.keep`)."""
        return self.runtime.keep(kind, key, work, self._check_waiting)

    def _check_waiting(self) -> None:
        """As `check`, but nothing is rendered for others: what is waited for may use the compiled kernels' threads,
        which are one user's at a time."""
        with self.wishes.withholding(LOOK):
            self.check()

    def place(self, device: str, *files: Path, check: Callable[[], None] | None = None) -> Place:
        """Where this process does a piece."""
        return Place(device, self.keep, check or self.check, files, clock=self.clock)

    def report(
        self,
        plan: Plan,
        stage: Stage,
        losses: dict[str, float] | None = None,
        *,
        held_out: float | None = None,
        change: float | None = None,
    ) -> None:
        """Tell how far the job is, not more often than ``every``, but always at a stage's end, and what is seldom
        measured (`protocol.Progress`)."""
        now = time.monotonic()
        seldom = held_out is not None or change is not None
        if now - self._last < self.every and stage.done < stage.units and not seldom:
            return
        self._last = now
        self.on_progress(
            Progress(
                stage=stage.name,  # type: ignore[arg-type]
                label=stage.label,
                step=stage.done,
                of=stage.units,
                fraction=round(plan.fraction, 4),
                seconds_left=plan.seconds_left,
                losses=losses or {},
                held_out=held_out,
                change=change,
            )
        )
