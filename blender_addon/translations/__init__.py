# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels and buttons say, in other languages than English; a language is one file of texts by texts.

Blender looks up labels and tooltips by itself; sentences that are put together ask :mod:`words`.
"""

from __future__ import annotations

from collections.abc import Mapping

import bpy

from .. import words
from . import german, japanese, simplified_chinese

NAME = "instruct_nerf"
CONTEXTS = (words.CONTEXT, "*")  # in which Blender looks up labels and buttons, and in which tooltips
LANGUAGES: Mapping[str, Mapping[str, str]] = {
    "de_DE": german.TEXTS,
    "ja_JP": japanese.TEXTS,
    "zh_HANS": simplified_chinese.TEXTS,
}


def tables() -> dict[str, dict[tuple[str, str], str]]:
    """The translations as Blender takes them."""
    return {
        language: {(context, text): translated for text, translated in texts.items() for context in CONTEXTS}
        for language, texts in LANGUAGES.items()
    }


def look_up() -> None:
    """Have sentences looked up where Blender looks up labels; what is an editor's, where it looks up its own."""
    find = bpy.app.translations.pgettext_iface

    def ours(text: str) -> str:
        found: str = find(text, words.CONTEXT)
        return found if found != text else find(text)

    words.look_up_with(ours)


def register() -> None:
    """Tell Blender the translations."""
    bpy.app.translations.register(NAME, tables())
    look_up()


def unregister() -> None:
    """Take them back."""
    words.look_up_nothing()
    bpy.app.translations.unregister(NAME)
