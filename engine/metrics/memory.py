# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a piece of work needs."""

from __future__ import annotations

import threading

import psutil
import torch


class PeakMemory:
    """The most that this process (or the GPU) has held while inside: ``peak`` bytes, so far or in all."""

    def __enter__(self) -> PeakMemory:
        self._most, self._stop = 0, threading.Event()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self._most = max(self._most, process.memory_info().rss)
            if self._stop.wait(0.1):
                return

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if torch.cuda.is_available():
            self._most = torch.cuda.max_memory_allocated()

    @property
    def peak(self) -> int:
        of_gpu = torch.cuda.is_available() and not self._stop.is_set()
        return torch.cuda.max_memory_allocated() if of_gpu else self._most
