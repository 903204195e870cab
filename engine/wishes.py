# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a job while it runs. The server's thread puts wishes in; the job's own grants them between two steps
of what it does, so that nothing touches a scene from a second thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.errors import BadInput

Grant = Callable[[Any], Any]
"""Takes a wish's parameters; returns its answer. Raises BadInput where it cannot be granted."""
_PATIENCE = 0.1  # seconds between two looks of a paused job at whether it was cancelled


@dataclass(eq=False)
class _Wish:
    name: str
    params: Any
    answer: Future = field(default_factory=Future)


class Wishes:
    """The wishes of one job, by name, and whether it is to pause."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Wish] = deque()
        self._grants: dict[str, Grant] = {}
        self._paused = False
        self._closed = False
        self._serving = False

    # from the server's thread

    def make(self, name: str, params: Any) -> Future:
        """Ask; the answer comes when the job grants it, or fails with BadInput once the job has ended."""
        wish = _Wish(name, params)
        with self._changed:
            if not self._closed:
                self._waiting.append(wish)
                self._changed.notify()
                return wish.answer
        wish.answer.set_exception(_too_late())
        return wish.answer

    def pause(self, paused: bool = True) -> None:
        """Have the job wait at its next step, or go on."""
        with self._changed:
            self._paused = paused
            self._changed.notify()

    # from the job's thread

    @contextmanager
    def granting(self, grants: Mapping[str, Grant]) -> Iterator[None]:
        """While the block runs, `serve` grants these wishes, too."""
        before = self._grants
        self._grants = {**before, **grants}
        try:
            yield
        finally:
            self._grants = before

    @contextmanager
    def withholding(self, *names: str) -> Iterator[None]:
        """While the block runs, `serve` leaves these wishes waiting."""
        before = self._grants
        self._grants = {name: grant for name, grant in before.items() if name not in names}
        try:
            yield
        finally:
            self._grants = before

    def serve(self, cancelled: Callable[[], bool]) -> None:
        """Grant what can be granted now and, where the job is to pause, wait until it may go on or is ``cancelled``. A
        grant may come here again (it renders, and that checks): then nothing is done."""
        if self._serving or not (self._waiting or self._paused):
            return
        self._serving = True
        try:
            while True:
                while (wish := self._next()) is not None:
                    _grant(wish, self._grants[wish.name])
                with self._changed:
                    if not self._paused or cancelled():
                        return
                    self._changed.wait(_PATIENCE)
        finally:
            self._serving = False

    def _next(self) -> _Wish | None:
        with self._changed:
            for wish in self._waiting:
                if wish.name in self._grants:
                    self._waiting.remove(wish)
                    return wish
        return None

    def close(self) -> None:
        """The job has ended: what was not granted never will be."""
        with self._changed:
            self._closed, waiting = True, list(self._waiting)
            self._waiting.clear()
        for wish in waiting:
            wish.answer.set_exception(_too_late())


def _grant(wish: _Wish, grant: Grant) -> None:
    try:
        answer = grant(wish.params)
    except BaseException as error:
        wish.answer.set_exception(error)
        if not isinstance(error, Exception):
            raise
    else:
        wish.answer.set_result(answer)


class TooLate(BadInput):
    """The job ended before a wish was granted."""


def _too_late() -> TooLate:
    return TooLate("The job ended before that could be done.", field="job")
