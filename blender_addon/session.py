# SPDX-License-Identifier: GPL-3.0-or-later
"""The one live session with the engine: its start and end, the heartbeat, and tasks on Blender's side. What is asked of
the engine, and how its answers are handled, is in :mod:`asking`.

Everything here happens on Blender's main thread. In a window a timer calls :func:`pump` several times a second;
without one (the bpy module, ``--background``) timers do not run, and whoever waits calls :func:`pump` in a loop.
No Blender data is held between two calls: undo and file loading replace it all, so callbacks and tasks look up what
they need by workspace and view name each time they run.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import bpy

from . import chores, messages, state, wire
from .asking import MOVED, cancel, hear, request
from .choices import editor_id
from .client import Client
from .messages import Failure
from .state import Job, Session, Task, end_task, get, notice, say

__all__ = ["Job", "Session", "Task", "get", "notice", "say"]

INTERVAL = 0.1  # seconds between two pumps while something is going on
REDRAW_REST = 0.3  # seconds between two redraws of the sidebar
TASK_INTERVAL = 0.01  # seconds between two pumps while a task runs
SLICE = 0.004  # seconds a pump spends on messages, and as much on a task: nobody shall wait for it
FOLDER_REST = 2.0  # seconds between two looks at whether the project's folder is still there
OWN_ENGINE = "INSTRUCT_NERF"  # in Blender's list of render engines
MOST_OWN = 64  # editors of the artist's own that are asked about
STOP_PATIENCE = 15.0  # seconds the engine has for saving before it is killed

GOES_ON = (
    "The line to the engine was cut. What it was doing goes on there: press Read Workspace, then Attach under Detached "
    "Jobs."
)

said: list[Callable[[messages.EngineInfo], None]] = []  # called when an engine has said what it offers

# -- the engine --------------------------------------------------------------------------------------------------


def start(command: list[str], folder: Path, outlive: bool = False) -> None:
    """Start the engine with an argument list, in ``folder``; returns at once. A running one is kept. ``outlive``: what
    it does is to go on where the line to it is cut, as of one on another machine.

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
    session.info, session.stop_deadline, session.outlive = None, None, outlive
    session.client = Client(command, cwd=folder)
    over = session.notices.get("engine")  # why the one before is gone: each panel that it owed an answer says so
    for panel in [panel for panel, sentence in session.notices.items() if sentence == over]:
        notice(panel, "")
    request(wire.INITIALIZE, _introduction(), _initialized, panel="engine", failed=_not_initialized)
    wake()


def _introduction() -> dict[str, object]:
    own = dict.fromkeys(own_editor(scene) for scene in bpy.data.scenes if scene.library is None)
    named = [name for name in own if name and name.isprintable()][:MOST_OWN]
    return {
        "protocol": wire.PROTOCOL, "online": bool(bpy.app.online_access), "own": named, "outlive": get().outlive,
    }  # fmt: skip


def own_editor(scene: bpy.types.Scene) -> str:
    """The editor of the artist's own that a scene names, from the root on; empty where it names none."""
    model = scene.instruct_nerf.editor_model.strip()
    return os.path.realpath(bpy.path.abspath(model)) if model.startswith("//") else model


def describe_own() -> None:
    """Have the engine describe the editors that scenes name, where it did not yet."""
    session = get()
    if session.state != "ready" or session.info is None:
        return
    known = {editor.name for editor in session.info.editors}
    if any(own_editor(scene) and editor_id(own_editor(scene)) not in known for scene in bpy.data.scenes):
        with contextlib.suppress(RuntimeError):
            ask_again()


def ask_again(then: Callable[[], None] = lambda: None) -> None:
    """Ask the engine anew what it offers, and tell it whether Blender may be online; ``then`` follows its answer.

    Raises ``RuntimeError`` as :func:`request` does.
    """

    def answered(info: messages.EngineInfo) -> None:
        _initialized(info)
        then()

    request(wire.INITIALIZE, _introduction(), answered, panel="engine")


def _initialized(info: messages.EngineInfo) -> None:
    session = get()
    if session.outlive and info.version != wire.ENGINE:
        sentence = (
            f"The engine there has version {info.version[:40]}, and this add-on belongs to {wire.ENGINE}: install the "
            "same there."
        )
        notice("engine", sentence)
        _not_initialized(Failure(wire.INTERNAL, sentence))
        return
    session.info = info
    for listener in said:
        listener(session.info)
    if session.info.settled:
        _send_unsent()
    else:
        request(wire.DEVICES_READ, {}, _devices_known, panel="engine", failed=_devices_unknown)


def _devices_known(known: tuple[tuple[messages.Device, ...], str]) -> None:
    session = get()
    if session.info is not None:
        session.info = session.info.with_devices(*known)
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
    session.client.ask_to_leave()
    session.dirty = True


def release() -> None:
    """Have an idle engine let go of the models that it keeps loaded, on the graphics card and off it; it goes on
    running, and loads them again when they are needed. Raises ``RuntimeError`` while it computes or does not run."""
    session = get()
    if session.job is not None and session.job.active:
        raise RuntimeError("The engine computes: its memory is free when it is done.")
    session.release_wanted = False
    request(wire.RUNTIME_RELEASE, {}, lambda _: None, panel="engine")


def _release_wanted() -> None:
    session = get()
    if session.release_wanted and session.state == "ready" and not (session.job is not None and session.job.active):
        with contextlib.suppress(RuntimeError):  # it dies just now
            release()


@bpy.app.handlers.persistent
def _before_render(*arguments: object) -> None:
    """Blender's render may be short of memory. In a window it calls this from a thread of its own, so that only a wish
    is left for the next :func:`pump`. What the engine itself renders needs its models."""
    scene = arguments[0] if arguments else None
    if isinstance(scene, bpy.types.Scene) and scene.render.engine == OWN_ENGINE:
        return
    get().release_wanted = True
    if threading.current_thread() is threading.main_thread():
        _release_wanted()


@bpy.app.handlers.persistent
def _after_render(*_args: object) -> None:
    get().release_wanted = False


# -- tasks on Blender's side -------------------------------------------------------------------------------------


def run_task(name: str, panel: str, steps: Iterator[float | None], then: Callable[[], None] = lambda: None) -> None:
    """Run a generator in slices from :func:`pump`, and ``then`` once it has ended well. Where it yields None it waits
    for another program, and the slice is over.

    Raises ``RuntimeError`` where something else runs.
    """
    if get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    get().task = Task(name, panel, steps, then)
    notice(panel, "")
    wake()


def _step_task() -> None:
    until = time.monotonic() + SLICE
    while (task := get().task) is not None and time.monotonic() < until:
        get().dirty = True
        try:
            try:
                fraction = next(task.steps)
                if fraction is None:
                    return
                task.fraction = fraction
            except StopIteration:
                get().task = None
                task.then()
        except Exception as error:
            get().task = None
            if not isinstance(error, ValueError | RuntimeError | OSError):
                traceback.print_exc()
            notice(task.panel, str(error) or type(error).__name__)


# -- the heartbeat -----------------------------------------------------------------------------------------------


def pump(waiting: bool = False) -> None:
    """Handle what came from the engine and do a slice of the task. Never waits, never raises. ``waiting``: also the
    chores, for whoever waits for them."""
    session = get()
    _watch_folder()
    listen()
    _release_wanted()
    _step_task()
    if waiting:
        chores.work(chores.SLICE)  # in a window they have a timer of their own
    if session.installer is not None:
        session.dirty = True
        if session.installer.finished:
            notice("engine", session.installer.error)
            session.installer = None


def listen() -> None:
    """Handle what came from the engine, and nothing else. Never waits, never raises."""
    session = get()
    client = session.client
    if client is None:
        return
    try:
        before = client.log_count
        if hear(seconds=SLICE) or client.log_count != before:
            session.dirty = True
    except Exception:
        traceback.print_exc()
        notice("engine", "Something went wrong in the add-on itself; the system console has the details.")
    if session.client is client:
        _bury(client)


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
    # Every waiting request has failed by now (`hear`), so nothing is called from that thread.
    burial = threading.Thread(target=client.close, args=(0.0,), daemon=True, name="engine burial")
    burial.start()
    _burials[:] = [*(b for b in _burials if b.is_alive()), burial]
    if not stopped and death is not None:
        notice("engine", death.message)
        job = session.job
        if session.outlive and job is not None and job.status == "failed" and job.method in wire.DETACHABLE:
            say(job.panel, GOES_ON)
    session.dirty = True


def wait(until: Callable[[], bool], timeout: float) -> bool:
    """Pump until ``until()`` or ``timeout`` seconds have passed; which of them. For use without a window only."""
    deadline = time.monotonic() + timeout
    while not until():
        if time.monotonic() > deadline:
            return False
        pump(waiting=True)
        if get().task is None and not get().chores:
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
        chores.redraw()
    alive = get().client is not None or get().busy or get().installer is not None or get().dirty
    more = get().task is not None or (get().client is not None and get().client.has_messages)
    return TASK_INTERVAL if more else INTERVAL if alive else None


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


_HANDLERS = (
    ("load_pre", _before_loading),
    ("load_post", _after_loading),
    ("render_init", _before_render),
    ("render_complete", _after_render),
    ("render_cancel", _after_render),
)


def register() -> None:
    """Begin with an empty session."""
    state.begin()
    chores.register()
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Stop everything and reap the engine; waits for it to save, a few seconds at most. Whatever fails on the way,
    no engine is left behind."""
    session = get()
    end_task()
    chores.unregister()
    session.ended = True  # the scenes' settings are about to go: what arrives now is for nobody
    session.watchers.clear()
    for name, handler in _HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
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
