# SPDX-License-Identifier: GPL-3.0-or-later
"""What the editor is told, from the first step to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.edit.keep import KeptView
from engine.edit.settings import Told
from engine.editors.base import KEEP_BACKGROUND, Editor, Prepared, ViewEdit
from engine.errors import BadInput


@dataclass(frozen=True)
class Prompt:
    """What the editor was told, and the editor that was told so."""

    told: Told
    prepared: Prepared

    def view(self, original: Tensor) -> ViewEdit:
        """Edits of the view whose unedited picture is ``original`` (H, W, 3), 0–1, its background kept where that was
        told."""
        view = self.prepared.view(original)
        return KeptView(view, original.cpu(), relevance_of(view), self.told.keep) if self.told.keep else view


def relevance_of(view: ViewEdit) -> Tensor:
    """Where the instruction matters to the view, (1, 1, h, w), 0–1. Raises BadInput where the editor cannot say."""
    if view.relevance is None:
        raise BadInput("This editor cannot keep the background; switch that off.", field=KEEP_BACKGROUND.name)
    return view.relevance


@dataclass(frozen=True)
class Again:
    """A view that is to be edited once more at a step, beside those whose turn it is."""

    view: int
    step: int


class Prompts:
    """What the editor is told in the course of a run, and which views are to be edited once more. Both hold from their
    step on, so that a resumed run, which knows of them beforehand, is the unbroken one."""

    def __init__(self, editor: Editor, first: Told, changes: Sequence[Told] = (), again: Sequence[Again] = ()):
        self.editor = editor
        self.told = [first, *changes]
        self.again = list(again)
        self._now: Prompt | None = None

    def change(self, told: Told) -> None:
        """Tell the editor something else from ``told.step`` on, which is the run's present one."""
        self.told.append(told)

    def edit_again(self, view: int, step: int) -> None:
        """Have a view edited once more at ``step``, which is the run's present one."""
        self.again.append(Again(view, step))

    def at(self, step: int) -> Prompt:
        """What holds at a NeRF step: the same object until it changes."""
        told = [t for t in self.told if t.step <= step][-1]
        if self._now is None or self._now.told is not told:
            self._now = Prompt(told, self.editor.prepare(told.instruction, told.options))
        return self._now

    def again_at(self, step: int) -> list[tuple[int, int]]:
        """Views to edit once more at a NeRF step: (number of the wish in the run, view)."""
        return [(number, again.view) for number, again in enumerate(self.again) if again.step == step]
