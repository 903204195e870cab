# SPDX-License-Identifier: GPL-3.0-or-later
"""What the editor is told, from the first step to the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.edit.region import Region
from engine.edit.settings import Told
from engine.editors.base import Editor


@dataclass(frozen=True)
class Again:
    """A view that is to be edited once more at a step, beside those whose turn it is; or (``captured``) whose picture
    is the original again from then on, and is edited no more until that is asked for."""

    view: int
    step: int
    captured: bool = False


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

    def edit_again(self, view: int, step: int, captured: bool = False) -> None:
        """Have a view edited once more, or left as captured, at ``step``, which is the run's present one."""
        self.again.append(Again(view, step, captured))

    def at(self, step: int) -> Told:
        """What holds at a NeRF step: the same object until it changes."""
        return [told for told in self.told if told.step <= step][-1]

    def keys_at(self, step: int) -> dict[int, Tensor]:
        """The key views that hold at a NeRF step: none any more once the instruction is another."""
        told = self.at(step)
        if told.instruction != self.told[0].instruction:
            return {}
        left = self.left_by(told.step)
        return {view: picture for view, picture in self.keys.items() if view not in left}

    def again_at(self, step: int) -> list[tuple[int, Again]]:
        """What was asked of single views at a NeRF step, with its number in the run."""
        return [(number, again) for number, again in enumerate(self.again) if again.step == step]

    def left_by(self, step: int) -> set[int]:
        """The views that were left as captured before a NeRF step. What is asked at the step itself holds at its end:
        until then all is as it would be without, or a resumed run, which knows of it beforehand, would be another."""
        left: set[int] = set()
        for again in self.again:
            if again.step < step:
                (left.add if again.captured else left.discard)(again.view)
        return left

    def regions_at(self, step: int) -> list[Region | None]:
        """The other regions that the edit was given at a NeRF step, one after the other."""
        pairs = zip(self.told, self.told[1:], strict=False)
        return [new.region for old, new in pairs if new.step == step and new.region is not old.region]
