# SPDX-License-Identifier: GPL-3.0-or-later
"""What a contact sheet is over: the knobs of the scene's editor, seeds, or instructions that stand in a text, one a
line; and the values that differ from column to column and from row to row."""

from typing import Any

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from . import knobs, messages
from .project import editor_of
from .words import held, t

SEED, INSTRUCTION, NOTHING = "seed", "instruction", "NONE"
MOST_ALONG, MOST_CELLS = 16, 64  # as the engine takes them
SPREAD = (0.5, 2.0)  # of a number's value: where the first and the last column lie, until the artist says

Items = list[tuple[str, str, str, int]]


def _is_down(axis: Any) -> bool:
    return axis == axis.id_data.instruct_nerf.sheet_down


def _turned(scene: bpy.types.Scene) -> dict[str, messages.Knob]:
    """The knobs that a sheet can be over, those that an artist turns most first."""
    editor = editor_of(scene)
    found = knobs.usable(editor) if editor is not None else []
    found = [knob for knob in found if knob.name not in (SEED, INSTRUCTION)]
    return {knob.name: knob for knob in sorted(found, key=lambda knob: knob.advanced)}


def _axes(self: Any, _context: object) -> Items:
    down, turned = _is_down(self), _turned(self.id_data)
    found = [(knob.name, t(knob.label or knob.name), t(knob.description)) for knob in turned.values()]
    found.append((SEED, t("Seed"), t("The same edit with other noise")))
    found.append((INSTRUCTION, t("Instruction"), t("One a line of a text")))
    if down:
        found.append((NOTHING, t("Nothing"), t("One row")))
    return held(found)


def name_of(axis: Any) -> str:
    """What differs along an axis: what the artist chose, where the editor has it; else the first number that an artist
    would turn for the columns, the second for the rows. ``NONE`` for no rows."""
    turned, down = _turned(axis.id_data), _is_down(axis)
    if axis.wanted in turned or axis.wanted in (SEED, INSTRUCTION) or (down and axis.wanted == NOTHING):
        return str(axis.wanted)
    numbers = [k.name for k in turned.values() if k.kind in ("float", "int") and not k.advanced]
    if down:
        return numbers[1] if len(numbers) > 1 else NOTHING
    return numbers[0] if numbers else SEED


def _get_over(self: Any) -> int:
    name = name_of(self)
    return next((item[3] for item in _axes(self, None) if item[0] == name), 0)


def _set_over(self: Any, number: int) -> None:
    self.wanted = next((item[0] for item in _axes(self, None) if item[3] == number), "")


def knob_of(axis: Any) -> messages.Knob | None:
    """The knob that differs along an axis; None where it is none."""
    return _turned(axis.id_data).get(name_of(axis))


def _end(axis: Any, number: int) -> float:
    """The first (0) or last (1) value of a number along an axis."""
    if axis.kept_for == name_of(axis):
        return float((axis.kept_first, axis.kept_last)[number])
    knob = knob_of(axis)
    if knob is None or knob.kind not in ("float", "int"):
        return 0.0
    group = knobs.group_of(axis.id_data, editor_of(axis.id_data))
    own = float(getattr(group, knob.name) if group is not None else knob.default)
    return _within(knob, own * SPREAD[number])


def _within(knob: messages.Knob, value: float) -> float:
    value = value if knob.minimum is None else max(knob.minimum, value)
    return value if knob.maximum is None else min(knob.maximum, value)


def _keep_end(axis: Any, number: int, value: float) -> None:
    ends = [_end(axis, 0), _end(axis, 1)]
    ends[number] = value
    axis.kept_first, axis.kept_last = ends
    axis.kept_for = name_of(axis)


class InstructNerfAxis(bpy.types.PropertyGroup):
    """What differs from column to column, or from row to row, of a contact sheet."""

    wanted: StringProperty(options={"HIDDEN"})  # a name, for what an editor offers may change; empty: left to us
    kept_for: StringProperty(options={"HIDDEN"})  # what the two ends below are values of
    kept_first: FloatProperty(options={"HIDDEN"})
    kept_last: FloatProperty(options={"HIDDEN"})
    over: EnumProperty(name="Over", description="What differs along it", items=_axes, get=_get_over, set=_set_over)
    first: FloatProperty(
        name="From", description="The first value", precision=2, step=10,
        get=lambda self: _end(self, 0), set=lambda self, value: _keep_end(self, 0, value),
    )  # fmt: skip
    last: FloatProperty(
        name="To", description="The last value", precision=2, step=10,
        get=lambda self: _end(self, 1), set=lambda self, value: _keep_end(self, 1, value),
    )  # fmt: skip
    count: IntProperty(
        name="Count", description="How many values, evenly from the first to the last", default=3, min=2, max=MOST_ALONG
    )
    lines: PointerProperty(
        name="Instructions", description="A text with an instruction on each line", type=bpy.types.Text
    )


def values(axis: Any) -> list[Any]:
    """The values along an axis, each once; none for no rows, or a text without lines."""
    scene, name, knob = axis.id_data, name_of(axis), knob_of(axis)
    if name == SEED:
        return [scene.instruct_nerf.seed + later for later in range(axis.count)]
    if name == INSTRUCTION:
        lines = [" ".join(line.body.split()) for line in axis.lines.lines] if axis.lines is not None else []
        return list(dict.fromkeys(line for line in lines if line))
    if knob is None:
        return []
    if knob.kind == "choice":
        return list(knob.choices)
    if knob.kind == "bool":
        return [False, True]
    ends = [_within(knob, end) for end in (axis.first, axis.last)]
    found = [ends[0] + (ends[1] - ends[0]) * number / (axis.count - 1) for number in range(axis.count)]
    if knob.kind == "int":
        return list(dict.fromkeys(round(value) for value in found))
    # What Blender's numbers hold as it is, so that a cell's value can be set and sent again.
    return list(dict.fromkeys(_within(knob, float(f"{value:.4g}")) for value in found))


def asked(scene: bpy.types.Scene) -> dict[str, Any]:
    """The axes of the scene's contact sheet, as the engine takes them. Raises ``ValueError``."""
    settings, params, count = scene.instruct_nerf, {}, 1
    for side, axis in (("across", settings.sheet_across), ("down", settings.sheet_down)):
        name = name_of(axis)
        if name == NOTHING:
            continue
        along = values(axis)
        if not along:
            raise ValueError("Choose a text that has an instruction on each of its lines, or make a new one.")
        if len(along) > MOST_ALONG:
            raise ValueError(f"A contact sheet has at most {MOST_ALONG} columns and rows: the text has {len(along)}.")
        params[side], count = {"name": name, "values": along}, count * len(along)
    if len({entry["name"] for entry in params.values()}) < len(params):
        raise ValueError("Columns and rows are over the same: choose another, or Nothing for the rows.")
    if count > MOST_CELLS:
        raise ValueError(f"A contact sheet has at most {MOST_CELLS} pictures, not {count}: lower a count.")
    return params
