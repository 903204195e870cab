# SPDX-License-Identifier: GPL-3.0-or-later
"""An editor's knobs in Blender: declared by the engine, kept by editor, sent where the artist has set them."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest
from in_blender import settle
from test_projects import heard, start

from blender_addon import knobs, messages, project, session


def group(scene: bpy.types.Scene):
    return knobs.group_of(scene, project.editor_of(scene))


def sent(scene: bpy.types.Scene, tmp_path: Path) -> dict:
    start(scene)
    settle()
    return heard(tmp_path, "edit/run")[-1].get("options", {})


def test_knobs_are_blenders_own_properties(opened: bpy.types.Scene) -> None:
    props = group(opened).bl_rna.properties
    text = props["text_guidance"]
    assert (text.name, text.default, text.hard_min, text.hard_max) == ("Text", 3.0, 0.0, 100.0)
    keep = props["keep_background"]
    assert keep.enum_items.keys() == ["auto", "on", "off"] and keep.default == "auto"
    assert keep.description == "What is not meant stays"
    assert props["diffusion_steps"].type == "INT" and props["tethered"].type == "BOOLEAN"


def test_what_nobody_set_is_not_sent_and_a_reset_gives_it_back(opened: bpy.types.Scene, tmp_path: Path) -> None:
    assert sent(opened, tmp_path) == {}
    values = group(opened)
    values.text_guidance, values.keep_background = 0.3, "off"
    values.diffusion_steps, values.tethered = 7, True
    expected = {"text_guidance": 0.3, "keep_background": "off", "diffusion_steps": 7, "tethered": True}
    assert sent(opened, tmp_path) == expected
    for name in ("text_guidance", "keep_background", "tethered"):
        bpy.ops.instruct_nerf.reset_knob(knob=name)
    assert sent(opened, tmp_path) == {"diffusion_steps": 7} and values.text_guidance == 3.0


def test_each_editor_keeps_its_own(opened: bpy.types.Scene, tmp_path: Path) -> None:
    settings = opened.instruct_nerf
    group(opened).text_guidance = 4.0
    settings.editor_choice = "hub/big"
    assert group(opened).text_guidance == 7.5 and not group(opened).is_property_set("text_guidance")
    group(opened).image_guidance = 2.0
    settings.editor_choice = "small"
    assert group(opened).text_guidance == 4.0 and not group(opened).is_property_set("image_guidance")
    settings.editor_choice = "hub/big"
    assert group(opened).image_guidance == 2.0


def test_an_editor_of_ones_own_has_its_own(opened: bpy.types.Scene, tmp_path: Path) -> None:
    """And nothing that was set of another editor is sent to it."""
    settings, mine = opened.instruct_nerf, tmp_path / "mine"
    mine.mkdir()
    group(opened).text_guidance = 4.0
    settings.editor_model = str(mine)
    settle()
    assert project.editor_of(opened).label == "mine" and group(opened).text_guidance == 5.0
    assert sent(opened, tmp_path) == {} and heard(tmp_path, "edit/run")[-1]["editor"] == str(mine)
    group(opened).image_guidance = 1.0
    assert sent(opened, tmp_path) == {"image_guidance": 1.0}
    settings.editor_model = ""
    assert sent(opened, tmp_path) == {"text_guidance": 4.0} and heard(tmp_path, "edit/run")[-1]["editor"] == "small"
    settings.editor_model = str(tmp_path / "gone")
    settle()
    with pytest.raises(RuntimeError, match="There is no editor model in"):
        start(opened)


def test_an_editor_of_ones_own_is_asked_about_when_its_file_is_loaded(opened: bpy.types.Scene, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    opened.instruct_nerf.editor_model = str(tmp_path / "mine")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    opened.instruct_nerf.editor_model = ""
    settle()
    session.ask_again()
    settle()
    assert "mine" not in {editor.label for editor in session.get().info.editors}
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    settle()
    assert project.editor_of(bpy.context.scene).label == "mine"


def test_values_come_back_with_the_file_once_the_engine_is_there(
    addon, opened: bpy.types.Scene, tmp_path: Path
) -> None:
    group(opened).text_guidance, group(opened).keep_background = 5.5, "on"
    blend = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    addon.unregister()  # Blender is closed, and opens the file before the engine has said anything
    addon.register()
    bpy.ops.wm.open_mainfile(filepath=blend)
    scene = bpy.context.scene
    bpy.ops.instruct_nerf.open_capture(filepath=scene.instruct_nerf.source)  # the stand-in has forgotten it
    settle()
    assert sent(scene, tmp_path) == {"text_guidance": 5.5, "keep_background": "on"}


def test_an_older_files_guidance_becomes_knobs(opened: bpy.types.Scene, tmp_path: Path) -> None:
    settings = opened.instruct_nerf
    settings.use_guidance, settings.text_guidance, settings.keep_background = True, 5.5, "CHANGE"
    assert sent(opened, tmp_path) == {"text_guidance": 5.5, "keep_background": "off"}
    settings.use_guidance = False
    settings.image_guidance = 9.0  # not switched on, so it was not meant
    assert sent(opened, tmp_path) == {"text_guidance": 5.5, "keep_background": "off"}


@pytest.mark.parametrize(
    "given",
    [
        {"name": "__init__"}, {"name": "bl rna"}, {"kind": "colour"}, {"kind": "choice", "default": "x"},
        {"default": 1e300, "maximum": 1.0}, {"kind": "int", "default": 2**40}, {"kind": "bool", "default": 1.0},
    ],
)  # fmt: skip
def test_knobs_that_blender_cannot_hold_are_left_out(opened: bpy.types.Scene, given: dict) -> None:
    fine = {
        "name": "fine", "label": "", "description": "", "kind": "float", "default": 0.5, "minimum": 0.0, "maximum": 1.0,
        "choices": (), "advanced": False,
    }  # fmt: skip
    info = session.get().info
    made = messages.Editor(
        "other", "Other", 64, True, "", (), (messages.Knob(**fine), messages.Knob(**fine | given | {"label": "bad"}))
        if "name" in given else (messages.Knob(**fine), messages.Knob(**fine | given | {"name": "bad"})),
    )  # fmt: skip
    knobs.declare(messages.EngineInfo(1, "", info.devices, (made,), info.presets))
    assert [knob.name for knob in knobs.usable(made)] == ["fine"]
    assert knobs.group_of(opened, made).fine == 0.5


def test_an_engine_with_other_knobs_takes_the_place_of_the_last(opened: bpy.types.Scene) -> None:
    info = session.get().info
    group(opened).text_guidance = 50.0
    small = next(e for e in info.editors if e.name == "small")
    narrower = messages.Knob("text_guidance", "Text", "", "float", 1.0, 0.0, 2.0, (), False)
    other = messages.Editor("small", "Small", 64, True, "", (), (narrower,))
    knobs.declare(messages.EngineInfo(1, "", info.devices, (other,), info.presets))
    values = knobs.group_of(opened, small)
    assert not hasattr(values, "keep_background")
    assert knobs.options_of(opened, other) == {"text_guidance": 2.0}  # what it can take
