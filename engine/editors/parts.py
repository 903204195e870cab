# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of a model in diffusers' layout, loaded one by one, each from the weights that are in its folder.

diffusers itself takes one variant for all of a folder, and takes a part's for there when only its pickle is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.editors.model_folder import parts_of, variant_of
from engine.errors import BadInput, is_out_of_memory


def load_networks(folder: Path, names: Sequence[str], dtype: torch.dtype) -> dict[str, Any]:
    """The parts ``names`` of the model in ``folder``, which was checked before (`check_model_folder`), at ``dtype``, by
    name; safetensors only, and nothing but what lies there. Raises BadInput where a part cannot be had."""
    import diffusers
    import transformers

    index = parts_of(folder)
    loaded = {}
    for name in names:
        library, class_name = index.get(name) or (None, None)
        module, base = {
            "diffusers": (diffusers, diffusers.ModelMixin),
            "transformers": (transformers, transformers.PreTrainedModel),
        }.get(library, (None, object))
        cls = getattr(module, str(class_name), None)
        if not isinstance(cls, type) or not issubclass(cls, base):
            raise BadInput(
                f"{folder / 'model_index.json'} names no network as its {name} that this engine knows; choose another "
                "editor.",
                file=folder / "model_index.json",
                field="editor",
            )
        variant = variant_of(folder / name, half=dtype != torch.float32)
        loaded[name], told = cls.from_pretrained(
            folder / name,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
        )
        check_whole(loaded[name], told, folder / name)
    return loaded


def check_whole(network: torch.nn.Module, told: dict[str, Any], part: Path) -> None:
    """Raises BadInput where weights were not in the files: libraries make them up, or leave them without numbers."""
    empty = {name for name, tensor in [*network.named_parameters(), *network.named_buffers()] if tensor.is_meta}
    missing = sorted(empty | set(told.get("missing_keys") or ()))
    if missing:
        raise BadInput(
            f"The weights in {part.parent.name}/{part.name} lack {len(missing)} of what the network has (the first: "
            f"{missing[0][:120]}): download the model again, or choose another editor.",
            file=part,
            field="editor",
        )


def load_pipeline(kind: Any, folder: Path, name: str, networks: Sequence[str], dtype: torch.dtype, **more: Any) -> Any:
    """The diffusers pipeline ``kind`` of a checked ``folder``, its ``networks`` on the CPU at ``dtype``, and ``more``
    as its ``from_pretrained`` takes it; the editor is called ``name``. Raises BadInput where it cannot be had."""
    try:
        pipeline = kind.from_pretrained(
            folder, **load_networks(folder, networks, dtype), use_safetensors=True, local_files_only=True, **more
        )
        check_words(pipeline, folder)
        return pipeline
    except BadInput:
        raise
    except Exception as error:  # diffusers raises a dozen kinds; to the artist they are one
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"The editor {name} could not be loaded: {reason}", field="editor") from error


def check_words(pipeline: Any, folder: Path) -> None:
    """Raises BadInput where a tokenizer, as its library has read all its files, gives a word a number that its text
    encoder has not."""
    for tokenizer, encoder in (
        ("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"), ("processor", "text_encoder"),
    ):  # fmt: skip
        words = getattr(pipeline, tokenizer, None)
        words = getattr(words, "tokenizer", words)
        network = getattr(pipeline, encoder, None)
        if words is None or network is None:
            continue
        known = network.get_input_embeddings().num_embeddings
        if max(words.get_vocab().values(), default=0) >= known:
            raise BadInput(
                f"The tokenizer in {folder.name}/{tokenizer} numbers words beyond the {known:,} that the text encoder "
                "knows: download the model again, or choose another editor.",
                file=folder / tokenizer,
                field="editor",
            )
