# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of editor there are, one row each, and how one is loaded. Imports no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.editors.base import KEEP_BACKGROUND, RELEVANCE, Editor
from engine.editors.model_folder import check_model_folder, read_json
from engine.errors import BadInput
from engine.hub import NAME, HubModel, in_words
from engine.protocol import Knob


@dataclass(frozen=True)
class EditorKind:
    """What is known of a kind of editor before one is loaded."""

    pipeline: str  # the `_class_name` of its folders' model_index.json
    loader: str  # module:function, (source, name, device) → Editor; source: its folder, checked
    knobs: tuple[Knob, ...] = ()  # what an artist may turn
    can: frozenset[str] = frozenset()  # of "relevance", "gradient", "references"
    size: int | None = None  # pixels along the edge of what it sees; None: as the networks in its folder say
    models: tuple[HubModel, ...] = ()  # those of the hub that can be chosen by name, and downloaded


KINDS = [
    EditorKind(
        "StableDiffusionInstructPix2PixPipeline",
        "engine.editors.instruct_pix2pix:load",
        (
            Knob("text_guidance", "Text", "How strongly the instruction is followed", "float", 7.5, 0.0, 100.0),
            Knob("image_guidance", "Image", "How strongly the picture is kept", "float", 1.5, 0.0, 100.0),
            KEEP_BACKGROUND,
            RELEVANCE,
            Knob(
                "diffusion_steps",
                "Steps",
                "Denoising steps of an edit, from its noise level down",
                "int",
                20,
                1,
                1000,
                advanced=True,
            ),
            Knob(
                "sampler",
                "Sampler",
                "DDIM (Song et al. 2021), or DPM-Solver++ (Lu et al. 2022): as good in half the steps",
                "choice",
                "ddim",
                choices=["ddim", "dpm++"],
                advanced=True,
            ),
            Knob(
                "tethered",
                "Tethered",
                "Keep of the picture what the drawn noise leaves certain",
                "bool",
                False,
                advanced=True,
            ),
            Knob(
                "guided_above",
                "Guided Above",
                "Noise level below which both scales are 1, in a third of the time",
                "float",
                0.0,
                0.0,
                1.0,
                advanced=True,
            ),
        ),
        frozenset({"relevance", "gradient"}),
        models=(
            HubModel(
                "timbrooks/instruct-pix2pix",
                "InstructPix2Pix",
                "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
                2_135_000_000,
                "MIT",
                "https://huggingface.co/timbrooks/instruct-pix2pix",
                variant="fp16",
                without=("safety_checker", "feature_extractor"),
            ),
        ),
    ),
]


def hub_models() -> dict[str, HubModel]:
    """The editors on the hub that are known here, by name, in the registry's order."""
    return {model.name: model for kind in KINDS for model in kind.models}


def kind_of(source: str) -> EditorKind:
    """The kind of the editor in a folder, by its model_index.json; of one that is not on this computer, by its row
    here, else the first kind. Raises BadInput where it is damaged, or of a kind that the engine does not know."""
    index = Path(source) / "model_index.json"
    if not index.exists():
        return next((kind for kind in KINDS if any(model.name == source for model in kind.models)), KINDS[0])
    name = read_json(index, dict[str, Any]).get("_class_name")
    for kind in KINDS:
        if kind.pipeline == name:
            return kind
    known = ", ".join(kind.pipeline for kind in KINDS)
    raise BadInput(
        f"{source} is a {str(name)[:80]}, which this engine cannot use as an editor; it knows {known}.",
        file=source,
        field="editor",
    )


def load(source: str, name: str, device: str) -> Editor:
    """Load the editor in the folder ``source``; it is called ``name``. Nothing is downloaded. Raises BadInput where it
    cannot be had, with the reason."""
    if not Path(source).is_dir():
        raise missing(source)
    check_model_folder(Path(source))
    module, _, function = kind_of(source).loader.partition(":")
    return getattr(importlib.import_module(module), function)(source, name, device)


def missing(source: str) -> BadInput:
    """The sentence for an editor that is not on this computer."""
    if model := hub_models().get(source):
        text = (
            f"The editor {model.label} ({source}) is not on this computer yet: press Download Editor, or run "
            f"`python -m engine download {source}` ({in_words(model.bytes)}, licence {model.licence})."
        )
    elif NAME.fullmatch(source):
        text = (
            f"The editor {source} is not on this computer; download it into a folder (its .safetensors and .json "
            "files) and choose that folder as the editor."
        )
    else:
        text = f"There is no editor model in {source}; choose its folder or a hub name."
    return BadInput(text, field="editor")
