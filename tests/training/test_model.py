"""The networks, their checkpoints, and a small part of the evaluation of the model that ships."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")
pytest.importorskip("diffusers")

from training import checkpoint, evaluate, models, vae  # noqa: E402
from training.paths import EXPORT  # noqa: E402
from training.vocabulary import BY_KEY  # noqa: E402

from . import held_out  # noqa: E402


def test_tokenizer_keeps_known_words_whole_and_ignores_case():
    tokenizer = models.build_tokenizer()
    assert [t.removesuffix("</w>") for t in tokenizer.tokenize("make it golden")] == ["make", "it", "golden"]
    a, b = models.tokens(tokenizer, ["MAKE IT SNOWY", "make it snowy"])
    assert torch.equal(a, b)
    assert len(tokenizer.tokenize("qzxw")) > 1
    assert models.tokens(tokenizer, ["word " * 60]).shape == (1, models.TEXT_LENGTH)


def test_checkpoint_brings_back_weights_and_optimiser(tmp_path):
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters(), 0.1)
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    groups = {"weights": net.state_dict(), "optimiser": checkpoint.optimiser_tensors(optimiser)}
    checkpoint.save(tmp_path, "state", groups, {"step": 1})
    loaded, scalars = checkpoint.load(tmp_path, "state")
    assert scalars == {"step": 1}
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(loaded["weights"])
    fresh = torch.optim.AdamW(other.parameters(), 0.1)
    checkpoint.restore_optimiser(fresh, loaded["optimiser"])
    for net_, optimiser_ in ((net, optimiser), (other, fresh)):
        optimiser_.zero_grad()
        net_(torch.full((1, 3), 2.0)).pow(2).sum().backward()
        optimiser_.step()
    assert torch.equal(net.weight, other.weight)


def test_checkpoint_that_is_not_there():
    from pathlib import Path

    assert checkpoint.load(Path("no such folder"), "state") is None


def test_codec_shapes_and_the_colour_axes():
    codec = vae.build()
    x = torch.rand(2, 3, 64, 48)
    z = vae.encode(codec, x)
    assert z.shape == (2, 4, 16, 12)
    assert vae.decode(codec, z).shape == x.shape
    grey = torch.full((1, 3, 8, 8), 0.3)
    assert vae.opponent(grey).abs().max() < 1e-6
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 1
    assert vae.opponent(red)[0, 0].mean() == 1


def test_measures_on_pictures_made_by_hand():
    base = np.full((128, 128, 3), 0.5, np.float32)
    base[:64] = 0.2
    mask = np.zeros((128, 128), bool)
    mask[40:80, 40:80] = True
    edit = base.copy()
    edit[mask] = (0.9, 0.1, 0.1)
    assert evaluate.change_outside(edit, base, mask) == 0
    assert evaluate.change_outside(1 - base, base, mask) > 0.5
    assert evaluate.colour_error(base, base) == 0
    assert evaluate.colour_error(edit, base, mask) > 10 * evaluate.colour_error(edit, base, ~mask)
    assert evaluate.nearest_truth(edit, {"same": base, "red": edit, "inverse": 1 - base}) == "red"


@pytest.fixture(scope="module")
def editor():
    from training.sampling import Editor

    return Editor(EXPORT)


def test_a_small_part_of_the_evaluation(editor):
    """On scenes with seeds and shapes that training never has, about as much of the change is right as the measure asks
    (six views of large subjects, all of kinds never seen, are harder than its sixteen: gold once left 0.62 there)."""
    keys = ("night", "black and white", *held_out.SUBJECT_KEYS)
    views = held_out.read(keys)
    assert len(views) == 6
    figures = evaluate.measure_instructions(editor, views, views[::-1], None, keys, log=lambda *_, **__: None)
    for key, row in figures["instructions"].items():
        bound = 0.7 if BY_KEY[key].of_subject else evaluate.WHOLE_LIMIT
        assert row["relative_error"] <= bound, (key, row)
        assert row.get("outside", 0.0) <= evaluate.OUTSIDE_LIMIT, (key, row)
    assert figures["nearest_right"] >= 0.85


def test_near_no_noise_almost_nothing_changes(editor):
    """The change there is hardly more than that of encoding and decoding alone; at half the noise it is an edit's."""
    picture = held_out.read(("night",))[0].picture

    def change(level):
        options = {"keep_background": "off"}
        return np.abs(editor.edit(picture, "make it night", options, level=level) - picture).mean()

    assert change(0.02) < 0.15 * change(0.98) < 0.5 * change(0.5)


def test_unknown_words_leave_the_picture_nearly_unchanged(editor):
    coarse = np.random.default_rng(4).random((8, 8, 3)).astype(np.float32)
    photo = cv2.resize(coarse, (128, 128), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    night, unknown = (editor.edit(photo, text) for text in ("make it night", "make it happy"))
    assert np.abs(unknown - photo).mean() < 0.25 * np.abs(night - photo).mean()


def test_every_listed_instruction_has_passed():
    from training.paths import read_json

    table = read_json(EXPORT / "figures.json")["instructions"]
    listed = [entry["key"] for entry in read_json(EXPORT / "vocabulary.json") if entry["passed"]]
    assert len(listed) >= 16 and listed == [key for key, row in table.items() if row["passed"]]
    assert sum(f.stat().st_size for f in EXPORT.rglob("*") if f.is_file()) < 40e6
