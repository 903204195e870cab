# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks are held as the free memory allows, and compute on the right device however they are held."""

from __future__ import annotations

import pytest
import torch

from engine.editors.placing import WORKING, Placement, choose_placement, keep_in_eight_bits, networks, precision

from . import tiny_editors

GB = 2**30
KLEIN = {"text_encoder": 8 * GB, "transformer": 8 * GB, "vae": GB // 4}  # about; in 16 bits
QWEN = {"text_encoder": 16 * GB, "transformer": 40 * GB, "vae": GB // 4}


@pytest.mark.parametrize(
    ("parts", "card", "expected"),
    [
        (KLEIN, 24, Placement("none")),
        (KLEIN, 12, Placement("parts")),
        (KLEIN, 8, Placement("parts", eight_bit=True)),
        (KLEIN, 6, Placement("layers")),
        (QWEN, 80, Placement("none")),
        (QWEN, 48, Placement("parts")),
        (QWEN, 24, Placement("parts", eight_bit=True)),
        (QWEN, 16, Placement("layers")),
    ],
)
def test_placement_by_free_memory(parts, card, expected):
    assert choose_placement(parts, card * GB) == expected


def test_what_is_chosen_fits():
    for free in range(4 * GB, 90 * GB, GB // 2):
        for parts in (KLEIN, QWEN):
            placement = choose_placement(parts, free)
            held = {"none": sum(parts.values()), "parts": max(parts.values()), "layers": 0}[placement.offload]
            assert held / (2 if placement.eight_bit else 1) + WORKING <= free or placement.offload == "layers"


def test_a_cpu_computes_in_whole_precision(monkeypatch):
    assert precision(torch.device("cpu")) == torch.float32
    for bf16, half, expected in (
        (True, torch.float16, torch.bfloat16),
        (False, torch.float16, torch.float16),
        (False, torch.bfloat16, torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, bf16=bf16: bf16)
        assert precision(torch.device("cuda:0"), half) == expected


@pytest.mark.parametrize("name", ["flux_kontext", "instruct_pix2pix_xl"])
def test_eight_bits_take_less_and_say_nearly_the_same(name):
    pipeline = tiny_editors.BUILD[name]()
    part = "unet" if name == "instruct_pix2pix_xl" else "transformer"
    network = networks(pipeline)[part].requires_grad_(False)

    def answer():
        torch.manual_seed(3)
        if part == "unet":
            return network(
                torch.randn(1, 8, 8, 8),
                500,
                encoder_hidden_states=torch.randn(1, 5, 32),
                added_cond_kwargs={"text_embeds": torch.randn(1, 16), "time_ids": torch.randn(1, 6)},
            ).sample
        return network(
            hidden_states=torch.randn(1, 16, 16),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([2.5]),
            pooled_projections=torch.randn(1, 16),
            encoder_hidden_states=torch.randn(1, 5, 16),
            txt_ids=torch.zeros(5, 3),
            img_ids=torch.zeros(16, 3),
        ).sample

    before = answer()
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    keep_in_eight_bits(network)
    assert sum(p.numel() * p.element_size() for p in network.parameters()) < 0.6 * size  # of 32 bits here
    after = answer()
    assert after.dtype == before.dtype and not torch.equal(after, before)
    assert (after - before).norm() < 0.2 * before.norm()
