# SPDX-License-Identifier: GPL-3.0-or-later
"""The editors that can be chosen, found without loading any."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import msgspec

from engine.editors.guidance import Guidance
from engine.protocol import Editor

HUB_NAME = "timbrooks/instruct-pix2pix"
BUNDLED = Path(__file__).parent / "weights" / "instruct-pix2pix-small"
# A folder or a hub name that takes the place of the default.
VARIABLE = "INSTRUCT_NERF_EDITOR"


class Recommendation(Guidance, frozen=True):
    """How an editor is best used."""

    relevance: float = 0.5  # the threshold where the background is to be kept
    steps: int | None = None  # of the sampler; None: as the preset says


class _Entry(msgspec.Struct, frozen=True):
    """An instruction of an editor's ``vocabulary.json``."""

    instruction: str
    passed: bool = True
    subject: bool = False
    wordings: list[str] = []


def default_editor(device: str) -> str:
    """The editor used where none is named: the one that INSTRUCT_NERF_EDITOR names, else the small bundled one on a
    CPU and the hub's on a GPU."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return chosen
    return str(BUNDLED) if device == "cpu" and BUNDLED.is_dir() else HUB_NAME


def find_editors(chosen: str | None = None) -> list[Editor]:
    """The default, the bundled and the hub's editor, and ``chosen`` where it is another."""
    names = dict.fromkeys([chosen or os.environ.get(VARIABLE), str(BUNDLED), HUB_NAME])
    return [_describe(name) for name in names if name]


def vocabulary(editor: str) -> list[str]:
    """The instructions that an editor was trained on and passed; empty where it takes any."""
    return [entry.instruction for entry in _vocabulary(editor) if entry.passed]


def about_subject(editor: str, instruction: str) -> bool:
    """Whether an editor's vocabulary says that the instruction changes the subject alone, as "make the old bear gold"
    does and "make it night" does not: it is a wording of one, or has a word that marks one and none of the others'."""
    known = _vocabulary(editor)
    for entry in known:
        wordings = (re.escape(text).replace(r"\{noun\}", r"[\w ]+") for text in entry.wordings)
        if any(re.fullmatch(wording, instruction.lower().strip()) for wording in wordings):
            return entry.subject
    of_subject, of_whole = _marks(known)
    said = _words(instruction)
    return bool(said & of_subject) and not said & of_whole


def _marks(known: list[_Entry]) -> tuple[set[str], set[str]]:
    """Words that mark an instruction about the subject, and one about the whole picture: golden, marble; night,
    sketch; not the, make, old."""
    entries = [(entry, Counter(w for text in entry.wordings for w in _words(text))) for entry in known]
    uses: Counter[tuple[str, bool]] = Counter()  # wordings with a word, by whether they are about the subject
    owners: Counter[str] = Counter()  # instructions with a word
    for entry, words in entries:
        uses.update({(word, entry.subject): count for word, count in words.items()})
        owners.update(words.keys())
    marks: dict[bool, set[str]] = {True: set(), False: set()}
    for entry, words in entries:
        for word, count in words.items():
            often = entry.subject or count >= len(entry.wordings) / 2
            if often and owners[word] <= 2 and uses[word, entry.subject] > uses[word, not entry.subject]:
                marks[entry.subject].add(word)
    return marks[True], marks[False]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - {"noun"}  # which stands for the subject in a wording


def recommended(editor: str) -> Recommendation:
    """What an editor's folder recommends in its ``guidance.json``; else InstructPix2Pix's own scales."""
    try:
        given = msgspec.json.decode((Path(editor) / "guidance.json").read_bytes(), type=Recommendation)
    except (OSError, msgspec.MsgspecError):
        return Recommendation()
    good = given.sensible and (given.steps is None or 1 <= given.steps <= 1000)
    return given if good else Recommendation()


def _vocabulary(editor: str) -> list[_Entry]:
    try:
        return msgspec.json.decode((Path(editor) / "vocabulary.json").read_bytes(), type=list[_Entry])
    except (OSError, msgspec.MsgspecError):
        return []


def _describe(name: str) -> Editor:
    folder = Path(name)
    scales = recommended(name)
    if name == HUB_NAME:
        cached = _hub_cache() / f"models--{name.replace('/', '--')}"
        here = (cached / "snapshots").is_dir()
        reason = "" if here else "It is downloaded when first used (several gigabytes)."
        return Editor(name, "InstructPix2Pix", 512, True, reason, [], scales.text, scales.image)
    label = "Small (offline)" if folder == BUNDLED else folder.name
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text())
        vae = json.loads((folder / "vae" / "config.json").read_text())
        size = int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError):
        reason = f"There is no editor model in {name}."
        return Editor(name, label, 0, False, reason, [], scales.text, scales.image)
    return Editor(name, label, size, True, "", vocabulary(name), scales.text, scales.image)


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
