# SPDX-License-Identifier: GPL-3.0-or-later
"""The one live session with the engine: asking it, and handling what it says; tasks on Blender's side.

Everything here happens on Blender's main thread. In a window a timer calls :func:`pump` several times a second;
without one (the bpy module, ``--background``) timers do not run, and whoever waits calls :func:`pump` in a loop.
No Blender data is held between two calls: undo and file loading replace it all, so callbacks and tasks look up what
they need by workspace and view name each time they run.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from . import messages, state, wire
from .client import Client
from .messages import Failure, WireError
from .state import Job, Session, Task, Unsent, get, notice, say

__all__ = ["Job", "Session", "Task", "get", "notice", "say"]

INTERVAL = 0.1  # seconds between two pumps while something is going on
REDRAW_REST = 0.3  # seconds between two redraws of the sidebar
TASK_SLICE = 0.05  # seconds a pump spends on tasks, so that the interface stays alive
PICTURE_REST = 1.5  # seconds that the latest picture stays: Blender takes a moment to load an icon
FOLDER_REST = 2.0  # seconds between two looks at whether the project's folder is still there
MOVED = (
    "The project's folder {folder} was moved, renamed or deleted while this ran, so the result is not whole: put it "
    "back, or choose where it is now under Project, and run it again."
)
STOP_PATIENCE = 15.0  # seconds the engine has for saving before it is killed

said: list[Callable[[messages.EngineInfo], None]] = []  # called when an engine has said what it offers

# -- the engine --------------------------------------------------------------------------------------------------


def start(command: list[str], folder: Path) -> None:
    """Start the engine with an argument list, in ``folder``; returns at once. A running one is kept.

    Raises ``OSError`` where it cannot be started, ``RuntimeError`` while an earlier one is still saving.
    """
    session = get()
    if session.client is not None and session.client.alive:
        if session.stop_deadline is not None:
            raise RuntimeError("The engine is stopping and saves its work; try again in a moment.")
        return
    if session.client is not None:
        _bury(session.client)
    folder.mkdir(parents=True, exist_ok=True)
    session.info, session.stop_deadline = None, None
    session.client = Client(command, cwd=folder, notified=_notified)
    notice("engine", "")
    request(wire.INITIALIZE, {"protocol": wire.PROTOCOL}, _initialized, panel="engine", failed=_not_initialized)
    wake()


def _initialized(result: object) -> None:
    session = get()
    session.info = wire.parse_engine(result)
    for listener in said:
        listener(session.info)
    if session.info.settled:
        _send_unsent()
    else:
        request(wire.DEVICES_READ, {}, _devices_known, panel="engine", failed=_devices_unknown)


def _devices_known(result: object) -> None:
    session = get()
    if session.info is not None:
        session.info = wire.parse_devices(result, session.info)
    _send_unsent()


def _devices_unknown(failure: Failure) -> None:
    """The engine cannot say what computes: it will say why of whatever it is asked."""
    session = get()
    if session.info is not None and failure.code != wire.ENGINE_DIED:
        session.info = replace(session.info, computing=failure.message, settled=True)
        _send_unsent()


def _send_unsent() -> None:
    session = get()
    unsent, session.unsent = session.unsent, None
    if unsent is not None:
        unsent.send()


def _not_initialized(failure: Failure) -> None:
    """An engine that does not say what it offers is of no use: what waits for it fails with its words."""
    session = get()
    unsent, session.unsent = session.unsent, None
    if unsent is not None:
        notice(unsent.job.panel, failure.message)
        unsent.fail(failure)
    if session.client is not None and session.client.alive:
        stop()


def stop() -> None:
    """Ask the engine to save and leave, which frees its memory; returns at once, and kills it if it stays."""
    session = get()
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

    Raises ``RuntimeError`` where no engine runs, ``ValueError`` where the parameters cannot be written down.
    """
    session = get()
    client = session.client
    if client is None or not client.alive or session.stop_deadline is not None:
        raise RuntimeError("The engine is not running.")
    check_writable(params)

    def on_done(result: Any) -> None:
        if session.ended:
            return
        try:
            done(result)
        except (ValueError, RuntimeError, OSError) as error:  # a WireError is a ValueError
            notice(panel, str(error))
            if failed is not None and isinstance(error, WireError):
                failed(Failure(wire.INTERNAL, str(error)))

    def on_failed(failure: Failure) -> None:
        if session.ended:
            return
        if failure.code != wire.CANCELLED and not (failure.code == wire.ENGINE_DIED and get().stop_deadline):
            notice(panel, failure.message)
        if failed is not None:
            failed(failure)

    return client.request(method, params, on_done, on_failed)


def check_writable(value: object, name: str = "") -> None:
    """Check that a value can be sent: texts that UTF-8 holds, numbers that are numbers. Raises ``ValueError`` with a
    sentence that names what cannot be."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            shown = value.encode("utf-8", "replace").decode()
            raise ValueError(
                f"“{shown}” has characters that are no Unicode, as file names of old systems do; rename it, or "
                "choose another."
            ) from None
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            check_writable(key)
            check_writable(entry, str(key))
    elif isinstance(value, list | tuple):
        for entry in value:
            check_writable(entry, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"A number of “{name or 'the request'}” is not finite; look for a scale or position of zero.")


def run_job(
    method: str,
    params: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    done: Callable[[Any], None],
    *,
    panel: str,
    title: str,
    workspace: str,
    failed: Callable[[Failure], None] | None = None,
    scene: int = 0,
) -> Job:
    """Start one of the engine's long jobs; progress goes into the returned :class:`Job` and to the watchers.

    ``params`` may be a function: it is called once the engine has said what it offers and what computes, so that
    nothing is asked for by an old name, or of a device that was only guessed, and may raise ``ValueError``. ``scene``
    is the ``session_uid`` of the scene that asks. Raises ``RuntimeError`` where another one runs or no engine does,
    ``ValueError`` as :func:`request` does.
    """
    session = get()
    if session.busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    if session.client is None or not session.client.alive or session.stop_deadline is not None:
        raise RuntimeError("The engine is not running.")
    job = Job(0, panel, title, workspace, time.monotonic(), scene=scene, folder=state.folder_of(workspace))

    def on_done(result: Any) -> None:
        if job.moved:
            on_failed(Failure(wire.INTERNAL, MOVED.format(folder=workspace)))
            notice(panel, MOVED.format(folder=workspace))
            return
        _end(job, "done")
        done(result)

    def on_failed(failure: Failure) -> None:
        moved = job.moved
        _end(job, "cancelled" if failure.code == wire.CANCELLED and not moved else "failed")
        if moved:
            notice(panel, MOVED.format(folder=workspace))
        if failed is not None:
            failed(failure)

    def ask() -> None:
        job.id = request(method, params() if callable(params) else params, on_done, panel=panel, failed=on_failed)

    def ask_later() -> None:
        try:
            ask()
        except Exception as error:
            if not isinstance(error, ValueError | RuntimeError | OSError):
                traceback.print_exc()
            notice(panel, str(error) or type(error).__name__)
            on_failed(Failure(wire.INTERNAL, str(error)))

    if session.info is None or not session.info.settled:
        job.label = "Looking for what can compute"
        session.unsent = Unsent(job, ask_later, on_failed)
    else:
        ask()
    session.job = job
    notice(panel, "")
    say(panel, "")
    wake()
    return job


def _end(job: Job, status: str) -> None:
    # A result that is not what the protocol says fails a job that its answer had already ended.
    job.status = status
    job.ended = job.ended or time.monotonic()
    if status == "done":
        job.fraction = 1.0
    get().dirty = True


def cancel() -> None:
    """Cancel the engine's job, or the task on this side; what was made is kept by the engine."""
    session = get()
    if session.task is not None:
        end_task()
    job = session.job
    if job is not None and job.status == "running" and session.unsent is not None:
        unsent, session.unsent = session.unsent, None
        unsent.fail(Failure(wire.CANCELLED, "Cancelled."))
    elif job is not None and job.status == "running":
        request(wire.JOB_CANCEL, {"job": job.id}, lambda _result: None, panel=job.panel)
        job.status = "cancelling"
    session.dirty = True


def _notified(method: str, params: object) -> None:
    """One notification of the engine's; unknown ones and those of other jobs are ignored."""
    session = get()
    if session.ended:
        return
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
    if get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    get().task = Task(name, panel, steps, then)
    notice(panel, "")
    wake()


def end_task() -> None:
    """Stop the task; its ``finally`` puts back what it had changed."""
    task, get().task = get().task, None
    if task is not None:
        try:
            task.steps.close()  # type: ignore[attr-defined]
        except Exception:
            traceback.print_exc()
    get().dirty = True


def _step_task() -> None:
    until = time.monotonic() + TASK_SLICE
    while (task := get().task) is not None and time.monotonic() < until:
        get().dirty = True
        try:
            try:
                task.fraction = next(task.steps)
            except StopIteration:
                get().task = None
                task.then()
        except Exception as error:
            get().task = None
            if not isinstance(error, ValueError | RuntimeError | OSError):
                traceback.print_exc()
            notice(task.panel, str(error) or type(error).__name__)


# -- the heartbeat -----------------------------------------------------------------------------------------------


def pump() -> None:
    """Handle what came from the engine and do a slice of the task. Never waits, never raises."""
    session = get()
    client = session.client
    _watch_folder()
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


_looked = 0.0


def _watch_folder() -> None:
    """Cancel a job whose project's folder is gone: what it still wrote would begin another of the old name."""
    global _looked
    job, now = get().job, time.monotonic()
    if job is None or job.status != "running" or now - _looked < FOLDER_REST:
        return
    _looked = now
    if job.moved:
        notice(job.panel, MOVED.format(folder=job.workspace))
        with contextlib.suppress(RuntimeError):
            cancel()


_burials: list[threading.Thread] = []


def _bury(client: Client) -> None:
    """See a dead engine off, and end one that stays for too long. Waits for nothing: the last of it, threads that end
    by themselves, is awaited by a thread."""
    session = get()
    if client.alive:
        if session.stop_deadline is not None and time.monotonic() > session.stop_deadline:
            client.kill()  # its end arrives as a message
        return
    stopped, death = session.stop_deadline is not None, client.death
    session.client, session.info, session.stop_deadline = None, None, None
    if session.unsent is not None and death is not None:
        unsent, session.unsent = session.unsent, None
        notice(unsent.job.panel, death.message)
        unsent.fail(death)
    session.last_log.extend(client.log()[-20:])
    # Every waiting request has failed by now (Client.poll), so nothing is called from that thread.
    burial = threading.Thread(target=client.close, args=(0.0,), daemon=True, name="engine burial")
    burial.start()
    _burials[:] = [*(b for b in _burials if b.is_alive()), burial]
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
        if get().task is None:
            time.sleep(0.02)
    return True


_last_redraw = 0.0


def _tick() -> float | None:
    global _last_redraw
    pump()
    now = time.monotonic()
    # Messages may come many times a second; the time remaining counts down by itself.
    waited = now - _last_redraw
    if (get().dirty and waited > REDRAW_REST) or (get().busy and waited > 1.0):
        get().dirty, _last_redraw = False, now
        _redraw()
    alive = get().client is not None or get().busy or get().installer is not None or get().dirty
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
    get().dirty = True
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


@bpy.app.handlers.persistent
def _before_loading(*_args: object) -> None:
    end_task()  # its scene is about to go


@bpy.app.handlers.persistent
def _after_loading(*_args: object) -> None:
    get().notices.clear()
    get().news.clear()
    wake()


def register() -> None:
    """Begin with an empty session."""
    state.begin()
    bpy.app.handlers.load_pre.append(_before_loading)
    bpy.app.handlers.load_post.append(_after_loading)


def unregister() -> None:
    """Stop everything and reap the engine; waits for it to save, a few seconds at most. Whatever fails on the way,
    no engine is left behind."""
    session = get()
    end_task()
    session.ended = True  # the scenes' settings are about to go: what arrives now is for nobody
    session.watchers.clear()
    for handlers, handler in (
        (bpy.app.handlers.load_pre, _before_loading),
        (bpy.app.handlers.load_post, _after_loading),
    ):
        if handler in handlers:
            handlers.remove(handler)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    client, session.client = session.client, None
    try:
        if session.installer is not None:
            session.installer.cancel()
            session.installer.join(5.0)
    finally:
        if client is not None:
            try:
                client.close(STOP_PATIENCE)
            except Exception:
                traceback.print_exc()
                client.kill()
        for burial in _burials:
            burial.join(7.0)
        _burials.clear()
