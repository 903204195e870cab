# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel shows as chosen is what the engine does where nothing is named: preset, device, editor, words."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from blender_addon import choices, messages, wire
from engine import devices, hub, presets, protocol
from engine.editors import catalogue, registry
from engine.errors import BadInput
from engine.server import Server

GIB = 2**30


def device(name: str, gib: int) -> protocol.Device:
    return protocol.Device(name, name, gib * GIB, gib * GIB)


MACHINES = {
    "no card": [device("cpu", 16)],
    "a small card": [device("cuda:0", 8), device("cpu", 32)],
    "a large card": [device("cuda:0", 24), device("cpu", 64)],
    "two cards": [device("cuda:1", 80), device("cuda:0", 8), device("cpu", 64)],
}


def put_down(folder: Path) -> None:
    """A model of the hub's, as whole as its files' names say."""
    (folder / "unet").mkdir(parents=True)
    kind = "StableDiffusionInstructPix2PixPipeline"
    index = {"_class_name": kind, "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    for name in ("config.json", "diffusion_pytorch_model.fp16.safetensors"):
        (folder / "unet" / name).touch()


@pytest.fixture(params=[(machine, here) for machine in MACHINES for here in ("downloaded", "not downloaded")])
def info(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> messages.EngineInfo:
    """What the engine says of a machine, with and without the hub's editor on it, as the add-on reads it."""
    monkeypatch.setenv(hub.MODELS, str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    found = MACHINES[request.param[0]]
    if request.param[1] == "downloaded":
        put_down(registry.hub_models()[catalogue.HUB_NAME].folder)
    monkeypatch.setattr(devices, "find_devices", lambda: devices.Machine(found, "Said."))
    monkeypatch.delenv(catalogue.VARIABLE, raising=False)
    server = Server(lambda _line: None, warm_up=lambda: None)
    try:
        said = wire.parse_engine(msgspec.to_builtins(server._initialize(protocol.Initialize(wire.PROTOCOL))))
        return said.with_devices(*wire.parse_devices(msgspec.to_builtins(server._devices())))
    finally:
        server.close()


def test_what_nobody_chose_is_what_the_engine_chooses(info: messages.EngineInfo) -> None:
    first = info.devices[0].name
    assert choices.device_of(info, "").name == first
    for named in ("", *(d.name for d in info.devices)):
        shown = choices.preset_of(info, "", named), choices.editor_of(info, "", named)
        assert shown[0].name == presets.choose_preset(None, named or first).name
        assert shown[1].name == catalogue.default_editor(devices.device_named(named or first))
        assert shown[1].available  # what nobody chose needs no download
        here = next(e for e in info.editors if e.name == catalogue.HUB_NAME).offer.downloaded
        assert (shown[1].name == catalogue.HUB_NAME) == (here and (named or first) != "cpu")


def test_what_was_chosen_is_kept_and_what_is_gone_is_the_engines_choice(info: messages.EngineInfo) -> None:
    for preset in info.presets:
        assert choices.preset_of(info, preset.name).name == preset.name
        assert presets.choose_preset(preset.name, "cpu").name == preset.name
    for editor in info.editors:
        assert choices.editor_of(info, editor.name).name == editor.name
    old = f"/old/lib/python3.11/site-packages/engine/editors/weights/{catalogue.BUNDLED}"
    for path in (old, old.replace("/", "\\"), catalogue.BUNDLED):
        assert choices.editor_id(path) == catalogue.editor_id(path) == catalogue.BUNDLED
        assert choices.editor_of(info, path).name == catalogue.BUNDLED
    for other in ("timbrooks/instruct-pix2pix", "/home/me/my-editor", "//model"):
        assert choices.editor_id(other) == catalogue.editor_id(other) == other
    assert choices.preset_of(info, "gone").name == choices.preset_of(info, "").name
    assert choices.editor_of(info, "gone").name == choices.editor_of(info, "").name


@pytest.mark.parametrize(
    "said",
    ["make it night", "Make It NIGHT!", "turn day  into night", "make the bear gold", "make it blurple", "night", ""],
)
def test_both_know_the_same_instructions(said: str) -> None:
    (described,) = [e for e in catalogue.find_editors() if e.name == catalogue.BUNDLED]
    editor = wire._editor(msgspec.to_builtins(described))
    assert choices.unknown_to(editor, said) == bool(catalogue.unknown_words(catalogue.BUNDLED, said))
    assert not catalogue.unknown_words(catalogue.HUB_NAME, said)


def test_an_unknown_instruction_is_named_with_some_that_are_known() -> None:
    sentence = catalogue.unknown_words(catalogue.BUNDLED, "make it blurple")
    assert "“make it blurple”" in sentence and "“make it night”" in sentence and len(sentence) < 1000


def test_the_panels_bounds_are_the_engines_own() -> None:
    from engine.output.mesh import checked_resolution
    from engine.output.texture import SIZES
    from engine.output.tidying import checked_faces

    source = (Path(choices.__file__).parent / "meshes.py").read_text()  # which imports bpy, and that ends badly
    values = dict(re.findall(r"^([A-Z]+) = (\(.*?\))(?: *#.*)?$", source, re.MULTILINE))
    assert ast.literal_eval(values["TEXTURES"]) == (0, *SIZES)
    for name, checked in (("RESOLUTION", checked_resolution), ("FACES", checked_faces)):
        least, most = ast.literal_eval(values[name])
        assert [checked(value) for value in (least, most)] == [least, most]
        for value in (least - 1, most + 1):
            with pytest.raises(BadInput):
                checked(value)


def test_what_an_edit_takes_is_said_where_somebody_has_measured(info: messages.EngineInfo) -> None:
    by_name = {d.name: d for d in info.devices}
    preview, standard = (next(p for p in info.presets if p.name == name) for name in ("preview", "standard"))
    cpu, small = by_name["cpu"], choices.editor_of(info, catalogue.BUNDLED, "cpu")
    said = choices.cost(preview, cpu, small, 40, 90.0, 0)
    assert said == "About 90 s to learn the scene, once, about 2 min to edit 40 views. 164 MB on the disk."
    assert choices.cost(preview, cpu, small, 10, 0.0, 0) == "About 90 s to edit 10 views. 82 MB on the disk."
    other = next(editor for editor in info.editors if editor.name != catalogue.BUNDLED)
    for editor, steps in ((other, 0), (None, 0), (small, 50)):
        assert choices.cost(preview, cpu, editor, 10, 90.0, steps) == (
            "About 90 s to learn the scene, once, then as long as the editor takes. 164 MB on the disk."
        )
        assert choices.cost(preview, cpu, editor, 10, 0.0, steps) == ""
    assert choices.cost(standard, cpu, small, 10, 90.0, 0) == ""  # the days that it takes are said another way
    assert all(choices.cost(p, d, small, 10, 90.0, 0) == "" for d in info.devices[:-1] for p in info.presets)


def test_what_an_edit_takes_is_what_its_plan_begins_with(info: messages.EngineInfo) -> None:
    from engine.jobs.edit_stages import edit_stages

    preview = next(p for p in info.presets if p.name == "preview")
    settings = msgspec.structs.replace(presets.PREVIEW.edit, keep=0.4)
    for views in (8, 50):
        stages = edit_stages(settings, views, views, 0)
        planned = sum(stage.units * stage.seconds for stage in stages)
        assert preview.edit_seconds + views * preview.view_seconds == pytest.approx(planned)


@pytest.mark.parametrize(("compared", "flat"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_learning_takes_is_what_its_plan_begins_with(
    info: messages.EngineInfo, tmp_path: Path, compared: bool, flat: bool
) -> None:
    """But for the pictures, which are prepared when a capture is opened."""
    from engine.jobs.depths import Compared
    from engine.jobs.scene import scene_stages
    from engine.workspace import Workspace

    preview = next(p for p in info.presets if p.name == "preview")
    for photos, held_out in ((30, 4), (190, 20)):  # of so many not all are compared
        views = [SimpleNamespace(held_out=number < held_out) for number in range(photos + held_out)]
        capture = SimpleNamespace(views=views)
        stages = scene_stages(Workspace(tmp_path), capture, presets.PREVIEW, asked=Compared(compared, flat))
        planned = sum(stage.units * stage.seconds for stage in stages if stage.name != "images")
        assert choices.learning(preview, photos, len(views), compared, flat) == pytest.approx(planned)
