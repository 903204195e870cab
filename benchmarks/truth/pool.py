# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that work side by side, each on cores of its own.

torch is not imported before a process has its cores: a library that sees more of them than it may have starts threads
that wait for each other, and everything takes ten times as long.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

_worker = None  # this process's own


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class Processes:
    """Processes of this machine, each with a ``Worker`` of these arguments."""

    def __init__(self, processes: int, *arguments):
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, spawn, _begin, (spawn.Value("i", 0), processes, arguments))

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def train(self, scenes: Iterable[tuple[str, int]]) -> None:
        """Train unedited scenes, by name and seed, where that is not done."""
        for future in [self._pool.submit(_call, "train", *scene) for scene in scenes]:
            future.result()

    def run(self, orders: Iterable[tuple]) -> Iterator[tuple[tuple, tuple]]:
        """Each order, arguments of ``Worker.run``, with what came of it, as soon as it is there."""
        tasks = {self._pool.submit(_call, "run", *order): order for order in orders}
        for future in as_completed(tasks):
            yield tasks[future], future.result()


def _begin(taken, processes: int, arguments: tuple) -> None:
    global _worker
    with taken.get_lock():
        number, taken.value = taken.value, taken.value + 1
    share = max(len(cores()) // processes, 1)
    own = cores()[number * share : (number + 1) * share] or cores()
    os.environ["OMP_NUM_THREADS"] = str(min(share, int(os.environ.get("OMP_NUM_THREADS", share))))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, own)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from benchmarks.truth.worker import Worker

    _worker = Worker(*arguments)


def _end_with(parent: int) -> None:
    """Leave where the process that began this one is gone: nobody would get the results."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _call(method: str, *arguments):
    """``Worker.method(*arguments)`` of the process that this runs in."""
    return getattr(_worker, method)(*arguments)
