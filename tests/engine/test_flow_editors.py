# SPDX-License-Identifier: GPL-3.0-or-later
"""The editors of today against diffusers' own pipelines, on tiny networks read from the disk as a download lies there:
a full edit is the pipeline's with the same seed, one from below it is the inpainting pipeline's with a white mask."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import engine
from engine.editors.base import Carried
from engine.editors.catalogue import load_editor, resolved_options
from engine.editors.flow_matching import steps_from
from engine.errors import BadInput, Cancelled, explained

from . import tiny_editors

INSTRUCTION = "make it gold"
SMALL = Path(engine.__file__).parent / "editors" / "weights" / "instruct-pix2pix-small"
FLOW = ("flux2_klein", "flux_kontext", "qwen_image_edit")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editors")
    return {name: str(tiny_editors.written(name, folder)) for name in tiny_editors.BUILD}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """The areas that pipelines scale pictures to, written into them as numbers, fit for tiny networks."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_inpaint, pipeline_qwenimage_edit_plus

    small = tiny_editors.SIZE**2
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", small)
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 56**2)
    scaled = pipeline_qwenimage_edit_inpaint.calculate_dimensions
    monkeypatch.setattr(
        pipeline_qwenimage_edit_inpaint, "calculate_dimensions", lambda area, ratio: scaled(min(area, small), ratio)
    )
    # It draws latents from the encoder's posterior; -Plus, and ours, take its mode.
    latents = pipeline_qwenimage_edit_inpaint.retrieve_latents
    monkeypatch.setattr(
        pipeline_qwenimage_edit_inpaint,
        "retrieve_latents",
        lambda encoded, generator=None: latents(encoded, generator, "argmax"),
    )
    exact = pipeline_qwenimage_edit_plus.calculate_dimensions
    monkeypatch.setattr(
        pipeline_qwenimage_edit_plus, "calculate_dimensions", lambda area, ratio: exact(min(area, small), ratio)
    )


def picture(seed: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """(H, W, 3), 0–1, of whole bytes, smooth."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0)
    return (smooth * 255).round() / 255


def pil(tensor: torch.Tensor) -> Image.Image:
    return Image.fromarray((tensor.numpy() * 255).round().astype(np.uint8))


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def library(name: str, folder: str, inpaint: bool = False) -> Any:
    """diffusers' own pipeline of that folder."""
    import diffusers

    kind = {
        "flux2_klein": ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline"),
        "flux_kontext": ("FluxKontextPipeline", "FluxKontextInpaintPipeline"),
        "qwen_image_edit": ("QwenImageEditPlusPipeline", "QwenImageEditInpaintPipeline"),
        "instruct_pix2pix_xl": ("StableDiffusionXLInstructPix2PixPipeline",),
    }[name][inpaint]
    pipeline = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def as_pipeline_calls(name: str, options: dict) -> dict[str, Any]:
    """The options, in the words of the editor's pipeline."""
    said: dict[str, Any] = {"num_inference_steps": options["diffusion_steps"], "output_type": "pt"}
    if name == "flux_kontext":
        said |= {
            "guidance_scale": options["text_guidance"],
            "_auto_resize": False,
            "height": 64,
            "width": 64,
            "max_area": 64**2,
        }
    elif name == "qwen_image_edit":
        said |= {"true_cfg_scale": options["text_guidance"], "negative_prompt": " "}
    elif name == "flux2_klein":
        said |= {"guidance_scale": options["text_guidance"]}
    return said


def edited(editor: Any, options: dict, original, render, t: float, references=(), **more) -> torch.Tensor:
    return editor.prepare(INSTRUCTION, options).view(original, references).edit(render, t, seeded(), **more)


@pytest.mark.parametrize("name", FLOW)
def test_a_full_edit_is_the_pipelines_own(name, folders):
    """Of the original alone, and of references beside it where the editor takes them; whatever was rendered."""
    options = resolved_options(folders[name], {})
    editor = load_editor(folders[name], "cpu")
    original, render = picture(1), picture(2)
    references = [picture(3), picture(4)] if name != "flux_kontext" else []
    pipeline = library(name, folders[name])
    for given in ([], references) if references else ([],):
        shown = [pil(p) for p in (original, *given)]
        said = as_pipeline_calls(name, options)
        image = shown if name != "flux_kontext" else shown[0]
        expected = pipeline(image=image, prompt=INSTRUCTION, generator=seeded(), **said).images[0].permute(1, 2, 0)
        for t in (1.0, 0.98):  # the loop's highest level is the whole edit
            got = edited(editor, options, original, render, t, given)
            torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)
    assert (expected - original).abs().mean() > 0.02


@pytest.mark.parametrize("name", FLOW)
@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_an_edit_from_a_level_is_the_inpainting_with_a_white_mask(name, steps, folders):
    options = resolved_options(folders[name], {})
    editor = load_editor(folders[name], "cpu")
    pipeline = library(name, folders[name], inpaint=True)
    original, render = picture(1), picture(2)
    said = as_pipeline_calls(name, options) | {"strength": steps / 4, "mask_image": Image.new("L", (64, 64), 255)}
    if name == "qwen_image_edit":  # its words differ from those of -Plus, and it is conditioned on what it inpaints
        pipeline_words = editor.prepare(INSTRUCTION, options).view(render).condition
        (said["prompt_embeds"], _), (said["negative_prompt_embeds"], _) = pipeline_words.told, pipeline_words.untold
        said.pop("negative_prompt")
        expected = pipeline(image=pil(render), generator=seeded(), **said).images[0]
        got = edited(editor, options, render, render, steps / 4)
    elif name == "flux2_klein":  # conditioned on what it inpaints, and on a reference beside it
        said["image_reference"] = pil(original)
        expected = pipeline(prompt=INSTRUCTION, image=pil(render), generator=seeded(), **said).images[0]
        got = edited(editor, options, render, render, steps / 4, [original])
    else:
        said["image_reference"] = pil(original)
        expected = pipeline(prompt=INSTRUCTION, image=pil(render), generator=seeded(), **said).images[0]
        got = edited(editor, options, original, render, steps / 4)
    torch.testing.assert_close(got, expected.permute(1, 2, 0), atol=2e-4, rtol=0)
    assert (got - edited(editor, options, original, picture(9), steps / 4)).abs().max() > 1e-3  # the render counts


@pytest.mark.parametrize("cosxl", [True, False])
def test_a_full_edit_of_instruct_pix2pix_xl_is_the_pipelines_own(cosxl, tmp_path):
    built = tiny_editors.instruct_pix2pix_xl(cosxl)
    folder = str(tiny_editors.written("instruct_pix2pix_xl", tmp_path, built))
    options = resolved_options(folder, {"text_guidance": 3.0})
    editor = load_editor(folder, "cpu")
    original, render = picture(1), picture(2)
    built.set_progress_bar_config(disable=True)
    expected = built(
        prompt=INSTRUCTION,
        image=pil(original),
        height=64,
        width=64,
        num_inference_steps=4,
        guidance_scale=3.0,
        image_guidance_scale=1.5,
        generator=seeded(),
        output_type="pt",
    ).images[0]
    got = edited(editor, options, original, render, 0.98)
    torch.testing.assert_close(got, expected.permute(1, 2, 0), atol=2e-4, rtol=0)
    low = edited(editor, options, original, render, 0.25)
    assert (low - edited(editor, options, original, picture(9), 0.25)).abs().max() > 1e-3


def test_levels_of_four_steps():
    assert [steps_from(t, 4) for t in (0.0, 0.02, 0.25, 0.26, 0.5, 0.75, 0.76, 0.98, 1.0)] == [
        1, 1, 1, 2, 2, 3, 4, 4, 4,
    ]  # fmt: skip
    assert all(steps_from(step / steps, steps) == step for steps in (4, 8, 20, 28, 40, 50) for step in range(1, steps))


def test_a_four_step_editor_offers_its_levels(folders):
    prepared = load_editor(folders["flux2_klein"], "cpu").prepare(
        INSTRUCTION, resolved_options(folders["flux2_klein"], {})
    )
    assert prepared.levels == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", tiny_editors.BUILD)
def test_every_edit_keeps_size_depends_on_its_seed_and_stops(name, folders):
    options = resolved_options(folders[name], {})
    view = load_editor(folders[name], "cpu").prepare(INSTRUCTION, options).view(picture(1, 50, 90))
    render = picture(2, 50, 90)
    first = view.edit(render, 0.7, seeded())
    assert first.shape == (50, 90, 3) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, view.edit(render, 0.7, seeded()))
    assert not torch.equal(first, view.edit(render, 0.7, seeded(8)))
    calls = 0

    def check():
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        view.edit(render, 0.7, seeded(), check)
    assert calls == 3


@pytest.mark.parametrize("name", tiny_editors.BUILD)
def test_what_is_carried_over_starts_an_edit(name, folders):
    """Everywhere, the render no longer counts; nowhere, nothing changes."""
    options = resolved_options(folders[name], {})
    view = load_editor(folders[name], "cpu").prepare(INSTRUCTION, options).view(picture(1))
    render, known = picture(2), picture(5)
    plain = view.edit(render, 0.75, seeded())
    nowhere = Carried(known, torch.zeros(64, 64, dtype=torch.bool))
    assert torch.equal(view.edit(render, 0.75, seeded(), carried=nowhere), plain)
    everywhere = Carried(known, torch.ones(64, 64, dtype=torch.bool))
    assert torch.equal(
        view.edit(render, 0.75, seeded(), carried=everywhere), view.edit(known, 0.75, seeded(), carried=everywhere)
    )
    left = torch.zeros(64, 64, dtype=torch.bool)
    left[:, :32] = True
    half = view.edit(render, 0.75, seeded(), carried=Carried(known, left))
    assert not torch.equal(half, plain)


@pytest.mark.parametrize("name", ["small", *tiny_editors.BUILD])
def test_a_word_that_the_text_encoder_does_not_know_is_told_before_the_edit(name, folders, tmp_path):
    """One that a tokenizer's library makes itself, since a configuration names it."""
    folder = tmp_path / name
    shutil.copytree(SMALL if name == "small" else folders[name], folder)
    told = sorted(folder.glob("tokenizer*/tokenizer_config.json"))[-1]
    told.write_text(json.dumps(json.loads(told.read_text()) | {"eos_token": "no word of anybody's"}))
    with pytest.raises(BadInput, match=f"{told.parent.name} numbers words beyond the [0-9,]+ that the text encoder"):
        load_editor(str(folder), "cpu")


def test_what_a_networks_odd_configuration_makes_it_raise_is_a_sentence(tmp_path, monkeypatch):
    """A null where a number is meant is built, and fails when it is computed with; a mistake of ours stays one."""
    folder = tmp_path / "model"
    shutil.copytree(SMALL, folder)
    told = folder / "text_encoder" / "config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"layer_norm_eps": None}))
    with pytest.raises(TypeError) as caught:
        load_editor(str(folder), "cpu").prepare("make it night", {})
    known = explained(caught.value)
    assert isinstance(known, BadInput) and known.field == "editor" and "layer_norm" in known.message
    monkeypatch.setattr("engine.editors.instruct_pix2pix.checked", None)
    with pytest.raises(TypeError) as caught:
        load_editor(str(SMALL), "cpu").prepare("make it night", {})
    assert explained(caught.value) is None


@pytest.mark.slow
def test_an_undistilled_klein_is_guided(tmp_path):
    built = tiny_editors.flux2_klein(distilled=False)
    folder = str(tiny_editors.written("flux2_klein", tmp_path, built))
    built.set_progress_bar_config(disable=True)
    editor = load_editor(folder, "cpu")
    original = picture(1)
    for guidance in (1.0, 4.0):
        options = resolved_options(folder, {"text_guidance": guidance})
        said = as_pipeline_calls("flux2_klein", options)
        expected = built(image=[pil(original)], prompt=INSTRUCTION, generator=seeded(), **said).images[0]
        got = edited(editor, options, original, original, 1.0)
        torch.testing.assert_close(got, expected.permute(1, 2, 0), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "file", "key", "value"),
    [
        ("flux2_klein", "transformer/config.json", "num_layers", 10**6),
        ("flux2_klein", "text_encoder/config.json", "hidden_size", 10**9),
        ("flux_kontext", "vae/config.json", "block_out_channels", [10**6]),
        ("qwen_image_edit", "text_encoder/config.json", "auto_map", {"AutoModel": "code.Own"}),
        ("instruct_pix2pix_xl", "unet/config.json", "in_channels", -4),
        ("flux_kontext", "model_index.json", "transformer", None),
    ],
)
def test_a_folder_that_says_absurd_things_is_refused_before_it_is_built(name, file, key, value, tmp_path, folders):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(folders[name], folder)
    config = json.loads((folder / file).read_text()) | {key: value}
    if value is None:
        config.pop(key)
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"missing or damaged") as caught:
        load_editor(str(folder), "cpu")
    assert caught.value.field == "editor" and str(folder) in str(caught.value.file)
