# SPDX-License-Identifier: GPL-3.0-or-later
"""A server without a process, for tests: lines in, lines out."""

import json
import queue
import time

from engine.server import Server


class Wire:
    """A server, and what it sent."""

    def __init__(self, **kwargs):
        self.lines = queue.Queue()
        self.server = Server(lambda line: self.lines.put(json.loads(line)), **kwargs)

    def ask(self, method, ident=1, **params):
        self.server.receive(json.dumps({"jsonrpc": "2.0", "id": ident, "method": method, "params": params}).encode())

    def next(self, timeout=10):
        return self.lines.get(timeout=timeout)

    def answer(self, ident, timeout=10):
        """The answer to request ``ident``; notifications before it are dropped."""
        end = time.monotonic() + timeout
        while True:
            message = self.next(end - time.monotonic())
            if message.get("id") == ident and "method" not in message:
                return message
