# SPDX-License-Identifier: GPL-3.0-or-later
"""What overflows in half precision never becomes a training picture."""

from __future__ import annotations

import copy

import pytest
import torch

from engine.editors import instruct_pix2pix
from engine.editors.catalogue import load_editor
from engine.editors.instruct_pix2pix import InstructPix2Pix, Options, Prepared
from engine.editors.numbers import checked
from engine.errors import BadInput

PICTURE = torch.rand(20, 24, 3, generator=torch.Generator().manual_seed(3))


def editor_of(pipeline, dtype: torch.dtype) -> InstructPix2Pix:
    parts = copy.deepcopy(pipeline.components)
    for name in ("unet", "vae", "text_encoder"):
        parts[name] = parts[name].to(dtype)
    return InstructPix2Pix(type(pipeline)(**parts, requires_safety_checker=False), "tiny", "cpu")


def edited(editor: InstructPix2Pix) -> torch.Tensor:
    view = Prepared(editor, editor.embed("make it night"), Options(diffusion_steps=3)).view(PICTURE)
    return view.edit(PICTURE, 0.5, torch.Generator().manual_seed(1))


class Times(torch.nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def overflowing(coder: torch.nn.Module) -> None:
    """Let the values inside be too large for half precision, and those that come out what they were."""
    for part in coder.modules():
        if isinstance(part, torch.nn.Conv2d) and part.bias is not None and part is not coder.layers[-1]:
            torch.nn.init.zeros_(part.bias)
    coder.layers[0] = torch.nn.Sequential(coder.layers[0], Times(1e7))
    coder.layers[-1] = torch.nn.Sequential(Times(1e-7), coder.layers[-1])


@pytest.mark.parametrize("coder", ["encoder", "decoder"])
def test_an_edit_that_overflows_in_the_vae_is_made_in_full_precision(tiny_pipeline, coder):
    pipeline = copy.deepcopy(tiny_pipeline)
    overflowing(getattr(pipeline.vae, coder))
    truth = edited(editor_of(pipeline, torch.float32))
    half = editor_of(pipeline, torch.float16)
    x = torch.rand(1, 3 if coder == "encoder" else 4, 8, 8, dtype=torch.float16)
    assert not torch.isfinite(getattr(half.vae, coder)(x)).all()  # or nothing is shown
    got = edited(half)
    assert torch.isfinite(got).all() and float(got.std()) > 0.01
    assert float((got - truth).abs().mean()) < 0.02
    assert {p.dtype for p in half.vae.parameters()} == {torch.float16}  # as it was, for the next edit


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_what_is_no_picture_in_full_precision_either_is_said(tiny_pipeline, part, value):
    pipeline = copy.deepcopy(tiny_pipeline)
    with torch.no_grad():
        list(getattr(pipeline, part).parameters())[-1].fill_(value)
    with pytest.raises(BadInput, match="The editor tiny computed values that are not numbers") as caught:
        edited(editor_of(pipeline, torch.float16))
    assert caught.value.field == "editor"


def test_a_gradient_and_a_relevance_that_are_none_are_said(tiny_pipeline):
    pipeline = copy.deepcopy(tiny_pipeline)
    with torch.no_grad():
        list(pipeline.unet.parameters())[-1].fill_(float("nan"))
    editor = editor_of(pipeline, torch.float32)
    view = Prepared(editor, editor.embed("make it night"), Options()).view(PICTURE)
    with pytest.raises(BadInput, match="in float32"):
        view.gradient(PICTURE, 0.5, torch.Generator())
    with pytest.raises(BadInput, match="not numbers"):
        _ = view.relevance
    assert checked(PICTURE, "tiny") is PICTURE


def test_a_cpu_that_multiplies_16_bits_edits_as_with_32(monkeypatch):
    """Far nearer than another seed does: the denoiser alone is rounded."""
    name, words = "instruct-pix2pix-small", "make it night"
    monkeypatch.setattr(instruct_pix2pix, "cpu_has_bfloat16", lambda: False)
    full = load_editor(name, "cpu")
    monkeypatch.setattr(instruct_pix2pix, "cpu_has_bfloat16", lambda: True)
    rounded = load_editor(name, "cpu")
    assert {p.dtype for p in rounded.unet.parameters()} == {torch.bfloat16} and rounded.vae.dtype == torch.float32
    assert {p.dtype for p in full.unet.parameters()} == {torch.float32}
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 5), (64, 64), mode="bicubic")[0].permute(1, 2, 0)
    one, same, other = (
        editor.prepare(words, {"diffusion_steps": 6}).view(picture).edit(picture, 0.8, torch.Generator().manual_seed(s))
        for editor, s in ((full, 1), (rounded, 1), (full, 2))
    )
    assert (one - same).square().mean() < 0.1 * (one - other).square().mean()
