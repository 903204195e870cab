# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an editor's networks lie, and in what precision: as the free memory of the card allows.

Nothing here needs a package beside diffusers and accelerate: 8-bit floats are diffusers' own layerwise casting, which
computes in the networks' precision and works on every card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from engine.errors import OutOfMemory

WORKING = 3 * 2**30  # bytes that an edit itself takes, at about a million pixels, beside the networks that it runs
DENOISERS = ("transformer", "unet")


@dataclass(frozen=True)
class Placement:
    """How networks are held. ``offload``: "none", all on the card; "parts", one network at a time there; "layers", a
    layer at a time, which is slow. ``eight_bit``: the largest are kept in 8-bit floats, and computed with in 16."""

    offload: Literal["none", "parts", "layers"] = "none"
    eight_bit: bool = False


def choose_placement(parts: Mapping[str, int], free: int) -> Placement:
    """The best way to hold networks of so many bytes, by name, in 16 bits, with ``free`` bytes on the card. Whole
    precision goes before speed: a network that waits in memory makes the same picture, one of 8 bits another."""
    room = free - WORKING
    largest = max(parts.values(), default=0)
    if sum(parts.values()) <= room:
        return Placement()
    if largest <= room:
        return Placement("parts")
    if largest / 2 <= room:
        return Placement("parts", eight_bit=True)
    return Placement("layers")


def precision(device: torch.device, half: torch.dtype = torch.float16) -> torch.dtype:
    """What networks compute in: floats of 32 bits on a CPU; on a card bfloat16 where it has it (it cannot overflow),
    else ``half``."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else half


def networks(pipeline: Any) -> dict[str, torch.nn.Module]:
    """A pipeline's networks, by name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def place(pipeline: Any, device: torch.device) -> Placement:
    """Put a loaded pipeline's networks, frozen, where they compute on ``device``, as its free memory allows. Raises
    OutOfMemory where that is too little for any of them."""
    for network in networks(pipeline).values():
        network.eval().requires_grad_(False)
    if device.type != "cuda":
        pipeline.to(device)
        return Placement()
    sizes = {name: _bytes(network) for name, network in networks(pipeline).items()}
    free, _ = torch.cuda.mem_get_info(device)
    if free < WORKING // 2:
        raise OutOfMemory("The card has too little free memory for this editor; close other programs that use it.")
    placement = choose_placement(sizes, free)
    hold(pipeline, device, placement, free - WORKING)
    return placement


def hold(pipeline: Any, device: torch.device, placement: Placement, room: int) -> None:
    """Hold a pipeline's networks so. Those larger than ``room`` bytes go to 8 bits, where any do."""
    if placement.eight_bit:
        for name, network in networks(pipeline).items():
            if name in DENOISERS or _bytes(network) > room:
                keep_in_eight_bits(network)
    if placement.offload == "none":
        pipeline.to(device)
    elif placement.offload == "parts":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def keep_in_eight_bits(network: torch.nn.Module) -> None:
    """Keep a network's large matrices as 8-bit floats, each made whole again while its layer computes."""
    from diffusers.hooks import apply_layerwise_casting

    # What is small and decides much stays: diffusers' own list, and the words of a language model.
    keep = ("pos_embed", "patch_embed", "norm", "^proj_in$", "^proj_out$", "embed_tokens", "lm_head")
    whole = next(network.parameters()).dtype
    apply_layerwise_casting(network, torch.float8_e4m3fn, whole, skip_modules_pattern=keep)


def _bytes(network: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())
