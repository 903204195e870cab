# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process and the line to it. Free of bpy, so that it runs and is tested without Blender.

Three threads serve one process: one writes requests, one reads answers, one reads the log. A request names the reader
of its result, which runs on the thread that reads answers. What the threads find goes into
one bounded queue, which the owner empties with :meth:`Client.receive` from whichever thread it likes (Blender's main
one); only the answers to what :meth:`Client.ask` asked go straight to who waits for them, on a thread that renders.
When the process dies, its exit code and the end of its log are kept. The other side is not trusted: lines are limited
in length, anything malformed is logged and dropped, and answers to questions never asked are ignored.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from . import wire
from .inbox import Inbox
from .messages import Failure, WireError

LINE_LIMIT = 64 * 1024 * 1024  # bytes of one line; a thousand cameras take about half a megabyte
LOG_LINE_LIMIT = 2000  # characters kept of one line of the log
LOG_LINES = 400  # lines of the log that are kept
Reader = Callable[[object], Any]  # of a result; raises WireError
FIRST_OF_ITS_OWN = 2**40  # the number of the first request that is made with `ask`


@dataclass(frozen=True)
class Answer:
    """Of the engine's, to the request of that number: what its reader made of the result, or an ``error``, of which
    nothing is checked yet, where it ``failed``."""

    id: int
    result: Any
    error: Any
    failed: bool


@dataclass(frozen=True)
class Notice:
    """What the engine tells by itself. Nothing of it is checked yet."""

    method: str
    params: Any


@dataclass(frozen=True)
class _Death:
    reason: str


class Refused(Exception):
    """What was asked for failed; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Client:
    """One engine process. Made running; :meth:`receive` from it often and :meth:`close` it once.

    ``command`` is an argument list, never a shell string. Raises ``OSError`` where it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        line_limit: int = LINE_LIMIT,
    ) -> None:
        self._line_limit = line_limit
        self._unanswered: dict[int, Reader] = {}  # by the request's number; the reader's thread takes them out
        self._asked: dict[int, Future[Any]] = {}  # requests whose answer goes to whoever waits for it
        self._numbers = itertools.count(FIRST_OF_ITS_OWN)
        self._asking = threading.Lock()
        self._over: Failure | None = None  # why nothing is answered any more
        self._inbox = Inbox()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._dead: Failure | None = None
        self._let_go = False
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

    def log(self) -> list[str]:
        """The last lines of the engine's log, oldest first."""
        return list(self._log)

    def send(self, number: int, line: bytes, reader: Reader) -> None:
        """Send a request, written as a line; an answer of its ``number`` is listened for, and its result is what the
        ``reader`` makes of it, on a thread of its own. Returns at once."""
        self._unanswered[number] = reader
        self._outbox.put(line)

    def ask(self, method: str, params: Mapping[str, Any]) -> tuple[int, Future[Any]]:
        """Ask from whichever thread, without anyone who receives; the request's number, and its result as it was sent,
        or the ``Refused`` that it failed with. Returns at once. Raises ``ValueError`` where ``params`` cannot be
        sent."""
        number, answer = next(self._numbers), Future()
        line = wire.request_line(number, method, params)
        with self._asking:
            if self._over is not None:
                answer.set_exception(Refused(self._over))
                return number, answer
            self._asked[number] = answer
        self._outbox.put(line)
        return number, answer

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Ask from whichever thread for something whose answer nobody waits for."""
        self._outbox.put(wire.request_line(next(self._numbers), method, params))

    @property
    def has_messages(self) -> bool:
        """Whether something was said that nobody has handled."""
        return self._inbox.bytes > 0

    def receive(self) -> Answer | Notice | None:
        """The next that the engine said; None where there is nothing. Never waits."""
        while (message := self._inbox.get()) is not None:
            if not isinstance(message, _Death):
                return message
            self._die(message.reason)
        return None

    # -- ending --------------------------------------------------------------------------------------------------

    def ask_to_leave(self) -> None:
        """Have the engine cancel its job, save and leave, and close its input. Returns at once."""
        self._outbox.put(wire.request_line(0, wire.SHUTDOWN, {}))
        self._outbox.put(None)

    def let_go(self) -> None:
        """Leave the process to itself, which goes on by itself; nothing that it still says is heard. Returns at once.
        Never killed: what was started may be a script that the engine is a child of."""
        self._let_go = True
        self._outbox.put(None)
        self._inbox.close()
        threading.Thread(target=self._process.wait, daemon=True, name="engine let go").start()  # reaps it

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

        Blocks that long at most. What it still says is dropped. May be called again.
        """
        self.ask_to_leave()
        deadline = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < deadline:
            self._drop(500)  # an engine that waits for a full pipe to be read would never leave
            time.sleep(0.02)
        self.kill()
        code = self._process.wait()
        self._inbox.close()
        for thread in (self._writer_thread, self._reader_thread, self._stderr_thread):
            thread.join(2.0)
        self._drop(sys.maxsize)
        if self._dead is None:
            self._dead = Failure(wire.ENGINE_DIED, f"The engine was stopped (exit code {code}).")
        return code

    def _drop(self, most: int) -> None:
        while most > 0 and self.receive() is not None:
            most -= 1

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
            if isinstance(message, Notice):
                self._inbox.put(message, len(line), wire.replaced_key(message.method, message.params))
            elif message is not None and (answer := self._asked.pop(message.id, None)) is not None:
                _resolve(answer, message)
            elif message is not None and (reader := self._unanswered.pop(message.id, None)) is not None:
                self._inbox.put(_read(message, reader), len(line), patient=False)  # asked for, so not one of many
        stream.close()
        if self._let_go:
            return
        if reason:
            self.kill()
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:  # it closed its output but stays: nothing more can come of it
            self.kill()
            code = self._process.wait()
        self._stderr_thread.join(2.0)
        reason = reason or f"The engine ended unexpectedly ({_describe(code)})."
        self._inbox.put(_Death(reason), 0, patient=False)
        with self._asking:
            self._over = Failure(wire.ENGINE_DIED, reason)
            left = list(self._asked.values())
            self._asked.clear()
        for answer in left:
            answer.set_exception(Refused(self._over))

    def _decode(self, line: bytes) -> Answer | Notice | None:
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
            return Notice(method, data.get("params"))
        if isinstance(number, int) and not isinstance(number, bool) and ("result" in data) != ("error" in data):
            return Answer(number, data.get("result"), data.get("error"), "error" in data)
        self._note("(not an answer) " + line[:200].decode("utf-8", "replace").rstrip())
        return None

    def _die(self, reason: str) -> None:
        if self._dead is None:
            end = list(self._log)[-20:]
            said = f" Its last words: {end[-1][:200]}" if end else ""
            self._dead = Failure(wire.ENGINE_DIED, reason + said, detail="\n".join(end))


def _read(message: Answer, reader: Reader) -> Answer:
    if message.failed:
        return message
    try:
        return replace(message, result=reader(message.result))
    except WireError as error:
        told = str(error)
    except Exception:
        traceback.print_exc()
        told = "Something went wrong in the add-on itself; the system console has the details."
    return Answer(message.id, None, {"code": wire.INTERNAL, "message": told}, True)


def _resolve(answer: Future[Any], message: Answer) -> None:
    if message.failed:
        answer.set_exception(Refused(wire.parse_failure(message.error)))
    else:
        answer.set_result(message.result)


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
