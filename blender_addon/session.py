# SPDX-License-Identifier: GPL-3.0-or-later
"""The one live session with the engine: its process, what it said, the job that runs, and tasks on Blender's side.

Everything here happens on Blender's main thread. In a window a timer calls :func:`pump` several times a second;
without one (the bpy module, ``--background``) timers do not run, and whoever waits calls :func:`pump` in a loop.
No Blender data is held between two calls: undo and file loading replace it all, so callbacks and tasks look up what
they need by workspace and view name each time they run.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from . import messages, wire
from .client import Client
from .install import Installer
from .messages import Failure, WireError

INTERVAL = 0.1  # seconds between two pumps while something is going on
REDRAW_REST = 0.3  # seconds between two redraws of the sidebar
TASK_SLICE = 0.05  # seconds a pump spends on tasks, so that the interface stays alive
PICTURE_REST = 1.5  # seconds that the latest picture stays: Blender takes a moment to load an icon
STOP_PATIENCE = 15.0  # seconds the engine has for saving before it is killed

Views = Callable[[messages.ViewWritten], None]


@dataclass
class Job:
    """The engine's job that runs now, or the last one that ran; what the panels draw."""

    id: int
    panel: str
    title: str
    workspace: str
    started: float  # seconds, monotonic
    status: str = "running"  # running, cancelling, done, cancelled, failed
    stage: str = ""
    label: str = ""
    step: int = 0
    of: int = 0
    fraction: float = 0.0
    due: float | None = None  # seconds, monotonic: when it should end
    view: str = ""
    kind: str = ""
    image: str = ""
    pictured: float = -math.inf  # seconds, monotonic: when the picture last changed
    ended: float | None = None

    @property
    def active(self) -> bool:
        """Whether the engine still works on it."""
        return self.status in ("running", "cancelling")

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end, counted down between two messages; None until known."""
        return None if self.due is None else max(0.0, self.due - time.monotonic())

    @property
    def seconds(self) -> float:
        """Seconds since the start, until the end."""
        return (self.ended or time.monotonic()) - self.started


@dataclass
class Task:
    """Work on Blender's side in small steps; the generator yields a fraction (0–1) between two steps."""

    name: str
    panel: str
    steps: Iterator[float]
    then: Callable[[], None]  # called once the last step is done, when other work may start again
    fraction: float = 0.0


@dataclass
class Session:
    """All that is known; one instance lives as long as the add-on is enabled."""

    client: Client | None = None
    info: messages.EngineInfo | None = None
    projects: dict[str, messages.Project] = field(default_factory=dict)
    job: Job | None = None
    task: Task | None = None
    installer: Installer | None = None
    notices: dict[str, str] = field(default_factory=dict)  # panel → the sentence it shows as an error
    last_log: deque[str] = field(default_factory=lambda: deque(maxlen=60))
    stop_deadline: float | None = None
    dirty: bool = True
    # Pictures that came while a job ran, by workspace, kind and view; results replace them at the job's end.
    live: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    tried: dict[str, tuple[str, str]] = field(default_factory=dict)  # workspace → pictures before and after
    watchers: list[Views] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``stopped``, ``starting``, ``ready`` or ``stopping``."""
        if self.client is None:
            return "stopped"
        if self.stop_deadline is not None:
            return "stopping"
        return "ready" if self.info is not None else "starting"

    @property
    def busy(self) -> bool:
        """Whether a job or task runs, so that no other may start."""
        return (self.job is not None and self.job.active) or self.task is not None


_session = Session()


def get() -> Session:
    """The session."""
    return _session


def notice(panel: str, sentence: str) -> None:
    """Show a sentence as an error in a panel; an empty one clears it."""
    if sentence:
        _session.notices[panel] = sentence
        print(f"Instruct NeRF: {sentence}")
    else:
        _session.notices.pop(panel, None)
    _session.dirty = True


# -- the engine --------------------------------------------------------------------------------------------------


def start(command: list[str], folder: Path) -> None:
    """Start the engine with an argument list, in ``folder``; returns at once. A running one is kept.

    Raises ``OSError`` where it cannot be started, ``RuntimeError`` while an earlier one is still saving.
    """
    session = _session
    if session.client is not None and session.client.alive:
        if session.stop_deadline is not None:
            raise RuntimeError("The engine is stopping and saves its work; try again in a moment.")
        return
    if session.client is not None:
        session.client.close(0.0)
    folder.mkdir(parents=True, exist_ok=True)
    session.info, session.stop_deadline = None, None
    session.client = Client(command, cwd=folder, notified=_notified)
    notice("engine", "")
    request(wire.INITIALIZE, {"protocol": wire.PROTOCOL}, _initialized, panel="engine")
    wake()


def _initialized(result: object) -> None:
    _session.info = wire.parse_engine(result)


def stop() -> None:
    """Ask the engine to save and leave, which frees its memory; returns at once, and kills it if it stays."""
    session = _session
    if session.client is None or session.stop_deadline is not None:
        return
    session.stop_deadline = time.monotonic() + STOP_PATIENCE
    session.client.request(wire.SHUTDOWN, {}, lambda _result: None, lambda _failure: None)
    session.client.end_input()
    session.dirty = True


def request(
    method: str,
    params: Mapping[str, Any],
    done: Callable[[Any], None],
    *,
    panel: str,
    failed: Callable[[Failure], None] | None = None,
) -> int:
    """Ask the engine; ``done`` is called from a later :func:`pump`. A failure is shown in ``panel``.

    Raises ``RuntimeError`` where no engine runs.
    """
    client = _session.client
    if client is None or not client.alive or (_session.stop_deadline is not None):
        raise RuntimeError("The engine is not running.")

    def on_done(result: Any) -> None:
        try:
            done(result)
        except WireError as error:
            notice(panel, str(error))
            if failed is not None:
                failed(Failure(wire.INTERNAL, str(error)))

    def on_failed(failure: Failure) -> None:
        if failure.code != wire.CANCELLED and not (failure.code == wire.ENGINE_DIED and _session.stop_deadline):
            notice(panel, failure.message)
        if failed is not None:
            failed(failure)

    return client.request(method, params, on_done, on_failed)


def run_job(
    method: str,
    params: Mapping[str, Any],
    done: Callable[[Any], None],
    *,
    panel: str,
    title: str,
    workspace: str,
    failed: Callable[[Failure], None] | None = None,
) -> Job:
    """Start one of the engine's long jobs; progress goes into the returned :class:`Job` and to the watchers.

    Raises ``RuntimeError`` where another one runs or no engine does.
    """
    session = _session
    if session.busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")

    def on_done(result: Any) -> None:
        _end(job, "done")
        done(result)

    def on_failed(failure: Failure) -> None:
        _end(job, "cancelled" if failure.code == wire.CANCELLED else "failed")
        if failed is not None:
            failed(failure)

    number = request(method, params, on_done, panel=panel, failed=on_failed)
    job = Job(number, panel, title, workspace, time.monotonic())
    session.job = job
    notice(panel, "")
    wake()
    return job


def _end(job: Job, status: str) -> None:
    # A result that is not what the protocol says fails a job that its answer had already ended.
    job.status = status
    job.ended = job.ended or time.monotonic()
    if status == "done":
        job.fraction = 1.0
    _session.dirty = True


def cancel() -> None:
    """Cancel the engine's job, or the task on this side; what was made is kept by the engine."""
    session = _session
    if session.task is not None:
        end_task()
    job = session.job
    if job is not None and job.status == "running":
        request(wire.JOB_CANCEL, {"job": job.id}, lambda _result: None, panel=job.panel)
        job.status = "cancelling"
    session.dirty = True


def _notified(method: str, params: object) -> None:
    """One notification of the engine's; unknown ones and those of other jobs are ignored."""
    session = _session
    job = session.job
    try:
        if method == wire.JOB_PROGRESS:
            progress = wire.parse_progress(params)
            if job is not None and progress.job == job.id and job.active:
                job.stage, job.label, job.step, job.of = progress.stage, progress.label, progress.step, progress.of
                job.fraction = progress.fraction
                left = progress.seconds_left
                job.due = None if left is None else time.monotonic() + left
        elif method == wire.JOB_VIEW:
            written = wire.parse_view_written(params)
            if job is not None and written.job == job.id:
                if time.monotonic() - job.pictured > PICTURE_REST:
                    job.view, job.kind, job.image = written.view, written.kind, written.image
                    job.pictured = time.monotonic()
                session.live.setdefault(job.workspace, {}).setdefault(written.kind, {})[written.view] = written.image
                for watcher in list(session.watchers):
                    watcher(written)
        elif method == wire.JOB_LOG and isinstance(params, dict):
            session.last_log.append(str(params.get("text", ""))[: wire.TEXT_LIMIT])
    except WireError as error:
        session.last_log.append(str(error))
    session.dirty = True


# -- tasks on Blender's side -------------------------------------------------------------------------------------


def run_task(name: str, panel: str, steps: Iterator[float], then: Callable[[], None] = lambda: None) -> None:
    """Run a generator in slices from :func:`pump`, and ``then`` once it has ended well.

    Raises ``RuntimeError`` where something else runs.
    """
    if _session.busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    _session.task = Task(name, panel, steps, then)
    notice(panel, "")
    wake()


def end_task() -> None:
    """Stop the task; its ``finally`` puts back what it had changed."""
    task, _session.task = _session.task, None
    if task is not None:
        try:
            task.steps.close()  # type: ignore[attr-defined]
        except Exception:
            traceback.print_exc()
    _session.dirty = True


def _step_task() -> None:
    until = time.monotonic() + TASK_SLICE
    while (task := _session.task) is not None and time.monotonic() < until:
        _session.dirty = True
        try:
            try:
                task.fraction = next(task.steps)
            except StopIteration:
                _session.task = None
                task.then()
        except Exception as error:
            _session.task = None
            if not isinstance(error, ValueError | RuntimeError | OSError):
                traceback.print_exc()
            notice(task.panel, str(error) or type(error).__name__)


# -- the heartbeat -----------------------------------------------------------------------------------------------


def pump() -> None:
    """Handle what came from the engine and do a slice of the task. Never waits, never raises."""
    session = _session
    client = session.client
    if client is not None:
        try:
            before = client.log_count
            if client.poll() or client.log_count != before:
                session.dirty = True
        except Exception:
            traceback.print_exc()
            notice("engine", "Something went wrong in the add-on itself; the system console has the details.")
        if session.client is client:
            _bury(client)
    _step_task()
    if session.installer is not None:
        session.dirty = True
        if session.installer.finished:
            notice("engine", session.installer.error)
            session.installer = None


def _bury(client: Client) -> None:
    """See a dead or stopped engine off."""
    session = _session
    overdue = session.stop_deadline is not None and time.monotonic() > session.stop_deadline
    if client.alive and not overdue:
        return
    stopped, death = session.stop_deadline is not None, client.death
    session.client, session.info, session.stop_deadline = None, None, None
    client.close(0.0)
    session.last_log.extend(client.log()[-20:])
    if not stopped and death is not None:
        notice("engine", death.message)
    session.dirty = True


def wait(until: Callable[[], bool], timeout: float) -> bool:
    """Pump until ``until()`` or ``timeout`` seconds have passed; which of them. For use without a window only."""
    deadline = time.monotonic() + timeout
    while not until():
        if time.monotonic() > deadline:
            return False
        pump()
        if _session.task is None:
            time.sleep(0.02)
    return True


_last_redraw = 0.0


def _tick() -> float | None:
    global _last_redraw
    pump()
    now = time.monotonic()
    # Messages may come many times a second; the time remaining counts down by itself.
    waited = now - _last_redraw
    if (_session.dirty and waited > REDRAW_REST) or (_session.busy and waited > 1.0):
        _session.dirty, _last_redraw = False, now
        _redraw()
    alive = _session.client is not None or _session.busy or _session.installer is not None or _session.dirty
    return INTERVAL if alive else None


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":  # the sidebar alone: changed pictures redraw the viewport by themselves
                        region.tag_redraw()


def wake() -> None:
    """See to it that the timer runs."""
    _session.dirty = True
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


@bpy.app.handlers.persistent
def _before_loading(*_args: object) -> None:
    end_task()  # its scene is about to go


@bpy.app.handlers.persistent
def _after_loading(*_args: object) -> None:
    _session.notices.clear()
    wake()


def register() -> None:
    """Begin with an empty session."""
    global _session
    _session = Session()
    bpy.app.handlers.load_pre.append(_before_loading)
    bpy.app.handlers.load_post.append(_after_loading)


def unregister() -> None:
    """Stop everything and reap the engine; waits for it to save, a few seconds at most."""
    end_task()
    if _session.installer is not None:
        _session.installer.cancel()
        _session.installer.join(5.0)
    client, _session.client = _session.client, None
    if client is not None:
        client.close(STOP_PATIENCE)
    _session.watchers.clear()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    for handlers, handler in (
        (bpy.app.handlers.load_pre, _before_loading),
        (bpy.app.handlers.load_post, _after_loading),
    ):
        if handler in handlers:
            handlers.remove(handler)
