"""What the denoiser learns from: pictures that are edited in part, at noise levels that ask for more or less."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from training import train  # noqa: E402


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "RUNS", tmp_path)
    return train.Trainer(train.Recipe(own_share=0.0, part_share=1.0))


def batch(complete: list[bool]) -> train.Batch:
    base, target = torch.randn(2, len(complete), 4, 4, 4)
    tokens = torch.zeros(len(complete), 24, dtype=torch.long)
    return train.Batch(base, target, base, tokens, torch.ones(len(complete), 1, 4, 4), torch.tensor(complete))


def test_a_picture_edited_in_part_lies_between_the_original_and_the_edit(trainer):
    examples = batch([True, True, False])
    render = trainer.render(examples)
    for k in (0, 1):
        span = examples.base[k] - examples.target[k]
        missing = (render[k] - examples.target[k]) / span
        assert 0 < missing.mean() < 1 and missing.std() < 1e-3
    assert torch.equal(render[2], examples.target[2])  # nothing says what is missing


def test_the_networks_own_edit_is_noised_where_text_and_picture_are_given(trainer, monkeypatch):
    trainer.recipe = train.Recipe(own_share=1.0, part_share=0.0)
    monkeypatch.setattr(trainer, "edit", lambda noised, condition, levels, words: condition + 10.0)
    examples = batch([True, False])
    render = trainer.render(examples)
    assert torch.equal(render[0], examples.base[0] + 10.0) and torch.equal(render[1], examples.target[1])


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
