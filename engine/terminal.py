# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command at a terminal does alike: a job with a bar, and standard output for the result alone."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from engine import protocol, wire
from engine.hub import in_words
from engine.progress import Job

T = TypeVar("T")

console = Console(stderr=True)
_out: TextIO | None = None  # standard output, once a command has claimed it for its result alone


def claiming(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with standard output for its result alone: what libraries print on the way goes to standard error.
    Not before it is called, for tyro prints its help there."""

    @functools.wraps(command)
    def run(*arguments: Any, **named: Any) -> None:
        global _out
        _out = io.TextIOWrapper(io.BufferedWriter(wire.claim_stdout()), encoding="utf-8", errors="backslashreplace")
        command(*arguments, **named)

    return run


def say(result: Any) -> None:
    """Print a command's result, text or a table, on standard output."""
    if isinstance(result, str):
        print(result, file=_out, flush=True)
    else:
        Console(file=_out).print(result)


def run_job(work: Callable[[Job], T]) -> T:
    """Run a job with a bar on the terminal; Ctrl-C cancels it, and it saves what it made."""
    import signal
    import threading

    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"))
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("Starting", total=1.0, detail="")

            def on_progress(p: protocol.Progress) -> None:
                left = "" if p.seconds_left is None else f", {_clock(p.seconds_left)} left"
                done, of = (in_words(p.step), in_words(p.of)) if p.stage == "download" else (p.step, p.of)
                bar.update(task, completed=p.fraction, description=p.label, detail=f"{done} of {of}{left}")

            return work(Job(on_progress=on_progress, log=console.print, cancelled=stop.is_set))
    finally:
        signal.signal(signal.SIGINT, before)


def full(path: Path) -> str:
    """As requests have paths: from the root on; `~` is left to those who check them."""
    return str(path if str(path).startswith("~") else path.absolute())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def show_result(result: Any) -> None:
    """Print a command's result as JSON."""
    say(json.dumps(msgspec.to_builtins(result), indent=2))
