# SPDX-License-Identifier: GPL-3.0-or-later
"""An editor small enough for a test: one file, and one row (``KIND``) for registry.py. It notes what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import KEEP_BACKGROUND, RELEVANCE, Carried
from engine.editors.carrying import with_carried
from engine.editors.registry import EditorKind
from engine.protocol import Knob, OptionValue

TINTS = {"none": None, "red": (0.9, 0.1, 0.1), "blue": (0.1, 0.1, 0.9)}
KIND = EditorKind(
    "ToyPipeline",
    f"{__name__}:load",
    (
        Knob("brightness", "Brightness", "What is left of the original's", "float", 0.5, 0.0, 2.0),
        Knob("tint", "Tint", "What the picture is painted with", "choice", "none", choices=list(TINTS)),
        Knob("checks", "Checks", "How often an edit asks whether it should stop", "int", 1, 1, 9, advanced=True),
        Knob("mirrored", "Mirrored", "Left is right", "bool", False, advanced=True),
        KEEP_BACKGROUND,
        RELEVANCE,
    ),
    frozenset({"relevance"}),
    size=32,
)


@dataclass
class Asked:
    """One edit, as it was asked for."""

    picture: Tensor
    original: Tensor
    instruction: str
    t: float
    options: dict[str, OptionValue]
    drawn: float
    references: list[Tensor] = field(default_factory=list)
    carried: Carried | None = None


class ToyEditor:
    """Answers with half the original's brightness, a tenth of the render and a little noise, or else with a tint; an
    instruction of other words is answered a little darker."""

    size = 32

    def __init__(self, name: str = "toy", relevant: bool = True, references: int = 0):
        self.name = name
        self.references = references
        self.relevant = relevant  # whether it can say where an instruction matters
        self.asked: list[Asked] = []
        self.prepared: list[str] = []
        self.viewed = 0

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]):
        self.prepared.append(instruction)
        return _Prepared(self, instruction, dict(options))


@dataclass
class _Prepared:
    editor: ToyEditor
    instruction: str
    options: dict[str, OptionValue]

    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> _View:
        self.editor.viewed += 1
        return _View(self, original.clone(), list(references)[: self.editor.references])


@dataclass
class _View:
    told: _Prepared
    original: Tensor
    references: list[Tensor] = field(default_factory=list)

    @cached_property
    def relevance(self) -> Tensor | None:
        """Of a map a third the picture's size: more where the original is red."""
        if not self.told.editor.relevant:
            return None
        height, width = self.original.shape[:2]
        red = self.original[..., 0][None, None]
        return F.interpolate(red, (height // 3, width // 3), mode="area")

    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Callable[[], None] = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        options = self.told.options
        for _ in range(int(options.get("checks", 1))):
            check()
        drawn = float(torch.rand((), generator=generator))
        asked = Asked(picture.clone(), self.original, self.told.instruction, t, options, drawn)
        asked.references, asked.carried = self.references, carried
        self.told.editor.asked.append(asked)
        dimmed = float(options.get("brightness", 0.5)) - 0.01 * len(self.told.instruction)
        edited = self.original * dimmed + with_carried(picture, carried) * 0.1 + 0.01 * drawn
        tint = TINTS[str(options.get("tint", "none"))]
        if tint is not None:
            edited = 0.1 * edited + 0.9 * torch.tensor(tint).to(edited)
        return edited.flip(1) if options.get("mirrored") else edited


def load(source: str, name: str, device: str) -> ToyEditor:
    """What registry.py calls."""
    return ToyEditor(name)
