# SPDX-License-Identifier: GPL-3.0-or-later
"""The editors that can be chosen, found without loading any."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from engine.editors import registry
from engine.editors.base import Editor, checked_options
from engine.editors.model_folder import LONGEST_WORDING, MOST_ENTRIES, fits_wording, is_whole, read_json
from engine.editors.registry import hub_models
from engine.errors import BadInput
from engine.hub import folders_of
from engine.protocol import Device, Offer, OptionValue
from engine.protocol import Editor as EditorInfo

HUB_NAME = "timbrooks/instruct-pix2pix"
HUB_BYTES = 9 * 2**29  # of a card, for it beside a small NeRF, CUDA's own share included
KLEIN = "black-forest-labs/FLUX.2-klein-4B"
KLEIN_BYTES = 11 * 2**30  # of a card, for KLEIN: its larger network and what an edit takes, the other waiting
# Editors are recorded by id: a bundled one's name, a hub name, or the folder of one of the artist's own.
BUNDLED = "instruct-pix2pix-small"
WEIGHTS = Path(__file__).parent / "weights"
# An editor that takes the place of the default.
VARIABLE = "INSTRUCT_NERF_EDITOR"
BUNDLED_OFFER = Offer("GPL-3.0-or-later", "https://www.gnu.org/licenses/gpl-3.0.html", downloaded=True)


_Wording = Annotated[str, msgspec.Meta(max_length=LONGEST_WORDING)]


class _Entry(msgspec.Struct, frozen=True):
    """An instruction of an editor's ``vocabulary.json``."""

    instruction: _Wording
    passed: bool = True
    subject: bool = False
    wordings: Annotated[list[_Wording], msgspec.Meta(max_length=100)] = []


_Entries = Annotated[list[_Entry], msgspec.Meta(max_length=MOST_ENTRIES)]


def editor_id(name: str) -> str:
    """The id of an editor. A bundled one's is its name, also where an earlier version wrote down its folder, in
    whatever environment that lay."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-3:]
    bundled = len(last) == 3 and last[:2] == ["editors", "weights"] and (WEIGHTS / last[2]).is_dir()
    return last[2] if bundled else name


def source_of(name: str) -> str:
    """Where an editor is: its folder, else (of the hub's, where it is not on this computer) its name."""
    bundled = WEIGHTS / editor_id(name)
    if bundled.parent == WEIGHTS and bundled.is_dir():
        return str(bundled)
    if Path(name).is_dir():
        return name
    return next((str(folder) for folder in folders_of(name, hub_models().get(name)) if is_whole(folder)), name)


def is_here(name: str) -> bool:
    """Whether an editor is on this computer."""
    return Path(source_of(name)).is_dir()


def default_editor(device: Device) -> str:
    """The editor used where none is named: the one that INSTRUCT_NERF_EDITOR names, else on a card what is on this
    computer and has room there, FLUX.2 klein before InstructPix2Pix, else the small bundled one. On a Mac's GPU nobody
    has measured the large ones."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return editor_id(chosen)
    room = device.free_bytes if device.name.startswith("cuda") else 0
    for name, needed in ((KLEIN, KLEIN_BYTES), (HUB_NAME, HUB_BYTES)):
        if room >= needed and is_here(name):
            return name
    return BUNDLED if (WEIGHTS / BUNDLED).is_dir() else HUB_NAME


def load_editor(name: str, device: str) -> Editor:
    """Load an editor by its id. Raises BadInput where it cannot be had, with the reason."""
    return registry.load(source_of(name), editor_id(name), device)


def state_of(name: str) -> tuple[Hashable, ...]:
    """What changes when an editor's files do; of one from the hub, whose files never change, nothing but its name."""
    folder = Path(source_of(name))
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    return (editor_id(name), *((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def find_editors(chosen: str | None = None, own: Sequence[str] = ()) -> list[EditorInfo]:
    """The default, the bundled and the hub's editors, ``chosen`` where it is another, and those of the artist's own."""
    first = chosen or os.environ.get(VARIABLE)
    names = dict.fromkeys(editor_id(n) for n in (first, BUNDLED, *hub_models(), *own) if n)
    return [_describe(name) for name in names]


def resolved_options(
    editor: str, given: dict[str, OptionValue], preset: dict[str, OptionValue] | None = None
) -> dict[str, OptionValue]:
    """A value for every knob of an editor: as ``given``, else as its folder recommends, else as ``preset`` has it for
    editors of its kind, else the knob's own. Raises BadInput, naming the option, where one is not the editor's."""
    kind = registry.kind_of(source_of(editor))
    known = {knob.name for knob in kind.knobs}
    own = {knob.name: knob.default for knob in kind.knobs}
    own |= {name: value for name, value in (preset or {}).items() if name in known}
    return own | recommended(editor) | checked_options(kind.knobs, given, f"The editor {Path(editor).name}")


def known_options(editor: str, options: dict[str, OptionValue]) -> dict[str, OptionValue]:
    """The options, where the editor has them all and they are in range. Raises BadInput, naming the option."""
    return checked_options(registry.kind_of(source_of(editor)).knobs, options, f"The editor {Path(editor).name}")


def vocabulary(editor: str) -> list[str]:
    """The instructions that an editor was trained on and passed; empty where it takes any."""
    return [entry.instruction for entry in _vocabulary(editor) if entry.passed]


def wordings(editor: str) -> list[str]:
    """Other ways to say what an editor knows; ``{noun}`` stands for any words."""
    return [wording for entry in _vocabulary(editor) if entry.passed for wording in entry.wordings]


def unknown_words(editor: str, instruction: str) -> str:
    """A sentence where an editor that knows certain instructions knows nothing of this one, however it is written, and
    so does next to nothing; empty where it knows it, or takes any."""
    known = vocabulary(editor)
    said = _plain(instruction)
    if not known or any(fits_wording(_plain(wording), said) for wording in (*known, *wordings(editor))):
        return ""
    few = ", ".join(f"“{text}”" for text in known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return (
        f"The editor {Path(editor).name} does not know “{instruction}” and leaves pictures nearly as they are; it was "
        f"trained on {few} (`python -m engine editors` lists them)."
    )


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w{}]+", text.casefold()))


def about_subject(editor: str, instruction: str) -> bool:
    """Whether an editor's vocabulary says that the instruction changes the subject alone, as "make the old bear gold"
    does and "make it night" does not: it is a wording of one, or has a word that marks one and none of the others'."""
    known = _vocabulary(editor)
    for entry in known:
        if any(fits_wording(wording, instruction.lower().strip()) for wording in entry.wordings):
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


# What a folder's guidance.json calls some of the knobs that it sets; the others by their own names.
_RECOMMENDED = {
    "text": "text_guidance",
    "image": "image_guidance",
    "steps": "diffusion_steps",
    "relevance": "relevance",
    "tethered": "tethered",
    "guided_above": "guided_above",
}


def recommended(editor: str) -> dict[str, OptionValue]:
    """What an editor's folder recommends in its ``guidance.json``, by knob; nothing where it says nothing sensible."""
    try:
        given = read_json(Path(source_of(editor)) / "guidance.json", dict[str, Any])
        knobs = registry.kind_of(source_of(editor)).knobs
        named = {_RECOMMENDED.get(key, key): value for key, value in given.items() if value is not None}
        return checked_options(knobs, {knob.name: named[knob.name] for knob in knobs if knob.name in named})
    except BadInput:
        return {}


def _vocabulary(editor: str) -> list[_Entry]:
    try:
        return read_json(Path(source_of(editor)) / "vocabulary.json", _Entries)
    except BadInput:
        return []


def _describe(name: str) -> EditorInfo:
    source = source_of(name)
    folder, model = Path(source), hub_models().get(name)
    offer = Offer()
    if model is not None:
        offer = model.offer(folder if folder.is_dir() else None)
    elif name == BUNDLED:
        offer = BUNDLED_OFFER
    if registry.is_picture(source):
        return EditorInfo(name, folder.name, 0, True, "", [])
    label = model.label if model else "Small (offline)" if name == BUNDLED else folder.name
    try:
        kind = registry.kind_of(source)
        if not folder.is_dir() and model is None:
            raise registry.missing(source)
        if model is None and name != BUNDLED:
            offer = registry.terms_of(folder)
        size = model.size if model else kind.size or _working_size(folder)
        own = resolved_options(name, {})
        knobs = [msgspec.structs.replace(k, default=own[k.name]) for k in kind.knobs]
        words = vocabulary(name), knobs, wordings(name), offer
        if not folder.is_dir() and model is not None:
            return EditorInfo(name, label, size, False, registry.missing(source).message, *words)
        return EditorInfo(name, label, size, True, "", *words)
    except BadInput as error:
        return EditorInfo(name, label, 0, False, error.message, [], offer=offer)
    except (ValueError, KeyError, TypeError):
        return EditorInfo(name, label, 0, False, f"There is no editor model in {source}.", [], offer=offer)


def _working_size(folder: Path) -> int:
    """Pixels along the edge of what a folder's networks see."""
    unet = read_json(folder / "unet" / "config.json", dict[str, Any])
    vae = read_json(folder / "vae" / "config.json", dict[str, Any])
    return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
