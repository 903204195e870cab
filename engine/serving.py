# SPDX-License-Identifier: GPL-3.0-or-later
"""The process about the server: its standard streams, and how it ends."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO, TextIO

from engine import wire
from engine.server import Elsewhere, Server


def serve(stdin: BinaryIO | None = None, pieces: Elsewhere = lambda device: contextlib.nullcontext()) -> None:
    """Serve on standard input and output until input ends or `shutdown` is asked, and a detached job has ended.
    ``pieces``: who does the jobs' pieces."""
    out = wire.claim_stdout()
    sys.stdout = sys.stderr = _Unheard(sys.stderr)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    def send(line: bytes) -> None:
        try:
            wire.write_all(out, line)
        except (OSError, ValueError):  # Blender is gone, or was let go; the end of input says so as well
            server.unheard()

    server = Server(send, on_detached=_let_go_of_the_terminal, pieces=pieces)
    for line in wire.read_lines(stdin or sys.stdin.buffer):
        server.receive(line)
        if server.finished:
            break
    else:
        server.lost()
    if server.detached:
        with contextlib.suppress(OSError):
            out.close()  # so that the other side, if it is there, need not wait for the job
    server.close()
    sys.stderr.flush()
    os._exit(0)  # threads that load models must not keep the process


class _Unheard(io.TextIOBase):
    """Standard error of a program that goes on where nobody hears it any more: what cannot be written is dropped, and
    no job fails because a library says something."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False


def _let_go_of_the_terminal(path: Path) -> None:
    """What would be said on standard error goes to a file, and no end of a session ends this process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
    os.dup2(descriptor, 2)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
