# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching the engine from a thread that renders.

Blender renders on a thread of its own (F12, in a window) or on the main one (in the background, or from a script). What
is asked goes through :meth:`client.Client.ask`, whose answers need nobody who pumps. Starting the engine needs that and
reads the preferences: in a window the main thread alone does it, on a timer that looks whether it is wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import bpy

from .. import jobs, messages, session, wire
from ..client import Client, Refused

LOOK = 0.02  # seconds between two looks whether something is there, or the artist wants no more
REST = 0.25  # seconds between two looks of the main thread whether the engine is wanted

_wanted = threading.Event()
_refusal = ""


class Stopped(Exception):
    """The artist wants no more."""


def is_main() -> bool:
    """Whether this is Blender's main thread."""
    return threading.current_thread() is threading.main_thread()


def reach(stopped: Callable[[], bool]) -> Client:
    """The engine, started where none runs. Waits; raises ``Stopped`` once ``stopped`` says so, ``RuntimeError`` with a
    sentence where none can be had."""
    begun = False
    while True:
        if stopped():
            raise Stopped
        state, client = session.get().state, session.get().client
        if state == "ready" and client is not None:
            return client
        if state == "stopped" and not _wanted.is_set():
            if begun:
                raise RuntimeError(_refusal or session.get().notices.get("engine") or "The engine does not start.")
            begun = True
            _want()
        _wait()


def _want() -> None:
    global _refusal
    _refusal = ""
    if is_main():
        jobs.start_engine()
    else:
        _wanted.set()


def _wait() -> None:
    if is_main():
        session.listen()  # no timer does while this thread waits
    time.sleep(LOOK)


def ask(client: Client, method: str, params: Mapping[str, Any], stopped: Callable[[], bool]) -> Any:
    """What the engine answers. Waits; raises ``Stopped``, having told the engine, once ``stopped`` says so, and
    ``RuntimeError`` with the engine's sentence where it fails."""
    number, answer = client.ask(method, params)
    while not answer.done():
        if stopped():
            client.tell(wire.JOB_CANCEL, {"job": number})
            raise Stopped
        _wait()
    return result_of(answer)


def result_of(answer: Future[Any]) -> Any:
    """The answer. Raises ``Stopped`` where it was cancelled, ``RuntimeError`` with a sentence where it failed."""
    try:
        return answer.result(0)
    except Refused as refused:
        if refused.failure.code == wire.CANCELLED:
            raise Stopped from None
        raise RuntimeError(refused.failure.message) from None


def edits_in(client: Client, workspace: str, stopped: Callable[[], bool]) -> Sequence[messages.Edit]:
    """The edits of a workspace: as they are known or, where nothing is yet, as the engine then says. Raises as
    :func:`ask` does."""
    known = session.get().projects.get(workspace)
    if known is None:
        known = wire.parse_project(ask(client, wire.WORKSPACE_READ, {"workspace": workspace}, stopped))
    return known.edits


def _serve() -> float:
    global _refusal
    if _wanted.is_set():
        try:
            if session.get().state == "stopped":
                jobs.start_engine()
        except (ValueError, RuntimeError, OSError) as error:
            _refusal = str(error)
        finally:
            _wanted.clear()
    return REST


def register() -> None:
    """Begin to look whether the engine is wanted."""
    if not bpy.app.background:
        bpy.app.timers.register(_serve, first_interval=REST, persistent=True)


def unregister() -> None:
    """Look no longer."""
    if bpy.app.timers.is_registered(_serve):
        bpy.app.timers.unregister(_serve)
    _wanted.clear()
