# SPDX-License-Identifier: GPL-3.0-or-later
"""Key views and the schedule from the panel: approved, listed, removed, sent with the edit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bpy
import pytest
from in_blender import settle
from PIL import Image
from test_panels import drawn
from test_talking import said
from test_toy_editor import capture_of, use_toy_engine
from test_tries import tried, turned

from blender_addon import key_views, project, session, tries
from blender_addon.scene import cameras

ask = bpy.ops.instruct_nerf


@pytest.fixture
def scene(opened: bpy.types.Scene) -> bpy.types.Scene:
    opened.instruct_nerf.instruction = "make it night"
    return activate(opened, 3)


def activate(scene: bpy.types.Scene, number: int) -> bpy.types.Scene:
    bpy.context.view_layer.objects.active = cameras.cameras_of(project.root_of(scene))[number]
    return scene


def names(scene: bpy.types.Scene) -> list[str]:
    return [camera[cameras.VIEW] for camera in cameras.cameras_of(project.root_of(scene))]


def test_an_approved_try_goes_with_the_edit(scene: bpy.types.Scene, tmp_path: Path) -> None:
    assert "Try on one view until you like it" in drawn() and "instruct_nerf.propose_key_view" in drawn()
    tried(scene)
    picture = tries.shown(scene).after
    assert ask.use_as_key_view() == {"FINISHED"}
    [key] = scene.instruct_nerf.key_views
    assert key.view == names(scene)[3] and not key.picture.startswith("/")
    assert key_views.path_of(scene, key) == picture and key.view in drawn()
    tried(scene, seed=4)
    ask.use_as_key_view()  # the other one takes its place
    assert [key_views.path_of(scene, key) for key in scene.instruct_nerf.key_views] == [tries.shown(scene).after]
    ask.start_edit()
    settle()
    [asked] = said("edit/run", tmp_path)
    assert asked["key_views"] == [{"view": names(scene)[3], "picture": tries.shown(scene).after}]
    assert "schedule" not in asked and "views" not in asked


def test_a_cell_and_a_picture_of_ones_own_are_approved(scene: bpy.types.Scene, tmp_path: Path) -> None:
    ask.make_sheet()
    settle()
    ask.take_try(cell=4)
    ask.use_as_key_view()
    sheet = tries.shown(scene)
    assert key_views.path_of(scene, scene.instruct_nerf.key_views[0]) == sheet.cells[4].image
    ask.use_as_key_view(tried=sheet.id, cell=2)
    assert key_views.path_of(scene, scene.instruct_nerf.key_views[0]) == sheet.cells[2].image
    activate(scene, 5)
    Image.new("RGB", (60, 80)).save(tmp_path / "bemalt ü.png")
    ask.picture_as_key_view(filepath=str(tmp_path / "bemalt ü.png"))
    assert [key.view for key in scene.instruct_nerf.key_views] == [names(scene)[3], names(scene)[5]]
    with pytest.raises(RuntimeError, match="There is no picture at"):
        ask.picture_as_key_view(filepath=str(tmp_path / "gone.png"))
    bpy.context.view_layer.objects.active = None
    assert not ask.picture_as_key_view.poll()


def test_four_are_the_most_and_one_can_be_removed(scene: bpy.types.Scene, tmp_path: Path) -> None:
    Image.new("RGB", (60, 80)).save(tmp_path / "own.png")
    assert not ask.remove_key_view.poll()
    for number in range(5):
        activate(scene, number)
        if number < 4:
            ask.picture_as_key_view(filepath=str(tmp_path / "own.png"))
        else:
            with pytest.raises(RuntimeError, match="4 key views already"):
                ask.picture_as_key_view(filepath=str(tmp_path / "own.png"))
    ask.remove_key_view(view=names(scene)[1])
    assert [key.view for key in scene.instruct_nerf.key_views] == [names(scene)[n] for n in (0, 2, 3)]
    with pytest.raises(RuntimeError, match="is not a key view"):
        ask.remove_key_view(view=names(scene)[1])
    ask.picture_as_key_view(filepath=str(tmp_path / "own.png"))
    assert len(scene.instruct_nerf.key_views) == 4


def test_key_views_are_among_what_is_edited(scene: bpy.types.Scene, tmp_path: Path) -> None:
    """Beside chosen ones, and where they are held out."""
    Image.new("RGB", (60, 80)).save(tmp_path / "own.png")
    capture = project.project_of(scene).capture
    held = [view.name for view in capture.views if view.held_out]
    activate(scene, names(scene).index(held[0]))
    ask.picture_as_key_view(filepath=str(tmp_path / "own.png"))
    rest = [view.name for view in capture.views if not view.held_out]
    assert key_views.asked(scene, [])["views"] == [*rest, held[0]]
    assert key_views.asked(scene, names(scene)[5:8])["views"] == [*names(scene)[5:8], held[0]]
    assert key_views.asked(scene, held)["views"] == held


def test_the_schedule_is_chosen(scene: bpy.types.Scene, tmp_path: Path) -> None:
    tried(scene)
    settings = scene.instruct_nerf
    assert key_views.asked(scene, []) == {"schedule": None, "views": None}
    settings.schedule = "projected"
    assert key_views.asked(scene, []) == {"schedule": "projected", "views": None}
    ask.use_as_key_view()
    assert "does not use key views" not in drawn()
    settings.schedule = "paper"
    assert "does not use key views" in drawn()
    ask.start_edit()
    settle()
    [asked] = said("edit/run", tmp_path)
    assert asked["schedule"] == "paper" and "key_views" not in asked


def test_what_is_gone_is_said_before_anything_is_asked(scene: bpy.types.Scene, tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    Image.new("RGB", (60, 80)).save(own)
    ask.picture_as_key_view(filepath=str(own))
    own.unlink()
    drawn()
    with pytest.raises(RuntimeError, match=r"is gone, .*own\.png: remove it, or put it back"):
        ask.start_edit()
    scene.instruct_nerf.key_views[0].view = "elsewhere"
    with pytest.raises(RuntimeError, match="no view elsewhere any more"):
        ask.start_edit()
    assert not said("edit/run", tmp_path)


def test_key_views_are_saved_undone_and_move_with_the_project(scene: bpy.types.Scene, tmp_path: Path) -> None:
    tried(scene)
    bpy.ops.ed.undo_push(message="before")
    ask.use_as_key_view()
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert not bpy.context.scene.instruct_nerf.key_views
    bpy.ops.ed.redo()
    scene = bpy.context.scene
    assert len(scene.instruct_nerf.key_views) == 1
    workspace = Path(project.workspace_of(scene))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
    scene = bpy.context.scene
    [key] = scene.instruct_nerf.key_views
    assert Path(key_views.path_of(scene, key)).is_relative_to(workspace)
    shutil.copytree(workspace, tmp_path / "elsewhere")
    scene.instruct_nerf.workspace = str(tmp_path / "elsewhere")
    assert Path(key_views.path_of(scene, key)).is_relative_to(tmp_path / "elsewhere")


def test_a_first_one_is_proposed(scene: bpy.types.Scene) -> None:
    ask.propose_key_view()
    settle()
    meant = project.active_view(bpy.context)
    assert meant[cameras.VIEW] == names(scene)[5] and [o.name for o in bpy.context.selected_objects] == [meant.name]
    assert f"{names(scene)[5]} sees most of what the others see" in session.get().news["edit"]


def test_presets_keep_every_setting_of_the_edit(scene: bpy.types.Scene, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bpy.utils, "user_resource", lambda *_a, path="", **_k: str(_made(tmp_path / path)))
    monkeypatch.setattr(bpy.utils, "preset_paths", lambda subdir: [str(tmp_path / "presets" / subdir)])
    listed = bpy.types.INSTRUCT_NERF_PT_presets
    monkeypatch.setattr(listed, "bl_label", listed.bl_label)  # Blender calls it by the preset that was chosen last
    settings, group = scene.instruct_nerf, turned(scene)
    settings.instruction, settings.seed, settings.steps, settings.schedule = 'say "x"\\', 9, 77, "projected"
    settings.preset, group.text_guidance, group.keep_background = "paper", 4.25, "off"
    ask.preset_add(name="My Night")
    [written] = (tmp_path / "presets" / "instruct_nerf" / "edit").glob("*.py")
    settings.instruction, settings.seed, settings.steps, settings.schedule, settings.preset = "", 0, 0, "AUTO", ""
    group.property_unset("text_guidance")
    group.image_guidance, group.keep_background = 9.0, "on"
    bpy.ops.script.execute_preset(filepath=str(written), menu_idname="INSTRUCT_NERF_PT_presets")
    assert (settings.instruction, settings.seed, settings.steps) == ('say "x"\\', 9, 77)
    assert (settings.schedule, settings.preset) == ("projected", "paper")
    assert group.text_guidance == 4.25 and group.keep_background == "off"
    assert not group.is_property_set("image_guidance")
    ask.preset_add(name="My Night", remove_name=True)
    assert not written.exists()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


BY_HAND = (
    "", "{", "3", '{"editor": []}', '{"editor": "gone", "options": {}}', '{"editor": "small", "options": 3}',
    '{"editor": "small", "options": {"text_guidance": "x", "tethered": [], "y": 1}}',
)  # fmt: skip


def test_knobs_of_a_preset_that_somebody_wrote_by_hand_harm_nothing(scene: bpy.types.Scene) -> None:
    for text in BY_HAND:
        scene.instruct_nerf.knobs_text = text
        assert turned(scene).text_guidance == 3.0 and not turned(scene).tethered, text
        drawn()


def test_knobs_of_a_preset_wait_for_the_engine(scene: bpy.types.Scene) -> None:
    info, session.get().info = session.get().info, None
    scene.instruct_nerf.knobs_text = '{"editor": "small", "options": {"text_guidance": 6.5}}'
    assert scene.instruct_nerf.knobs_text.endswith("6.5}}")
    session.get().info = info
    for listener in session.said:
        listener(info)
    assert turned(scene).text_guidance == 6.5 and not scene.instruct_nerf.knobs_waiting


@pytest.mark.slow
def test_a_whole_edit_follows_a_key_view_from_the_panel(
    addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_toy_engine(tmp_path, monkeypatch)
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture_of(tmp_path / "capture")))
    settle(120)
    scene = bpy.context.scene
    scene.instruct_nerf.instruction = "paint it"
    ask.propose_key_view()
    settle(60)
    view = project.active_view(bpy.context)[cameras.VIEW]
    turned(scene).tint = "red"
    scene.instruct_nerf.sheet_across.over, scene.instruct_nerf.sheet_down.over = "tint", "seed"
    ask.make_sheet()
    settle(120)
    sheet = tries.shown(scene)
    red = next(n for n, cell in enumerate(sheet.cells) if cell.options["tint"] == "red")
    ask.take_try(tried=sheet.id, cell=red)
    alone = tried(scene)
    single = next(entry for entry in tries.tries_of(scene) if entry.id == alone)
    assert Path(single.after).read_bytes() == Path(sheet.cells[red].image).read_bytes()
    ask.use_as_key_view(tried=sheet.id, cell=red)
    ask.start_edit()
    settle(400)
    edit = project.edit_of(scene)
    assert edit is not None and edit.finished, session.get().notices
    folder = Path(scene.instruct_nerf.workspace) / "edits" / edit.id
    record = json.loads((folder / "edit.json").read_text())
    assert record["key_views"] == [view] and record["settings"]["method"] == "projected"
    with Image.open(folder / "keys" / f"{view}.png") as kept, Image.open(sheet.cells[red].image) as approved:
        assert kept.tobytes() == approved.convert("RGB").tobytes()
