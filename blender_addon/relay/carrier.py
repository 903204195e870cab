# SPDX-License-Identifier: GPL-3.0-or-later
"""Files over the line: those that the other side does not have, in parts, with as many under way as hide its delay."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from .. import wire
from .line import Line
from .places import Refused

PART = 256 * 2**10  # bytes of a file in one message: what else is said waits for no more than that
UNDER_WAY = 12  # messages that wait for their answers
NAMES = 2000  # asked for at once
SAME = 1_000_000  # nanoseconds: a time is the same where a disk keeps it as exactly as that
TRIES = 5  # of a file that changes while it is fetched


class Stopped(Exception):
    """The artist cancelled what was being sent."""


class Carrier:
    """Sends and fetches; one thread at a time for each."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def send(
        self,
        files: Mapping[str, str],
        tell: Callable[[int, int], None] = lambda done, of: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """Send files, by their names there, that are not there already or others; how many bytes had to be.
        ``tell`` is called with the bytes so far and in all. Raises ``Refused``, ``Stopped``, ``Cut``."""
        missing: dict[str, os.stat_result] = {}
        for names in _slices(list(files)):
            for name, state in zip(names, self._states(names), strict=True):
                found = _stat(files[name])
                if state is None or not _same(state, found):
                    missing[name] = found
        of, done, sent = sum(found.st_size for found in missing.values()), 0, 0
        window: deque[Future[Any]] = deque()
        for name, found in missing.items():
            tell(done, of)
            sent += self._send(name, files[name], found, window, lambda part, done=done: tell(done + part, of), stopped)
            done += found.st_size
        while window:
            window.popleft().result()
        return sent

    def _send(
        self, name: str, local: str, found: os.stat_result, window: deque[Future[Any]], tell: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> int:  # fmt: skip
        offset = 0
        try:
            with open(local, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                while offset < found.st_size or offset == 0:
                    if stopped():
                        raise Stopped
                    data = file.read(PART)
                    answer = self._line.ask(
                        wire.FILES_WRITE,
                        {"name": name, "offset": offset, "data": base64.b64encode(data).decode(),
                         "size": found.st_size, "changed": max(0, found.st_mtime_ns), "digest": digest},
                    )  # fmt: skip
                    offset += len(data)
                    if offset >= found.st_size or not data:
                        window.append(answer)
                        break
                    if offset == len(data):  # it may be there under another time
                        if answer.result().get("whole"):
                            return len(data)
                    else:
                        window.append(answer)
                    while len(window) > UNDER_WAY:
                        window.popleft().result()
                    tell(offset)
        except OSError as error:
            raise Refused(f"{local} cannot be read: {error.strerror or error}.") from None
        while len(window) > UNDER_WAY:
            window.popleft().result()
        return offset

    def fetch(self, wanted: Mapping[str, str]) -> None:
        """Fetch files, by their names there, to paths here, as far as they are there and not here already. Raises
        ``Refused``, ``Cut``."""
        for names in _slices(list(wanted)):
            for name, state in zip(names, self._states(names), strict=True):
                for _ in range(TRIES if state is not None else 0):
                    if _is_here(wanted[name], state) or self._fetch(name, wanted[name], state):
                        break
                    [state] = self._states([name])  # it was written anew meanwhile
                    if state is None:
                        break

    def _fetch(self, name: str, local: str, state: tuple[int, int]) -> bool:
        """Fetch one file; False where it is not as it was said to be."""
        size, changed = state
        temporary = os.path.join(os.path.dirname(local), f".part-{secrets.token_hex(8)}{os.path.splitext(local)[1]}")
        try:
            os.makedirs(os.path.dirname(local), exist_ok=True)
            with open(temporary, "wb") as file:
                for data, now in self._parts(name, size):
                    if now != state:
                        return False
                    file.write(data)
                if file.tell() != size:
                    return False
            os.utime(temporary, ns=(changed, changed))
            _put(temporary, local)
            return True
        except OSError as error:
            raise Refused(f"{local} cannot be written: {error.strerror or error}.") from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _parts(self, name: str, size: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
        window: deque[Future[Any]] = deque()
        offset = 0
        while offset < size or window:
            while offset < size and len(window) < UNDER_WAY:
                length = min(PART, size - offset)
                window.append(self._line.ask(wire.FILES_READ, {"name": name, "offset": offset, "length": length}))
                offset += length
            answer = window.popleft().result()
            try:
                data = base64.b64decode(answer["data"], validate=True)
                now = int(answer["size"]), int(answer["changed"])
            except (TypeError, KeyError, ValueError, binascii.Error):
                raise Refused("The engine's answer about a file is none.") from None
            yield data, now

    def _states(self, names: Sequence[str]) -> list[tuple[int, int] | None]:
        answer = self._line.ask(wire.FILES_LOOK, {"names": list(names)}).result()
        try:
            found = [None if s is None else (int(s["size"]), int(s["changed"])) for s in answer["files"]]
        except (TypeError, KeyError, ValueError):
            found = []
        if len(found) != len(names) or any(s is not None and min(s) < 0 for s in found):
            raise Refused("The engine's answer about its files is none.")
        return found


def _slices(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), NAMES):
        yield names[start : start + NAMES]


def _stat(local: str) -> os.stat_result:
    try:
        return os.stat(local)
    except OSError as error:
        raise Refused(f"{local} cannot be read: {error.strerror or error}.") from None


def _same(state: tuple[int, int], found: os.stat_result) -> bool:
    return state[0] == found.st_size and abs(state[1] - max(0, found.st_mtime_ns)) < SAME


def _is_here(local: str, state: tuple[int, int]) -> bool:
    try:
        return _same(state, os.stat(local))
    except OSError:
        return False


def _put(temporary: str, local: str) -> None:
    """Rename; tried for a moment where another program just reads the old one, which Windows does not let go."""
    for left in range(20, -1, -1):
        try:
            os.replace(temporary, local)
            return
        except PermissionError:
            if not left:
                raise
            time.sleep(0.05)
