# SPDX-License-Identifier: GPL-3.0-or-later
"""A Stable Diffusion of a few thousand weights, in the very layout in which InstructPix2Pix lies on the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from engine.editors.catalogue import BUNDLED, WEIGHTS

# As the hub's model_index.json has it.
INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "_diffusers_version": "0.12.0.dev0",
    "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
    "requires_safety_checker": True,
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
VOCABULARY = 1600  # more than the bundled editor has words
TOKENS = {"bos_token": "startoftext", "eos_token": "endoftext", "unk_token": "endoftext"}
FULL, HALF = "safetensors", "fp16.safetensors"
PICKLE, HALF_PICKLE = "bin", "fp16.bin"


def networks() -> dict:
    """The three networks, their weights drawn from a fixed seed."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    return {
        "unet": UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        "vae": AutoencoderKL(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=4,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=24,
            )
        ),
    }


def write(
    folder: Path, kinds: dict[str, tuple[str, ...]] | tuple[str, ...] = (HALF,), built: dict | None = None
) -> Path:
    """Write the model: of each part (or of all) the files of these kinds; of networks that are ``built`` otherwise."""
    from diffusers import EulerAncestralDiscreteScheduler

    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    write_tokenizer(folder / "tokenizer")
    EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    for part, network in (built or networks()).items():
        network.save_config(folder / part) if part != "text_encoder" else network.config.save_pretrained(folder / part)
        wanted = kinds[part] if isinstance(kinds, dict) else kinds
        for kind in wanted:
            write_weights(folder / part, PARTS[part], network, kind)
    return folder


def write_tokenizer(folder: Path) -> None:
    """The bundled editor's words, in the files of 2022: a vocabulary and its merges."""
    model = json.loads((WEIGHTS / BUNDLED / "tokenizer" / "tokenizer.json").read_text())["model"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    token = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    ends = {name: token | {"content": f"<|{text}|>"} for name, text in TOKENS.items()}
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "pad_token": "<|endoftext|>"}
    config |= ends | {"model_max_length": 24, "name_or_path": "./tokenizer", "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    plain = {name: {key: value for key, value in end.items() if key != "__type"} for name, end in ends.items()}
    (folder / "special_tokens_map.json").write_text(json.dumps(plain | {"pad_token": "<|endoftext|>"}))


def write_weights(part: Path, stem: str, network, kind: str) -> None:
    from safetensors.torch import save_file

    state = network.state_dict()
    if kind in (HALF, HALF_PICKLE):
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    if kind in (FULL, HALF):
        save_file(state, part / f"{stem}.{kind}", metadata={"format": "pt"})
    else:
        torch.save(state, part / f"{'pytorch_model' if stem == 'model' else stem}.{kind}")


def as_snapshot(model: Path, cache: Path, name: str, revision: str) -> Path:
    """Move a model's folder into a cache as the hub's library lays one out: blobs, and a snapshot of links to them."""
    here = cache / f"models--{name.replace('/', '--')}"
    (here / "blobs").mkdir(parents=True)
    (here / "refs").mkdir()
    (here / "refs" / "main").write_text(revision)
    for number, file in enumerate(sorted(path for path in model.rglob("*") if path.is_file())):
        target = here / "snapshots" / revision / file.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        blob = here / "blobs" / f"{number:064x}"
        shutil.move(file, blob)
        target.symlink_to(Path(*[".."] * len(target.relative_to(here).parent.parts)) / "blobs" / blob.name)
    shutil.rmtree(model)
    return here / "snapshots" / revision
