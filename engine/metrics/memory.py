# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a piece of work needs."""

from __future__ import annotations

import threading

import psutil
import torch


class PeakMemory:
    """The most memory held while inside, of the GPU ``device`` or, on "cpu", of this process: ``peak`` bytes, so far or
    in all."""

    def __init__(self, device: str | torch.device) -> None:
        self._device = torch.device(device)
        self._counted = self._device.type == "cuda"  # by torch itself; a Mac's GPU is looked at, as a process is

    def __enter__(self) -> PeakMemory:
        self._most, self._stop = 0, threading.Event()
        if self._counted:
            torch.cuda.init()  # a process that has not used a card yet counts nothing there, and refuses
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        of_mac = self._device.type == "mps"
        while True:
            held = torch.mps.driver_allocated_memory() if of_mac else process.memory_info().rss
            self._most = max(self._most, held)
            if self._stop.wait(0.1):
                return

    def __exit__(self, *_: object) -> None:
        self._most = self.peak
        self._stop.set()
        if not self._counted:
            self._thread.join()

    @property
    def peak(self) -> int:
        if self._counted and not self._stop.is_set():
            return torch.cuda.max_memory_allocated(self._device)
        return self._most
