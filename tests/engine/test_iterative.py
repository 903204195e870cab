# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterative Dataset Update: what it asks of the editor, in which order, and that it resumes as if never stopped."""

import msgspec
import pytest
import torch
from engine.editors.guidance import Guidance
from engine.scenes.nerfacto.rendering import corrected_cameras, render_view

from engine.edit.iterative import ImageUpdated, NerfUpdated, iterative_dataset_update, view_of_update
from engine.edit.settings import EditSettings
from engine.errors import BadInput, Cancelled
from engine.scenes.nerfacto.checkpoint import Checkpoint, save_checkpoint
from engine.scenes.nerfacto.config import LossConfig, OptimiserConfig
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.training import Trainer

from .conftest import TINY_NERF, VIEWS

NAMES = [f"v{i}" for i in range(VIEWS)]
SETTINGS = EditSettings(
    steps=11,
    images_per_round=2,
    steps_per_round=3,
    patches=2,
    patch=8,
    losses=LossConfig("l1", 0.0),
    guidance=Guidance(4.0, 1.2),
    diffusion_steps=7,
)


class Darken:
    """An editor that answers with half the original's brightness and a tenth of the render; it notes what it was
    asked."""

    def __init__(self):
        self.asked = []
        self.embedded = []
        self.encoded = 0

    def embed(self, instruction):
        self.embedded.append(instruction)
        return "embedding"

    def condition(self, original, instruction, guidance):
        self.encoded += 1
        return original.clone()

    def edit(self, picture, original, instruction, t, guidance, generator, steps, check, sampler):
        check()
        self.asked.append((picture.clone(), original, instruction, t, guidance, steps))
        return original * 0.5 + picture * 0.1 + 0.01 * float(torch.rand((), generator=generator))


def start(data, seed=0):
    torch.manual_seed(seed)
    trainer = Trainer(Nerfacto(TINY_NERF, len(data)), SETTINGS.losses, OptimiserConfig(), seed=SETTINGS.seed)
    return trainer, [data.image(i).clone() for i in range(len(data))]


def test_the_algorithm(sphere_set):
    frame, data = sphere_set
    trainer, originals = start(data)
    editor = Darken()
    events = []
    renders = []
    for event in iterative_dataset_update(trainer, data, originals, frame, editor, "darker", SETTINGS):
        if isinstance(event, ImageUpdated):
            cameras = corrected_cameras(trainer.nerf, data.cameras)
            renders.append(render_view(trainer.nerf, cameras, event.view, frame).rgb)
            assert torch.equal(data.image(event.view), event.image)
        events.append(event)
    kinds = "".join("I" if isinstance(e, ImageUpdated) else "N" for e in events)
    assert kinds == "IINNNIINNNIINNNIINN"  # d = 2 image updates, n = 3 NeRF updates, in turn
    assert [e.step for e in events if isinstance(e, NerfUpdated)] == list(range(1, 12))
    assert editor.embedded == ["darker"]  # once an edit
    views = [e.view for e in events if isinstance(e, ImageUpdated)]
    assert editor.encoded == len(set(views)) == len(views)  # once a view; no view twice in a turn
    for (picture, original, _, t, guidance, steps), view, render in zip(editor.asked, views, renders, strict=True):
        torch.testing.assert_close(picture, render)  # the current render is edited
        assert torch.equal(original, originals[view].float() / 255)  # on the condition of the unedited picture
        assert SETTINGS.t_min <= t <= SETTINGS.t_max
        assert guidance == SETTINGS.guidance and steps == 7
    assert len({t for *_, t, _, _ in editor.asked}) == len(views)
    untouched = set(range(VIEWS)) - set(views)
    assert untouched and all(torch.equal(data.image(v), originals[v]) for v in untouched)


def test_views_come_in_random_order_each_once_a_turn():
    positions = torch.rand(5, 3)
    order = [view_of_update(u, positions, seed=3) for u in range(50)]
    assert all(set(order[i : i + 5]) == set(range(5)) for i in range(0, 50, 5))
    assert len({tuple(order[i : i + 5]) for i in range(0, 50, 5)}) > 5
    assert order != [view_of_update(u, positions, seed=4) for u in range(50)]


def test_spread_views_come_each_once_a_turn_and_far_from_those_before():
    generator = torch.Generator().manual_seed(2)
    positions = torch.randn(12, 3, generator=generator)
    for turn in range(4):
        order = [view_of_update(12 * turn + k, positions, seed=3, order="spread") for k in range(12)]
        assert set(order) == set(range(12))
        for k in range(1, 12):
            near = [min(float((positions[a] - positions[b]).norm()) for b in order[:k]) for a in range(12)]
            assert near[order[k]] == pytest.approx(max(near), abs=1e-5)
    firsts = {view_of_update(12 * turn, positions, seed=3, order="spread") for turn in range(20)}
    assert len(firsts) > 4


def test_it_stops_when_a_whole_turn_of_updates_changed_little(sphere_set):
    """Darken answers with nearly the same picture every time: the second turn changes next to nothing."""
    frame, data = sphere_set
    trainer, originals = start(data)
    steps, rounds = 9 * VIEWS, []
    settings = EditSettings(
        **{**settings_dict(), "steps": steps, "images_per_round": 1, "steps_per_round": 1, "settle": 0.02}
    )
    for event in iterative_dataset_update(trainer, data, originals, frame, Darken(), "x", settings):
        if isinstance(event, ImageUpdated):
            rounds.append(event.change)
    assert VIEWS < len(rounds) < steps and trainer.step_index == len(rounds) - 1
    assert sum(rounds[-VIEWS:]) / VIEWS < 0.02 <= sum(rounds[-VIEWS - 1 : -1]) / VIEWS


def test_noise_levels_fill_their_range(sphere_set):
    frame, data = sphere_set
    trainer, originals = start(data)
    editor = Darken()
    settings = EditSettings(
        **{**settings_dict(), "steps": 40, "images_per_round": 1, "steps_per_round": 1, "t_min": 0.3}
    )
    list(iterative_dataset_update(trainer, data, originals, frame, editor, "x", settings))
    levels = sorted(t for *_, t, _, _ in editor.asked)
    assert len(levels) == 40 and 0.3 <= levels[0] < 0.4 and 0.88 < levels[-1] <= 0.98


def settings_dict():
    import msgspec

    return msgspec.structs.asdict(SETTINGS)


@pytest.mark.parametrize("stop_at", [1, 4, 9, 14])
def test_a_cancelled_edit_goes_on_as_if_never_stopped(sphere_set, tmp_path, stop_at):
    """Stopped at any check (inside a render, inside a diffusion, between NeRF steps), saved, loaded, gone on."""
    frame, data = sphere_set
    pristine = data.pixels.clone()
    trainer, originals = start(data)
    list(iterative_dataset_update(trainer, data, originals, frame, Darken(), "x", SETTINGS))
    expected = data.pixels.clone(), trainer.nerf.state_dict()

    data.pixels.copy_(pristine)
    trainer, _ = start(data)
    calls = 0

    def check():
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Cancelled

    edited = set()
    with pytest.raises(Cancelled):
        for event in iterative_dataset_update(trainer, data, originals, frame, Darken(), "x", SETTINGS, check):
            if isinstance(event, ImageUpdated):
                edited.add(event.view)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, trainer, frame, NAMES, {NAMES[v]: data.image(v) for v in edited})

    data.pixels.copy_(pristine)
    opened = Checkpoint(path)
    again = Trainer(opened.nerf("cpu"), SETTINGS.losses, OptimiserConfig(), seed=SETTINGS.seed)
    opened.restore_optimiser(again)
    for name, image in opened.images().items():
        data.replace(NAMES.index(name), image)
    list(iterative_dataset_update(again, data, originals, frame, Darken(), "x", SETTINGS))
    assert torch.equal(data.pixels, expected[0])
    weights = again.nerf.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected[1].items())


def test_single_rays_of_all_views_first_then_patches_with_the_perceptual_loss(sphere_set):
    frame, data = sphere_set
    losses = LossConfig("l1", 1.0)
    settings = msgspec.structs.replace(SETTINGS, steps=5, single_rays=0.6, losses=losses)
    nerf = Nerfacto(TINY_NERF, len(data))
    shapes = []
    trainer = Trainer(
        nerf, losses, OptimiserConfig(), lambda a, b: shapes.append(a.shape) or (a - b).abs().mean((1, 2, 3))
    )
    views = []
    step = trainer.step
    trainer.step = lambda batch: views.append(batch.rays.camera_indices.unique().numel()) or step(batch)
    originals = [data.image(i).clone() for i in range(len(data))]
    events = list(iterative_dataset_update(trainer, data, originals, frame, Darken(), "darker", settings))
    perceptual = ["perceptual" in e.losses for e in events if isinstance(e, NerfUpdated)]
    assert perceptual == [False, False, False, True, True]  # three fifths of five steps
    assert shapes == [(2, 8, 8, 3)] * 2
    assert min(views[:3]) > 2 >= max(views[3:])  # 128 single rays come from all views, two patches from at most two


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("t_min", 0.99),
        ("t_max", 1.2),
        ("diffusion_steps", 0),
        ("images_per_round", 0),
        ("single_rays", 1.1),
    ],
)
def test_senseless_settings_are_refused_by_name(field, value):
    with pytest.raises(BadInput, match=field) as caught:
        EditSettings(**{**settings_dict(), field: value}).checked()
    assert caught.value.field == field


def test_the_paper_preset_is_the_papers():
    from engine.presets import PAPER

    edit = PAPER.edit
    assert (edit.t_min, edit.t_max, edit.diffusion_steps) == (0.02, 0.98, 20)
    assert (edit.guidance.image, edit.guidance.text) == (1.5, 7.5)
    assert (edit.images_per_round, edit.steps_per_round, edit.steps) == (1, 10, 15_000)
    assert edit.patches * edit.patch**2 == 16_384 and edit.patch == 32
    assert edit.losses.pixel == "l1" and edit.losses.perceptual_weight > 0
    assert PAPER.nerf.optimise_cameras and PAPER.long_side == 512 and PAPER.train.steps == 30_000
