# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that leads to the engine, and requests of the relay's own among those that pass through."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from .places import Refused

LONGEST = 64 * 2**20  # bytes of a line


class Cut(Exception):
    """The line is cut: nothing is answered any more."""


class Line:
    """One process; requests can be sent from any thread."""

    def __init__(self, command: Sequence[str]) -> None:
        """Raises ``OSError`` where it cannot be started."""
        self._process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        self._sending = threading.Lock()
        self._asked: dict[str, Future[Any]] = {}
        self._asking = threading.Lock()
        self._cut = False
        self._numbers = itertools.count(1)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; one that cannot be sent any more is dropped: the reader tells of the end."""
        self.send_line(json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def send_line(self, data: bytes) -> None:
        """Send a line as it is."""
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._input.write(data)
            self._input.flush()

    def ask(self, method: str, params: Mapping[str, Any]) -> Future[Any]:
        """The result to come of a request of the relay's own; ``Refused`` where it fails, ``Cut``."""
        ident, answer = f"relay-{next(self._numbers)}", Future()
        with self._asking:
            if self._cut:
                answer.set_exception(Cut())
                return answer
            self._asked[ident] = answer
        self.send({"jsonrpc": "2.0", "id": ident, "method": method, "params": params})
        return answer

    def read(self, arrived: Callable[[bytes, Any], None]) -> int:
        """Read until the line ends: each line, and what it says, to ``arrived``; None where it is no message. The exit
        code."""
        while (line := self._output.readline(LONGEST + 1)) and len(line) <= LONGEST:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            ident = message.get("id") if isinstance(message, dict) else None
            answer = self._asked.pop(ident, None) if isinstance(ident, str) else None
            if answer is None:
                arrived(line, message if isinstance(message, dict) else None)
            elif isinstance(message.get("error"), dict):
                answer.set_exception(Refused(str(message["error"].get("message", ""))[:2000]))
            else:
                answer.set_result(message.get("result"))
        with self._asking:
            self._cut = True
            left = list(self._asked.values())
            self._asked.clear()
        for answer in left:
            answer.set_exception(Cut())
        self._output.close()
        self.close()
        try:
            code = self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """End its input: the engine leaves, or goes on by itself."""
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._input.close()
