# SPDX-License-Identifier: GPL-3.0-or-later
"""Work done in a process of its own, which can be ended at any moment: what pycolmap's calls, and a download, need."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

import engine

WAIT = 0.1  # seconds that a worker's next line is waited for before a cancel is looked for again


class Worker:
    """A process that was given its order and answers in lines."""

    def __init__(self, process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None], log: BinaryIO):
        self.process = process
        self._lines = lines
        self._log = log

    def next_line(self) -> bytes | None:
        """Its next line, None at their end. Raises queue.Empty where none comes for a moment."""
        return self._lines.get(timeout=WAIT)

    def last_words(self) -> str:
        """The last line of what it wrote to standard error, at most 200 characters."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        said = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return said[-1][-200:] if said else "it said nothing"


@contextlib.contextmanager
def at_work(module: str, order: msgspec.Struct) -> Iterator[Worker]:
    """``python -m module``, given ``order`` as a line of JSON. It is killed at the block's end."""
    packages = os.pathsep.join(filter(None, (str(Path(engine.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    lines: queue.Queue[bytes | None] = queue.Queue()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": packages},
        )
        assert process.stdin is not None and process.stdout is not None
        output = process.stdout

        def read() -> None:
            for line in output:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            with contextlib.suppress(OSError):  # it is gone already, which the end of its lines says
                process.stdin.write(msgspec.json.encode(order) + b"\n")
                process.stdin.flush()
            yield Worker(process, lines, log)
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
