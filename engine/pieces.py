# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of work that need nothing of each other, and who does them: this process or, through engine/cluster, others.
Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Keep(Protocol):
    """What ``work`` loads, or loaded before under the same key (`Runtime.keep`)."""

    def __call__(self, kind: str, key: Hashable, work: Callable[[], T]) -> T: ...


@dataclass(frozen=True)
class Place:
    """Where a piece is done: on what it computes, the files that it reads, what stays loaded there, and when to stop.
    A piece reads nothing else, and writes nothing."""

    device: str
    keep: Keep
    check: Callable[[], None] = lambda: None  # called before every step of anything; may raise Cancelled
    files: Sequence[Path] = ()
    objects: Sequence[Any] = ()


Piece = Callable[[Any, Any, Place], Any]
"""Takes what all pieces share, what is its own, and its place; returns what it made. A function of a module, so that it
can be named elsewhere; what it takes and returns can be sent."""


class Pieces(Protocol):
    """Who does the pieces of a job."""

    def map(self, piece: Piece, shared: Any, items: Iterable[Any], place: Place) -> Iterator[Any]:
        """What ``piece`` makes of each item, in their order. ``place`` is the job's own. Raises what a piece raises."""
        ...

    def editor(self, name: str, device: str, check: Callable[[], None]) -> Any | None:
        """An editor of that id whose edits are made elsewhere; None where they are made here."""
        ...


class Here:
    """This process, one after the other."""

    def map(self, piece: Piece, shared: Any, items: Iterable[Any], place: Place) -> Iterator[Any]:
        for item in items:
            yield piece(shared, item, place)

    def editor(self, name: str, device: str, check: Callable[[], None]) -> Any | None:
        return None
