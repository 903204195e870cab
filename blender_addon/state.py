# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the engine and of what runs: one :class:`Session` while the add-on is enabled. Asks nothing."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import messages
from .client import Client
from .curves import Curves
from .install import Installer

Views = Callable[[messages.ViewWritten], None]
EARLY = 0.5  # of a job: how much of it is left must be enough to know its pace


@dataclass
class Job:
    """The engine's job that runs now, or the last one that ran; what the panels draw."""

    id: int
    panel: str
    title: str
    workspace: str
    started: float  # seconds, monotonic
    status: str = "running"  # running, cancelling, done, cancelled, failed, detached
    stage: str = ""
    label: str = ""
    step: int = 0
    of: int = 0
    fraction: float = 0.0
    begun: tuple[float, float] | None = None  # when something was first done (monotonic), and how much of it all
    due: float | None = None  # seconds, monotonic: when it should end
    view: str = ""
    kind: str = ""
    image: str = ""
    pictured: float = -math.inf  # seconds, monotonic: when the picture last changed
    ended: float | None = None
    scene: int = 0  # ``session_uid`` of the scene that asked, 0: none
    method: str = ""  # of the request
    sent: Mapping[str, Any] = field(default_factory=dict)  # what was asked, and changed since; empty until it is sent
    paused: bool = False
    rested: bool = False  # it paused at some time
    curves: Curves = field(default_factory=Curves)
    attached: bool = False  # it is done by a process of its own, which goes on without this engine
    folder: tuple[int, int] | None = None  # which folder the workspace was at the start, None: there was none

    @property
    def active(self) -> bool:
        """Whether the engine still works on it."""
        return self.status in ("running", "cancelling")

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end, counted down between two messages; None until known, and while it pauses."""
        return None if self.due is None or self.paused else max(0.0, self.due - time.monotonic())

    @property
    def seconds(self) -> float:
        """Seconds since the start, until the end."""
        return (self.ended or time.monotonic()) - self.started

    def reached(self, fraction: float) -> None:
        """The engine has told how far it is."""
        self.fraction = fraction
        if fraction > 0 and self.begun is None:
            self.begun = time.monotonic(), fraction

    @property
    def worked(self) -> float:
        """Seconds for the whole job at its pace since something of it was done. What comes before, such as loading what
        then stays loaded, would be no measure for the next one."""
        if self.begun is None or self.begun[1] > EARLY:
            return self.seconds
        at, fraction = self.begun
        return ((self.ended or time.monotonic()) - at) / (1 - fraction)

    @property
    def moved(self) -> bool:
        """Whether the workspace that the job began with is no longer where it was."""
        return self.folder is not None and folder_of(self.workspace) != self.folder


def folder_of(path: str) -> tuple[int, int] | None:
    """Which folder lies at a path, so that another of the same name is told from it; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class Asked:
    """Who waits for the answer to a request."""

    done: Callable[[Any], None]
    failed: Callable[[messages.Failure], None]


@dataclass
class Unsent:
    """A job that waits for the engine to say what it offers."""

    job: Job
    send: Callable[[], None]
    fail: Callable[[messages.Failure], None]


@dataclass
class Task:
    """Work on Blender's side in small steps; the generator yields a fraction (0–1) between two steps, or None where it
    waits for another program."""

    name: str
    panel: str
    steps: Iterator[float | None]
    then: Callable[[], None]  # called once the last step is done, when other work may start again
    fraction: float = 0.0


@dataclass
class Chore:
    """Work in steps so small that nobody has to wait for it (:mod:`chores`); ``make`` gives its steps."""

    make: Callable[[], Iterator[float]]
    panel: str
    title: str = ""  # shown with a bar, where there is one
    steps: Iterator[float] | None = None
    fraction: float = 0.0


@dataclass(frozen=True)
class Unplaced:
    """Photos, or a video, that were to be opened and have no cameras."""

    source: str
    sentence: str  # what the engine said of them, and of how long it takes to find these
    find: Callable[[], None]  # begins to


@dataclass
class Session:
    """All that is known; one instance lives as long as the add-on is enabled."""

    client: Client | None = None
    info: messages.EngineInfo | None = None
    projects: dict[str, messages.Project] = field(default_factory=dict)
    job: Job | None = None
    asked: dict[int, Asked] = field(default_factory=dict)  # requests without an answer yet, by number
    next_number: int = 1
    task: Task | None = None
    chores: dict[Hashable, Chore] = field(default_factory=dict)  # in the order in which they are done
    installer: Installer | None = None
    notices: dict[str, str] = field(default_factory=dict)  # panel → the sentence it shows as an error
    news: dict[str, str] = field(default_factory=dict)  # panel → a sentence that is no error
    unsent: Unsent | None = None
    ended: bool = False  # the add-on is being disabled: nothing that arrives is handled any more
    last_log: deque[str] = field(default_factory=lambda: deque(maxlen=60))
    stop_deadline: float | None = None
    outlive: bool = False  # what the engine does goes on where the line to it is cut
    release_wanted: bool = False  # Blender renders, and should have the memory that the engine keeps between jobs
    dirty: bool = True
    # Pictures that came while a job ran, by workspace, kind and view; results replace them at the job's end.
    live: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    took: dict[tuple[str, ...], float] = field(default_factory=dict)  # what jobs took here, by their kind (costs)
    unplaced: dict[int, Unplaced] = field(default_factory=dict)  # by the ``session_uid`` of the scene they are for
    watchers: list[Views] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``stopped``, ``starting``, ``ready`` or ``stopping``."""
        if self.client is None or not self.client.alive:
            return "stopped"  # dead, perhaps not buried yet: nothing can be asked of it
        if self.stop_deadline is not None:
            return "stopping"
        return "ready" if self.info is not None else "starting"

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self.asked)

    @property
    def busy(self) -> bool:
        """Whether a job or task runs, so that no other may start."""
        return (self.job is not None and self.job.active) or self.task is not None

    @property
    def settled(self) -> bool:
        """Whether nothing runs, nothing is waited for and nothing is left to do."""
        return not self.busy and not self.chores and (self.client is None or not self.asked)


_session = Session()


def get() -> Session:
    """The session."""
    return _session


def begin() -> None:
    """Begin with an empty session."""
    global _session
    _session = Session()


def end_task() -> None:
    """Stop the task; its ``finally`` puts back what it had changed."""
    task, get().task = get().task, None
    if task is not None:
        try:
            task.steps.close()  # type: ignore[attr-defined]
        except Exception:
            traceback.print_exc()
    get().dirty = True


def notice(panel: str, sentence: str) -> None:
    """Show a sentence as an error in a panel; an empty one clears it."""
    if sentence:
        _session.notices[panel] = sentence
        print(f"Instruct NeRF: {sentence}")
    else:
        _session.notices.pop(panel, None)
    _session.dirty = True


def say(panel: str, sentence: str) -> None:
    """Show a sentence that is no error in a panel; an empty one clears it."""
    if sentence:
        _session.news[panel] = sentence
        print(f"Instruct NeRF: {sentence}")
    else:
        _session.news.pop(panel, None)
    _session.dirty = True
