# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's baselines: what each asks of the editor, and SDS's gradient against finite differences."""

import msgspec
import pytest
import torch

from engine.edit.baselines import edited_frames, one_time_dataset_update, score_distillation
from engine.edit.iterative import ImageUpdated, SceneUpdated
from engine.edit.keep import Background
from engine.edit.settings import EditSettings
from engine.editors import instruct_pix2pix
from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.errors import BadInput
from engine.scenes.settings import LossConfig, OptimiserConfig

from .test_iterative import Run
from .toy_editor import ToyEditor

SETTINGS = EditSettings(
    steps=4,
    steps_per_round=2,
    patches=2,
    patch=8,
    losses=LossConfig("mse"),
    optimiser=OptimiserConfig(),
    options={"diffusion_steps": 3},
)


def run_of(sphere_set, editor=None, **changes):
    return Run(sphere_set, msgspec.structs.replace(SETTINGS, **changes), editor)


def events_of(method, run):
    return list(method(run.trainer, run.pictures, run.originals, run.prompts, run.settings))


def test_one_time_du_edits_every_original_once_and_then_only_trains(sphere_set):
    run = run_of(sphere_set)
    events = events_of(one_time_dataset_update, run)
    count = len(run.originals)
    assert [e.view for e in events if isinstance(e, ImageUpdated)] == list(range(count))
    assert [e.step for e in events if isinstance(e, SceneUpdated)] == [1, 2, 3, 4]
    assert isinstance(events[count], SceneUpdated)  # all images first
    for asked, truth in zip(run.editor.asked, run.originals.pictures, strict=True):
        assert torch.equal(asked.picture, truth.float() / 255) and torch.equal(asked.original, asked.picture)
        assert asked.t == SETTINGS.t_max
    assert run.editor.prepared == ["darker"]


def test_per_frame_editing_draws_noise_of_its_own(sphere_set):
    pictures = sphere_set[2]
    picture = pictures.image(0).float() / 255
    editor = ToyEditor()
    first, other = edited_frames(editor, SETTINGS.told("darker"), [picture, picture], SETTINGS)
    again, _ = edited_frames(ToyEditor(), SETTINGS.told("darker"), [picture, picture], SETTINGS)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert editor.prepared == ["darker"]


def test_sds_gradient_is_the_derivative_of_what_it_is_defined_by(tiny_pipeline):
    """At fixed noise, ε̂ − ε is a constant: the gradient is that of ⟨w(ε̂ − ε), latents(picture)⟩."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    torch.manual_seed(1)
    picture = torch.rand(20, 24, 3)
    words = editor.embed("red")
    view = editor.prepare("red", {"text_guidance": 5.0, "image_guidance": 1.5}).view(torch.rand(20, 24, 3))
    draw = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    gradient = view.gradient(picture, 0.6, draw())
    assert gradient.shape == picture.shape

    latents = editor.latents(picture)
    noise = torch.randn(latents.shape, generator=draw())
    timestep = round(0.6 * 1000)
    alpha = editor.schedule.alphas_cumprod[timestep]
    noised = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    v = editor.guided_prediction(noised, timestep, view.condition, words, (5.0, 1.5))
    pull = (1 - alpha) * (alpha.sqrt() * v + (1 - alpha).sqrt() * noised - noise)
    step = torch.randn(picture.shape) * 1e-3
    finite = ((editor.latents(picture + step) - editor.latents(picture - step)) * pull).sum() / 2
    assert float((gradient * step).sum()) == pytest.approx(float(finite), rel=0.02)

    # Where the original has to stay, it pulls at nothing; elsewhere as it did.
    relevance = torch.zeros(1, 1, 5, 6)
    relevance[..., :3] = 1.0
    kept = Background(relevance, 0.5).leave_out(gradient)
    assert kept[:, 15:].abs().max() == 0 < gradient[:, 15:].abs().max()
    assert torch.equal(kept[:, :9], gradient[:, :9])


@pytest.mark.parametrize("sign", [1, -1])
def test_sds_pulls_the_scene_along_its_gradient(sphere_set, tiny_pipeline, monkeypatch, sign):
    """With a gradient of red alone, the renders lose red; with its opposite, they gain it."""
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    red = torch.tensor([0.5 * sign, 0.0, 0.0])
    monkeypatch.setattr(instruct_pix2pix.ViewEdit, "gradient", lambda self, picture, *_: red.expand_as(picture))
    run = run_of(sphere_set, editor, steps=12, patches=4, method="sds")
    camera = sphere_set[1][0]
    before = run.trainer.scene.render(camera).rgb
    events = events_of(score_distillation, run)
    after = run.trainer.scene.render(camera).rgb
    assert sign * float((after - before)[..., 0].mean()) < -0.1
    assert all(isinstance(e, SceneUpdated) for e in events) and len(events) == 12
    # no dataset update
    assert all(torch.equal(run.pictures.image(i), picture) for i, picture in enumerate(run.originals.pictures))


def test_sds_refuses_other_losses(sphere_set, tiny_pipeline):
    editor = InstructPix2Pix(tiny_pipeline, "tiny", "cpu")
    with pytest.raises(ValueError, match="mse"):
        events_of(score_distillation, run_of(sphere_set, editor, losses=LossConfig("l1")))


def test_first_pass_shared_noise_and_a_falling_t(sphere_set):
    run = run_of(
        sphere_set, steps=20, steps_per_round=1, patches=1, t_min=0.2, t_max=0.9, t_max_end=0.3, first_pass=True,
        shared_noise=True,
    )  # fmt: skip
    kinds = [type(event) for event in run.events()]
    views, asked = len(run.originals), run.editor.asked
    assert kinds[:views] == [ImageUpdated] * views and len(asked) == views + 20
    levels = [one.t for one in asked]
    assert levels[:views] == pytest.approx([0.9] * views)
    for update, t in enumerate(levels[views:]):
        low, high = run.settings.noise_range(update)
        assert low == 0.2 and low <= t <= high
        assert high == pytest.approx(0.9 - 0.6 * update / 19)
    assert len(set(levels[views:])) == 20  # shared noise leaves t free
    noises = {round(float((one.original * 0.5 + one.picture * 0.1).mean()), 9) for one in asked}
    assert len(noises) > 1


def test_a_shared_noise_is_the_same_for_all_updates(sphere_set):
    for shared, count in ((True, 1), (False, 4)):
        run = run_of(sphere_set, steps_per_round=1, patches=1, shared_noise=shared)
        list(run.events())
        drawn = [asked.drawn for asked in run.editor.asked]
        assert len(set(drawn)) == count and len(drawn) == 4


def test_a_range_that_rises_is_refused():
    with pytest.raises(BadInput, match="t_max_end"):
        EditSettings(t_max=0.5, t_max_end=0.9).checked()
