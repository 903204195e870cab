# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences in the artist's language, for those that are put together here: Blender looks up only whole labels. Free
of bpy; :mod:`translations` says who looks them up."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

CONTEXT = "Instruct NeRF"  # where Blender looks up what is ours: its own “Project” is what a projector does
_look_up: list[Callable[[str], str]] = []
_held: dict[str, str] = {}


def t(text: str) -> str:
    """A text of ours in the language of Blender's interface; itself, where there is no translation."""
    return _look_up[-1](text) if _look_up else text


def look_up_with(function: Callable[[str], str]) -> None:
    """Have texts looked up so from now on."""
    _look_up[:] = [function]


def look_up_nothing() -> None:
    """Leave texts as they are from now on."""
    _look_up.clear()


def held(items: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str, int]]:
    """An enumeration's items, numbered, of texts that stay as long as the add-on does. Blender reads them after the
    function that gives the items has returned and does not hold on to them: what is gone is shown as garbage."""
    return [(*(_held.setdefault(text, text) for text in item), number) for number, item in enumerate(items)]  # type: ignore[misc]


def in_our_context(cls: type) -> type:
    """Have Blender look up in our context what a class shows, and its properties; before it is registered."""
    cls.bl_translation_context = CONTEXT  # type: ignore[attr-defined]
    for base in cls.__mro__:
        # Not in its __dict__ before somebody asks for them, from Python 3.14 on, which some builds of Blender 5.2 have.
        for declared in getattr(base, "__annotations__", {}).values():
            if isinstance(keywords := getattr(declared, "keywords", None), dict):
                keywords.setdefault("translation_context", CONTEXT)
    return cls


def duration(seconds: float) -> str:
    """Seconds as an artist reads them."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return t("{minutes} min {seconds} s").format(minutes=whole // 60, seconds=f"{whole % 60:02d}")
    return t("{hours} h {minutes} min").format(hours=whole // 3600, minutes=f"{whole % 3600 // 60:02d}")


def about(seconds: float) -> str:
    """A guess of seconds, no more exact than a guess is."""
    if seconds < 10:
        return t("{seconds} s").format(seconds=max(1, round(seconds)))
    if seconds < 95:
        return t("{seconds} s").format(seconds=5 * round(seconds / 5))
    if seconds < 90 * 60:
        return t("{minutes} min").format(minutes=round(seconds / 60))
    return t("{hours} h").format(hours=f"{seconds / 3600:.1f}".rstrip("0").rstrip("."))


def size(count: float) -> str:
    """Bytes as an artist reads them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, count / 1e6):.0f} MB"


def wrapped(text: str, letters: int) -> list[str]:
    """A text in lines of so many Latin letters' width. Chinese and Japanese letters are about twice as wide, and lines
    may end after any of them, but not before what closes a part of a sentence."""
    if not any(map(_is_wide, text)):
        return textwrap.wrap(text, letters)
    lines, line, room = [], "", float(letters)
    for word in re.findall(r"(?:[^\s\u2e80-\uffef]+|.)[、。，．：；！？）」』”’]*\s*", text):
        wide = width(word.rstrip())
        if wide > room and line:
            lines.append(line.rstrip())
            line, room = "", float(letters)
        line += word
        room -= wide + len(word) - len(word.rstrip())
    return [*lines, line.rstrip()]


def width(text: str) -> float:
    """About how wide a text is, in Latin letters."""
    return sum(1.8 if _is_wide(letter) else 1.0 for letter in text)


def _is_wide(letter: str) -> bool:
    return "\u2e80" <= letter <= "\uffef"
