# SPDX-License-Identifier: GPL-3.0-or-later
"""Several views edited at once, and their attention to a key view."""

import pytest
import torch

from engine.editors.base import Carried, edit_together
from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.editors.key_attention import KeyAttention, attending

from .toy_editor import ToyEditor

OPTIONS = {"text_guidance": 5.0, "image_guidance": 1.5, "diffusion_steps": 4}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def editor(tiny_pipeline):
    return InstructPix2Pix(tiny_pipeline, "tiny", "cpu")


def pictures(count, seed=0, shape=(32, 32)):
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(*shape, 3, generator=random) for _ in range(count)]


def randoms(count):
    return [torch.Generator().manual_seed(100 + number) for number in range(count)]


def prepared_views(editor, originals, **options):
    prepared = editor.prepare("make it night", OPTIONS | options)
    return prepared, [prepared.view(original) for original in originals]


def passes_of(editor):
    """Sizes of the batches that the UNet sees from now on."""
    passes: list[int] = []
    editor.unet.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    return passes


@pytest.mark.parametrize(
    "options", [{}, {"sampler": "dpm++"}, {"tethered": True}, {"guided_above": 0.5}], ids=lambda o: str(*o)
)
@pytest.mark.parametrize("t", [0.98, 0.5])
def test_views_edited_at_once_are_as_edited_one_by_one(editor, options, t):
    originals, renders = pictures(3), pictures(3, seed=1)
    prepared, views = prepared_views(editor, originals, **options)
    alone = [view.edit(p, t, r) for view, p, r in zip(views, renders, randoms(3), strict=True)]
    passes = passes_of(editor)
    together = edit_together(prepared, views, renders, t, randoms(3), lambda: None)
    assert set(passes) <= {9, 3} and len(passes) == 4  # three views, thrice where they are guided
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_what_is_carried_over_stays_with_its_view(editor):
    originals, renders = pictures(2), pictures(2, seed=1)
    prepared, views = prepared_views(editor, originals)
    seen = torch.zeros(32, 32, dtype=torch.bool)
    seen[:16] = True
    carried = [None, Carried(pictures(1, seed=2)[0], seen)]
    asked = zip(views, renders, randoms(2), carried, strict=True)
    alone = [view.edit(p, 0.9, r, carried=c) for view, p, r, c in asked]
    together = prepared.edit_many(views, renders, 0.9, randoms(2), carried=carried)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_views_of_other_shapes_are_batches_of_their_own(editor):
    shapes = [(32, 32), (24, 48), (32, 32)]
    originals = [pictures(1, seed, shape)[0] for seed, shape in enumerate(shapes)]
    prepared, views = prepared_views(editor, originals)
    alone = [view.edit(p, 0.7, r) for view, p, r in zip(views, originals, randoms(3), strict=True)]
    passes = passes_of(editor)
    together = prepared.edit_many(views, originals, 0.7, randoms(3))
    assert sorted(set(passes)) == [3, 6]
    for one, other, shape in zip(alone, together, shapes, strict=True):
        assert other.shape[:2] == shape
        torch.testing.assert_close(one, other, **CLOSE)


def test_without_a_share_key_views_change_nothing_and_with_one_all_views_follow_them(editor):
    originals, renders, key = pictures(2), pictures(2, seed=1), pictures(2, seed=5)
    prepared, views = prepared_views(editor, originals)
    plain = prepared.edit_many(views, renders, 0.9, randoms(2))
    given = [(prepared.view(key[0]), key[1])]
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain, prepared.edit_many(views, renders, 0.9, randoms(2), keys=given), strict=True)
    )
    attentive, views = prepared_views(editor, originals, key_attention=0.4)
    passes = passes_of(editor)
    followed = attentive.edit_many(views, renders, 0.9, randoms(2), keys=given)
    assert set(passes) == {9}  # two views and the key view
    others = attentive.edit_many(views, renders, 0.9, randoms(2), keys=[(attentive.view(key[0]), 1 - key[1])])
    for one, other, third in zip(plain, followed, others, strict=True):
        assert (one - other).abs().max() > 1e-4 and (other - third).abs().max() > 1e-5


def test_a_batch_without_key_views_attends_to_one_of_its_own_and_alone_a_view_to_itself(editor):
    originals, renders = pictures(3), pictures(3, seed=1)
    _, plain = prepared_views(editor, originals)
    attentive, views = prepared_views(editor, originals, key_attention=0.4)
    alone, once = (v[0].edit(renders[0], 0.9, randoms(1)[0]) for v in (plain, views))
    torch.testing.assert_close(alone, once, **CLOSE)
    made = [attentive.edit_many(views, renders, 0.9, randoms(3)) for _ in range(2)]
    for one, again, view, render, random in zip(*made, plain, renders, randoms(3), strict=True):
        assert torch.equal(one, again)
        assert (one - view.edit(render, 0.9, random)).abs().max() > 1e-4


def test_the_share_is_of_what_the_key_view_is_asked_for(editor):
    """By the definition: (1 − w)·attention(own) + w·attention(the key's keys and values), in each part alone."""
    attn = next(module for name, module in editor.unet.named_modules() if name.endswith("attn1"))
    hidden = torch.randn(6, 5, attn.to_q.in_features, generator=torch.Generator().manual_seed(0))  # 2 parts of 3 views
    before = dict(editor.unet.attn_processors)
    with torch.no_grad():
        own = attn(hidden)
        with attending(editor.unet, 3, 1, 0.4):
            assert isinstance(attn.processor, KeyAttention)
            mixed = attn(hidden)
        keys = torch.cat([hidden[1:2].expand(3, -1, -1), hidden[4:5].expand(3, -1, -1)])
        theirs = attn(hidden, encoder_hidden_states=keys)
    torch.testing.assert_close(mixed, 0.6 * own + 0.4 * theirs, **CLOSE)
    torch.testing.assert_close(mixed[[1, 4]], own[[1, 4]], **CLOSE)  # the key's own
    assert editor.unet.attn_processors == before


def test_an_editor_that_edits_one_view_only_is_asked_for_each():
    toy = ToyEditor()
    told = toy.prepare("make it night", {})
    shown = pictures(3)
    made = edit_together(told, [told.view(p) for p in shown], shown, 0.5, randoms(3), lambda: None)
    assert len(toy.asked) == len(made) == 3
    assert all(torch.equal(asked.picture, picture) for asked, picture in zip(toy.asked, shown, strict=True))
