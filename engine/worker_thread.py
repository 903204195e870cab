# SPDX-License-Identifier: GPL-3.0-or-later
"""A thread that does one thing after the other."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Worker:
    """A thread that does one thing after the other, whatever becomes of each."""

    def __init__(self, name: str):
        self.name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def end(self, patience: float | None) -> bool:
        """End after what is queued; whether it did within ``patience`` seconds (None: it is waited for)."""
        self._work.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except BaseException:
                log.exception("the thread for %s goes on", self.name)
            del work  # nothing of a job outlives it
