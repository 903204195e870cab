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
from engine.protocol import Knob, Offer


@dataclass(frozen=True)
class EditorKind:
    """What is known of a kind of editor before one is loaded."""

    pipeline: str  # the `_class_name` of its folders' model_index.json
    loader: str  # module:function, (source, name, device) → Editor; source: its folder, checked
    knobs: tuple[Knob, ...] = ()  # what an artist may turn
    can: frozenset[str] = frozenset()  # of "relevance", "gradient", "references"
    size: int | None = None  # pixels along the edge of what it sees; None: as the networks in its folder say
    one_view: bool = False  # it edits the view that it was made for, and no other
    models: tuple[HubModel, ...] = ()  # those of the hub that can be chosen by name, and downloaded


def _steps(default: int) -> Knob:
    return Knob(
        "diffusion_steps",
        "Steps",
        "Denoising steps of a full edit; one from a lower noise level takes the last of them",
        "int",
        default,
        1,
        1000,
        advanced=True,
    )


def _text(default: float, advanced: bool = False, says: str = "How strongly the instruction is followed") -> Knob:
    return Knob("text_guidance", "Text", says, "float", default, 0.0, 100.0, advanced=advanced)


_IMAGE = Knob("image_guidance", "Image", "How strongly the picture is kept", "float", 1.5, 0.0, 100.0)
_WORKING_SIZE = Knob(
    "working_size",
    "Working Size",
    "Pixels along the edge of what the editor sees, squared; less is faster and takes less memory",
    "int",
    1024,
    64,
    2048,
    advanced=True,
)

KINDS = [
    EditorKind(
        "StableDiffusionInstructPix2PixPipeline",
        "engine.editors.instruct_pix2pix:load",
        (
            _text(7.5),
            _IMAGE,
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
            Knob(
                "key_attention",
                "Key Attention",
                "Of what views that are edited together attend to in themselves, how much they attend to in a random "
                "key view instead, so that they are drawn alike; 0.4 is usual",
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
                2_135_000_000,  # counted: UNet 1.72 GB, text encoder 0.25 GB, VAE 0.17 GB
                "MIT",
                "https://huggingface.co/timbrooks/instruct-pix2pix",
                variant="fp16",
                without=("safety_checker", "feature_extractor"),
            ),
        ),
    ),
    EditorKind(
        "Flux2KleinPipeline",
        "engine.editors.flux2_klein:load",
        (
            _steps(4),
            _text(1.0, True, "How strongly the instruction is followed, by a Base model; the distilled ones know"),
            _WORKING_SIZE,
        ),
        frozenset({"references"}),
        size=1024,
        models=(
            HubModel(
                "black-forest-labs/FLUX.2-klein-4B",
                "FLUX.2 klein",
                "e7b7dc27f91deacad38e78976d1f2b499d76a294",
                16_000_000_000,  # transformer 7.75 GB, text encoder 8.05 GB, VAE 0.17 GB
                "Apache-2.0",
                "https://www.apache.org/licenses/LICENSE-2.0",
                size=1024,
            ),
        ),
    ),
    EditorKind(
        "QwenImageEditPlusPipeline",
        "engine.editors.qwen_image_edit:load",
        (_text(4.0), _steps(40), _WORKING_SIZE),
        frozenset({"references"}),
        size=1024,
        models=(
            HubModel(
                "Qwen/Qwen-Image-Edit-2511",
                "Qwen-Image-Edit-Plus",
                "6f3ccc0b56e431dc6a0c2b2039706d7d26f22cb9",
                57_720_000_000,  # counted: transformer 40.86 GB, text encoder 16.58 GB, VAE 0.25 GB
                "Apache-2.0",
                "https://www.apache.org/licenses/LICENSE-2.0",
                size=1024,
            ),
        ),
    ),
    EditorKind(
        "FluxKontextPipeline",
        "engine.editors.flux_kontext:load",
        (_text(2.5), _steps(28), _WORKING_SIZE),
        size=1024,
        models=(
            HubModel(
                "black-forest-labs/FLUX.1-Kontext-dev",
                "FLUX.1 Kontext",
                "af58063aa431f4d2bbc11ae46f57451d4416a170",
                33_750_000_000,  # counted: transformer 23.80 GB, T5 9.52 GB, CLIP 0.25 GB, VAE 0.17 GB
                "FLUX.1 [dev] Non-Commercial License",
                "https://huggingface.co/black-forest-labs/FLUX.1-Kontext-dev/blob/main/LICENSE.md",
                commercial=False,
                gated=True,
                size=1024,
            ),
        ),
    ),
    EditorKind(
        "StableDiffusionXLInstructPix2PixPipeline",
        "engine.editors.instruct_pix2pix_xl:load",
        (_text(7.0), _IMAGE, _steps(20)),
    ),
]


# A file, by its ending, that is a picture of the artist's own.
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".exr", ".bmp", ".heic", ".heif", ".avif"}
OWN_PICTURE = EditorKind("", "engine.editors.own_picture:load", size=0, one_view=True)


COSXL = Offer(  # which is published as one file, and by others as a folder
    "Stability AI Non-Commercial Research Community License",
    "https://huggingface.co/stabilityai/cosxl/blob/main/LICENSE",
    commercial=False,
)


def terms_of(folder: Path) -> Offer:
    """On what terms a model in a folder of the artist's own can be used, where its kind tells: one whose networks come
    from a model that forbids to sell is under that one's licence. Raises BadInput for a damaged folder."""
    kind = kind_of(str(folder))
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if kind.pipeline == "StableDiffusionXLInstructPix2PixPipeline" and scheduler.is_file():
        cosxl = read_json(scheduler, dict[str, Any]).get("_class_name") == "EDMEulerScheduler"
        return COSXL if cosxl else Offer()
    bound = next((model for model in kind.models if not model.commercial), None)
    return Offer(bound.licence, bound.licence_url, commercial=False) if bound else Offer()


def is_picture(source: str) -> bool:
    """Whether an editor is an image file."""
    return Path(source).suffix.lower() in PICTURES and Path(source).is_file()


def hub_models() -> dict[str, HubModel]:
    """The editors on the hub that are known here, by name, in the registry's order."""
    return {model.name: model for kind in KINDS for model in kind.models}


def kind_of(source: str) -> EditorKind:
    """The kind of the editor in a folder, by its model_index.json; of one that is not on this computer, by its row
    here, else the first kind. Raises BadInput where it is damaged, or of a kind that the engine does not know."""
    if is_picture(source):
        return OWN_PICTURE
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
    """Load the editor in the folder, or of the image file, ``source``; it is called ``name``. Nothing is downloaded.
    Raises BadInput where it cannot be had, with the reason."""
    if not is_picture(source):
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
