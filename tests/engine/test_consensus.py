# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits that are brought to a look that all agree about: against looks that are known, put onto the true pictures of a
sphere in its room."""

import msgspec
import pytest
import torch

from engine.edit import consensus
from engine.edit.consensus import POINTS, Look, agreed_looks, bend_towards, colors_towards, recolored
from engine.edit.iterative import ImageUpdated
from engine.edit.keep import Background
from engine.edit.overlap import overlap_of
from engine.jobs.edit_stages import EditWatch, edit_stages
from engine.progress import Job, Plan

from .conftest import VIEWS
from .test_projected import COUNT, SETTINGS, RightHalf, Run, SoftRightHalf, Unedited, few  # noqa: F401

SIZE = 48


def waves(right: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """A picture (…, 3) that is smooth and has something everywhere; places from −1 to 1."""
    kinds = ((13, 0, 9), (8, 1, 15), (12, 2, 10))
    return torch.stack([0.5 + 0.4 * torch.sin(a * right + b) * torch.cos(c * down + a) for a, b, c in kinds], dim=-1)


def places(size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    return tuple(torch.meshgrid(line, line, indexing="xy"))


def transform(seed: int, strength: float = 0.1) -> torch.Tensor:
    """An affine color transform (4, 3) that is not far from none; of an odd seed the opposite of the one before."""
    random, sign = torch.Generator().manual_seed(seed // 2), 1 - 2 * (seed % 2)
    own = strength * torch.randn((4, 3), generator=random) * torch.tensor([[1.0], [1], [1], [0.5]])
    return torch.eye(4, 3) + sign * own


def test_a_color_transform_is_found_again_whatever_a_fifth_of_the_picture_says():
    picture, wanted, weight = waves(*places()), transform(1), torch.ones(SIZE, SIZE)
    found = recolored(picture, colors_towards(picture, recolored(picture, wanted), weight))
    assert (found - recolored(picture, wanted)).abs().max() < 0.01
    wrong = recolored(picture, wanted)
    wrong[:, : SIZE // 5] = torch.tensor([1.0, 0.0, 1.0])
    found = recolored(picture, colors_towards(picture, wrong, weight))
    assert (found - recolored(picture, wanted)).abs().mean() < 0.02
    weight[:, : SIZE // 5 + 3] = 0  # not even asked
    found = recolored(picture, colors_towards(picture, wrong, weight))
    assert (found - recolored(picture, wanted)).abs().max() < 0.01


def test_a_picture_of_one_color_takes_another_and_nothing_blows_up():
    picture, weight = torch.full((SIZE, SIZE, 3), 0.3), torch.ones(SIZE, SIZE)
    target = torch.tensor([0.5, 0.3, 0.2]).expand(SIZE, SIZE, 3)
    colors = colors_towards(picture, target, weight)
    assert (recolored(picture, colors) - target).abs().max() < 0.005
    assert (colors - torch.eye(4, 3)).abs().max() < 0.3  # and so are colors that it does not have
    for nothing in (torch.zeros(SIZE, SIZE), weight):
        assert bend_towards(picture, target, nothing).abs().max() < 1e-6
    assert torch.allclose(colors_towards(picture, target, torch.zeros(SIZE, SIZE)), torch.eye(4, 3))


@pytest.mark.parametrize("strip", [0, SIZE // 6])
def test_a_bend_is_found_again_from_what_is_not_wrong(strip):
    right, down = places()
    by = 2 * 0.6 / SIZE  # 0.6 pixels at most
    moved_right, moved_down = by * torch.sin(3 * down), by * torch.cos(3 * right)
    picture, target = waves(right, down), waves(right + moved_right, down + moved_down)
    target[:, :strip] = 0.9
    bend = bend_towards(picture, target, torch.ones(SIZE, SIZE))
    away = slice(strip + SIZE // 8, -2)
    left = (Look(torch.eye(4, 3), bend).bent(picture) - target)[2:-2, away].abs().mean()
    assert left < 0.35 * (picture - target)[2:-2, away].abs().mean()


def test_no_look_changes_nothing_and_a_bend_is_in_halves_of_the_sides():
    right, down = places(2 * SIZE)
    picture = waves(right, down)
    assert torch.equal(Look.none("cpu").of(picture), picture)
    look = Look(torch.eye(4, 3), torch.tensor([0.1, -0.05])[:, None, None].expand(2, POINTS, POINTS))
    inside = slice(12, -12)
    torch.testing.assert_close(look.of(picture)[inside, inside], waves(right + 0.1, down - 0.05)[inside, inside],
                               atol=0.01, rtol=0)  # fmt: skip


@pytest.fixture
def ring_of(sphere_set):
    """(overlap, true pictures by view) of every second view."""
    _, views, pictures = sphere_set
    truth = {number: pictures.image(view).float() / 255 for number, view in enumerate(range(0, VIEWS, 2))}
    return overlap_of(Unedited(views[::2]), len(truth), "cpu"), truth


def brought(edits, overlap, *given):
    return {view: look.of(edits[view]) for view, look in agreed_looks(edits, overlap, *given).items()}


def apart(pictures, truth, views):
    return float(torch.stack([(pictures[view] - truth[view]).abs().mean() for view in views]).mean())


def test_looks_that_were_drawn_about_the_truth_go_and_it_is_what_stays(ring_of):
    overlap, truth = ring_of
    edits = {view: recolored(truth[view], transform(view)).clamp(0, 1) for view in truth}
    before = apart(edits, truth, truth)
    after = brought(edits, overlap)
    assert apart(after, truth, truth) < 0.4 * before
    # A few views that were edited quite wrongly do not lead the others.
    for view in (3, 8, 14):
        edits[view] = torch.full_like(truth[view], 0.9)
    others = [view for view in truth if view not in (3, 8, 14)]
    assert apart(brought(edits, overlap), truth, others) < 0.5 * before


def test_pictures_that_agree_stay_as_they_are(ring_of):
    overlap, truth = ring_of
    after = brought(truth, overlap)
    assert apart(after, truth, truth) < 0.01
    contrast = torch.stack([after[v].std() / truth[v].std() for v in truth])
    assert contrast.mean() == pytest.approx(1, abs=0.01)  # no fit is too flat


def test_all_take_the_colors_of_the_key_views_which_stay(ring_of):
    overlap, truth = ring_of
    edits = {view: recolored(truth[view], transform(view)).clamp(0, 1) for view in truth}
    keyed = {view: recolored(truth[view], transform(100, 0.2)).clamp(0, 1) for view in truth}
    for keys in ([5], [5, 14]):
        given = edits | {key: keyed[key] for key in keys}
        looks = agreed_looks(given, overlap, keys)
        assert sorted(looks) == [view for view in truth if view not in keys]
        after = {view: look.of(given[view]) for view, look in looks.items()}
        assert apart(after, keyed, looks) < 0.5 * apart(edits, keyed, looks)


def test_what_was_not_edited_has_no_say(ring_of):
    """The left half of each picture shows the truth, whatever the edit: looks are those of the right half."""
    overlap, truth = ring_of
    half = torch.zeros(20, 24, 1)
    half[:, 12:] = 1
    edits = {view: torch.where(half > 0, recolored(truth[view], transform(view, 0.15)), truth[view]) for view in truth}
    masked, whole = (brought(edits, overlap, [], mask) for mask in (lambda view: half, lambda view: None))

    def wrong(pictures):
        return float(torch.stack([(pictures[v] - truth[v])[:, 12:].abs().mean() for v in truth]).mean())

    assert wrong(masked) < wrong(whole) and wrong(masked) < 0.8 * wrong(edits)


@pytest.mark.parametrize("keyed", [False, True])
def test_of_whom_nothing_is_said_has_no_say_in_what_is_usual(ring_of, keyed):
    """Most pictures show nothing that was edited, and one of the key views."""
    overlap, truth = ring_of
    edits = {view: recolored(truth[view], transform(view)).clamp(0, 1) for view in truth}
    heard = [view for view in truth if view % 3 == 0]
    keys = [heard[0], 1] if keyed else []

    def mask(view):
        return torch.full((20, 24, 1), float(view in heard))

    looks = agreed_looks(edits, overlap, keys, mask)
    others = [looks[view] for view in truth if view not in heard and view not in keys]
    if keyed:  # the colors of that key view alone of which something is said
        alone = agreed_looks({view: edits[view] for view in truth if view != 1}, overlap, keys[:1], mask)
        assert (others[0].colors - alone[2].colors).abs().max() < 0.1 * (alone[2].colors - torch.eye(4, 3)).abs().max()
    else:
        assert all(torch.equal(look.colors, torch.eye(4, 3)) and not look.bend.any() for look in others)
        mean = torch.stack([looks[view].colors for view in heard]).mean(dim=0)
        torch.testing.assert_close(mean, torch.eye(4, 3), atol=1e-5, rtol=0)


def test_few_others_say_nothing(ring_of):
    overlap, truth = ring_of
    assert not agreed_looks({}, overlap)
    two = {4: truth[4] * 0.5, 5: truth[5]}
    assert all(torch.equal(look.of(two[view]), two[view]) for view, look in agreed_looks(two, overlap).items())


@pytest.mark.parametrize("keyed", [False, True])
def test_the_schedule_brings_the_first_edits_together_before_the_first_step(few, keyed, monkeypatch):  # noqa: F811
    settings = msgspec.structs.replace(SETTINGS, alone=True, agreed_looks=True, short_rounds=0, steps=1)
    run = Run(few, settings)
    if keyed:
        run = Run(few, settings, keys={4: run.originals.pictures[4].flip(-1)})
    given = {}

    def noted(pictures, overlap, keys, mask, check):
        given.update({view: pictures[view].clone() for view in pictures}, keys=keys)
        return agreed_looks(pictures, overlap, keys, mask, check)

    monkeypatch.setattr("engine.edit.projected.agreed_looks", noted)
    told, events = [], []
    watch = EditWatch(Plan(*edit_stages(settings, COUNT, 0, 0)), Job(on_progress=told.append), COUNT)
    watch.start()
    for event in run.events():
        watch.saw(event)
        events += [event] if isinstance(event, ImageUpdated) else []
    assert [(now.stage, now.step) for now in told if now.label == "Matching the edited views"] == [("first", COUNT)]
    keys = [4] if keyed else []
    assert given.pop("keys") == keys and sorted(given) == list(range(COUNT))
    assert all((asked.carried is not None) == keyed for asked in run.editor.asked)
    assert [event.edits for event in events] == [0] * keyed + [1] * (COUNT - keyed) + [0] * (COUNT - keyed)
    for view, look in agreed_looks(given, overlap_of(Unedited(run.views), COUNT, "cpu"), keys).items():
        assert (run.pictures.image(view).float() / 255 - look.of(given[view])).abs().max() < 1 / 255
    assert not keyed or torch.equal(run.pictures.image(4), run.originals.pictures[4].flip(-1))


def test_what_has_to_stay_stays_when_looks_are_brought_together(few):  # noqa: F811
    settings = msgspec.structs.replace(SETTINGS, alone=True, agreed_looks=True, short_rounds=0, steps=1, keep=0.5)
    run = Run(few, settings)
    backgrounds = []
    mask = Background.mask

    def noted(self, height, width):
        backgrounds.append(mask(self, height, width))
        return backgrounds[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Background, "mask", noted)
        list(run.events())
    assert len(backgrounds) == 2 * COUNT  # once when a view was edited, once when its look was brought to the others'
    for view in range(COUNT):
        image, original = run.pictures.image(view), run.originals.pictures[view]
        still = backgrounds[view][..., 0] == 0
        assert still.any() and torch.equal(image[still], original[still])


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_what_lies_outside_a_region_has_no_say(few, keep, monkeypatch):  # noqa: F811
    settings = msgspec.structs.replace(SETTINGS, alone=True, agreed_looks=True, short_rounds=0, steps=1, keep=keep)
    run, masks = Run(few, settings), {}
    run.prompts.told[0] = msgspec.structs.replace(run.prompts.told[0], region=RightHalf())
    run.originals.region = run.prompts.told[0].region

    def noted(pictures, overlap, keys, mask, check):
        masks.update({view: mask(view) for view in pictures})
        return agreed_looks(pictures, overlap, keys, mask, check)

    monkeypatch.setattr("engine.edit.projected.agreed_looks", noted)
    list(run.events())
    for view in range(COUNT):
        where, region = masks[view], run.originals.mask(view)
        assert (region == 0).any() and (where[region == 0] == 0).all() and where.any()
        assert torch.equal(where, region) == (keep == 0)


def test_many_views_are_not_all_asked(ring_of, monkeypatch):
    overlap, truth = ring_of
    asked = []
    warp = consensus.warp
    monkeypatch.setattr(consensus, "warp", lambda *given: asked.append(1) or warp(*given))
    monkeypatch.setattr(consensus, "OTHERS", 5)
    agreed_looks(truth, overlap)
    assert len(asked) <= consensus.PASSES * len(truth) * 5


@pytest.mark.parametrize("agreed", [False, True])
def test_a_soft_edge_is_put_back_once(few, agreed, monkeypatch):  # noqa: F811
    settings = msgspec.structs.replace(SETTINGS, alone=True, agreed_looks=agreed, short_rounds=0, steps=1)
    monkeypatch.setattr("engine.edit.projected.agreed_looks", lambda of, *_: {view: Look.none("cpu") for view in of})
    whole, soft = Run(few, settings), Run(few, settings)  # they share their training pictures
    list(whole.events())
    edits = [whole.pictures.image(view).clone().float() for view in range(COUNT)]
    soft.prompts.told[0] = msgspec.structs.replace(soft.prompts.told[0], region=SoftRightHalf())
    soft.originals.region = soft.prompts.told[0].region
    list(soft.events())
    for view, edited in enumerate(edits):
        original = soft.originals.pictures[view].float()
        expected = original + 0.25 * (edited - original)
        assert (soft.pictures.image(view).float() - expected)[:, 8:12].abs().max() <= 1.0
        assert (edited - original)[:, 8:12].abs().max() > 16  # so that a quarter of a quarter would be seen
