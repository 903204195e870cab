# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's baselines: what each asks of the editor, and SDS's gradient against finite differences."""

import pytest
import torch
from engine.editors.guidance import Guidance
from engine.scenes.nerfacto.rendering import render_view

from engine.edit.baselines import edit_frame, one_time_dataset_update, score_distillation, sds_gradient
from engine.edit.iterative import ImageUpdated, NerfUpdated, iterative_dataset_update
from engine.edit.settings import EditSettings
from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.errors import BadInput
from engine.scenes.nerfacto.config import LossConfig, OptimiserConfig
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.training import Trainer

from .conftest import TINY_NERF
from .test_iterative import Darken

SETTINGS = EditSettings(steps=4, steps_per_round=2, patches=2, patch=8, losses=LossConfig("mse"), diffusion_steps=3)


def trainer_for(data, losses=SETTINGS.losses):
    torch.manual_seed(0)
    return Trainer(Nerfacto(TINY_NERF, len(data)), losses, OptimiserConfig())


def originals_of(data):
    return [data.image(i).clone() for i in range(len(data))]


def test_one_time_du_edits_every_original_once_and_then_only_trains(sphere_set):
    frame, data = sphere_set
    originals, editor = originals_of(data), Darken()
    events = list(one_time_dataset_update(trainer_for(data), data, originals, frame, editor, "darker", SETTINGS))
    assert [e.view for e in events if isinstance(e, ImageUpdated)] == list(range(len(data)))
    assert [e.step for e in events if isinstance(e, NerfUpdated)] == [1, 2, 3, 4]
    assert isinstance(events[len(data)], NerfUpdated)  # all images first
    for (picture, original, _, t, _, _), truth in zip(editor.asked, originals, strict=True):
        assert torch.equal(picture, truth.float() / 255) and torch.equal(original, picture)
        assert t == SETTINGS.t_max
    assert editor.embedded == ["darker"]


def test_per_frame_editing_draws_noise_of_its_own(sphere_set):
    _, data = sphere_set
    picture = data.image(0).float() / 255
    editor = Darken()
    first, again, other = (edit_frame(editor, picture, "embedding", SETTINGS, n) for n in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_sds_gradient_is_the_derivative_of_what_it_is_defined_by(tiny_pipeline):
    """At fixed noise, ε̂ − ε is a constant: the gradient is that of ⟨w(ε̂ − ε), latents(picture)⟩."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    torch.manual_seed(1)
    picture = torch.rand(20, 24, 3)
    words = editor.embed("red")
    original = editor.condition(torch.rand(20, 24, 3), words, Guidance(5.0, 1.5))
    draw = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    gradient = sds_gradient(editor, picture, original, words, 0.6, Guidance(5.0, 1.5), draw())
    assert gradient.shape == picture.shape

    latents = editor.latents(picture)
    noise = torch.randn(latents.shape, generator=draw())
    timestep = round(0.6 * 1000)
    alpha = editor.schedule.alphas_cumprod[timestep]
    noised = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    v = editor.guided_prediction(noised, timestep, original.latents, words, Guidance(5.0, 1.5))
    pull = (1 - alpha) * (alpha.sqrt() * v + (1 - alpha).sqrt() * noised - noise)
    step = torch.randn(picture.shape) * 1e-3
    finite = ((editor.latents(picture + step) - editor.latents(picture - step)) * pull).sum() / 2
    assert float((gradient * step).sum()) == pytest.approx(float(finite), rel=0.02)


@pytest.mark.parametrize("sign", [1, -1])
def test_sds_pulls_the_scene_along_its_gradient(sphere_set, tiny_pipeline, monkeypatch, sign):
    """With a gradient of red alone, the renders lose red; with its opposite, they gain it."""
    frame, data = sphere_set
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    red = torch.tensor([0.5 * sign, 0.0, 0.0])
    monkeypatch.setattr("engine.edit.baselines.sds_gradient", lambda editor, picture, *_: red.expand_as(picture))
    trainer = trainer_for(data)
    before = render_view(trainer.nerf, data.cameras, 0, frame).rgb
    settings = EditSettings(steps=12, patches=4, patch=8, losses=LossConfig("mse"), method="sds")
    pictures = originals_of(data)
    events = list(score_distillation(trainer, data, pictures, frame, editor, "x", settings))
    after = render_view(trainer.nerf, data.cameras, 0, frame).rgb
    assert sign * float((after - before)[..., 0].mean()) < -0.1
    assert all(isinstance(e, NerfUpdated) for e in events) and len(events) == 12
    assert all(torch.equal(data.image(i), picture) for i, picture in enumerate(pictures))  # no dataset update


def test_sds_refuses_other_losses(sphere_set, tiny_pipeline):
    frame, data = sphere_set
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    with pytest.raises(ValueError, match="mse"):
        next(score_distillation(trainer_for(data, LossConfig("l1")), data, [], frame, editor, "x", SETTINGS))


def test_first_pass_shared_noise_and_a_falling_t(sphere_set):
    frame, data = sphere_set
    editor = Darken()
    settings = EditSettings(
        steps=20, steps_per_round=1, patches=1, patch=8, losses=LossConfig("mse"), t_min=0.2, t_max=0.9, t_max_end=0.3,
        first_pass=True, shared_noise=True,
    )  # fmt: skip
    run = iterative_dataset_update(trainer_for(data), data, originals_of(data), frame, editor, "x", settings)
    kinds = [type(event) for event in run]
    assert kinds[: len(data)] == [ImageUpdated] * len(data) and len(editor.asked) == len(data) + 20
    levels = [asked[3] for asked in editor.asked]
    assert levels[: len(data)] == pytest.approx([0.9] * len(data))
    for update, t in enumerate(levels[len(data) :]):
        low, high = settings.noise_range(update)
        assert low == 0.2 and low <= t <= high
        assert high == pytest.approx(0.9 - 0.6 * update / 19)
    assert len(set(levels[len(data) :])) == 20  # shared noise leaves t free
    noises = {round(float((asked[1] * 0.5 + asked[0] * 0.1).mean()), 9) for asked in editor.asked}
    assert len(noises) > 1


def test_a_shared_noise_is_the_same_for_all_updates(sphere_set):
    frame, data = sphere_set
    drawn = []

    class Listening(Darken):
        def edit(self, picture, original, instruction, t, guidance, generator, steps, check, sampler):
            drawn.append(float(torch.rand((), generator=generator)))
            return picture

    for shared, count in ((True, 1), (False, 4)):
        drawn.clear()
        settings = EditSettings(
            steps=4, steps_per_round=1, patches=1, patch=8, losses=LossConfig("mse"), shared_noise=shared
        )
        list(iterative_dataset_update(trainer_for(data), data, originals_of(data), frame, Listening(), "x", settings))
        assert len(set(drawn)) == count and len(drawn) == 4


def test_a_range_that_rises_is_refused():
    with pytest.raises(BadInput, match="t_max_end"):
        EditSettings(t_max=0.5, t_max_end=0.9).checked()
