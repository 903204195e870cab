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
        return KeptView(view, original, relevance_of(view), self.told.keep) if self.told.keep else view


def relevance_of(view: ViewEdit) -> Tensor:
    """Where the instruction matters to the view, (1, 1, h, w), 0–1. Raises BadInput where the editor cannot say."""
    if view.relevance is None:
        raise BadInput("This editor cannot keep the background; switch that off.", field=KEEP_BACKGROUND.name)
    return view.relevance


class Prompts:
    """What the editor is told in the course of a run. A change holds from its step on, so that a resumed run, which
    knows of it beforehand, is the unbroken one."""

    def __init__(self, editor: Editor, first: Told, changes: Sequence[Told] = ()):
        self.editor = editor
        self.told = [first, *changes]
        self._now: Prompt | None = None

    def change(self, told: Told) -> None:
        """Tell the editor something else from ``told.step`` on."""
        self.told.append(told)

    def at(self, step: int) -> Prompt:
        """What holds at a NeRF step: the same object until it changes."""
        told = [t for t in self.told if t.step <= step][-1]
        if self._now is None or self._now.told is not told:
            self._now = Prompt(told, self.editor.prepare(told.instruction, told.options))
        return self._now
