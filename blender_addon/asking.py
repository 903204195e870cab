# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the engine, and what it says: requests, the one job, and news of it. Free of bpy.

A request is written as a line and handed to the client; what comes back is handled by :func:`hear`, on the thread that
calls it (Blender's main one), in which all callbacks run.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from . import answers, costs, state, wire
from .client import Answer
from .messages import Failure, WireError
from .state import Asked, Job, Unsent, get, notice, say

PICTURE_REST = 1.5  # seconds that the latest picture stays: Blender takes a moment to load an icon
MOVED = (
    "The project's folder {folder} was moved, renamed or deleted while this ran, so the result is not whole: put it "
    "back, or choose where it is now under Project, and run it again."
)


def request(
    method: str,
    params: Mapping[str, Any],
    done: Callable[[Any], None],
    *,
    panel: str,
    failed: Callable[[Failure], None] | None = None,
    quiet: bool = False,
    acts_as: str = "",
) -> int:
    """Ask the engine; exactly one of the callbacks is called from a later :func:`hear`, none once the add-on is being
    disabled: ``done`` with what :mod:`answers` makes of the result. A failure, also that a result is not what the
    protocol says, is shown in ``panel``, unless ``quiet``. ``acts_as``: see :func:`run_job`. The request's number.

    Raises ``RuntimeError`` where no engine runs, ``ValueError`` where the parameters cannot be written down.
    """
    session = get()
    client = session.client
    if client is None or not client.alive or session.stop_deadline is not None:
        raise RuntimeError("The engine is not running.")
    check_writable(params)
    line = wire.request_line(session.next_number, method, params)

    def on_done(result: Any) -> None:
        if session.ended:
            return
        try:
            done(result)
        except (ValueError, RuntimeError, OSError) as error:
            notice(panel, str(error))

    def on_failed(failure: Failure) -> None:
        if session.ended:
            return
        stopped = failure.code == wire.ENGINE_DIED and get().stop_deadline
        if failure.code not in (wire.CANCELLED, wire.DETACHED) and not stopped and not quiet:
            notice(panel, failure.message)
        if failed is not None:
            failed(failure)

    number, session.next_number = session.next_number, session.next_number + 1
    session.asked[number] = Asked(on_done, on_failed)
    client.send(number, line, partial(answers.read, method, acts_as=acts_as))
    return number


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
        if len(value) > 3 and _are_numbers(value):
            return
        for entry in value:
            check_writable(entry, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"A number of “{name or 'the request'}” is not finite; look for a scale or position of zero.")


def _are_numbers(value: list[Any] | tuple[Any, ...]) -> bool:
    """Whether all of many are numbers that can be sent; told by their sum, for there may be thousands."""
    try:
        return math.isfinite(sum(value))
    except (TypeError, OverflowError):
        return False


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
    acts_as: str = "",
) -> Job:
    """Start one of the engine's long jobs; progress goes into the returned :class:`Job` and to the watchers.

    ``params`` may be a function: it is called once the engine has said what it offers and what computes, so that
    nothing is asked for by an old name, or of a device that was only guessed, and may raise ``ValueError``. ``scene``
    is the ``session_uid`` of the scene that asks; ``acts_as`` the method of the job that this one follows. Raises
    ``RuntimeError`` where another one runs or no engine does,
    ``ValueError`` as :func:`request` does.
    """
    session = get()
    if session.busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    if session.client is None or not session.client.alive or session.stop_deadline is not None:
        raise RuntimeError("The engine is not running.")
    folder = state.folder_of(workspace)
    job = Job(0, panel, title, workspace, time.monotonic(), scene=scene, method=acts_as or method, folder=folder)
    job.attached = bool(acts_as)

    def on_done(result: Any) -> None:
        if job.moved:
            on_failed(Failure(wire.INTERNAL, MOVED.format(folder=workspace)))
            notice(panel, MOVED.format(folder=workspace))
            return
        _end(job, "done")
        if not job.rested:
            known = session.projects.get(workspace)
            costs.learn(method, job.sent, job.worked, session.info, known, session.took)
        done(result)

    def on_failed(failure: Failure) -> None:
        moved = job.moved
        ends = {wire.CANCELLED: "cancelled", wire.DETACHED: "detached"}
        _end(job, "failed" if moved else ends.get(failure.code, "failed"))
        if moved:
            notice(panel, MOVED.format(folder=workspace))
        if failed is not None:
            failed(failure)

    def ask() -> None:
        job.sent = params() if callable(params) else params
        job.id = request(method, job.sent, on_done, panel=panel, failed=on_failed, acts_as=acts_as)

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
        state.end_task()
    job = session.job
    if job is not None and job.status == "running" and session.unsent is not None:
        unsent, session.unsent = session.unsent, None
        unsent.fail(Failure(wire.CANCELLED, "Cancelled."))
    elif job is not None and job.status == "running":
        request(wire.JOB_CANCEL, {"job": job.id}, lambda _result: None, panel=job.panel)
        job.status = "cancelling"
    session.dirty = True


# -- what it says ------------------------------------------------------------------------------------------------


def hear(limit: int = 500, seconds: float = math.inf) -> int:
    """Handle at most ``limit`` messages of the engine's, and none after so many seconds; how many there were. Never
    waits. Where it died, all that it was asked fails."""
    session, count, until = get(), 0, time.monotonic() + seconds
    client = session.client
    while client is not None and count < limit and (not count or time.monotonic() < until):
        if (message := client.receive()) is None:
            break
        count += 1
        if not isinstance(message, Answer):
            _notified(message.method, message.params)
        elif (asked := session.asked.pop(message.id, None)) is not None:
            if message.failed:
                asked.failed(wire.parse_failure(message.error))
            else:
                asked.done(message.result)
    if client is not None and client.death is not None:
        _fail_all(client.death)
    return count


def let_go(job: Job) -> None:
    """Let go of the engine, which goes on with a job by itself: what else it was asked is not answered any more."""
    session = get()
    client, session.client, session.info = session.client, None, None
    own = session.asked.pop(job.id, None)
    try:
        if own is not None:
            own.failed(Failure(wire.DETACHED, "The job goes on by itself."))
        _fail_all(Failure(wire.CANCELLED, "The engine was let go."))
    finally:
        if client is not None:
            client.let_go()


def _fail_all(failure: Failure) -> None:
    asked = get().asked
    try:
        while asked:
            asked.pop(next(iter(asked))).failed(failure)
    finally:
        if asked:  # one of them went wrong; nobody would ask for the others again
            _fail_all(failure)


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
                job.reached(progress.fraction)
                job.curves.add(progress)
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
