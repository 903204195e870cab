# SPDX-License-Identifier: GPL-3.0-or-later
"""An editor whose edits are made by a cluster's workers: the interface of `engine.editors.base`, and nothing more is
known of it to who uses it. The same numbers go out as would go in, so the same pictures come back."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from engine.editors.base import Carried, Check
from engine.jobs.named_editor import editor_at
from engine.pieces import Place
from engine.protocol import OptionValue

Pool = Any  # engine.cluster.pool.Pool, which imports this

MOST_VIEWS = 64  # views of which a worker keeps what never changes of them

_views: OrderedDict[tuple, Any] = OrderedDict()  # in a worker: by editor, what it was told, and view


@dataclass(frozen=True)
class Told:
    """An editor, and what it was told."""

    editor: str
    instruction: str
    options: tuple[tuple[str, OptionValue], ...]


@dataclass(frozen=True)
class Order:
    """What is asked of an editor that was told what to do; pictures (H, W, 3) float32, 0–1."""

    what: Literal["edit", "relevance", "gradient"]
    view: str  # a digest of the original and the references, which come beside it
    picture: np.ndarray | None = None
    t: float = 0.0
    state: np.ndarray | None = None  # of the generator
    carried: tuple[np.ndarray, np.ndarray] | None = None


def described(name: str, _item: None, place: Place) -> tuple[str, int, int]:
    """A piece: an editor's name, size and number of references."""
    editor = editor_at(name, place.device, place.keep)
    return editor.name, editor.size, editor.references


def ordered(told: Told, order: Order, place: Place) -> np.ndarray | None:
    """A piece: an edit, a relevance or a gradient, float32; None where the editor cannot say."""
    view = _view_at(told, order, place)
    if order.what == "relevance":
        relevance = view.relevance
        return None if relevance is None else relevance.float().cpu().numpy()
    generator = torch.Generator()
    generator.set_state(torch.tensor(order.state))
    picture = torch.tensor(order.picture).to(place.device)
    if order.what == "gradient":
        return view.gradient(picture, order.t, generator).float().cpu().numpy()
    carried = None
    if order.carried is not None:
        carried = Carried(*(torch.tensor(part).to(place.device) for part in order.carried))
    return view.edit(picture, order.t, generator, place.check, carried).float().cpu().numpy()


def _view_at(told: Told, order: Order, place: Place) -> Any:
    editor = editor_at(told.editor, place.device, place.keep)
    key = id(editor), told, order.view
    if key not in _views:
        for stale in [other for other in _views if other[0] != id(editor)]:
            del _views[stale]
        original, *references = (torch.tensor(picture).to(place.device) for picture in place.objects)
        _views[key] = editor.prepare(told.instruction, dict(told.options)).view(original, references)
        while len(_views) > MOST_VIEWS:
            _views.popitem(last=False)
    _views.move_to_end(key)
    return _views[key]


class FarEditor:
    """An editor that a pool's workers load."""

    def __init__(self, pool: Pool, name: str, check: Check):
        self._pool, self._id, self._check = pool, name, check
        self.at_once = 2 * pool.workers

    @cached_property
    def _said(self) -> tuple[str, int, int]:
        [said] = self._pool.map(described, self._id, [None], Place(self._pool.device, _kept_nowhere, self._check))
        return said

    @property
    def name(self) -> str:
        return self._said[0]

    @property
    def size(self) -> int:
        return self._said[1]

    @property
    def references(self) -> int:
        return self._said[2]

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> FarPrepared:
        told = Told(self._id, instruction, tuple(options.items()))
        return FarPrepared(self._pool, self._pool.put(told), self._check)


@dataclass(frozen=True)
class FarPrepared:
    """An editor that was told what to do."""

    pool: Pool
    told: Any  # as the pool has it
    check: Check

    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> FarView:
        pictures = [_array(picture) for picture in (original, *references)]
        digest = hashlib.sha256()
        for picture in pictures:
            digest.update(repr(picture.shape).encode() + picture.tobytes())
        return FarView(self, digest.hexdigest(), [self.pool.put(picture) for picture in pictures], original.device)


@dataclass(frozen=True)
class FarView:
    """An editor that was told what to do, and to which view."""

    told: FarPrepared
    view: str
    pictures: list[Any]  # as the pool has them
    device: torch.device

    @cached_property
    def relevance(self) -> Tensor | None:
        made = self.told.pool.wait(self._begin(Order("relevance", self.view)), self.told.check)
        return None if made is None else torch.tensor(made).to(self.device)

    def begin(
        self, picture: Tensor, t: float, generator: torch.Generator, carried: Carried | None = None
    ) -> Callable[[Check], Tensor]:
        """Begin an edit; what is returned waits for it."""
        coming = self._begin(self._order("edit", picture, t, generator, carried))
        return lambda check: torch.tensor(self.told.pool.wait(coming, check)).to(picture.device)

    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        return self.begin(picture, t, generator, carried)(check)

    def gradient(self, picture: Tensor, t: float, generator: torch.Generator) -> Tensor:
        coming = self._begin(self._order("gradient", picture, t, generator, None))
        return torch.tensor(self.told.pool.wait(coming, self.told.check)).to(picture.device)

    def _order(
        self, what: Literal["edit", "gradient"], picture: Tensor, t: float, generator: torch.Generator,
        carried: Carried | None,
    ) -> Order:  # fmt: skip
        brought = None if carried is None else (_array(carried.picture), carried.seen.cpu().numpy())
        return Order(what, self.view, _array(picture), t, generator.get_state().numpy(), brought)

    def _begin(self, order: Order) -> Any:
        place = Place(self.told.pool.device, _kept_nowhere, objects=self.pictures)
        return self.told.pool.begin(ordered, self.told.told, order, place)


def _array(picture: Tensor) -> np.ndarray:
    return picture.detach().float().cpu().numpy()


def _kept_nowhere(kind: str, key: Any, work: Callable[[], Any]) -> Any:
    raise AssertionError("nothing is loaded on this side")
