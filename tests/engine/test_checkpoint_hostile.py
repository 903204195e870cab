# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint may come from another person: whatever is wrong with one is said before anything is built from it."""

import json
import os
import struct

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.capture import Intrinsics
from engine.errors import BadInput
from engine.geometry import Viewpoint
from engine.scenes.nerfacto import checkpoint as module
from engine.scenes.nerfacto import limits
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.registry import open_scene
from engine.scenes.settings import TrainingConfig

from .conftest import TINY_NERF, ring

FRAME = NerfFrame(0.25, (0.0, 1.0, 2.0))
VIEWS = ["a", "b", "c"]
LENS = Intrinsics(5, 4, 6.0, 6.0, 2.5, 2.0)
CAMERAS = [Viewpoint(pose, LENS, name) for pose, name in zip(ring(3), VIEWS, strict=True)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(tensors, header) of a good checkpoint."""
    path = tmp_path_factory.mktemp("saved") / "checkpoint.safetensors"
    trainer = a_trainer()
    for parameter in trainer.nerf.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimiser.step()
    trainer.step_index = 3
    trainer.save(path, {"b": torch.zeros(4, 5, 3, dtype=torch.uint8)})
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(json.loads(file.read(size))["__metadata__"]["header"])
    return load_file(path), header


def write(path, tensors, header):
    save_file(tensors, path, {"header": header if isinstance(header, str) else json.dumps(header)})
    return path


def use(path):
    """All that an edit does with a checkpoint."""
    checkpoint = Checkpoint(path)
    nerf = checkpoint.nerf("cpu")
    checkpoint.images({name: (4, 5) for name in VIEWS})
    checkpoint.restore_optimiser(a_trainer(nerf))


def test_the_good_one_is_good(saved, tmp_path):
    use(write(tmp_path / "c.safetensors", *saved))


def at(keys, value):
    def change(header):
        *way, last = keys
        for key in way:
            header = header[key]
        header[last] = value

    return change


HEADERS = {
    "levels": at(["nerf", "levels"], 10**9),
    "no levels": at(["nerf", "levels"], 0),
    "negative": at(["nerf", "features_per_level"], -2),
    "tables": at(["nerf", "table_log2"], 24),
    "table_log2": at(["nerf", "table_log2"], 60),
    "hidden": at(["nerf", "hidden"], 10**6),
    "samples": at(["nerf", "nerf_samples"], 10**9),
    "proposal samples": at(["nerf", "proposal_samples"], [10**9, 2]),
    "too few proposal samples": at(["nerf", "proposal_samples"], [16]),
    "proposals": at(["nerf", "proposals"], [{"max_resolution": 32}] * 100),
    "a proposal's table": at(["nerf", "proposals", 0, "table_log2"], 40),
    "a proposal's resolution": at(["nerf", "proposals", 1, "max_resolution"], 0),
    "a proposal's width": at(["nerf", "proposals", 1, "hidden"], 10**7),
    "appearance": at(["nerf", "appearance"], 10**9),
    "anneal": at(["nerf", "anneal_steps"], 0),
    "interval": at(["nerf", "proposal_interval"], 0),
    "near": at(["nerf", "near"], 1e30),
    "density": at(["nerf", "initial_density"], 0.0),
    "weight": at(["nerf", "distortion_weight"], 1e300),
    "background": at(["nerf", "background"], [0.5, 2.0, 0.5]),
    "text": at(["nerf", "levels"], "abc"),
    "no frame": at(["frame"], None),
    "scale": at(["frame", "scale"], 0.0),
    "infinite scale": at(["frame", "scale"], 1e300),
    "centre": at(["frame", "centre"], [1e300, 0, 0]),
    "views": at(["views"], []),
    "one view twice": at(["views"], ["a", "b", "a"]),
    "many views": at(["views"], [str(k) for k in range(100_001)]),
    "more views than rows": at(["views"], [str(k) for k in range(90_000)]),
    "a long name": at(["views", 0], "x" * 10_000),
    "step": at(["step"], -1),
    "huge step": at(["step"], 10**18),
    "age": at(["age"], 1),
    "format": at(["format"], 99),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_nonsense_is_said_before_anything_is_built(saved, tmp_path, monkeypatch, name):
    tensors, header = saved
    header = json.loads(json.dumps(header))
    HEADERS[name](header)
    monkeypatch.setattr(module, "Nerfacto", None)
    path = write(tmp_path / "c.safetensors", tensors, header)
    for opened in (Checkpoint, open_scene):
        with pytest.raises(BadInput, match="train again") as caught:
            opened(path)
        assert "c.safetensors" in caught.value.message and len(caught.value.message) < 400


def test_every_number_of_a_configuration_has_a_range():
    ranged = {*limits._RANGES, "proposal_samples", "proposals", "background"}
    switches = {"optimise_cameras", "gradient_scaling"}
    assert {field.name for field in msgspec.structs.fields(NerfactoConfig)} == ranged | switches


def test_the_same_scene_is_the_same_bytes(tmp_path):
    """Nothing of a checkpoint is in an order of chance, which would differ from one save to the next."""
    trainer, written = a_trainer(), set()
    for number in range(8):
        trainer.save(tmp_path / str(number), {"b": torch.zeros(4, 5, 3, dtype=torch.uint8)})
        written.add((tmp_path / str(number)).read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("header", ["", "{", "[" * 100_000, "null", '{"format": 1}'])
def test_a_header_that_is_none_is_said(saved, tmp_path, header):
    path = write(tmp_path / "c.safetensors", saved[0], header)
    for opened in (Checkpoint, open_scene):
        with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
            opened(path)


def first(tensors, prefix, dimensions=1):
    return next(n for n in sorted(tensors) if n.startswith(prefix) and tensors[n].dim() >= dimensions)


TENSORS = {
    "NaN weight": lambda t: t[first(t, "nerf.field")].view(-1)[0].fill_(torch.nan),
    "infinite weight": lambda t: t[first(t, "nerf.field")].view(-1)[0].fill_(torch.inf),
    "half weight": lambda t: t.update({first(t, "nerf.field"): t[first(t, "nerf.field")].half()}),
    "cut weight": lambda t: t.update({first(t, "nerf.field", 2): t[first(t, "nerf.field", 2)][1:].clone()}),
    "no weights": lambda t: [t.pop(n) for n in list(t) if n.startswith("nerf.")],
    "another weight": lambda t: t.update({"nerf.other": torch.zeros(3)}),
    "unknown moment": lambda t: t.update({"adam.0.weights": torch.zeros(3)}),
    "moment of no parameter": lambda t: t.update({"adam.9999.step": torch.tensor(1.0)}),
    "moment of no number": lambda t: t.update({"adam.x.step": torch.tensor(1.0)}),
    "moment of another number": lambda t: t.update({"adam.²3.step": torch.tensor(1.0)}),
    "moment's shape": lambda t: t.update({first(t, "adam.0.exp_avg"): torch.zeros(2)}),
    "moment's kind": lambda t: t.update({first(t, "adam.0.exp_avg"): t[first(t, "adam.0.exp_avg")].half()}),
    "missing moment": lambda t: t.pop("adam.0.exp_avg"),
    "negative moment": lambda t: t["adam.0.exp_avg_sq"].fill_(-1.0),
    "NaN moment": lambda t: t["adam.0.exp_avg"].fill_(torch.nan),
    "step of many": lambda t: t.update({"adam.0.step": torch.ones(3)}),
    "step of none": lambda t: t.update({"adam.0.step": torch.tensor(-1.0)}),
    "picture's size": lambda t: t.update({"image.b": torch.zeros(5, 4, 3, dtype=torch.uint8)}),
    "picture's channels": lambda t: t.update({"image.b": torch.zeros(4, 5, 4, dtype=torch.uint8)}),
    "picture's kind": lambda t: t.update({"image.b": torch.zeros(4, 5, 3)}),
    "one pixel for all": lambda t: t.update({"image.b": torch.zeros(1, 1, 3, dtype=torch.uint8)}),
    "picture of another": lambda t: t.update({"image.z": torch.zeros(4, 5, 3, dtype=torch.uint8)}),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit_are_said(saved, tmp_path, name):
    tensors = {key: tensor.clone() for key, tensor in saved[0].items()}
    TENSORS[name](tensors)
    with pytest.raises(BadInput, match="train again") as caught:
        use(write(tmp_path / "c.safetensors", tensors, saved[1]))
    assert len(caught.value.message) < 400


@pytest.mark.skipif(os.name == "nt", reason="pipes")
@pytest.mark.parametrize("kind", ["empty", "short", "huge header", "zeros", "cut", "text", "pipe", "folder"])
def test_what_is_no_file_of_tensors_is_said(saved, tmp_path, kind):
    path = write(tmp_path / "c.safetensors", *saved)
    data = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        made = {"empty": b"", "short": b"abc", "huge header": struct.pack("<Q", 2**62) + data, "zeros": bytes(10_000)}
        made |= {"cut": data[:-10], "text": b"not tensors at all" * 10}
        path.write_bytes(made[kind])
    for opened in (Checkpoint, open_scene):
        with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
            opened(path)


def test_nothing_stays_mapped(saved, tmp_path):
    """Windows replaces no file that is mapped; elsewhere a mapping changes when the file does."""
    path = write(tmp_path / "c.safetensors", *saved)
    checkpoint = open_scene(path)
    nerf, images = checkpoint.nerf("cpu"), checkpoint.images()
    trainer = a_trainer(nerf)
    checkpoint.restore_optimiser(trainer)
    weights = {name: tensor.clone() for name, tensor in nerf.state_dict().items()}
    if os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps") as maps:
            assert str(path) not in maps.read()
    with open(path, "r+b") as file:  # the same file, not another in its place
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(weights[name], tensor) for name, tensor in nerf.state_dict().items())
    assert not images["b"].any()


def test_a_checkpoint_that_grew_old_is_replaced_while_its_tensors_are_used(saved, tmp_path):
    path = write(tmp_path / "c.safetensors", *saved)
    nerf = Checkpoint(path).nerf("cpu")
    trainer = a_trainer(nerf)
    Checkpoint(path).restore_optimiser(trainer)
    trainer.save(path, Checkpoint(path).images())
    assert json.loads(msgspec.json.encode(Checkpoint(path).header)) == saved[1]


def a_trainer(nerf=None):
    nerf = nerf if nerf is not None else Nerfacto(TINY_NERF, len(VIEWS))
    return Trainer(nerf, FRAME, CAMERAS, TrainingConfig(steps=10, rays=16))
