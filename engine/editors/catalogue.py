# SPDX-License-Identifier: GPL-3.0-or-later
"""The editors that can be chosen, found without loading any."""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.editors.guidance import Guidance
from engine.protocol import Editor

HUB_NAME = "timbrooks/instruct-pix2pix"
BUNDLED = Path(__file__).parent / "weights" / "instruct-pix2pix-small"
# A folder or a hub name that takes the place of the default.
VARIABLE = "INSTRUCT_NERF_EDITOR"


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
    try:
        entries = json.loads((Path(editor) / "vocabulary.json").read_text())
        return [str(entry["instruction"]) for entry in entries if entry.get("passed", True)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def recommended_guidance(editor: str) -> Guidance:
    """The scales that an editor's folder recommends in its ``guidance.json``; else InstructPix2Pix's own."""
    try:
        given = json.loads((Path(editor) / "guidance.json").read_text())
        scales = Guidance(float(given["text"]), float(given["image"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Guidance()
    return scales if scales.sensible else Guidance()


def recommended_steps(editor: str) -> int | None:
    """The sampler's steps that an editor's folder recommends in its ``guidance.json``, or None."""
    try:
        steps = json.loads((Path(editor) / "guidance.json").read_text())["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return steps if isinstance(steps, int) and 1 <= steps <= 1000 else None


def _describe(name: str) -> Editor:
    folder = Path(name)
    scales = recommended_guidance(name)
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
