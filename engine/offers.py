# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine says that it has: devices, editors with their knobs, presets, and models to download. These are
messages of the wire (docs/protocol.md), and `protocol` names them with the others."""

from __future__ import annotations

from typing import Literal

import msgspec

OptionValue = bool | int | float | str
"""What a knob of an editor can be turned to."""


class Knob(msgspec.Struct, frozen=True):
    """Something of an editor that an artist may turn."""

    name: str  # as it stands in a request's ``options``
    label: str
    description: str
    kind: Literal["float", "int", "bool", "choice"]
    default: OptionValue
    minimum: float | None = None
    maximum: float | None = None
    choices: list[str] = []
    advanced: bool = False  # left as it is by most


class Device(msgspec.Struct, frozen=True):
    name: str
    label: str
    free_bytes: int
    total_bytes: int
    preset: str = ""  # its default
    editor: str = ""  # its default's id
    slow: dict[str, str] = {}  # presets refused on it unless ``even_on_cpu``, each with a sentence that says why


class Offer(msgspec.Struct, frozen=True):
    """On what terms an editor can be had; of one of the artist's own nothing is known."""

    licence: str = ""
    licence_url: str = ""
    commercial: bool = True  # false: its licence forbids to sell what is made with it
    gated: bool = False  # its licence must be accepted on its page before it can be downloaded
    bytes: int = 0  # of its download
    page: str = ""  # where it can be read about; empty: it cannot be downloaded
    folder: str = ""  # where it lies, or will
    downloaded: bool = False


class Model(msgspec.Struct, frozen=True):
    """What is no editor and can be downloaded all the same; everything does without it."""

    name: str
    label: str
    use: str  # a sentence: what it is good for
    offer: Offer


class Editor(msgspec.Struct, frozen=True):
    name: str
    label: str
    size: int
    available: bool
    reason: str
    vocabulary: list[str]
    knobs: list[Knob] = []  # their defaults are what this editor recommends
    wordings: list[str] = []  # other ways to say what is in the vocabulary; {noun} stands for any words
    offer: Offer = Offer()


class PresetInfo(msgspec.Struct, frozen=True):
    name: str
    label: str
    description: str
    default: bool
    long_side: int
    min_views: int
    # First guesses, for a CPU and the small editor, 0 where nobody has measured: seconds to train the scene, before it
    # for each photo (but at most so many) to compare it with others and to find flat surfaces in it; of an edit, and of
    # that for each view; to try an edit on one view, and to render one. Bytes that the scene is kept in, and an edit
    # again.
    train_seconds: float = 0.0
    compare_seconds: float = 0.0
    flat_seconds: float = 0.0
    most_compared: int = 0
    edit_seconds: float = 0.0
    view_seconds: float = 0.0
    try_seconds: float = 0.0
    render_seconds: float = 0.0
    bytes: int = 0
