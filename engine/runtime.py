# SPDX-License-Identifier: GPL-3.0-or-later
"""What outlives a job: the one thread that loads models, and the models that stay loaded.

accelerate, which diffusers and transformers load with, patches `torch.nn.Module` for the whole process while it does:
two loads at once leave the patch behind, and a module built meanwhile is empty. So everything is loaded by one thread,
and no job that may build a module begins before that thread is idle (`Runtime.settle`).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from functools import partial
from typing import Any, TypeVar

from engine.memory import least_free_share

log = logging.getLogger(__name__)
T = TypeVar("T")

SHORT = 0.15  # of a device's memory: where less is free, nothing stays loaded between jobs
_PATIENCE = 0.05  # seconds between two looks at whether to give up waiting


class _Loader:
    """One thread for all loading of this process, begun when first needed."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future]] = queue.SimpleQueue()
        self._begin = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open: set[Future] = set()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._begin:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
                self._thread.start()
            self._open.add(future)
            self._work.put((work, future))
        return future

    def _run(self) -> None:
        while True:
            work, future = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            with self._begin:
                self._open.discard(future)
            del work, future  # else the last that was loaded lives until the next

    def unfinished(self) -> list[Future]:
        """What is being loaded, or waits for its turn."""
        with self._begin:
            return [future for future in self._open if not future.done()]


_LOADER = _Loader()


def load_alone(work: Callable[[], T], check: Callable[[], None] = lambda: None) -> T:
    """The result of ``work``, done by the thread that loads everything, one after the other. ``check`` is called
    meanwhile and may raise Cancelled: work that was begun then ends by itself, and its result is dropped."""
    return _wait(_LOADER.submit(work), check)


def _wait(future: Future[T], check: Callable[[], None]) -> T:
    try:
        while not future.done():
            check()
            wait_for_futures([future], _PATIENCE)
    except BaseException:
        future.cancel()  # where it was not begun
        raise
    return future.result()


class _Coming:
    """Something that is being loaded."""

    def __init__(self, key: Hashable):
        self.key = key
        self.future: Future = Future()


class Runtime:
    """What stays loaded between jobs: one thing of each kind (``"editor"``, ``"scene"``), under a key that says which
    it is. Jobs use it from their thread; `release` may come from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[Hashable, Any]] = {}
        self._coming: dict[str, _Coming] = {}

    def keep(self, kind: str, key: Hashable, work: Callable[[], T], check: Callable[[], None] = lambda: None) -> T:
        """What ``work`` loads, or what it loaded before under the same key, also for a job that was cancelled
        meanwhile. Another thing of that kind goes first, so that two are never held. ``check`` may raise Cancelled."""
        with self._lock:
            if kind in self._kept and self._kept[kind][0] == key:
                return self._kept[kind][1]
            self._kept.pop(kind, None)
            coming = self._coming.get(kind)
            if coming is None or coming.key != key or coming.future.done():
                coming = _Coming(key)
                coming.future = _LOADER.submit(partial(self._load, kind, coming, work))
                self._coming[kind] = coming
        return _wait(coming.future, check)

    def _load(self, kind: str, coming: _Coming, work: Callable[[], T]) -> T:
        loaded, wanted = None, False
        try:
            loaded, wanted = work(), True
            return loaded
        finally:
            with self._lock:
                if self._coming.get(kind) is coming:  # else it was released, or another is wanted by now
                    del self._coming[kind]
                    if wanted:
                        self._kept[kind] = coming.key, loaded

    def settle(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait until nothing is being loaded any more, by whichever job it was begun. ``check`` may raise Cancelled."""
        while unfinished := _LOADER.unfinished():
            check()
            wait_for_futures(unfinished, _PATIENCE)

    def release(self, *kinds: str) -> list[str]:
        """Let go of what is kept (of these kinds; all where none is named), and of what is still coming; the kinds."""
        with self._lock:
            gone = sorted({*self._kept, *self._coming} & set(kinds)) if kinds else sorted({*self._kept, *self._coming})
            for kind in gone:
                self._kept.pop(kind, None)
                self._coming.pop(kind, None)
        return gone

    def make_room(self, free_share: Callable[[], float] | None = None) -> None:
        """Let go of everything where memory is short."""
        if (free_share or least_free_share)() < SHORT and (gone := self.release()):
            log.info("Memory is short: released the %s", ", ".join(gone))
