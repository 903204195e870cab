# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine has said and nobody has handled yet: bounded, however long Blender does not look. Free of bpy."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

HELD: Final = 8 * 1024 * 1024  # bytes of lines that are kept; a usual notification has 300


class Inbox:
    """A queue between the thread that reads the engine and the one that handles what it said.

    Of messages with the same key the latest alone is kept: how far a job is, and which picture a view has, not how it
    came to that. Where more than ``limit`` bytes wait, the reader waits too, and with it the engine.
    """

    def __init__(self, limit: int = HELD) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._messages: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._closed = False
        self.bytes = 0

    def put(self, message: Any, size: int, key: Hashable = None, patient: bool = True) -> None:
        """Add a message that came as ``size`` bytes, last; it takes the place of one with the same ``key``, unless that
        is None. Wait for room where there is none and ``patient``."""
        with self._changed:
            self.bytes -= self._messages.pop(key, (None, 0))[1]
            while patient and not self._closed and self._messages and self.bytes + size > self._limit:
                self._changed.wait()
            if not self._closed:
                self._messages[object() if key is None else key] = message, size
                self.bytes += size

    def get(self) -> Any:
        """The first message; None where there is none. Never waits."""
        with self._changed:
            if not self._messages:
                return None
            _, (message, size) = self._messages.popitem(last=False)
            self.bytes -= size
            self._changed.notify()
            return message

    def close(self) -> None:
        """Take no more, and let go whoever waits to add."""
        with self._changed:
            self._closed = True
            self._changed.notify()
