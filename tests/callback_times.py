# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Blender's main thread spends in each callback of the add-on: panels, operators, timers, handlers, updates.

For tests alone: the add-on knows nothing of it. What is watched must not be registered yet, for Blender keeps some of
the functions that it is given.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

METHODS = ("draw", "draw_header", "draw_header_preset", "poll", "execute", "invoke", "modal", "check", "cancel")
FUNCTIONS = ("update", "get", "set", "items", "search", "poll")
TIMERS = ("session", "chores")  # modules with a timer
DRAWN = ("highlight", "wipe", "surfels")  # modules that draw in the viewport
TABLES = ("session", "chores", "following")  # modules that keep their handlers in a table


class Recorder:
    """Milliseconds by callback: those that passed, and those that this thread computed for (on a machine that others
    use, too, the first says more of them)."""

    def __init__(self) -> None:
        self.passed: dict[str, list[float]] = defaultdict(list)
        self.computed: dict[str, list[float]] = defaultdict(list)
        self._put_back: list[Callable[[], object]] = []

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its times taken."""

        def wrapped(*arguments: Any) -> Any:
            began, computed = time.perf_counter(), time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.computed[name].append(1000 * (time.thread_time() - computed))
                self.passed[name].append(1000 * (time.perf_counter() - began))

        count = call.__code__.co_argcount
        if call.__code__.co_flags & inspect.CO_VARARGS:
            return functools.wraps(call)(wrapped)
        # Blender counts the arguments of what it is given.
        counted = {0: lambda: wrapped(), 1: lambda a: wrapped(a), 2: lambda a, b: wrapped(a, b),
                   3: lambda a, b, c: wrapped(a, b, c)}[count]  # fmt: skip
        return functools.wraps(call)(counted)

    def watch(self, module: Callable[[str], ModuleType]) -> None:
        """Take the times of all that the add-on gives Blender to call; ``module`` finds its modules by name."""
        for cls in (*module("panels").CLASSES, *module("operators").CLASSES):
            for name in METHODS:
                own = vars(cls).get(name)
                if isinstance(own, classmethod):
                    self._set(cls, name, classmethod(self.timed(f"{cls.__name__}.{name}", own.__func__)))
                elif callable(own):
                    self._set(cls, name, self.timed(f"{cls.__name__}.{name}", own))
            self._watch_properties(cls)
        for cls in module("settings").CLASSES:
            self._watch_properties(cls)
        for name in TIMERS:
            self._set(module(name), "_tick", self.timed(f"{name}._tick", module(name)._tick))
        for name in DRAWN:
            self._set(module(name), "_draw", self.timed(f"{name}._draw", module(name)._draw))
        for name in TABLES:
            pairs = module(name)._HANDLERS
            timed = [(event, self.timed(f"{name}.{event}", own)) for event, own in dict(pairs).items()]
            self._set(module(name), "_HANDLERS", dict(timed) if isinstance(pairs, dict) else tuple(timed))

    def _watch_properties(self, cls: type) -> None:
        # From Python 3.14 on not in vars(cls) before it is asked for.
        for name, declared in cls.__annotations__.items():
            keywords = getattr(declared, "keywords", {})
            for function in FUNCTIONS:
                if callable(keywords.get(function)):
                    self._set_item(keywords, function, self.timed(f"{cls.__name__}.{name}", keywords[function]))

    def _set(self, owner: Any, name: str, value: object) -> None:
        self._put_back.append(functools.partial(setattr, owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def _set_item(self, table: dict[str, Any], key: str, value: object) -> None:
        self._put_back.append(functools.partial(table.__setitem__, key, table[key]))
        table[key] = value

    def restore(self) -> None:
        """Watch no longer; to be called when nothing is registered any more."""
        while self._put_back:
            self._put_back.pop()()

    def table(self) -> list[dict[str, Any]]:
        """One row a callback, the worst first: how often, and the median, the 95th of a hundred and the worst of the
        milliseconds that passed; the worst of those computed for."""
        rows = []
        for name, times in self.passed.items():
            times = sorted(times)
            row = {
                "callback": name, "calls": len(times), "p50": times[len(times) // 2],
                "p95": times[math.ceil(0.95 * len(times)) - 1], "max": times[-1], "computed": max(self.computed[name]),
            }  # fmt: skip
            rows.append({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()})
        return sorted(rows, key=lambda row: -row["max"])
