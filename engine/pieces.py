# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of work that need nothing of each other, and who does them: this process or, through engine/cluster, others.
Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    clock: Callable[[], float] = time.monotonic  # seconds of work
    tell: Callable[[Any], None] = lambda what: None  # for a long piece to say how far it is; not every word is heard


Piece = Callable[[Any, Any, Place], Any]
"""Takes what all pieces share, what is its own, and its place; returns what it made. A function of a module, so that it
can be named elsewhere; what it takes and returns can be sent."""


Places = Place | Callable[[Any], Place]
Hear = Callable[[int, Any], None]


def placed(place: Places, item: Any) -> Place:
    """Where the piece of an item is done."""
    return place(item) if callable(place) else place


class Pieces(Protocol):
    """Who does the pieces of a job."""

    workers: int  # how many are done at once

    def map(self, piece: Piece, shared: Any, items: Iterable[Any], place: Place) -> Iterator[Any]:
        """What ``piece`` makes of each item, in their order. ``place`` is the job's own. Raises what a piece raises."""
        ...

    def as_made(
        self, piece: Piece, shared: Any, items: Iterable[Any], place: Places, hear: Hear = ...
    ) -> Iterator[tuple[int, Any]]:
        """As `map`, but each as soon as it is made, with its item's number; ``hear`` gets the number of a piece and
        what it tells. ``place`` may be a function of the item."""
        ...

    def editor(self, name: str, device: str, check: Callable[[], None]) -> Any | None:
        """An editor of that id whose edits are made elsewhere; None where they are made here."""
        ...


def deaf(number: int, what: Any) -> None:
    """Hears nothing of what pieces tell."""


class Here:
    """This process, one after the other."""

    workers = 1

    def map(self, piece: Piece, shared: Any, items: Iterable[Any], place: Place) -> Iterator[Any]:
        for item in items:
            yield piece(shared, item, place)

    def as_made(
        self, piece: Piece, shared: Any, items: Iterable[Any], place: Places, hear: Hear = deaf
    ) -> Iterator[tuple[int, Any]]:
        for number, item in enumerate(items):
            yield number, piece(shared, item, replace(placed(place, item), tell=partial(hear, number)))

    def editor(self, name: str, device: str, check: Callable[[], None]) -> Any | None:
        return None
