# SPDX-License-Identifier: GPL-3.0-or-later
"""What the editor is told, from the first step to the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.edit.settings import Told
from engine.editors.base import Editor


@dataclass(frozen=True)
class Again:
    """A view that is to be edited once more at a step, beside those whose turn it is."""

    view: int
    step: int


class Prompts:
    """What the editor is told in the course of a run, and which views are to be edited once more. Both hold from their
    step on, so that a resumed run, which knows of them beforehand, is the unbroken one."""

    def __init__(
        self,
        editor: Editor,
        first: Told,
        changes: Sequence[Told] = (),
        again: Sequence[Again] = (),
        keys: Mapping[int, Tensor] | None = None,
    ):
        """``keys``: of the key views, by number, the edits that were approved, (H, W, 3) uint8 each."""
        self.editor = editor
        self.told = [first, *changes]
        self.again = list(again)
        self.keys = dict(keys or {})

    def change(self, told: Told) -> None:
        """Tell the editor something else from ``told.step`` on, which is the run's present one."""
        self.told.append(told)

    def edit_again(self, view: int, step: int) -> None:
        """Have a view edited once more at ``step``, which is the run's present one."""
        self.again.append(Again(view, step))

    def at(self, step: int) -> Told:
        """What holds at a NeRF step: the same object until it changes."""
        return [told for told in self.told if told.step <= step][-1]

    def keys_at(self, step: int) -> dict[int, Tensor]:
        """The key views that hold at a NeRF step: none any more once the instruction is another."""
        return self.keys if self.at(step).instruction == self.told[0].instruction else {}

    def again_at(self, step: int) -> list[tuple[int, int]]:
        """Views to edit once more at a NeRF step: (number of the wish in the run, view)."""
        return [(number, again.view) for number, again in enumerate(self.again) if again.step == step]
