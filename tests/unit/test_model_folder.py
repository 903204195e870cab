# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model's folder says of itself is looked at before anything is built from it."""

import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest

import engine
from engine.editors import model_folder
from engine.editors.model_folder import fits_wording, read_json
from engine.errors import BadInput

BUNDLED = Path(engine.__file__).parent / "editors" / "weights" / "instruct-pix2pix-small"


def check_model_folder(folder):
    """As a load of a Stable Diffusion looks at it."""
    model_folder.check_model_folder(folder)
    model_folder.check_diffusion_folder(folder)


@pytest.fixture
def model(tmp_path):
    """A copy of the bundled model's folder, its weights links, as in the hub's cache."""
    model = tmp_path / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(BUNDLED, model, ignore=shutil.ignore_patterns("*.safetensors"))
    (model.parents[1] / "blobs").mkdir()
    for number, weights in enumerate(BUNDLED.rglob("*.safetensors")):
        blob = model.parents[1] / "blobs" / str(number)
        blob.write_bytes((2).to_bytes(8, "little") + b"{}")
        target = model / weights.relative_to(BUNDLED)
        target.symlink_to(blob) if os.name != "nt" else shutil.copy(blob, target)
    return model


def change(folder, file, values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_bundled_model_is_good(model):
    check_model_folder(BUNDLED)
    check_model_folder(model)


UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"


@pytest.mark.parametrize(
    ("file", "values"),
    [
        (UNET, {"sample_size": 10**6}),
        (UNET, {"sample_size": 0}),
        (UNET, {"sample_size": None}),
        (UNET, {"sample_size": [32, 32]}),
        (UNET, {"sample_size": True}),
        (UNET, {"layers_per_block": 10**6}),
        (UNET, {"layers_per_block": [1, 10**6]}),
        (UNET, {"block_out_channels": [48] * 1000}),
        (UNET, {"block_out_channels": [10**9]}),
        (UNET, {"cross_attention_dim": -1}),
        (UNET, {"something": {"new": [1e30]}}),
        (UNET, {"deep": [[[[[[1]]]]]]}),
        (UNET, {"auto_map": {"AutoModel": "code.Model"}}),
        (VAE, {"scaling_factor": 0}),
        (VAE, {"block_out_channels": [10**6] * 3}),
        (TEXT, {"num_hidden_layers": 10**5}),
        (TEXT, {"hidden_size": 10**9}),
        (TEXT, {"max_position_embeddings": 0}),
        (TEXT, {"vocab_size": 3}),
        (SCHEDULER, {"num_train_timesteps": 10**9}),
        (SCHEDULER, {"num_train_timesteps": 0}),
        (SCHEDULER, {"beta_end": 1e30}),
        (SCHEDULER, {"trained_betas": [0.1] * 20_000}),
        (SCHEDULER, {"trained_betas": ["a"]}),
        (TOKENIZER, {"model_max_length": 0}),
        (TOKENIZER, {"model_max_length": 10**9}),
        (TOKENIZER, {"model_max_length": 25}),  # the text encoder reads 24
        (TOKENIZER, {"model_max_length": 1e30}),
        ("tokenizer/tokenizer.json", {"added_tokens": [{"id": 10**6}]}),
        ("tokenizer/tokenizer.json", {"model": 3}),
        ("model_index.json", {"unet": ["os", "system"]}),
        ("model_index.json", {"unet": ["diffusers", 3]}),
        ("model_index.json", {"unet": [None, None]}),
        ("model_index.json", {"unet": "diffusers"}),
        ("model_index.json", {"unet": ["stable_diffusion", "UNet2DConditionModel"]}),
        ("model_index.json", {"safety_checker": ["os", "system"]}),
    ],
)
def test_absurd_numbers_and_foreign_code_are_said(model, file, values):
    change(model, file, values)
    with pytest.raises(BadInput) as caught:
        check_model_folder(model)
    assert caught.value.field == "editor" and len(caught.value.message) < 400
    assert Path(file).name in caught.value.message or "tokenizer" in caught.value.message


@pytest.mark.parametrize("file", ["model_index.json", UNET, VAE, TEXT, SCHEDULER, TOKENIZER])
@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b"[" * 100_000, b"\xff", b"x" * (5 * 2**20)], ids=range(7))
def test_a_missing_damaged_or_huge_file_is_said(model, file, text):
    (model / file).unlink() if text is None else (model / file).write_bytes(text)
    with pytest.raises(BadInput, match="no editor model"):
        check_model_folder(model)


def test_a_safety_checker_named_by_its_module_is_allowed(model):
    change(model, "model_index.json", {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]})
    check_model_folder(model)
    assert "safety_checker" not in model_folder.parts_of(model)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", TOKENIZER, "a.txt", "deep/er/a"])
def test_a_link_out_of_the_folder_is_said(model, tmp_path, file):
    (tmp_path / "elsewhere").write_bytes((2).to_bytes(8, "little") + b"{}")
    (model / file).parent.mkdir(parents=True, exist_ok=True)
    (model / file).unlink(missing_ok=True)
    (model / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is a link to a file outside the model's folder; put the file itself there"):
        check_model_folder(model)


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices")
@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", TOKENIZER, "tokenizer/merges.txt", "a"])
@pytest.mark.parametrize("kind", ["pipe", "device", "broken link"])
def test_what_is_no_file_is_never_opened(model, file, kind):
    (model / file).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(model / file)
    else:
        (model / file).symlink_to("/dev/zero" if kind == "device" else model / "nowhere")
    with pytest.raises(BadInput, match="no editor model"):
        check_model_folder(model)


@pytest.mark.parametrize("start", [b"", b"abc", b"\xff" * 8 + b"{}", (2**40).to_bytes(8, "little") + b"{}"])
def test_weights_that_begin_with_nonsense_are_said(model, start):
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    path.write_bytes(start)
    with pytest.raises(BadInput, match="does not begin as such files do"):
        check_model_folder(model)


def test_a_folder_without_end_is_left(model):
    for number in range(2001):
        (model / f"{number}.txt").touch()
    with pytest.raises(BadInput, match="2,000 files"):
        check_model_folder(model)
    if os.name != "nt":
        loop = model.parent / "loop"
        shutil.copytree(BUNDLED, loop)
        (loop / "again").symlink_to(loop)
        check_model_folder(loop)  # links in a circle are followed a few folders deep only


def test_wordings_fit_as_their_pattern_would():
    random.seed(0)
    for _ in range(20_000):
        wording = "".join(random.choice(["{noun}", "a", "b", " ", "-", "ab", ""]) for _ in range(random.randint(0, 5)))
        said = "".join(random.choice("ab -_é") for _ in range(random.randint(0, 8)))
        pattern = re.escape(wording).replace(r"\{noun\}", r"[\w ]+")
        assert fits_wording(wording, said) == bool(re.fullmatch(pattern, said)), (wording, said)


def test_no_wording_takes_for_ever():
    began = time.monotonic()
    for wording in ("{noun}" * 30 + "!", "{noun}a" * 30, "a{noun}" * 60 + "-", "{noun} " * 30):
        for _ in range(100):
            fits_wording(wording, "a" * 500)
            fits_wording(wording, "a " * 250)
    assert time.monotonic() - began < 2


def test_a_small_file_is_read_as_what_it_is_to_be(tmp_path):
    (tmp_path / "a.json").write_text('{"steps": 3}')
    assert read_json(tmp_path / "a.json", dict[str, int]) == {"steps": 3}
    with pytest.raises(BadInput):
        read_json(tmp_path / "a.json", dict[str, int], limit=5)
