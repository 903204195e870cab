# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth benchmark's simulated editor: true edits with a look of their own, which follow the noised render."""

import itertools

import numpy as np
import pytest
import torch

from benchmarks.truth.data import TruthScene, thinned
from benchmarks.truth.edits import EDITS
from benchmarks.truth.simulated import NO_EDIT, SimulatedEditor, filtered, kept, look
from engine.capture import Intrinsics
from engine.editors.base import Carried

from .conftest import ring, sphere_picture

EDIT = EDITS["red"]
CAMERA = Intrinsics(48, 40, 60.0, 60.0, 24.0, 20.0)


@pytest.fixture(scope="module")
def scene():
    poses = ring(9)
    before = np.stack([sphere_picture(pose, CAMERA) for pose in poses])
    after = (before * np.float32([1.0, 0.6, 0.6])).astype(np.uint8)
    depth = np.ones(before.shape[:3], np.float32)
    return TruthScene("sphere", 7, np.zeros(3), poses, CAMERA, before, {"red": after}, depth, depth > 0)


def pictures(scene, view):
    """(before, after) of a view, (H, W, 3), 0–1."""
    return (torch.from_numpy(p[view]).float() / 255 for p in (scene.before, scene.after["red"]))


def edited(scene, strength, t, seed=0, view=2, picture=None, carried=None, options=None):
    before, _ = pictures(scene, view)
    prepared = SimulatedEditor(scene, strength).prepare(EDIT.instruction, options or {})
    random = torch.Generator().manual_seed(seed)
    return prepared.view(before).edit(before if picture is None else picture, t, random, carried=carried)


def apart(one, other):
    return float((one - other).square().mean().sqrt())


def with_look(scene, view, seed):
    """A picture that is an edit already: the true one, browner than any other."""
    _, after = pictures(scene, view)
    return look(after, 1.5, torch.Generator().manual_seed(seed)).clamp(0, 1)


@pytest.mark.parametrize("t", [0.02, 0.3, 0.7, 0.98, 1.0])
def test_without_strength_every_answer_is_the_true_edit(scene, t):
    for view in (0, 2, 8):
        _, after = pictures(scene, view)
        for picture in (None, torch.rand(40, 48, 3, generator=torch.Generator().manual_seed(1))):
            torch.testing.assert_close(edited(scene, 0.0, t, view=view, picture=picture), after, atol=1e-5, rtol=0)


def test_an_answer_is_a_function_of_the_seed(scene):
    assert torch.equal(edited(scene, 1.0, 0.7, seed=5), edited(scene, 1.0, 0.7, seed=5))
    assert apart(edited(scene, 1.0, 0.7, seed=5), edited(scene, 1.0, 0.7, seed=6)) > 0.01


def test_more_strength_errs_more_from_the_true_edit(scene):
    _, after = pictures(scene, 2)
    errors = [np.mean([apart(edited(scene, s, 1.0, seed), after) for seed in range(12)]) for s in (0.25, 0.5, 1, 2)]
    assert errors == sorted(errors) and errors[0] > 0.01 and errors[-1] > 3 * errors[0]


def test_from_pure_noise_looks_are_independent_of_the_render_and_of_each_other(scene):
    before, _ = pictures(scene, 2)
    for seed in range(4):
        assert torch.equal(edited(scene, 1.0, 1.0, seed), edited(scene, 1.0, 1.0, seed, picture=1 - before))
    _, after = pictures(scene, 2)
    errors = torch.stack([(edited(scene, 0.3, 1.0, seed) - after).mean(dim=(0, 1)) for seed in range(60)])
    pairs = (errors[::2] * errors[1::2]).sum() / errors.square().sum() * 2
    assert abs(float(pairs)) < 0.35  # two calls' colors are not correlated


def test_the_more_of_the_render_is_left_the_more_its_look_is_kept(scene):
    """Twenty edits of one render, whose look is its own: near it from low levels, and as far as any others from high
    ones; and two of them from a low level are nearer to each other."""
    own, _ = with_look(scene, 2, 3), None
    levels = (0.05, 0.3, 0.6, 0.9, 1.0)
    made = {t: [edited(scene, 1.0, t, seed, picture=own) for seed in range(20)] for t in levels}
    to_own = [np.mean([apart(m, own) for m in made[t]]) for t in levels]
    assert to_own == sorted(to_own) and to_own[0] < 0.25 * to_own[-1]
    between = [np.mean([apart(a, b) for a, b in itertools.pairwise(m)]) for m in made.values()]
    assert between == sorted(between) and between[0] < 0.25 * between[-1]


def test_an_unedited_render_is_edited_from_a_high_level_and_hardly_from_a_low_one(scene):
    before, after = pictures(scene, 2)
    share = [
        np.mean([1 - apart(edited(scene, 0.5, t, seed), after) / apart(before, after) for seed in range(10)])
        for t in (0.05, 0.75, 0.98)
    ]
    assert share[0] < 0.1 < share[1] < share[2] and share[2] > 0.5


def test_coarse_things_are_kept_longer_than_fine_ones():
    gain = kept(0.5, 1.0, 32, 32)
    assert gain[0, 0] > 0.9 > 0.3 > gain[0, -1] and (gain[0].diff() <= 0).all()
    assert (kept(0.8, 1.0, 32, 32) <= gain).all() and (kept(0.5, 2.0, 32, 32) >= gain).all()
    assert not kept(1.0, 1.0, 32, 32).any()
    picture = torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(filtered(picture, torch.ones(40, 31)), picture)
    flat = torch.full((20, 30, 3), 0.3)
    torch.testing.assert_close(filtered(flat, kept(0.9, 1.0, 20, 30)), flat * kept(0.9, 1.0, 20, 30)[0, 0])


def test_now_and_then_nothing_is_edited(scene):
    before, after = pictures(scene, 2)
    made = [edited(scene, 1.0, 1.0, seed) for seed in range(300)]
    failed = np.mean([apart(m, before) < apart(m, after) for m in made])
    assert 0.3 * NO_EDIT < failed < 2.5 * NO_EDIT


def test_what_is_carried_over_gives_the_edit_its_look(scene):
    own = with_look(scene, 2, 3)
    seen = torch.zeros(40, 48, dtype=torch.bool)
    seen[:, :30] = True
    options = {"diffusion_steps": 20}
    alone = [edited(scene, 1.0, 0.98, seed, options=options) for seed in range(12)]
    led = [edited(scene, 1.0, 0.98, seed, carried=Carried(own, seen), options=options) for seed in range(12)]
    color = own[seen].mean(dim=0)

    def off(made):
        return np.mean([float((m[seen].mean(dim=0) - color).norm()) for m in made])

    assert off(led) < 0.5 * off(alone)
    nothing = Carried(own, torch.zeros_like(seen))
    assert torch.equal(edited(scene, 1.0, 0.98, 1, carried=nothing), edited(scene, 1.0, 0.98, 1))


def test_a_render_is_known_by_its_nearest_camera(scene):
    editor = SimulatedEditor(scene, 1.0)
    for view in range(len(scene.poses)):
        before, _ = pictures(scene, view)
        noise = 0.1 * torch.randn(before.shape, generator=torch.Generator().manual_seed(view))
        assert editor.camera_of((before + noise).clamp(0, 1)) == view
    with pytest.raises(KeyError):
        editor.prepare("make it something else", {})


def test_its_gradient_leads_to_an_edit_that_is_too_strong(scene):
    """As SDS does, whose single guided predictions no later step takes back."""
    before, after = pictures(scene, 2)
    view = SimulatedEditor(scene, 0.05).prepare(EDIT.instruction, {}).view(before)
    picture = before.clone()
    for seed in range(150):
        random = torch.Generator().manual_seed(seed)
        picture = (picture - 0.3 * view.gradient(picture, 0.5, random)).clamp(0, 1)
    assert float((picture - before).mul(after - before).sum()) > 1.5 * float((after - before).square().sum())
    assert view.gradient(before, 1.0, torch.Generator()).abs().max() < 1e-6  # where no signal is left there is none


def test_a_thinned_scene_has_views_far_from_each_other(scene):
    few = thinned(scene, 3)
    assert few.training == 3 and len(few.poses) == 5 and thinned(scene, 7) is scene
    for own, whole in ((few.before, scene.before), (few.after["red"], scene.after["red"])):
        assert np.array_equal(own[-2:], whole[-2:]) and np.array_equal(own[0], whole[0])
    places = few.poses[:3, :3, 3]
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(3, 1)]
    nearest = np.linalg.norm(scene.poses[1, :3, 3] - scene.poses[0, :3, 3])
    assert gaps.min() > 1.5 * nearest
