# SPDX-License-Identifier: GPL-3.0-or-later
"""Models on the Hugging Face hub: what is known of one before it is downloaded, and where it lies afterwards.

Reaches no network and imports no library of the hub's; engine/jobs/download.py downloads, with consent.

    <models>/<owner>--<name>/<revision>/    a downloaded model; its folder appears whole, by one rename
    <models>/.<owner>--<name>-<revision>/   what has come of one so far; a later download goes on from it

A model that another program put into the hub's own cache is used where it lies.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from engine.protocol import Model, Offer

MODELS = "INSTRUCT_NERF_MODELS"  # environment variable: the folder of downloaded models
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")  # owner/name
_REVISION = re.compile(r"[0-9a-f]{40}")
_TEXTS = (".json", ".txt", ".model", ".jinja")  # configurations, vocabularies, sentencepiece's, how a chat is put


@dataclass(frozen=True)
class HubModel:
    """A model on the hub that can be asked for by name: one row, beside the code that uses it. What is downloaded never
    changes, for the revision names its commit."""

    name: str  # owner/name; an editor's id
    label: str
    revision: str  # 40 hexadecimal digits
    bytes: int  # of what is downloaded, about
    licence: str  # its name, as the model's page has it
    licence_url: str
    commercial: bool = True  # whether the licence lets pictures made with it be sold
    gated: bool = False  # whether its licence must be accepted on its page, by an account, before it can be downloaded
    size: int = 512  # pixels along the edge of what it sees
    variant: str | None = None  # of the weights, such as "fp16": taken where a part of the model has it
    without: tuple[str, ...] = ("safety_checker",)  # folders that are not loaded, and so not downloaded
    # Patterns of what is downloaded, of a model that is no folder of diffusers' parts; empty: `wanted_files`' own rule.
    files: tuple[str, ...] = field(default=())

    def offer(self, here: Path | None) -> Offer:
        """Its terms. ``here``: the folder in which it lies whole; None where it is still to be downloaded."""
        return Offer(
            self.licence, self.licence_url, self.commercial, self.gated, self.bytes, self.page,
            str(here or self.folder), downloaded=here is not None,
        )  # fmt: skip

    @property
    def page(self) -> str:
        """Where it can be read about, and where the terms of a gated one are accepted."""
        return f"https://huggingface.co/{self.name}"

    @property
    def folder(self) -> Path:
        """Where it lies once it was downloaded."""
        return models_folder() / self.name.replace("/", "--") / self.revision

    @property
    def coming(self) -> Path:
        """Where it lies while it is downloaded."""
        return models_folder() / f".{self.name.replace('/', '--')}-{self.revision}"


CLIP = HubModel(  # by which reports measure; InstructPix2Pix's own
    "openai/clip-vit-large-patch14",
    "CLIP",
    "32bd64288804d66eefd0ccbe215aa642df71cc41",
    1_715_000_000,
    "MIT",
    "https://github.com/openai/CLIP/blob/main/LICENSE",
    size=224,
    files=("*.json", "merges.txt", "model.safetensors"),
)


def models_folder() -> Path:
    """The folder of downloaded models: INSTRUCT_NERF_MODELS, else beside the installed engine, where the system keeps
    an application's data."""
    if chosen := os.environ.get(MODELS):
        return Path(chosen).absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "InstructNeRF"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support" / "InstructNeRF"
    else:
        data = os.environ.get("XDG_DATA_HOME", "")
        base = (Path(data) if data.startswith("/") else Path.home() / ".local" / "share") / "instruct-nerf"
    return base / "models"


def hub_cache() -> Path:
    """The cache that the hub's own library shares with other programs."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def folders_of(name: str, model: HubModel | None = None) -> Iterator[Path]:
    """Folders in which the model ``owner/name`` may lie, the best first: that of ``model``, its row; then of the hub's
    cache the snapshot of the row's revision, or of a model without a row the newest."""
    if not NAME.fullmatch(name):
        return
    if model is not None:
        yield model.folder
    cached = hub_cache() / f"models--{name.replace('/', '--')}"
    if model is not None:
        yield cached / "snapshots" / model.revision
        return
    try:
        revision = (cached / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return
    if _REVISION.fullmatch(revision):
        yield cached / "snapshots" / revision


def clip_folder() -> Path | None:
    """Where CLIP lies, with its weights and all that reads text and pictures for it; None where it does not."""
    needed = ("config.json", "model.safetensors", "preprocessor_config.json", "vocab.json", "merges.txt")
    folders = (folder for folder in folders_of(CLIP.name, CLIP) if all((folder / name).is_file() for name in needed))
    return next(folders, None)


def other_models() -> list[Model]:
    """What can be downloaded beside editors."""
    use = "Report cards measure by it how well an edit follows its instruction, and how steadily"
    return [Model(CLIP.name, CLIP.label, use, CLIP.offer(clip_folder()))]


def wanted_files(names: Iterable[str], model: HubModel) -> list[str]:
    """Which of a repository's files are downloaded: those that `model.files` names, else every part's configuration and
    one set of its weights, the model's variant where there is one. Never a pickle, never a script."""
    safe = [name for name in names if name.endswith((*_TEXTS, ".safetensors")) and _inside(name)]
    if model.files:
        return sorted(name for name in safe if any(fnmatchcase(name, pattern) for pattern in model.files))
    parts: dict[str, list[str]] = {}
    for name in safe:
        folder, _, file = name.rpartition("/")
        if folder.partition("/")[0] not in model.without and (folder or file.endswith(_TEXTS)):
            parts.setdefault(folder, []).append(file)
    return sorted(
        f"{folder}/{file}" if folder else file
        for folder, files in parts.items()
        for file in _one_set(files, model.variant)
    )


def _inside(name: str) -> bool:
    """Whether a repository's file stays in its folder, on Windows too."""
    return not any(part in ("", ".", "..") or ":" in part or "\\" in part for part in name.split("/"))


_WEIGHTS = re.compile(
    r"(?P<stem>[\w-]+?)(?:\.(?P<variant>[a-z]\w*))?(?:-(?P<shard>\d{5})-of-(?P<of>\d{5}))?\.safetensors"
)
_SHARDS = re.compile(r"(?P<stem>[\w-]+?)\.safetensors\.index(?:\.(?P<variant>[a-z]\w*))?\.json")


def variants_of(files: Iterable[str]) -> dict[str | None, set[str]]:
    """The sets of weights among the names of a part's files, by their variant (None: the plain one): the safetensors,
    and the index of those that come in shards."""
    found: dict[str | None, set[str]] = {}
    for file in files:
        if match := _WEIGHTS.fullmatch(file) or _SHARDS.fullmatch(file):
            found.setdefault(match["variant"], set()).add(file)
    return {variant: names for variant, names in found.items() if any(name.endswith(".safetensors") for name in names)}


def _one_set(files: list[str], variant: str | None) -> set[str]:
    sets = variants_of(files)
    chosen = variant if variant in sets else None if None in sets else next(iter(sorted(sets, key=str)), None)
    indexes = {file for file in files if _SHARDS.fullmatch(file)}
    return {file for file in files if file.endswith(_TEXTS) and file not in indexes} | sets.get(chosen, set())


def in_words(size: int) -> str:
    """Bytes for people: 2.1 GB, 340 MB."""
    if not size:
        return "size not known"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"
