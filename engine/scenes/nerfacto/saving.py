# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a scene to disk: one safetensors file with weights, optimiser state and, in its header, everything that says
what they mean. One file, so that a rename replaces it whole. checkpoint.py reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from safetensors.torch import save_file
from torch import Tensor

from engine.files import replacing
from engine.scenes.health import Diverged
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto

FORMAT = 1
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # Adam's
MOST_STEPS = 100_000_000
Count = Annotated[int, Meta(ge=0, le=MOST_STEPS)]


class CheckpointHeader(msgspec.Struct, frozen=True):
    """What a checkpoint's tensors belong to."""

    format: int
    nerf: NerfactoConfig
    frame: NerfFrame
    # the training views, in the order of the camera corrections
    views: Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(min_length=1, max_length=100_000)]
    step: Count  # of the run that wrote it
    age: Count  # steps that the scene has taken in all
    learned: Annotated[float, Meta(ge=0, le=4)] = (
        0.0  # radians: how large a pixel is that it is learned from; 0: not known
    )


def save_checkpoint(
    path: Path,
    header: CheckpointHeader,
    nerf: Nerfacto,
    optimiser: torch.optim.Optimizer,
    images: Mapping[str, Tensor] | None = None,
) -> None:
    """Write ``path`` atomically. ``images``: edited training images, (H, W, 3) uint8 by view. Raises Diverged, and what
    is there stays, where the scene's weights or the optimiser's moments are no numbers."""
    tensors = {f"nerf.{name}": tensor for name, tensor in weights_of(nerf).items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for name in MOMENTS:
            tensors[f"adam.{index}.{name}"] = moments[name]
    for name, image in (images or {}).items():
        tensors[f"image.{name}"] = image
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if wrong := _not_numbers(tensors):
        raise Diverged(
            f"The training broke down before step {header.step}: {wrong} holds values that are not numbers "
            "(NaN). What was saved before is kept; try another seed, or another preset or device."
        )
    with replacing(path) as temporary:
        save_file(
            tensors,
            temporary,
            # One entry alone: safetensors writes several in an order of chance. What says nothing else is a nerfacto.
            metadata={"header": msgspec.json.encode(header).decode()},
        )


def _not_numbers(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity; None where none does."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def weights_of(nerf: Nerfacto) -> dict[str, Tensor]:
    """The scene's tensors, each once: nerfstudio registers the proposals' hash tables under two names."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in nerf.state_dict().items():
        if tensor.numel() and tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        weights[name] = tensor
    return weights
