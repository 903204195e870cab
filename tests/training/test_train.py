"""What the denoiser learns from: pictures that are edited in part, at noise levels that ask for more or less."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from training import models, train, vae  # noqa: E402


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "RUNS", tmp_path)
    return train.Trainer(train.Recipe(own_share=0.0, part_share=1.0))


def batch(complete: list[bool]) -> train.Batch:
    base, target = torch.randn(2, len(complete), 4, 4, 4)
    tokens = torch.zeros(len(complete), 24, dtype=torch.long)
    weight, of_subject = torch.ones(len(complete), 1, 4, 4), torch.zeros(len(complete), dtype=torch.bool)
    return train.Batch(base, target, base, tokens, weight, torch.tensor(complete), of_subject)


def test_a_picture_edited_in_part_or_too_much_lies_in_line_with_the_original_and_the_edit(trainer):
    """A quarter of them have too much of the edit, by at most a half; a quarter none of it."""
    torch.manual_seed(0)
    examples = batch([True] * 400 + [False])
    render = trainer.render(examples)
    span = examples.base - examples.target
    missing = ((render - examples.target) * span).sum((1, 2, 3)) / (span**2).sum((1, 2, 3))
    assert torch.allclose(render, examples.target + missing.view(-1, 1, 1, 1) * span, atol=1e-4)
    assert -0.5 <= missing.min() < -0.45 and 1 - 1e-5 < missing.max() < 1 + 1e-5
    assert 0.18 < (missing[:400] < 0).float().mean() < 0.32 and 0.18 < (missing[:400] > 0.999).float().mean() < 0.32
    assert torch.equal(render[400], examples.target[400])  # nothing says what is missing


def test_a_fresh_optimiser_warms_up_whatever_step_training_is_at(trainer):
    recipe = train.Recipe(warm_up=100)
    rates = [train.learning_rate(20_000, 30_000, recipe, age) for age in (0, 49, 99, 5000)]
    assert np.allclose(np.divide(rates, rates[3]), [0.01, 0.5, 1.0, 1.0])
    assert trainer.age() == 0 and trainer.step > 0  # of the exported model
    examples = batch([True, True])
    examples.tokens[:, -1] = 1
    trainer.learn(examples, torch.tensor([500, 500]), 1e-6)
    assert trainer.age() == 1


def test_the_networks_own_edit_is_noised_where_text_and_picture_are_given(trainer, monkeypatch):
    trainer.recipe = train.Recipe(own_share=1.0, part_share=0.0)
    monkeypatch.setattr(trainer, "edit", lambda noised, condition, levels, words: condition + 10.0)
    examples = batch([True, False])
    render = trainer.render(examples)
    assert torch.equal(render[0], examples.base[0] + 10.0) and torch.equal(render[1], examples.target[1])


def test_the_networks_own_edits_of_the_subject_keep_the_background_as_the_engine_does(trainer, monkeypatch):
    """A column changes by 1, the one beside it by a little: 3 × 3 means by hand, over the largest."""
    trainer.recipe = train.Recipe(own_share=1.0, part_share=0.0)
    change = torch.zeros(4, 8, 8)
    change[0, :, 2], change[0, :, 6] = 1.0, 0.2
    monkeypatch.setattr(trainer, "edit", lambda noised, condition, levels, words: condition + change)
    base, target = torch.randn(2, 2, 4, 8, 8)
    tokens, both = torch.zeros(2, 24, dtype=torch.long), torch.tensor([True, True])
    examples = train.Batch(base, target, base, tokens, torch.ones(2, 1, 8, 8), both, torch.tensor([True, False]))
    kept, whole = trainer.render(examples) - base
    assert torch.allclose(whole, change, atol=1e-6)
    assert torch.allclose(kept[0, :, 2], torch.ones(8), atol=1e-6)
    assert not kept[0, :, 6].any(), "a relevance of 0.2 is below the threshold of 0.4"


def test_some_of_the_networks_own_edits_are_edited_again(trainer, monkeypatch):
    """Of a network that adds one to what it is given noised: edits of pure noise, and edits of those."""
    trainer.recipe = train.Recipe(own_share=1.0, again_share=0.5, part_share=0.0, whole_from=200)
    levels_seen = []

    def edit(noised, condition, levels, words):
        levels_seen.append(levels)
        return noised + 1.0

    monkeypatch.setattr(trainer, "noised", lambda clean, levels: clean)  # so that edits can be counted
    monkeypatch.setattr(trainer, "edit", edit)
    examples = batch([True] * 600 + [False] * 20)
    edits = (trainer.render(examples) - examples.target).mean((1, 2, 3)).round()
    assert set(edits[:600].tolist()) == {1.0, 2.0} and (edits[600:] == 0).all()
    assert 0.4 < (edits[:600] == 2.0).float().mean() < 0.6
    first, second = levels_seen
    assert (first == 999).all() and second.min() >= 200 and second.max() <= 999 and len(second.unique()) > 100


@pytest.mark.parametrize(("excess", "share"), [(0.0, 1 / 3), (0.5, 1 / 4)])
def test_some_of_the_pictures_edited_in_part_are_not_edited_at_all(trainer, excess, share):
    trainer.recipe = train.Recipe(own_share=0.0, part_share=1.0, excess=excess)
    examples = batch([True] * 600)
    untouched = (trainer.render(examples) - examples.base).abs().amax((1, 2, 3)) < 1e-5
    assert untouched.float().mean() == pytest.approx(share, abs=0.08)


def test_levels_are_drawn_more_often_at_both_ends():
    recipe = train.Recipe(noisy_share=0.5, quiet_share=0.25, whole_from=200)
    levels = train.noise_levels(40_000, recipe, np.random.default_rng(0)).numpy()
    # Shares by hand: a quarter from all 1,000 levels, half from the upper 400, a quarter from the lower 200.
    assert (levels < 200).mean() == pytest.approx(0.25 + 0.25 * 0.2, abs=0.01)
    assert (levels >= 600).mean() == pytest.approx(0.5 + 0.25 * 0.4, abs=0.01)
    assert levels.min() >= 0 and levels.max() <= 999


@pytest.mark.parametrize(("level", "share"), [(0, 0.0), (50, 0.25), (200, 1.0), (999, 1.0)])
def test_little_noise_asks_for_little_of_the_edit(trainer, monkeypatch, level, share):
    examples = batch([True, True])
    render = trainer.render(examples)
    guess = torch.randn_like(render)
    weight = next(iter(trainer.parameters().values()))
    monkeypatch.setattr(trainer, "render", lambda _: render)
    monkeypatch.setattr(trainer, "edit", lambda *_: guess + 0 * weight.sum())
    wanted = render + share * (examples.target - render)
    loss = trainer.learn(examples, torch.full((2,), level), 0.0)
    assert loss == pytest.approx(float((guess - wanted).square().mean()), rel=1e-5)


def test_the_decoder_learns_from_edits_of_pure_noise_and_of_noised_truths(trainer, monkeypatch):
    """Of a network that gives back what it is given noised: at the last time step nothing of the truth, at the first
    next to nothing but it."""
    given = []
    monkeypatch.setattr(trainer, "edit", lambda noised, condition, levels, words: given.append(condition) or noised)
    before, truth = torch.rand(2, 3, 32, 32), torch.full((2, 4, 8, 8), 30.0)
    codec = vae.build()
    tokens = models.tokens(trainer.tokenizer, ["make it night", "make it red"])
    noise, kept = trainer.edit_noised(truth, vae.encode(codec, before), torch.tensor([999, 0]), tokens)
    assert noise.abs().max() < 6 and 0.7 < noise.std() < 1.3
    assert torch.allclose(kept, truth[1], atol=1.0)
    assert torch.equal(given[0], vae.encode(codec, before))
