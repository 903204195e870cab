# SPDX-License-Identifier: GPL-3.0-or-later
"""Views of a scene that are asked for at any time (`view/render`): a job that runs renders them between two of its
steps; where none does, the thread for jobs. They are no jobs: they make none wait, and are not busy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine import protocol
from engine.errors import BadInput, Cancelled
from engine.progress import Job
from engine.runtime import Runtime
from engine.wishes import TooLate, Wishes


@dataclass(eq=False)
class _Look:
    """A view that has no answer yet."""

    id: protocol.Ident
    params: protocol.RenderView
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        if self.stop.is_set():
            raise Cancelled("The view was cancelled.")


@dataclass
class Looks:
    """The views that have no answer yet."""

    running: Callable[[], Wishes | None]  # what can be wished of the job that runs; None: none does
    put: Callable[[Callable[[], None]], None]  # have that done on the thread for jobs, after what was put before
    answer: Callable[[protocol.Ident, Callable[[], Any]], None]  # with what is returned or raised
    begin: Callable[[Job], None]  # waits until something can be rendered
    runtime: Runtime
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: set[_Look] = field(default_factory=set)

    def ask(self, ident: protocol.Ident, params: protocol.RenderView) -> None:
        """Have a view rendered; it is answered once."""
        look = _Look(ident, params)
        with self._lock:
            self._waiting.add(look)
        self._have_seen(look)

    def cancel(self, ident: protocol.Ident | None = None) -> bool:
        """Ask the view of that id (all of them where none is named) to stop. False where there is none."""
        with self._lock:
            found = [look for look in self._waiting if ident is None or look.id == ident]
        for look in found:
            look.stop.set()
        return bool(found)

    def see(self, job: Job, look: _Look) -> Any:
        """Render a view, on the thread for jobs: between two steps of a ``job`` that runs, or in one of its own."""
        look.check()
        self.begin(job)
        from engine.jobs.looking import render_view

        def check() -> None:
            job.check()
            look.check()

        try:
            return render_view(look.params, job, check)
        except (Cancelled, BadInput):
            raise
        except BaseException:
            self.runtime.release("scene", "edited scene")  # what failed may be what is kept, or what took the memory
            raise

    def _have_seen(self, look: _Look) -> None:
        wishes = self.running()
        if wishes is None:
            self.put(partial(self._see_alone, look))
        else:
            wishes.make(protocol.LOOK, look).add_done_callback(partial(self._seen_by_job, look))

    def _see_alone(self, look: _Look) -> None:
        own = Job(cancelled=lambda: look.stop.is_set() or self.running() is not None, runtime=self.runtime)
        answer: Future = Future()
        try:
            answer.set_result(self.see(own, look))
        except BaseException as error:
            answer.set_exception(error)
        if isinstance(answer.exception(), Cancelled) and not look.stop.is_set():
            self._have_seen(look)  # a job is to begin, and renders it between its steps
        else:
            self._end(look, answer)

    def _seen_by_job(self, look: _Look, answer: Future) -> None:
        if isinstance(answer.exception(), Cancelled | TooLate) and not look.stop.is_set():
            self.put(partial(self._see_alone, look))  # the job ended before
        else:
            self._end(look, answer)

    def _end(self, look: _Look, answer: Future) -> None:
        with self._lock:
            self._waiting.discard(look)
        self.answer(look.id, answer.result)
