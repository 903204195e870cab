# SPDX-License-Identifier: GPL-3.0-or-later
"""What an editor is: an instruction and pictures → edited pictures. Imports no torch.

A new editor is one file beside this one and one row in registry.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from engine.errors import BadInput
from engine.protocol import Knob, OptionValue

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Check = Callable[[], None]
"""Called before every step of anything; may raise Cancelled."""

RELEVANCE_TOP = 0.98  # the quantile of a map that counts as its largest, so that a few pixels do not set the scale

# Knobs of every editor that can say where an instruction matters; engine/edit/keep.py is what they turn.
KEEP_BACKGROUND = Knob(
    "keep_background",
    "Keep Background",
    "Leave alone what the instruction is not about. Auto: where the editor knows that it is about the subject",
    "choice",
    "auto",
    choices=["auto", "on", "off"],
)
RELEVANCE = Knob(
    "relevance",
    "Relevance",
    "Where the instruction matters less than this, the original stays",
    "float",
    0.5,
    0.0,
    1.0,
    advanced=True,
)


class Editor(Protocol):
    """A loaded editor. Pictures are (H, W, 3) floats, 0–1, of any size, on any device."""

    name: str
    size: int  # pixels; it works at about this edge, squared
    references: int  # pictures that it can be shown beside the original

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> Any:
        """What does not change from view to view (a Prepared). ``options``: a value for every knob, checked."""
        ...


class Prepared(Protocol):
    """An editor that was told what to do."""

    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> ViewEdit:
        """Edits of the view whose unedited picture is ``original`` (H, W, 3), 0–1. ``references``: pictures that show
        what is meant, for an editor that can take "references"; the most important first, those too many are left
        out. Raises BadInput where the view cannot be edited."""
        ...


@dataclass(frozen=True)
class Carried:
    """What other pictures already say of an edit, carried over into its view."""

    picture: Tensor  # (H, W, 3), 0–1
    seen: Tensor  # (H, W) bool: where it says anything


class ViewEdit(Protocol):
    """An editor that was told what to do, and to which view: what never changes of it is kept here."""

    @property
    def relevance(self) -> Tensor | None:
        """(1, 1, h, w), 0–1: where the instruction matters, 1 where most; None of an editor that cannot say."""
        ...

    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = ...,
        carried: Carried | None = None,
    ) -> Tensor:
        """U(picture, t; original, instruction): noise ``picture`` (H, W, 3) to level ``t`` (0–1; the nearest above that
        the editor has) and denoise it, conditioned on the original. ``generator`` (CPU) draws all that is random;
        ``check`` is called before every step. What is ``carried`` over takes the picture's place in the first steps
        (engine/editors/carrying.py). Returns (H, W, 3), 0–1."""
        ...

    def gradient(self, picture: Tensor, t: float, generator: torch.Generator) -> Tensor:
        """∂L_SDS/∂picture (H, W, 3) at level ``t`` (DreamFusion, Poole et al. 2023, eq. 3), of an editor that can
        "gradient"."""
        ...


@runtime_checkable
class EditorElsewhere(Protocol):
    """An editor whose edits are made by other processes or machines, several at once."""

    at_once: int  # how many edits may be under way


@runtime_checkable
class ViewEditElsewhere(Protocol):
    """One that can be begun and asked for later."""

    def begin(self, picture: Tensor, t: float, generator: torch.Generator) -> Callable[[Check], Tensor]:
        """Begin what `ViewEdit.edit` does; what is returned waits for it. Its ``check`` may raise Cancelled."""
        ...


def edit_together(
    prepared: Any,
    views: Sequence[ViewEdit],
    pictures: Sequence[Tensor],
    t: float,
    generators: Sequence[torch.Generator],
    check: Check,
    keys: Sequence[tuple[ViewEdit, Tensor]] = (),
) -> list[Tensor]:
    """Edits of several ``views`` of what was ``prepared``, as `ViewEdit.edit` of each from its own generator: in one
    batch by an editor whose Prepared can (it has ``edit_many``, with these arguments), else one after the other.
    ``keys``: key views and their approved pictures, for an editor that attends to them."""
    if many := getattr(prepared, "edit_many", None):
        return many(views, pictures, t, generators, check, keys=keys)
    asked = zip(views, pictures, generators, strict=True)
    return [view.edit(picture, t, generator, check) for view, picture, generator in asked]


def checked_options(
    knobs: Sequence[Knob], given: Mapping[str, OptionValue], editor: str = "The editor"
) -> dict[str, OptionValue]:
    """``given`` as the knobs have it: numbers in range, whole where they are to be. Raises BadInput, naming the option,
    where there is no such knob or the value is none that it can take."""
    by_name = {knob.name: knob for knob in knobs}
    checked: dict[str, OptionValue] = {}
    for name, value in given.items():
        knob = by_name.get(name)
        if knob is None:
            known = ", ".join(by_name) or "none"
            raise BadInput(f"{editor} has no option {name!r}; it has: {known}.", field=name)
        checked[name] = _checked(knob, value)
    return checked


def _checked(knob: Knob, value: OptionValue) -> OptionValue:
    if knob.kind == "bool":
        if isinstance(value, bool):
            return value
        raise BadInput(f"The option {knob.name} must be true or false.", field=knob.name)
    if knob.kind == "choice":
        if value in knob.choices:
            return value
        raise BadInput(f"The option {knob.name} must be one of {', '.join(knob.choices)}.", field=knob.name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    low = -math.inf if knob.minimum is None else knob.minimum
    high = math.inf if knob.maximum is None else knob.maximum
    whole = knob.kind == "int"
    if not number or not low <= value <= high or (whole and value != int(value)):  # type: ignore[operator,arg-type]
        kind = "a whole number" if whole else "a number"
        raise BadInput(f"The option {knob.name} must be {kind} from {low:g} to {high:g}.", field=knob.name)
    return int(value) if whole else float(value)
