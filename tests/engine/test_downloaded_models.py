# SPDX-License-Identifier: GPL-3.0-or-later
"""A model as it lies on the hub, and as its library's cache has it, loads by the ordinary code; never from a pickle."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from engine import protocol
from engine.editors import catalogue, registry
from engine.editors.catalogue import BUNDLED, HUB_NAME, default_editor, find_editors, load_editor, source_of
from engine.errors import BadInput
from tests.engine import hub_folder
from tests.engine.hub_folder import FULL, HALF, HALF_PICKLE, PICKLE

REVISION = registry.hub_models()[HUB_NAME].revision
links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """A computer with no model on it."""
    monkeypatch.setenv("INSTRUCT_NERF_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INSTRUCT_NERF_EDITOR", raising=False)


@pytest.fixture(scope="module")
def edited():
    """What the very weights edit, given to the editor as they are."""
    return {}


def edit(editor):
    picture = torch.linspace(0, 1, 32 * 32 * 3).reshape(32, 32, 3)
    generator = torch.Generator().manual_seed(0)
    return editor.prepare("make it night", {"diffusion_steps": 2}).view(picture).edit(picture, 0.9, generator)


LAYOUTS = {
    "half": (HALF,),
    "full": (FULL,),
    "both": (FULL, HALF),
    "all that the hub has": (FULL, HALF, PICKLE, HALF_PICKLE),
    "mixed": {"unet": (HALF,), "vae": (FULL,), "text_encoder": (FULL, HALF)},
    "a pickled variant beside": {"unet": (HALF,), "vae": (FULL, HALF_PICKLE), "text_encoder": (FULL, HALF_PICKLE)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_hubs_layouts_load(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    folder = hub_folder.write(tmp_path / "model", LAYOUTS[layout])
    (folder / "LICENSE").touch()
    (folder / "unet" / "LICENSE").touch()  # without an ending, at which diffusers itself stumbles
    (folder / "instruct-pix2pix-00-22000.ckpt").write_bytes(b"\x80\x04N.")
    editor = load_editor(str(folder), "cpu")
    assert editor.dtype == torch.float32
    for part, network in hub_folder.networks().items():
        loaded = getattr(editor, part).state_dict()
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                # bfloat16 where the CPU computes in it
                rounded = 2**-8 + 2**-10 if loaded[name].dtype == torch.bfloat16 else 2**-10
                assert (loaded[name] - value).abs().max() <= rounded * value.abs().max(), (part, name)
    assert edit(editor).shape == (32, 32, 3)


def test_half_precision_takes_the_half_and_full_the_full(tmp_path):
    from engine.editors.instruct_pix2pix import load

    folder = hub_folder.write(tmp_path / "model", (FULL, HALF))
    exact = hub_folder.networks()["unet"].state_dict()["conv_in.weight"]
    assert torch.equal(load(str(folder), "m", "cpu", torch.float32).unet.conv_in.weight, exact)
    for part in hub_folder.PARTS:
        shutil.copy(next((folder / part).glob("*.fp16.safetensors")), folder / part / "kept")
        next(path for path in (folder / part).glob("*.safetensors") if ".fp16" not in path.name).unlink()
    assert torch.equal(load(str(folder), "m", "cpu", torch.float16).unet.conv_in.weight, exact.half())


@pytest.mark.parametrize("part", hub_folder.PARTS)
@pytest.mark.parametrize("kind", [PICKLE, HALF_PICKLE])
def test_a_part_that_has_only_a_pickle_is_refused(tmp_path, part, kind):
    kinds = {name: (HALF,) for name in hub_folder.PARTS} | {part: (kind,)}
    folder = hub_folder.write(tmp_path / "model", kinds)
    with pytest.raises(BadInput) as caught:
        load_editor(str(folder), "cpu")
    said = caught.value.message
    assert part in said and kind in said and "download the model's .safetensors files" in said
    assert said.count(". ") == 0 and caught.value.field == "editor"


@pytest.mark.parametrize("part", hub_folder.PARTS)
def test_a_part_without_weights_is_said(tmp_path, part):
    folder = hub_folder.write(tmp_path / "model", {name: (HALF,) for name in hub_folder.PARTS} | {part: ()})
    with pytest.raises(BadInput, match=f"{part} lacks weights"):
        load_editor(str(folder), "cpu")


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_shards_load_when_every_shard_is_there(tmp_path, variant):
    folder = hub_folder.write(tmp_path / "model", {"unet": (), "vae": (HALF,), "text_encoder": (HALF,)})
    unet = hub_folder.networks()["unet"]
    (unet.half() if variant else unet).save_pretrained(folder / "unet", max_shard_size="20KB", variant=variant)
    shards = sorted((folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert load_editor(str(folder), "cpu").unet.config.in_channels == 8
    shards[-1].unlink()
    with pytest.raises(BadInput, match="unet lacks weights"):
        load_editor(str(folder), "cpu")


def test_only_networks_are_built(tmp_path):
    folder = hub_folder.write(tmp_path / "model")
    index = (folder / "model_index.json").read_text()
    for name in ("UNet2DConditionModel", "CLIPTextModel"):
        for other in ("DiffusionPipeline", "no_such", "logging"):
            (folder / "model_index.json").write_text(index.replace(name, other))
            with pytest.raises(BadInput, match="names no network"):
                load_editor(str(folder), "cpu")
    (folder / "model_index.json").write_text(index.replace('"diffusers", "UNet', '"stable_diffusion", "UNet'))
    with pytest.raises(BadInput, match="code outside diffusers"):
        load_editor(str(folder), "cpu")


# ---- where a model of the hub's lies ----


def info(name=HUB_NAME):
    return next(editor for editor in find_editors() if editor.name == name)


@links
def test_a_snapshot_in_the_hubs_cache_is_used_where_it_lies(tmp_path):
    assert not info().available and not info().offer.downloaded and "is not on this computer" in info().reason
    snapshot = hub_folder.as_snapshot(hub_folder.write(tmp_path / "model"), tmp_path / "cache", HUB_NAME, REVISION)
    assert source_of(HUB_NAME) == str(snapshot)
    assert info().available and info().offer.downloaded and info().offer.folder == str(snapshot) and not info().reason
    assert edit(load_editor(HUB_NAME, "cpu")).shape == (32, 32, 3)


@links
@pytest.mark.parametrize(
    "gone",
    ["model_index.json", "unet", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "tokenizer",
     "scheduler/scheduler_config.json", "text_encoder/model.fp16.safetensors"],
)  # fmt: skip
def test_a_snapshot_that_lacks_something_is_not_there(tmp_path, gone):
    snapshot = hub_folder.as_snapshot(hub_folder.write(tmp_path / "model"), tmp_path / "cache", HUB_NAME, REVISION)
    path = snapshot / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not info().available and not info().offer.downloaded
    with pytest.raises(BadInput, match="is not on this computer yet: press Download Editor"):
        load_editor(HUB_NAME, "cpu")


@links
def test_another_commit_than_the_one_that_is_known_is_not_taken(tmp_path):
    hub_folder.as_snapshot(hub_folder.write(tmp_path / "model"), tmp_path / "cache", HUB_NAME, "0" * 40)
    assert source_of(HUB_NAME) == HUB_NAME


@links
def test_a_model_without_a_row_is_taken_from_the_cache_and_never_from_the_network(tmp_path):
    with pytest.raises(BadInput, match="download it into a folder"):
        load_editor("someone/other-pix2pix", "cpu")
    hub_folder.as_snapshot(hub_folder.write(tmp_path / "model"), tmp_path / "cache", "someone/other-pix2pix", "a" * 40)
    assert load_editor("someone/other-pix2pix", "cpu").name == "someone/other-pix2pix"


@links
@pytest.mark.parametrize("kind", ["outside", "another model's blob", "folder"])
def test_links_out_of_the_cache_are_refused(tmp_path, kind):
    snapshot = hub_folder.as_snapshot(hub_folder.write(tmp_path / "model"), tmp_path / "cache", HUB_NAME, REVISION)
    weights = snapshot / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    away = tmp_path / "cache" / "models--other--one" / "blobs" if kind == "another model's blob" else tmp_path / "away"
    away.mkdir(parents=True)
    if kind == "folder":
        for file in (snapshot / "unet").iterdir():
            shutil.copy(file.resolve(), away / file.name)
        shutil.rmtree(snapshot / "unet")
        (snapshot / "unet").symlink_to(away)
    else:
        shutil.copy(weights.resolve(), away / "weights.safetensors")
        weights.unlink()
        weights.symlink_to(away / "weights.safetensors")
    with pytest.raises(BadInput, match="is a link to a file outside the model's folder"):
        load_editor(HUB_NAME, "cpu")


def test_a_gpu_takes_the_hubs_editor_where_it_is_and_the_small_one_where_it_is_not(tmp_path):
    model = registry.hub_models()[HUB_NAME]
    devices = [protocol.Device(name, name, 8 * 2**30, 8 * 2**30) for name in ("cpu", "cuda:0")]
    assert [default_editor(device) for device in devices] == [BUNDLED, BUNDLED]
    hub_folder.write(model.folder)
    assert [default_editor(device) for device in devices] == [BUNDLED, HUB_NAME]
    assert info().available and info().offer.folder == str(model.folder)


def test_knobs_are_each_editors_own(tmp_path):
    """The small editor recommends scales of its own; no other is sent them."""
    small = {knob.name: knob.default for knob in info(BUNDLED).knobs}
    hubs = {knob.name: knob.default for knob in info().knobs}
    assert (small["text_guidance"], small["image_guidance"]) == (1.0, 1.0)
    for here in (False, True):
        if here:
            hub_folder.write(registry.hub_models()[HUB_NAME].folder)
        assert (hubs["text_guidance"], hubs["image_guidance"]) == (7.5, 1.5)
        options = catalogue.resolved_options(HUB_NAME, {})
        assert (options["text_guidance"], options["image_guidance"]) == (7.5, 1.5)
        assert options["guided_above"] == 0 and not options["tethered"]
