# SPDX-License-Identifier: GPL-3.0-or-later
"""A model's folder may come from anybody: what it says of itself is looked at before diffusers builds anything from it.

Imports no torch. Files are bounded and regular, configurations say nothing absurd, no code but diffusers' and
transformers' own is asked for, and an instruction is compared with a vocabulary in linear time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine import typed
from engine.errors import BadInput
from engine.files import open_file, read_bounded, require_file
from engine.hub import variants_of

T = TypeVar("T")
LIBRARIES = {"diffusers", "transformers", None}
# What no editor loads may also be named as in old indexes, by a module of diffusers'.
UNUSED = {"safety_checker": "stable_diffusion", "image_noising_scheduler": "stable_diffusion"}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
HALF = ("fp16", "bf16")  # variants whose weights are in half precision, the better one first
LARGEST_JSON = 4 * 2**20  # bytes, of a configuration; CLIP's own take a few kilobytes
LARGEST_TOKENIZER = 64 * 2**20  # bytes, of a tokenizer's words
LARGEST_WEIGHTS = 64 * 2**30  # bytes
LARGEST_HEADER = 100 * 2**20  # bytes, of a safetensors file: safetensors' own limit
MOST_FILES = 2000
LONGEST_WORDING = 200  # characters
MOST_ENTRIES = 2000
NOUN = "{noun}"  # in a wording: any words

_LARGEST_NUMBER = 2**20  # in a network's configuration
_LONGEST_LIST = 64
# Part → key → least and most of its number, or of each in its list. Where a part lacks a key, its class has a default;
# what is `_REQUIRED` has none that can be used.
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "unet": {
        "sample_size": (4, 512),  # of latents: 4096 pixels
        "in_channels": (1, 64),
        "out_channels": (1, 64),
        "layers_per_block": (1, 16),
        "transformer_layers_per_block": (1, 32),
        "block_out_channels": (1, 8192),
        "attention_head_dim": (1, 1024),
        "num_attention_heads": (1, 1024),
        "cross_attention_dim": (1, 16_384),
        "norm_num_groups": (1, 1024),
        "conv_in_kernel": (1, 15),
        "conv_out_kernel": (1, 15),
    },
    "vae": {
        "latent_channels": (1, 64),
        "layers_per_block": (1, 16),
        "num_encoder_blocks": (0, 64),
        "num_decoder_blocks": (0, 64),
        "block_out_channels": (1, 8192),
        "encoder_block_out_channels": (1, 8192),
        "decoder_block_out_channels": (1, 8192),
        "scaling_factor": (1e-6, 1e6),
        "norm_num_groups": (1, 1024),
    },
    "text_encoder": {
        "vocab_size": (1, _LARGEST_NUMBER),
        "hidden_size": (1, 16_384),
        "intermediate_size": (1, 65_536),
        "num_hidden_layers": (1, 128),
        "num_attention_heads": (1, 256),
        "max_position_embeddings": (1, 4096),
    },
    "scheduler": {
        "num_train_timesteps": (1, 10_000),
        "beta_start": (0, 1),
        "beta_end": (0, 1),
        "solver_order": (1, 3),
    },
    "tokenizer": {"model_max_length": (1, 4096)},
}
# Key → least and most of its number, in whatever network it is said: of transformers and language models of today, with
# room. What is large there (words, positions) costs memory only by what is in the files.
_ANY_NETWORK: dict[str, tuple[float, float]] = {
    "in_channels": (1, 4096),
    "out_channels": (1, 4096),
    "latent_channels": (1, 256),
    "num_layers": (0, 256),
    "num_single_layers": (0, 256),
    "num_hidden_layers": (1, 256),
    "depth": (1, 256),
    "layers_per_block": (1, 16),
    "num_res_blocks": (1, 16),
    "transformer_layers_per_block": (0, 64),
    "block_out_channels": (1, 8192),
    "base_dim": (1, 8192),
    "z_dim": (1, 256),
    "dim_mult": (1, 64),
    "attention_head_dim": (1, 1024),
    "num_attention_heads": (1, 1024),
    "num_key_value_heads": (1, 1024),
    "num_heads": (1, 1024),
    "head_dim": (1, 1024),
    "joint_attention_dim": (1, 65_536),
    "cross_attention_dim": (1, 65_536),
    "hidden_size": (1, 32_768),
    "intermediate_size": (1, 262_144),
    "d_model": (1, 32_768),
    "d_ff": (1, 262_144),
    "norm_num_groups": (1, 1024),
    "patch_size": (1, 64),
    "sample_size": (1, 8192),
    "num_train_timesteps": (1, 10_000),
    "scaling_factor": (1e-6, 1e6),
}
_REQUIRED = {"unet": ("sample_size",), "tokenizer": ("model_max_length",)}
_CONFIG = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}  # the others': config.json
_BETAS = 10_000


def check_model_folder(folder: Path) -> None:
    """Raises BadInput, naming the file, where a folder is no model whose files and parts can be loaded without harm:
    before anything of it is imported or built. Of any kind of editor."""
    inside = _allowed(folder)
    try:
        for path in _files(folder):
            _check_file(path)
            _check_link(path, inside)
    except OSError as problem:
        raise _bad(Path(problem.filename or folder), problem.strerror or str(problem)) from None
    parts_of(folder)


def variant_of(part: Path, half: bool) -> str | None:
    """Which variant of a network's weights, safetensors in its folder ``part``, is to be loaded; None: the plain one.
    ``half``: those in half precision are as good. Raises BadInput, with what to do, where none is there whole."""
    try:
        names = sorted(entry.name for entry in os.scandir(part) if entry.is_file())
    except OSError:
        names = []
    whole = [variant for variant, files in variants_of(names).items() if _all_there(part, variant, files)]
    order = [*HALF, None] if half else [None, *HALF]
    chosen = next((variant for variant in order if variant in whole), None)
    if chosen is None and None not in whole:
        if whole:
            return min(whole, key=str)
        shown = f"{part.parent.name}/{part.name}"
        pickled = next((name for name in names if name.endswith(PICKLES)), None)
        if pickled is not None:
            raise BadInput(
                f"{shown} holds its weights only as {pickled}, a format that can run code when it is read, so they are "
                "not loaded; download the model's .safetensors files into that folder, or choose another editor.",
                file=part / pickled,
                field="editor",
            )
        raise BadInput(
            f"{shown} lacks weights (.safetensors), or some of them: download the model again, or choose another "
            "folder.",
            file=part,
            field="editor",
        )
    return chosen


def is_whole(folder: Path) -> bool:
    """Whether a model in diffusers' layout lies there with all that its index names and an editor may load: what
    stopped half-way is not taken for there."""
    try:
        parts = parts_of(folder)
        for name in parts:
            if name in UNUSED or (name == "feature_extractor" and not (folder / name).is_dir()):
                continue
            if not any((folder / name).glob("*.json")):
                return False
            if (folder / name / "config.json").is_file():
                variant_of(folder / name, half=False)
    except (BadInput, OSError):
        return False
    return bool(parts)


def _all_there(part: Path, variant: str | None, files: set[str]) -> bool:
    """Whether one set of weights is whole: a single file, or every shard that its index names."""
    index = next((name for name in files if name.endswith(".json")), None)
    if index is None:
        return any("-of-" not in name for name in files)
    said = read_json(part / index, dict[str, Any], LARGEST_TOKENIZER).get("weight_map")
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said.values()):
        raise _bad(part / index, "it names no files")
    return set(said.values()) <= files - {index}


def check_diffusion_folder(folder: Path) -> None:
    """Raises BadInput, naming the file, where the networks of a Stable Diffusion, in a folder checked before, are none
    that can be built."""
    parts = parts_of(folder)
    configs = {name: _config(folder, name) for name in _RANGES if name in parts}
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if name not in configs:
            raise _bad(folder / "model_index.json", f"it names no {name}")
    longest = configs["text_encoder"].get("max_position_embeddings", 77)
    if configs["tokenizer"]["model_max_length"] > longest:
        raise _bad(
            folder / "tokenizer" / "tokenizer_config.json",
            f"its model_max_length is more than the {longest} words that the text encoder reads",
        )
    _check_words(folder / "tokenizer", int(configs["text_encoder"].get("vocab_size", 49_408)))


def check_pipeline_folder(folder: Path, parts: Sequence[str]) -> None:
    """Raises BadInput, naming the file, where a folder, checked before, does not name all these ``parts`` of a
    diffusers pipeline, or a configuration of theirs is absurd."""
    named = parts_of(folder)
    for name in parts:
        if name not in named:
            raise _bad(folder / "model_index.json", f"it names no {name}")
        if name.startswith(("tokenizer", "processor")):
            continue  # words; transformers reads them, and runs no code of a folder's own
        path = folder / name / _CONFIG.get(name, "config.json")
        config = read_json(path, dict[str, Any])
        if "auto_map" in config:
            raise _bad(path, "it asks for code of its own")
        for key, value in _numbers(config):
            least, most = _ANY_NETWORK.get(key, (-_LARGEST_NUMBER, _LARGEST_NUMBER))
            if not _fits(value, least, most):
                raise _bad(path, f"its {key[:80]} is none that such a network has")


def read_json(path: Path, kind: type[T], limit: int = LARGEST_JSON) -> T:
    """What a small JSON file of a model holds. Raises BadInput where it is missing, damaged or absurdly large."""
    try:
        return typed.decode(read_bounded(path, limit), kind)
    except OSError as problem:
        raise _bad(path, problem.strerror or str(problem)) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise _bad(path, str(problem)) from None


def _bad(path: Path, why: str) -> BadInput:
    return BadInput(
        f"{path.parent.name}/{path.name} is missing or damaged, so this is no editor model ({why}); choose another "
        "folder.",
        file=path,
        field="editor",
    )


def _files(folder: Path, deepest: int = 3) -> Iterator[Path]:
    """Every file below a folder. Links are followed: the hub's cache consists of them."""
    seen = 0
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                seen += 1
                if seen > MOST_FILES:
                    raise _bad(folder / "model_index.json", f"its folder holds more than {MOST_FILES:,} files")
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if depth < deepest:
                        waiting.append((Path(entry.path), depth + 1))
                else:
                    yield Path(entry.path)


def _allowed(folder: Path) -> tuple[Path, ...]:
    """Where the files of a model may lie: in its own folder or, of a snapshot in the hub's cache, which consists of
    links, among that model's blobs."""
    real = folder.resolve()
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--"):
        return real, real.parent.parent / "blobs"
    return (real,)


def _check_link(path: Path, inside: tuple[Path, ...]) -> None:
    """Raises BadInput for a link that leads elsewhere."""
    real = path.resolve()
    if not any(real.is_relative_to(folder) for folder in inside):
        raise BadInput(
            f"{path.parent.name}/{path.name} is a link to a file outside the model's folder; put the file itself "
            "there, or choose another folder.",
            file=path,
            field="editor",
        )


def _check_file(path: Path) -> None:
    """Raises OSError for what is no regular file, or larger than its kind can be."""
    limits = {".json": LARGEST_TOKENIZER, ".txt": LARGEST_TOKENIZER}
    size = require_file(path, limits.get(path.suffix.lower(), LARGEST_WEIGHTS))
    if path.suffix.lower() == ".safetensors":
        with open_file(path) as file:
            start = file.read(8)
        if len(start) < 8 or struct.unpack("<Q", start)[0] > min(size - 8, LARGEST_HEADER):
            raise _bad(path, "it does not begin as such files do")


def parts_of(folder: Path) -> dict[str, list]:
    """The parts of the model that model_index.json names: (library, class) each. Raises BadInput."""
    index = folder / "model_index.json"
    parts = {name: part for name, part in read_json(index, dict[str, Any]).items() if isinstance(part, list)}
    for name, part in parts.items():
        if len(part) != 2 or not all(text is None or isinstance(text, str) for text in part):
            raise _bad(index, f"its {name[:80]} names no class")
    parts = {name: part for name, part in parts.items() if part[0] != UNUSED.get(name, False)}
    if not {part[0] for part in parts.values()} <= LIBRARIES:
        raise BadInput(
            f"{index} asks for code outside diffusers and transformers; such a model is not loaded.",
            file=index,
            field="editor",
        )
    return {name: part for name, part in parts.items() if part[0] is not None}


def _config(folder: Path, part: str) -> dict[str, Any]:
    """A part's configuration. Raises BadInput where a number in it can be none of such a network's."""
    path = folder / part / _CONFIG.get(part, "config.json")
    config = read_json(path, dict[str, Any])
    if "auto_map" in config:
        raise _bad(path, "it asks for code of its own")
    for key, value in config.items():
        least, most = _RANGES[part].get(key, (-_LARGEST_NUMBER, _LARGEST_NUMBER))
        if part == "tokenizer" and key not in _RANGES[part]:
            continue  # words, not sizes
        if key == "trained_betas" and isinstance(value, list):
            good = len(value) <= _BETAS and all(isinstance(b, float | int) and 0 <= b <= 1 for b in value)
        else:
            good = _fits(value, least, most)
        if not good:
            raise _bad(path, f"its {key[:80]} is none that such a network has")
    for key in _REQUIRED.get(part, ()):
        if not isinstance(config.get(key), int) or isinstance(config[key], bool):
            raise _bad(path, f"its {key} is no whole number")
    return config


def _numbers(config: dict[str, Any], deepest: int = 3) -> Iterator[tuple[str, Any]]:
    """Keys and values of a configuration, those of the configurations in it among them."""
    for key, value in config.items():
        if isinstance(value, dict) and deepest:
            yield from _numbers(value, deepest - 1)
        else:
            yield key, value


def _fits(value: Any, least: float, most: float, deepest: int = 4) -> bool:
    """Whether every number in a value lies in the range, and no list in it is absurdly long."""
    if value is None or isinstance(value, bool | str):
        return True
    if isinstance(value, int | float):
        return least <= value <= most
    inner = value.values() if isinstance(value, dict) else value
    return deepest > 0 and len(value) <= _LONGEST_LIST and all(_fits(v, least, most, deepest - 1) for v in inner)


def _check_words(folder: Path, vocabulary: int) -> None:
    """Raises BadInput where a tokenizer gives a word a number that the text encoder has not."""
    numbers: list[Any] = []
    for name in ("vocab.json", "tokenizer.json", "added_tokens.json"):
        path = folder / name
        if not path.exists():
            continue
        said = read_json(path, dict[str, Any], LARGEST_TOKENIZER)
        if name == "tokenizer.json":
            model = said.get("model")
            words = model.get("vocab") if isinstance(model, dict) else None
            added = said.get("added_tokens") or []
            if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
                raise _bad(path, "its added tokens are none")
            numbers += [token.get("id") for token in added]
        else:
            words = said
        if not isinstance(words, dict):
            raise _bad(path, "it lists no words")
        numbers += words.values()
        if not all(isinstance(n, int) and 0 <= n < vocabulary for n in numbers):
            raise _bad(path, f"it numbers words beyond the {vocabulary:,} that the text encoder knows")


# ---- what lies beside: guidance.json, vocabulary.json ----


def fits_wording(wording: str, said: str) -> bool:
    """Whether an instruction is a wording in which `{noun}` stands for one or more words, compared in linear time
    whatever the wording is: a pattern of a stranger's would not be."""
    pieces = wording.split(NOUN)
    if len(pieces) == 1:
        return said == wording
    if not said.startswith(pieces[0]):
        return False
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        found = said.find(piece, at + 1)
        if found < 0 or not _words(said, at, found):
            return False
        at = found + len(piece)
    end = len(said) - len(pieces[-1])
    return said.endswith(pieces[-1]) and end > at and _words(said, at, end)


def _words(said: str, start: int, end: int) -> bool:
    return all(c.isalnum() or c in "_ " for c in said[start:end])
