# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands are told in words: how to edit, values of knobs, what a contact sheet is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from engine import protocol
from engine.errors import BadInput

Project = Annotated[Path, tyro.conf.Positional]
EvenOnCpu = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass
class How:
    """How a picture or a scene is edited: what every request to edit says."""

    instruction: tyro.conf.Positional[str]
    """What should change, in a sentence."""
    editor: str | None = None
    """An editor's id, as `editors` lists them, a folder or a hub name."""
    options: Annotated[list[str], tyro.conf.arg(name="set", metavar="NAME=VALUE")] = field(default_factory=list)
    """Knobs of the editor, as `editors` lists them: --set text_guidance=5 keep_background=on."""
    seed: int = 0
    """For everything random."""
    device: str | None = None
    """cpu, cuda:0, mps, as `devices` lists them; the best where not given."""
    download: bool = False
    """Download the editor where it is not on this computer, agreeing to its licence."""

    def words(self) -> dict[str, Any]:
        """The fields of a protocol.Instruct."""
        given = dataclasses.asdict(self)
        del given["download"]
        return given | {"options": dict(option_of(text) for text in self.options)}


def option_of(text: str) -> tuple[str, protocol.OptionValue]:
    """NAME=VALUE. Raises BadInput."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set takes NAME=VALUE, not {text!r}.", field="set")
    return name, _value(value)


def _value(text: str) -> protocol.OptionValue:
    """True and false, a number, or a word."""
    if text in {"true", "false"}:
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def axis_of(words: list[str] | None) -> protocol.Axis | None:
    """What a contact sheet is over: a name and values, which instructions are as they are written."""
    if not words:
        return None
    name, *values = words
    return protocol.Axis(name, [*values] if name == "instruction" else [_value(value) for value in values])
