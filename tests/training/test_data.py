"""The training data: exact pairs, deterministic scenes and filters, and a vocabulary that keeps its words apart."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from training import filters, vocabulary


def picture() -> np.ndarray:
    rng = np.random.default_rng(1)
    coarse = rng.random((8, 8, 3)).astype(np.float32)
    return np.kron(coarse, np.ones((16, 16, 1), np.float32))


@pytest.mark.parametrize("key", list(filters.FILTERS))
def test_every_filter_changes_the_picture_the_same_way_each_time(key):
    before = picture()
    kept = before.copy()
    after = filters.apply(key, before)
    assert after.shape == before.shape and after.dtype == np.float32
    assert after.min() >= 0 and after.max() <= 1
    assert np.array_equal(before, kept), "the filter wrote into its input"
    assert np.abs(after - before).mean() > 0.03
    assert np.array_equal(after, filters.apply(key, before))


def test_filters_give_pictures_that_differ_from_each_other():
    looks = {key: filters.apply(key, picture()) for key in filters.FILTERS}
    for a in looks:
        for b in looks:
            assert a == b or np.abs(looks[a] - looks[b]).mean() > 0.02, (a, b)


def test_fog_hides_what_is_far_more():
    depth = np.ones((128, 128), np.float32)
    depth[:64] = 3
    p = np.zeros((128, 128, 3), np.float32)
    foggy = filters.apply("fog", p, depth=depth)
    assert foggy[:60].mean() > foggy[68:].mean() + 0.1


def test_no_wording_belongs_to_two_instructions():
    owner: dict[str, str] = {}
    for instruction in vocabulary.INSTRUCTIONS:
        for text in instruction.wordings:
            assert owner.setdefault(text, instruction.key) == instruction.key, text


def test_drawn_texts_have_no_hole_and_unknown_ones_no_known_word():
    rng = np.random.default_rng(0)
    known = set(vocabulary.KEYS) | {"golden", "wooden", "snowy", "foggy", "stormy", "underwater", "sketch", "painting"}
    for _ in range(300):
        text = vocabulary.wording(str(rng.choice(vocabulary.KEYS)), rng)
        assert "{" not in text
        unknown = vocabulary.unknown_text(rng)
        assert "{" not in unknown and not known & set(unknown.split()), unknown


def test_there_are_enough_instructions_in_four_families():
    assert len(vocabulary.INSTRUCTIONS) >= 24
    assert {i.family for i in vocabulary.INSTRUCTIONS} == set(vocabulary.FAMILIES)
    assert all(len(i.wordings) >= 8 for i in vocabulary.INSTRUCTIONS)


@pytest.fixture(scope="module")
def views():
    from training import pairs

    photo = (np.random.default_rng(2).random((160, 200, 3)) * 255).astype(np.uint8)
    for seed in range(5):  # the first scene whose subject is large enough
        rendered = pairs.render_scene(seed, False, [photo])
        if rendered:
            return seed, photo, rendered
    raise AssertionError("five scenes without a view")


def test_a_scene_is_the_same_each_time(views):
    from training import pairs

    seed, photo, rendered = views
    again = pairs.render_scene(seed, False, [photo])
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(rendered, again, strict=True))


def test_outside_the_subject_nothing_changes(views):
    import cv2

    from training import pairs

    for stack, mask in views[2]:
        outside = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
        for key in vocabulary.KEYS:
            if vocabulary.BY_KEY[key].of_subject:
                edit = stack[1 + pairs.RENDERED.index(key)]
                assert np.array_equal(edit[outside], stack[0][outside]), key
                assert np.abs(edit[mask].astype(int) - stack[0][mask]).mean() > 2, key
