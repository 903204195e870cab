# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterative Dataset Update: what it asks of the editor, in which order, and that it resumes as if never stopped."""

import msgspec
import pytest
import torch

from engine.edit.iterative import (
    ImageUpdated,
    RelevanceComputed,
    SceneUpdated,
    iterative_dataset_update,
    view_of_update,
)
from engine.edit.methods import begin
from engine.edit.originals import Originals
from engine.edit.prompt import Prompts
from engine.edit.settings import EditSettings, Told, with_options
from engine.editors.catalogue import HUB_NAME
from engine.editors.instruct_pix2pix import Options
from engine.errors import BadInput, Cancelled
from engine.metrics.perceptual import load_perceptual
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.registry import open_scene
from engine.scenes.settings import LossConfig, OptimiserConfig

from .conftest import TINY_NERF, VIEWS
from .toy_editor import ToyEditor

SETTINGS = EditSettings(
    steps=11,
    images_per_round=2,
    steps_per_round=3,
    patches=2,
    patch=8,
    losses=LossConfig("l1", 0.0),
    optimiser=OptimiserConfig(),
    options={"text_guidance": 4.0, "image_guidance": 1.2, "diffusion_steps": 7},
)


def replaced(**changes):
    return msgspec.structs.replace(SETTINGS, **changes)


class Run:
    """All that an edit of the sphere takes."""

    def __init__(self, sphere_set, settings=SETTINGS, editor=None, told="darker", perceptual=None):
        frame, views, self.pictures = sphere_set

        def load():
            torch.manual_seed(0)
            nerf = Nerfacto(TINY_NERF, len(views))
            return Trainer(nerf, frame, views, settings.training, settings.seed, perceptual)

        self.trainer = load()
        self.editor = editor or ToyEditor()
        self.settings = settings
        self.originals = Originals([self.pictures.image(i).clone() for i in range(len(views))], load)
        self.prompts = Prompts(self.editor, settings.told(told))

    def events(self, check=lambda: None):
        return iterative_dataset_update(self.trainer, self.pictures, self.originals, self.prompts, self.settings, check)


def test_the_algorithm(sphere_set):
    run = Run(sphere_set)
    trainer, pictures, editor = run.trainer, run.pictures, run.editor
    events = []
    renders = []
    for event in run.events():
        if isinstance(event, ImageUpdated):
            renders.append(trainer.scene.render(trainer.camera(event.view)).rgb)
            assert torch.equal(pictures.image(event.view), event.image)
        events.append(event)
    kinds = "".join("I" if isinstance(e, ImageUpdated) else "N" for e in events)
    assert kinds == "IINNNIINNNIINNNIINN"  # d = 2 image updates, n = 3 NeRF updates, in turn
    assert [e.step for e in events if isinstance(e, SceneUpdated)] == list(range(1, 12))
    assert editor.prepared == ["darker"]  # once an edit
    views = [e.view for e in events if isinstance(e, ImageUpdated)]
    assert editor.viewed == len(set(views)) == len(views)  # once a view; no view twice in a turn
    for asked, view, render in zip(editor.asked, views, renders, strict=True):
        torch.testing.assert_close(asked.picture, render)  # the current render is edited
        original = run.originals.pictures[view].float() / 255
        assert torch.equal(asked.original, original)  # on the condition of the unedited picture
        assert SETTINGS.t_min <= asked.t <= SETTINGS.t_max
        assert asked.options == SETTINGS.options and asked.instruction == "darker"
    assert len({asked.t for asked in editor.asked}) == len(views)
    untouched = set(range(VIEWS)) - set(views)
    assert untouched and all(torch.equal(pictures.image(v), run.originals.pictures[v]) for v in untouched)


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
    """The toy answers with nearly the same picture every time: the second turn changes next to nothing."""
    steps, rounds = 9 * VIEWS, []
    run = Run(sphere_set, replaced(steps=steps, images_per_round=1, steps_per_round=1, settle=0.02))
    for event in run.events():
        if isinstance(event, ImageUpdated):
            rounds.append(event.change)
    assert VIEWS < len(rounds) < steps and run.trainer.step_index == len(rounds) - 1
    assert sum(rounds[-VIEWS:]) / VIEWS < 0.02 <= sum(rounds[-VIEWS - 1 : -1]) / VIEWS


def test_noise_levels_fill_their_range(sphere_set):
    run = Run(sphere_set, replaced(steps=40, images_per_round=1, steps_per_round=1, t_min=0.3))
    list(run.events())
    levels = sorted(asked.t for asked in run.editor.asked)
    assert len(levels) == 40 and 0.3 <= levels[0] < 0.4 and 0.88 < levels[-1] <= 0.98


def stopping_at(count):
    """A check that cancels when it is asked for the ``count``-th time."""
    calls = 0

    def check():
        nonlocal calls
        calls += 1
        if calls == count:
            raise Cancelled

    return check


def parent_of(sphere_set, path):
    """The checkpoint of an unedited scene that has learned a little."""
    run = Run(sphere_set)
    for _ in range(5):
        run.trainer.step(run.pictures)
    run.trainer.save(path)
    return open_scene(path)


class Stopped:
    """An edit that stands on a checkpoint, run whole, or stopped and gone on with."""

    def __init__(self, sphere_set, tmp_path, settings, changes=()):
        _, self.views, self.pictures = sphere_set
        self.pristine = self.pictures.pixels.clone()
        self.parent = parent_of(sphere_set, tmp_path / "parent.safetensors")
        self.path = tmp_path / "edit.safetensors"
        self.settings, self.changes = settings, changes

    def begin(self, check=lambda: None, saved=None):
        """(trainer, events, editor, prompts), as a process does that has nothing but the disk."""
        self.pictures.pixels.copy_(self.pristine)
        editor = ToyEditor()
        prompts = Prompts(editor, self.settings.told("darker"), self.changes)
        torch.rand(100)  # whatever else draws random numbers meanwhile
        started = begin(self.settings, self.parent, self.views, self.pictures, prompts, None, "cpu", check, saved)
        return *started, editor, prompts

    def whole(self):
        trainer, events, *_ = self.begin()
        events = list(events)
        return self.pictures.pixels.clone(), trainer.nerf.state_dict(), events

    def stopped_at(self, count):
        """Stopped at the count-th check, saved, loaded, gone on; and the step at which it was stopped."""
        edited = set()
        trainer, events, *_ = self.begin(stopping_at(count))
        with pytest.raises(Cancelled):
            for event in events:
                if isinstance(event, ImageUpdated):
                    edited.add(event.view)
        stopped = trainer.step_index
        trainer.save(self.path, {self.views[v].name: self.pictures.image(v) for v in edited})
        again, events, *_ = self.begin(saved=open_scene(self.path))
        assert again.step_index == stopped
        list(events)
        return self.pictures.pixels.clone(), again.nerf.state_dict(), stopped


def assert_same(one, other):
    assert torch.equal(one[0], other[0])
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(other[1][name], tensor) for name, tensor in one[1].items())


@pytest.mark.parametrize("stop_at", [1, 4, 9, 14])
def test_a_cancelled_edit_goes_on_as_if_never_stopped(sphere_set, tmp_path, stop_at):
    """Stopped at any check (inside a render, inside a diffusion, between NeRF steps), saved, loaded, gone on."""
    edit = Stopped(sphere_set, tmp_path, SETTINGS)
    assert_same(edit.stopped_at(stop_at), edit.whole())


AGREED = replaced(steps=7, agreed_relevance=0.5, keep=0.4)


@pytest.mark.parametrize("stop_at", [20, 2 * VIEWS + 4, 3 * VIEWS + 4, 3 * VIEWS + 12])
def test_views_that_agreed_do_so_again_when_the_edit_goes_on(sphere_set, tmp_path, stop_at):
    """Stopped while relevance is measured, while views agree, inside an edit, and between the scene's steps: the maps
    come from the unedited scene's depth, not from the scene as it is by then."""
    edit = Stopped(sphere_set, tmp_path, AGREED)
    expected = edit.whole()
    again = edit.stopped_at(stop_at)
    assert (again[2] > 0) is (stop_at > 3 * VIEWS + 4)
    assert_same(again, expected)


def test_views_agree_once_and_keep_what_they_agreed_on(sphere_set, tmp_path):
    edit = Stopped(sphere_set, tmp_path, AGREED)
    pixels, _, events = edit.whole()
    assert [e.view for e in events[:VIEWS]] == list(range(VIEWS))
    kinds = [type(e) for e in events]
    assert kinds[:VIEWS] == [RelevanceComputed] * VIEWS and RelevanceComputed not in kinds[VIEWS:]
    edit.settings = msgspec.structs.replace(AGREED, agreed_relevance=0.0)
    alone, _, events = edit.whole()
    assert RelevanceComputed not in {type(e) for e in events}
    assert not torch.equal(pixels, alone)  # each by its own map
    edit.settings = msgspec.structs.replace(AGREED, keep=0.0)
    free, _, events = edit.whole()
    assert RelevanceComputed not in {type(e) for e in events}
    same = [float((some == edit.pristine).all(1).float().mean()) for some in (pixels, alone, free)]
    assert min(same[:2]) > same[2] + 0.01  # some of the edited views stayed as they were


def test_an_editor_that_cannot_say_where_is_not_asked_to_keep(sphere_set):
    for settings in (replaced(keep=0.5), replaced(keep=0.5, agreed_relevance=0.5)):
        run = Run(sphere_set, settings, ToyEditor(relevant=False))
        with pytest.raises(BadInput, match="cannot keep the background") as caught:
            list(run.events())
        assert caught.value.field == "keep_background"


CHANGED = Told("much darker than before", {"brightness": 0.4}, step=6)


def test_what_is_told_later_holds_from_its_step_on(sphere_set, tmp_path):
    plain, changed = Stopped(sphere_set, tmp_path, SETTINGS), Stopped(sphere_set, tmp_path, SETTINGS, [CHANGED])
    expected, events = plain.whole(), changed.whole()[2]
    first = next(k for k, event in enumerate(events) if isinstance(event, SceneUpdated) and event.step == 6) + 1
    assert len(events) == len(expected[2])
    for k, (before, after) in enumerate(zip(expected[2], events, strict=True)):
        assert type(before) is type(after)
        if isinstance(before, ImageUpdated):
            assert before.view == after.view and (before.change == after.change) is (k < first)
        elif k < first:
            assert before == after
    assert not torch.equal(plain.pristine, changed.pictures.pixels)
    assert not torch.equal(expected[0], changed.pictures.pixels)

    known = changed.pictures.pixels.clone()
    trainer, events, editor, prompts = plain.begin()  # told in the middle of the run, before its step
    for event in events:
        if isinstance(event, SceneUpdated) and event.step == 4:
            prompts.change(CHANGED)
    assert torch.equal(plain.pictures.pixels, known)
    assert editor.prepared == ["darker", CHANGED.instruction] and trainer.step_index == 11
    assert [a.instruction for a in editor.asked] == ["darker"] * 4 + [CHANGED.instruction] * 4
    assert all(a.options == CHANGED.options for a in editor.asked[4:])


@pytest.mark.parametrize("stop_at", [11, 20, 26])
def test_an_edit_that_was_told_something_else_goes_on_as_if_never_stopped(sphere_set, tmp_path, stop_at):
    """Before the change, and at and after it."""
    edit = Stopped(sphere_set, tmp_path, SETTINGS, [CHANGED])
    expected = edit.whole()
    again = edit.stopped_at(stop_at)
    assert (again[2] >= 6) is (stop_at > 11)
    assert_same(again, expected)


def test_views_agree_anew_about_what_is_told_later(sphere_set, tmp_path):
    told = msgspec.structs.replace(CHANGED, keep=0.4)
    edit = Stopped(sphere_set, tmp_path, AGREED, [told])
    events = edit.whole()[2]
    kinds = "".join({RelevanceComputed: "R", ImageUpdated: "I", SceneUpdated: "N"}[type(event)] for event in events)
    assert kinds == "R" * VIEWS + "IINNNIINNN" + "R" * VIEWS + "IIN"


def test_single_rays_of_all_views_first_then_patches_with_the_perceptual_loss(sphere_set):
    shapes = []
    run = Run(
        sphere_set,
        replaced(steps=5, single_rays=0.6, losses=LossConfig("l1", 1.0)),
        perceptual=lambda a, b: shapes.append(a.shape) or (a - b).abs().mean((1, 2, 3)),
    )
    views, rays = [], []

    def listening(batch, update=run.trainer._update):
        views.append(batch.rays.camera_indices.unique().numel())
        rays.append(len(batch.colours))
        return update(batch)

    run.trainer._update = listening
    perceptual = ["perceptual" in e.losses for e in run.events() if isinstance(e, SceneUpdated)]
    assert perceptual == [False, False, False, True, True]  # three fifths of five steps
    assert shapes == [(2, 8, 8, 3)] * 2 and rays == [128] * 5
    assert min(views[:3]) > 2 >= max(views[3:])  # 128 single rays come from all views, two patches from at most two


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("t_min", 0.99),
        ("t_max", 1.2),
        ("images_per_round", 0),
        ("single_rays", 1.1),
        ("keep", 1.1),
        ("agreed_relevance", -0.1),
    ],
)
def test_senseless_settings_are_refused_by_name(field, value):
    with pytest.raises(BadInput, match=field) as caught:
        replaced(**{field: value}).checked()
    assert caught.value.field == field


def test_patches_too_small_for_lpips_are_refused_where_it_compares_them():
    wanted = {"single_rays": 0.5, "losses": LossConfig("l1", 0.3)}
    with pytest.raises(BadInput, match="at least 32") as caught:
        replaced(patch=31, **wanted).checked()
    assert caught.value.field == "patch"
    patch = torch.rand(1, 32, 32, 3)
    assert load_perceptual("cpu")(patch, patch).item() == 0 and replaced(patch=32, **wanted).checked()
    replaced(patch=31, **wanted | {"single_rays": 1.0}).checked()
    replaced(patch=31, **wanted | {"losses": LossConfig("l1")}).checked()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("diffusion_steps", 0),
        ("diffusion_steps", 2.5),
        ("text_guidance", float("nan")),
        ("image_guidance", -1),
        ("sampler", "euler"),
        ("tethered", 1),
        ("relevance", 1.5),
        ("keep_background", True),
    ],
)
def test_senseless_options_are_refused_by_name(field, value):
    with pytest.raises(BadInput, match=field) as caught:
        with_options(SETTINGS, HUB_NAME, "darker", {field: value})
    assert caught.value.field == field


def test_the_paper_preset_is_the_papers():
    from engine.presets import PAPER

    edit = with_options(PAPER.edit, HUB_NAME, "make it night")
    options = msgspec.convert(edit.options, Options, strict=False)
    assert (edit.t_min, edit.t_max, options.diffusion_steps) == (0.02, 0.98, 20)
    assert (options.image_guidance, options.text_guidance) == (1.5, 7.5)
    assert options == Options() and edit.keep == 0  # DDIM, guided throughout, untethered
    assert (edit.images_per_round, edit.steps_per_round, edit.steps) == (1, 10, 15_000)
    assert edit.patches * edit.patch**2 == 16_384 and edit.patch == 32
    assert edit.training.rays == 16_384 and edit.training.patches == 16 and edit.training.single_rays == 0
    assert edit.losses.pixel == "l1" and edit.losses.perceptual_weight > 0
    assert PAPER.nerf.optimise_cameras and PAPER.long_side == 512 and PAPER.train.steps == 30_000
