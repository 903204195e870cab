# SPDX-License-Identifier: GPL-3.0-or-later
"""What a contact sheet is over: any two of the editor's knobs, seeds, or instructions. Every cell is a request of its
own, so that it is the edit that one would get by trying its values alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from engine import protocol
from engine.edit.settings import checked_instruction
from engine.editors.base import checked_options
from engine.editors.catalogue import source_of
from engine.editors.registry import kind_of
from engine.errors import BadInput
from engine.protocol import MOST_CELLS, Axis, Knob, OptionValue

Asked = TypeVar("Asked", bound=protocol.Instruct)

INSTRUCTION, SEED = "instruction", "seed"  # axes that are no knob
# What a sheet multiplies the editor's first number by, one a column, and its second, one a row, where no axis is named.
COLUMNS, ROWS = (0.5, 1.0, 1.5, 2.0), (0.75, 1.0, 1.5)
SEEDS = 4  # columns, or rows, where seeds are asked for and none are named


def checked_axes(editor: str, across: Axis | None, down: Axis | None) -> list[Axis]:
    """The axes that are given, columns first, their values as the editor takes them. Raises BadInput, naming the field
    ``across`` or ``down``, where there is no such knob, or a value is none that it can take."""
    if across is None and down is not None:
        raise BadInput("A contact sheet of rows alone needs one column: name what differs across.", field="across")
    given = [(name, axis) for name, axis in (("across", across), ("down", down)) if axis is not None]
    if len(given) == 2 and given[0][1].name == given[1][1].name:
        raise BadInput(f"Both sides of the contact sheet are over {given[0][1].name}; choose two.", field="down")
    axes = [_checked(editor, axis, field) for field, axis in given]
    if math.prod(len(axis.values) for axis in axes) > MOST_CELLS:
        raise BadInput(f"A contact sheet has at most {MOST_CELLS} cells; name fewer values.", field=given[-1][0])
    return axes


def _checked(editor: str, axis: Axis, field: str) -> Axis:
    def value(given: OptionValue) -> OptionValue:
        if axis.name == INSTRUCTION:
            if not isinstance(given, str):
                raise BadInput(f"An instruction is a text, not {given}.")
            return checked_instruction(given)
        if axis.name == SEED:
            if isinstance(given, bool) or not isinstance(given, int) or not -(2**63) <= given < 2**63:
                raise BadInput(f"A seed is a whole number of 64 bits, not {given}.")
            return given
        knobs = kind_of(source_of(editor)).knobs
        return checked_options(knobs, {axis.name: given}, f"The editor {Path(editor).name}")[axis.name]

    try:
        return replace(axis, values=[value(given) for given in axis.values])
    except BadInput as problem:
        raise BadInput(problem.message, field=field) from None


def cells_of(request: Asked, axes: Sequence[Axis]) -> list[Asked]:
    """The requests of a sheet's cells, row by row; the request itself where it is none."""
    if not axes:
        return [request]
    across, down = axes[0], axes[1] if len(axes) > 1 else None
    rows = [with_value(request, down.name, value) for value in down.values] if down else [request]
    return [with_value(row, across.name, value) for row, value in product(rows, across.values)]


def with_value(request: Asked, axis: str, value: OptionValue) -> Asked:
    """The request, with the value on an axis."""
    if axis in (INSTRUCTION, SEED):
        return replace(request, **{axis: value})
    return replace(request, options=request.options | {axis: value})


def caption(editor: str, axes: Sequence[Axis], cell: protocol.Instruct) -> str:
    """A cell's values on the axes, as an artist reads them."""
    labels = {knob.name: knob.label or knob.name for knob in kind_of(source_of(editor)).knobs}
    parts = []
    for axis in axes:
        if axis.name == INSTRUCTION:
            parts.append(cell.instruction)
        elif axis.name == SEED:
            parts.append(f"Seed {cell.seed}")
        else:
            parts.append(f"{labels[axis.name]} {_said(cell.options[axis.name])}")
    return ", ".join(parts)


def _said(value: OptionValue) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def default_axes(editor: str, settings: dict[str, OptionValue]) -> list[Axis]:
    """What a sheet is over where no axis is named: the first two numbers that an artist would turn, around their
    values in ``settings``. Raises BadInput where the editor has none."""
    numbers = [k for k in kind_of(source_of(editor)).knobs if k.kind in {"float", "int"} and not k.advanced][:2]
    if not numbers:
        raise BadInput(f"The editor {Path(editor).name} has no number to make a sheet over.", field="sheet")
    return [
        Axis(knob.name, _around(knob, settings, factors))
        for knob, factors in zip(numbers, (COLUMNS, ROWS), strict=False)
    ]


def axis_around(editor: str, request: protocol.Instruct, settings: dict[str, OptionValue], name: str) -> Axis:
    """An axis without values: seeds from the request's on, all that a choice has, numbers around what they are. Raises
    BadInput where it is none that can be filled."""
    if name == SEED:
        return Axis(name, [request.seed + later for later in range(SEEDS)])
    if name == INSTRUCTION:
        raise BadInput("Name the instructions that the contact sheet is to be over.", field="across")
    knobs = {knob.name: knob for knob in kind_of(source_of(editor)).knobs}
    if name not in knobs:
        checked_options(list(knobs.values()), {name: 0}, f"The editor {Path(editor).name}")  # says which there are
    knob = knobs[name]
    if knob.kind == "choice":
        return Axis(name, [*knob.choices])
    return Axis(name, [False, True] if knob.kind == "bool" else _around(knob, settings, COLUMNS))


def _around(knob: Knob, settings: dict[str, OptionValue], factors: Sequence[float]) -> list[OptionValue]:
    """Values of a number around the one that it has, within its range, each once."""
    own = float(settings.get(knob.name, knob.default))
    low = -math.inf if knob.minimum is None else knob.minimum
    high = math.inf if knob.maximum is None else knob.maximum
    values = [min(max(own * factor, low), high) for factor in factors]
    return list(dict.fromkeys(round(value) if knob.kind == "int" else value for value in values))
