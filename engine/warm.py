# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's thread that imports what the jobs need."""

from __future__ import annotations

import gc
import importlib
import threading
from collections.abc import Callable


class WarmUp:
    """What takes seconds before the first job, done once, by a thread that is begun when it is first wanted."""

    def __init__(self, work: Callable[[], None] | None = None):
        self._work = work or import_torch
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended well."""
        return self._thread is not None and not self._thread.is_alive() and self.error is None

    def begin(self) -> threading.Thread:
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="imports", daemon=True)
                self._thread.start()
            return self._thread

    def _run(self) -> None:
        try:
            self._work()
            gc.collect()
            gc.freeze()  # half a million objects of the libraries need not be looked at after each job
        except BaseException as error:
            self.error = error

    def then(self, work: Callable[[], None]) -> None:
        """Have ``work`` done by a thread of its own, once this has ended; nobody waits."""
        thread = self.begin()

        def wait() -> None:
            thread.join()
            work()

        threading.Thread(target=wait, name="devices", daemon=True).start()

    def wait(self, check: Callable[[], None]) -> None:
        """Wait for its end; ``check`` is called meanwhile and may raise Cancelled. Raises what it raised."""
        thread = self.begin()
        while thread.is_alive():
            check()
            thread.join(0.05)
        if self.error is not None:
            raise self.error


def import_torch() -> None:
    """Import what the jobs need and, where they will compute on the CPU, compile its kernels; both take seconds, and
    compiling most of a minute the first time."""
    from engine.devices import choose_device

    importlib.import_module("engine.jobs.output")
    importlib.import_module("engine.jobs.trying")
    if choose_device(None) == "cpu":
        importlib.import_module("engine.scenes.nerfacto.compiled").compile_kernels()
