# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix: its DDIM against diffusers' scheduler, its guided edit against diffusers' pipeline."""

import shutil
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from engine.edit.keep import edit_alone
from engine.editors.catalogue import BUNDLED, about_subject, load_editor, recommended, resolved_options, source_of
from engine.editors.instruct_pix2pix import InstructPix2Pix, NoiseSchedule, Options, Prepared, edit_size
from engine.editors.parts import load_networks
from engine.errors import BadInput, Cancelled


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("to_one", [True, False])
def test_ddim_agrees_with_diffusers_on_its_grid(prediction, to_one):
    scheduler = DDIMScheduler(
        prediction_type=prediction, clip_sample=False, set_alpha_to_one=to_one, beta_schedule="scaled_linear"
    )
    scheduler.set_timesteps(20)
    ours = NoiseSchedule(scheduler.alphas_cumprod, float(scheduler.final_alpha_cumprod), prediction)
    steps = scheduler.timesteps.tolist()
    torch.manual_seed(0)
    x = y = torch.randn(1, 4, 5, 5)
    for timestep, following in zip(steps, [*steps[1:], None], strict=True):
        p = torch.randn_like(x)
        x = scheduler.step(p, timestep, x).prev_sample
        y = ours.ddim_step(p, y, timestep, following)
        torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)


def test_dpm_solver_is_of_second_order():
    """With the exact denoiser of a Gaussian, against many small steps: nearer than DDIM, and the sooner the finer."""
    schedule = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True)
    alphas = schedule.alphas_cumprod

    def run(sampler, steps):
        editor = InstructPix2Pix.__new__(InstructPix2Pix)
        editor.device, editor._scheduler_config = torch.device("cpu"), dict(schedule.config)
        editor.schedule = NoiseSchedule(alphas, 1.0, "epsilon")
        levels = editor.schedule.levels(0.9, steps)
        step = editor.dpm_step(levels) if sampler == "dpm++" else editor.schedule.ddim_step
        x = torch.linspace(-2, 2, 9)
        for timestep, following in zip(levels, [*levels[1:], None], strict=True):
            alpha = alphas[timestep]
            variance = alpha * 0.3**2 + 1 - alpha  # of a · N(0.7, 0.3²) + noise
            noise = (1 - alpha).sqrt() * (x - alpha.sqrt() * 0.7) / variance
            x = step(noise, x, timestep, following)
        return x

    truth = run("ddim", 900)
    errors = {(s, n): float((run(s, n) - truth).abs().max()) for s in ("ddim", "dpm++") for n in (12, 24)}
    assert errors["dpm++", 24] < 0.3 * errors["ddim", 24]
    assert errors["dpm++", 24] < 0.3 * errors["dpm++", 12] and errors["ddim", 24] > 0.4 * errors["ddim", 12]


def test_guidance_of_one_takes_one_pass_and_is_the_limit_of_three(tiny_pipeline):
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    torch.manual_seed(3)
    latents, original = torch.randn(2, 1, 4, 8, 8)
    passes = []
    handle = editor.unet.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    one, near = (
        editor.guided_prediction(latents, 500, original, editor.embed("make it night"), (scale, scale))
        for scale in (1.0, 1.0 + 1e-6)
    )
    handle.remove()
    assert passes == [1, 3]
    torch.testing.assert_close(one, near, rtol=1e-4, atol=1e-4)


def test_guidance_acts_above_its_noise_level_alone(tiny_pipeline):
    """Three passes a step above the level, one below; with the level at 0 and at 1 as with the scales throughout and
    with none."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    torch.manual_seed(4)
    picture = torch.rand(32, 32, 3)
    passes: list[int] = []
    editor.unet.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))

    def edit(text: float, image: float, above: float = 0.0):
        passes.clear()
        options = {"text_guidance": text, "image_guidance": image, "guided_above": above, "diffusion_steps": 4}
        view = editor.prepare("make it night", options).view(picture)
        return view.edit(picture, 0.8, torch.Generator().manual_seed(0))

    throughout, unguided = edit(5.0, 1.5), edit(1.0, 1.0)
    part = edit(5.0, 1.5, above=0.5)
    assert passes == [3, 3, 1, 1]  # at 0.8, 0.6, 0.4, 0.2
    assert all((part - other).abs().max() > 1e-3 for other in (throughout, unguided))
    assert torch.equal(edit(5.0, 1.5, above=0.0), throughout)
    assert torch.equal(edit(5.0, 1.5, above=1.0), unguided)


def test_noise_levels_go_from_the_drawn_one_down():
    schedule = NoiseSchedule(torch.linspace(1, 0, 1000), 1.0, "epsilon")
    assert schedule.levels(0.98, 20)[0] == 980 and len(schedule.levels(0.98, 20)) == 20
    for t in (0.02, 0.013, 0.5, 0.7321, 1.0):
        levels = schedule.levels(t, 20)
        assert levels[0] == min(round(t * 1000), 999)
        assert all(a > b for a, b in pairwise(levels)) and levels[-1] >= 0
        gaps = [a - b for a, b in zip(levels, [*levels[1:], 0], strict=True)]
        assert max(gaps) - min(gaps) <= 2 or t < 0.03


def test_the_whole_edit_agrees_with_diffusers_pipeline(tiny_pipeline):
    """From pure noise, over diffusers' own timesteps: the same picture as the library's pipeline makes."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    torch.manual_seed(1)
    picture = torch.rand(32, 32, 3) * 0.8 + 0.1
    noise = torch.randn(1, 4, 8, 8)
    text, image = 5.0, 1.7
    tiny_pipeline.set_progress_bar_config(disable=True)
    embedded = editor.embed("make it night")
    expected = tiny_pipeline(
        prompt_embeds=embedded[:1],
        negative_prompt_embeds=embedded[1:2],
        image=(picture.permute(2, 0, 1)[None] * 2 - 1),
        num_inference_steps=20,
        guidance_scale=text,
        image_guidance_scale=image,
        latents=noise,
        output_type="pt",
    ).images[0]
    condition = editor.condition(picture)
    latents = noise
    timesteps = tiny_pipeline.scheduler.timesteps.tolist()
    for timestep, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        with torch.no_grad():
            prediction = editor.guided_prediction(latents, timestep, condition, embedded, (text, image))
        latents = editor.schedule.ddim_step(prediction, latents, timestep, following)
    with torch.no_grad():
        got = (editor.vae.decode(latents).sample[0] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_an_edit_keeps_size_depends_on_its_seed_and_stops(tiny_pipeline):
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    picture = torch.rand(50, 90, 3)
    view = editor.prepare("x", {}).view(picture)

    def edit(seed, check=lambda: None):
        return view.edit(picture, 0.7, torch.Generator().manual_seed(seed), check)

    first = edit(0)
    assert first.shape == (50, 90, 3) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, edit(0))
    assert not torch.equal(first, edit(1))
    calls = 0

    def check():
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        edit(0, check)
    assert calls == 5


def test_where_the_instruction_matters_little_the_original_stays(tiny_pipeline):
    """With a UNet that answers the words in one quarter of the picture alone: that quarter is edited, whatever the
    render was elsewhere."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")

    def predict(inputs, timestep, encoder_hidden_states):
        out = inputs[:, 4:].clone() * 0.5
        half = out.shape[-1] // 2
        out[:, :, :half, :half] += 3 * encoder_hidden_states[:, 0, :1, None, None]
        return SimpleNamespace(sample=out)

    predict.dtype = torch.float32
    editor.unet = predict
    original, render = torch.rand(64, 64, 3), torch.rand(64, 64, 3)
    words = torch.stack([torch.ones(12, 16), torch.zeros(12, 16), torch.zeros(12, 16)])

    def edit(relevance):
        prepared = Prepared(editor, words, Options(1.0, 1.0, diffusion_steps=2))
        return edit_alone(prepared, original, render, 0.7, relevance, torch.Generator().manual_seed(0))

    free, kept = edit(0.0), edit(0.5)
    far = torch.ones(64, 64, dtype=torch.bool)
    far[:56, :56] = False  # the quarter, and the blur of the map round it
    assert torch.equal(kept[far], original[far])
    assert (free - original)[far].abs().mean() > 0.1
    torch.testing.assert_close(kept[:12, :12], free[:12, :12])


@pytest.mark.parametrize("t", [0.02, 0.25, 0.5, 0.98])
def test_a_tethered_edit_is_the_posterior_mean_of_edit_and_noised_picture(tiny_pipeline, t):
    """What an untethered edit gives, ± 0.5, and the picture, ± its noise over the signal, are two measurements of one
    value: Bayes' rule by summing over a grid of values."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    picture = torch.rand(32, 48, 3)

    def edit(tethered):
        options = {"text_guidance": 1.0, "image_guidance": 1.0, "tethered": tethered, "diffusion_steps": 2}
        view = editor.prepare("x", options).view(picture)
        return view.edit(picture, t, torch.Generator().manual_seed(0))

    free, tethered = edit(False), edit(True)
    alpha = float(editor.schedule.alphas_cumprod[round(1000 * t)])
    deviation = ((1 - alpha) / alpha) ** 0.5
    grid = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    for e, p, mean in ((free[y, x, c], picture[y, x, c], tethered[y, x, c]) for y, x, c in ((0, 0, 0), (17, 40, 2))):
        weight = torch.exp(-(((grid - e.double()) / 0.5) ** 2) / 2 - ((grid - p.double()) / deviation) ** 2 / 2)
        assert float(mean) == pytest.approx(float((grid * weight).sum() / weight.sum()), abs=1e-4)
    assert (free - picture).abs().mean() > 0.1
    assert (tethered - picture).abs().mean() < 0.1 * (free - picture).abs().mean() or t > 0.02
    assert (tethered - free).abs().max() < 0.01 or t < 0.98


@pytest.mark.parametrize(
    ("instruction", "subject"),
    [
        ("make it gold", True),
        ("a golden dog", True),
        ("make it golden hour at sunset", False),
        ("Make the old bear gold!", True),
        ("turn the cat into marble", True),
        ("paint it red", True),
        ("as if it were a bronze", True),
        ("make it night", False),
        ("make it happy", False),
        ("add red snow", False),
        ("", False),
    ],
)
def test_what_is_about_the_subject_is_known_by_its_wording(instruction, subject):
    assert about_subject(BUNDLED, instruction) is subject


def test_what_an_editor_recommends_is_checked(tmp_path):
    folder = str(tmp_path)
    papers = {
        "text_guidance": 7.5,
        "image_guidance": 1.5,
        "keep_background": "auto",
        "relevance": 0.5,
        "diffusion_steps": 20,
        "sampler": "ddim",
        "tethered": False,
        "guided_above": 0.0,
        "key_attention": 0.0,
    }
    assert recommended(folder) == {} and resolved_options(folder, {}) == papers
    whole = {"text_guidance": 2.0, "image_guidance": 1.0, "relevance": 0.7, "diffusion_steps": 3}
    for text, expected in (
        ('{"text": 2, "image": 1, "steps": 3, "relevance": 0.7, "size": 128}', whole),
        ('{"tethered": true}', {"tethered": True}),
        ('{"tethered": "yes"}', {}),
        ('{"guided_above": 0.6}', {"guided_above": 0.6}),
        ('{"guided_above": 600}', {}),
        ('{"text": -2}', {}),
        ('{"steps": 0}', {}),
        ('{"relevance": "much"}', {}),
        ("[", {}),
    ):
        (tmp_path / "guidance.json").write_text(text)
        assert recommended(folder) == expected, text
        assert resolved_options(folder, {}) == papers | expected
        given = {"text_guidance": 3.0}  # what is asked for stands above what is recommended, that above a preset
        resolved = resolved_options(folder, given, {"diffusion_steps": 9, "relevance": 0.1})
        assert resolved == papers | {"diffusion_steps": 9, "relevance": 0.1} | expected | given


@pytest.mark.parametrize(
    ("size", "native", "multiple"), [((240, 135), 128, 16), ((512, 512), 512, 64), ((100, 1000), 128, 8)]
)
def test_edit_size_has_the_native_area_and_the_aspect(size, native, multiple):
    h, w = edit_size(*size, native, multiple)
    assert h % multiple == 0 and w % multiple == 0
    assert abs(h * w / native**2 - 1) < 0.25
    assert abs((h / w) / (size[0] / size[1]) - 1) < 0.3


def test_what_is_no_editor_is_said(tmp_path):
    def refused(folder, match):
        with pytest.raises(BadInput, match=match) as caught:
            load_editor(str(folder), "cpu")
        return caught.value

    refused(tmp_path, r"model_index\.json is missing")
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionInstructPix2PixPipeline", "unet": ["os", "system"]}')
    refused(tmp_path, "code outside diffusers")
    assert refused(tmp_path / "none", "There is no editor").field == "editor"
    index.write_text('{"_class_name": "X", "unet": ["os", "system"]}')
    refused(tmp_path, "code outside diffusers")  # before anything else is made of it
    index.write_text('{"_class_name": "X"}')
    assert refused(tmp_path, "is a X, which this engine cannot use").field == "editor"


def test_pickled_weights_are_refused(tmp_path):
    """A folder whose weights are not safetensors does not load."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path / "model"
    shutil.copytree(source_of(BUNDLED), folder)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
    for weights in (folder / "unet").glob("*.safetensors"):
        weights.unlink()
    unet.save_pretrained(folder / "unet", safe_serialization=False)
    assert list((folder / "unet").glob("*.bin"))
    with pytest.raises(BadInput, match="holds its weights only as"):
        load_editor(str(folder), "cpu")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_all_there_are_not_made_up(part, tmp_path):
    """Libraries fill in at random what is missing, or leave it without numbers."""
    folder = tmp_path / "model"
    shutil.copytree(source_of(BUNDLED), folder)
    load_networks(folder, [part], torch.float32)
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    lost = sorted(name for name in tensors if name.endswith("weight"))[1]
    tensors["another"] = tensors.pop(lost)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BadInput, match=f"model/{part} lack 1 of what the network has .the first: .*weight") as caught:
        load_networks(folder, [part], torch.float32)
    assert caught.value.field == "editor" and caught.value.file == str(folder / part)
