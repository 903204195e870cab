# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process and the line to it. Free of bpy, so that it runs and is tested without Blender.

Three threads serve one process: one writes requests, one reads answers, one reads the log. What they find goes into
one bounded queue, which the owner empties with :meth:`Client.poll` from whichever thread it likes (Blender's main one);
all callbacks run there. When the process dies, every request still waiting fails with its exit code and the end of its
log. The other side is not trusted: lines are limited in length, anything malformed is logged and dropped, and
answers to questions never asked are ignored.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from . import wire
from .inbox import Inbox
from .messages import Failure

LINE_LIMIT = 64 * 1024 * 1024  # bytes of one line; a thousand cameras take about half a megabyte
LOG_LINE_LIMIT = 2000  # characters kept of one line of the log
LOG_LINES = 400  # lines of the log that are kept

Done = Callable[[Any], None]
Failed = Callable[[Failure], None]
Notified = Callable[[str, Any], None]


@dataclass(frozen=True)
class _Answer:
    id: int
    result: Any
    error: Any
    failed: bool


@dataclass(frozen=True)
class _Notice:
    method: str
    params: Any


@dataclass(frozen=True)
class _Death:
    reason: str


@dataclass
class _Pending:
    method: str
    done: Done
    failed: Failed


class Client:
    """One engine process. Made running; :meth:`poll` it often and :meth:`close` it once.

    ``command`` is an argument list, never a shell string. Raises ``OSError`` where it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        notified: Notified | None = None,
        line_limit: int = LINE_LIMIT,
    ) -> None:
        self._notified = notified or (lambda _method, _params: None)
        self._line_limit = line_limit
        self._pending: dict[int, _Pending] = {}
        self._next_id = 1
        self._unanswered: set[int] = set()  # of the pending ones; the reader's thread looks at it, too
        self._inbox = Inbox()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._dead: Failure | None = None
        self.log_count = 0  # lines ever logged, so that a reader sees that something came
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(env) if env is not None else clean_environment(),
            # A group of its own: a Ctrl-C in Blender's terminal must not hit the engine before it has been asked.
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stderr_thread = self._spawn(self._read_log, self._process.stderr)
        self._reader_thread = self._spawn(self._read_messages, self._process.stdout)
        self._writer_thread = self._spawn(self._write_messages, self._process.stdin)

    # -- asking --------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether requests can still be answered."""
        return self._dead is None

    @property
    def death(self) -> Failure | None:
        """Why the engine is gone, or None while it is there."""
        return self._dead

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self._pending)

    def log(self) -> list[str]:
        """The last lines of the engine's log, oldest first."""
        return list(self._log)

    def request(self, method: str, params: Mapping[str, Any], done: Done, failed: Failed) -> int:
        """Send a request and return its id at once. Exactly one of the callbacks is called later, from :meth:`poll`
        or :meth:`close`; of a dead engine ``failed`` is called by the next :meth:`poll`.

        Raises ``ValueError``, and asks nothing, where ``params`` cannot be sent.
        """
        data = wire.request_line(self._next_id, method, params)
        number = self._next_id
        self._next_id += 1
        self._pending[number] = _Pending(method, done, failed)
        self._unanswered.add(number)
        self._outbox.put(data)
        return number

    @property
    def has_messages(self) -> bool:
        """Whether something was said that nobody has handled."""
        return self._inbox.bytes > 0

    def poll(self, limit: int = 500, seconds: float = math.inf) -> int:
        """Handle at most ``limit`` messages, and none after so many seconds; how many there were. Never waits."""
        count, until = 0, time.monotonic() + seconds
        while count < limit and (not count or time.monotonic() < until) and (message := self._inbox.get()) is not None:
            count += 1
            self._handle(message)
        if self._dead is not None:
            self._fail_all(self._dead)
        return count

    # -- ending --------------------------------------------------------------------------------------------------

    def end_input(self) -> None:
        """Close the engine's input: it cancels its job, saves and leaves. Returns at once."""
        self._outbox.put(None)

    def kill(self) -> None:
        """End the process and all that it started, now."""
        if self._process.poll() is not None:
            return  # reaped: its number may be another process's by now
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def close(self, patience: float = 10.0) -> int:
        """Ask the engine to leave, wait ``patience`` seconds, kill it if need be, reap it; returns its exit code.

        Blocks that long at most. Requests still waiting fail. May be called again.
        """
        if self._dead is None and self._process.poll() is None:
            self._outbox.put(wire.request_line(0, wire.SHUTDOWN, {}))
        self.end_input()
        deadline = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < deadline:
            self.poll()  # an engine that waits for a full pipe to be read would never leave
            time.sleep(0.02)
        self.kill()
        code = self._process.wait()
        self._inbox.close()
        for thread in (self._writer_thread, self._reader_thread, self._stderr_thread):
            thread.join(2.0)
        self.poll(sys.maxsize)
        if self._dead is None:
            self._dead = Failure(wire.ENGINE_DIED, f"The engine was stopped (exit code {code}).")
        self._fail_all(self._dead or Failure(wire.ENGINE_DIED, "The engine was stopped."))
        return code

    # -- the threads ---------------------------------------------------------------------------------------------

    def _spawn(self, target: Callable[[BinaryIO], None], stream: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=(stream,), daemon=True, name=f"engine {target.__name__}")
        thread.start()
        return thread

    def _write_messages(self, stream: BinaryIO) -> None:
        try:
            while (data := self._outbox.get()) is not None:
                stream.write(data)
                stream.flush()
        except (OSError, ValueError):
            pass  # the reader sees the end as well, and tells
        finally:
            with contextlib.suppress(OSError):
                stream.close()

    def _read_log(self, stream: BinaryIO) -> None:
        while line := stream.readline(64 * 1024):
            text = line.decode("utf-8", "replace").rstrip()
            # Progress bars of libraries rewrite their line with carriage returns; the last state is the one to keep.
            self._note(text.rsplit("\r", 1)[-1])
        stream.close()

    def _note(self, text: str) -> None:
        if text:
            self._log.append(text[:LOG_LINE_LIMIT])
            self.log_count += 1

    def _read_messages(self, stream: BinaryIO) -> None:
        reason = ""
        while line := stream.readline(self._line_limit + 1):
            if len(line) > self._line_limit:
                reason = f"The engine sent a line of more than {self._line_limit} bytes and was stopped."
                break
            message = self._decode(line)
            if isinstance(message, _Notice):
                self._inbox.put(message, len(line), wire.replaced_key(message.method, message.params))
            elif message is not None and message.id in self._unanswered:
                self._unanswered.discard(message.id)
                self._inbox.put(message, len(line), patient=False)  # asked for, so it is not one of many
        stream.close()
        if reason:
            self.kill()
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:  # it closed its output but stays: nothing more can come of it
            self.kill()
            code = self._process.wait()
        self._stderr_thread.join(2.0)
        self._inbox.put(_Death(reason or f"The engine ended unexpectedly ({_describe(code)})."), 0, patient=False)

    def _decode(self, line: bytes) -> _Answer | _Notice | None:
        """A message out of a line; None, and a note in the log, for what is none."""
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
            if line.strip():
                self._note("(not a message) " + line[:200].decode("utf-8", "replace").rstrip())
            return None
        method, number = data.get("method"), data.get("id")
        if isinstance(method, str):
            return _Notice(method, data.get("params"))
        if isinstance(number, int) and not isinstance(number, bool) and ("result" in data) != ("error" in data):
            return _Answer(number, data.get("result"), data.get("error"), "error" in data)
        self._note("(not an answer) " + line[:200].decode("utf-8", "replace").rstrip())
        return None

    # -- handling, on the owner's thread -------------------------------------------------------------------------

    def _handle(self, message: _Answer | _Notice | _Death) -> None:
        if isinstance(message, _Death):
            self._die(message.reason)
        elif isinstance(message, _Notice):
            self._notified(message.method, message.params)
        else:
            pending = self._pending.pop(message.id, None)
            if pending is None:
                return
            if message.failed:
                pending.failed(wire.parse_failure(message.error))
            else:
                pending.done(message.result)

    def _die(self, reason: str) -> None:
        if self._dead is None:
            end = list(self._log)[-20:]
            said = f" Its last words: {end[-1][:200]}" if end else ""
            self._dead = Failure(wire.ENGINE_DIED, reason + said, detail="\n".join(end))

    def _fail_all(self, failure: Failure) -> None:
        while self._pending:
            number = next(iter(self._pending))
            self._pending.pop(number).failed(failure)


def _describe(code: int) -> str:
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead another Python astray, and with UTF-8 everywhere."""
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    }
    env["PYTHONUTF8"] = "1"
    env["PYTHONUNBUFFERED"] = "1"
    if sys.platform == "win32":
        env.setdefault("SYSTEMROOT", os.environ.get("SYSTEMROOT", r"C:\Windows"))
    return env
