# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries and contact sheets from the panel: what is asked for, what is kept, and going back to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from in_blender import settle
from test_panels import Notes, drawn
from test_talking import said

from blender_addon import knobs, panels, project, session, sheet_settings, tries
from blender_addon.operators.tries import INSTRUCT_NERF_OT_pick_cell
from blender_addon.panels.tries import sheet_names
from blender_addon.scene import cameras, sheet_view

ask = bpy.ops.instruct_nerf


@pytest.fixture
def scene(opened: bpy.types.Scene) -> bpy.types.Scene:
    """A scene with one of its capture's cameras active and an instruction."""
    bpy.context.view_layer.objects.active = cameras.cameras_of(project.root_of(opened))[3]
    opened.instruct_nerf.instruction = "make it night"
    return opened


def turned(scene: bpy.types.Scene) -> object:
    return knobs.group_of(scene, project.editor_of(scene))


def tried(scene: bpy.types.Scene, **more: object) -> str:
    """Try with these settings and knobs; the try's id."""
    for name, value in more.items():
        setattr(turned(scene) if hasattr(turned(scene), name) else scene.instruct_nerf, name, value)
    ask.try_edit()
    settle()
    assert not session.get().notices
    return tries.tries_of(scene)[0].id


def test_a_click_takes_what_made_a_try(scene: bpy.types.Scene) -> None:
    first = tried(scene, seed=7, text_guidance=5.5, keep_background="on", tethered=True)
    group = turned(scene)
    for name in ("text_guidance", "keep_background", "tethered"):
        group.property_unset(name)
    second = tried(scene, instruction="make it sunset", seed=1, image_guidance=2.0)
    assert first != second and tries.shown(scene).id == second and "make it sunset" in drawn()
    ask.take_try(tried=first)
    settings = scene.instruct_nerf
    assert (settings.instruction, settings.seed) == ("make it night", 7) and tries.shown(scene).id == first
    editor = project.editor_of(scene)
    assert knobs.options_of(scene, editor) == {"text_guidance": 5.5, "keep_background": "on", "tethered": True}
    assert not group.is_property_set("image_guidance")
    ask.take_try(tried=second)
    assert knobs.options_of(scene, editor) == {"image_guidance": 2.0} and settings.instruction == "make it sunset"


def test_what_is_tried_again_is_asked_for_as_it_was(scene: bpy.types.Scene, tmp_path: Path) -> None:
    first = tried(scene, text_guidance=1 / 3, diffusion_steps=7, seed=3)
    tried(scene, instruction="make it sunset", text_guidance=9.0, seed=0)
    ask.take_try(tried=first)
    tried(scene)
    asked = said("edit/try", tmp_path)
    assert asked[0] == asked[2] != asked[1]


def test_another_editors_try_takes_its_editor_too(scene: bpy.types.Scene, tmp_path: Path) -> None:
    own = tmp_path / "my editor"
    own.mkdir()
    scene.instruct_nerf.editor_model = str(own)
    settle()
    first = tried(scene, text_guidance=8.0)
    scene.instruct_nerf.editor_model = ""
    second = tried(scene, text_guidance=1.0)
    ask.take_try(tried=first)
    assert project.editor_of(scene).name == str(own) and turned(scene).text_guidance == 8.0
    ask.take_try(tried=second)
    assert project.editor_of(scene).name == "small" and turned(scene).text_guidance == 1.0
    info = session.get().info
    session.get().info = SimpleNamespace(**{**vars(info), "editors": info.editors[:2]})  # it was removed
    assert "is not offered now" in tries.take(scene, first, 0)
    assert scene.instruct_nerf.instruction == "make it night"


def test_what_a_try_would_stand_on_is_taken_too(scene: bpy.types.Scene, tmp_path: Path) -> None:
    ask.start_edit()
    settle()
    edit = project.edit_of(scene).id
    scene.instruct_nerf.parent_choice = edit
    first = tried(scene)
    scene.instruct_nerf.parent = ""
    second = tried(scene)
    assert [asked.get("parent") for asked in said("edit/try", tmp_path)] == [edit, None]
    ask.take_try(tried=first)
    assert scene.instruct_nerf.parent == edit
    ask.take_try(tried=second)
    assert scene.instruct_nerf.parent == ""
    workspace = project.workspace_of(scene)
    session.get().projects[workspace] = replace(session.get().projects[workspace], edits=())  # deleted
    assert "the edit that it stands on" in tries.take(scene, first, 0) and scene.instruct_nerf.parent == ""


def test_the_gallery_is_read_with_the_project_and_pages(scene: bpy.types.Scene) -> None:
    for number in range(8):
        tried(scene, seed=number)
    shown = drawn()
    assert shown.count("instruct_nerf.delete_try") == 6 and "1 of 2, newest first" in shown
    ask.gallery_page(page=2)
    assert drawn().count("instruct_nerf.delete_try") == 2
    session.get().projects.clear()
    assert not tries.tries_of(scene) and not ask.take_try.poll()
    ask.reconnect()
    settle()
    assert [entry.cells[0].seed for entry in tries.tries_of(scene)] == [*reversed(range(8))]


def test_a_try_is_deleted_but_for_a_key_views(scene: bpy.types.Scene) -> None:
    first, second = tried(scene), tried(scene, seed=2)
    ask.use_as_key_view(tried=first)
    with pytest.raises(RuntimeError, match="is a key view: remove it there first"):
        ask.delete_try(tried=first)
    ask.delete_try(tried=second)
    settle()
    assert [entry.id for entry in tries.tries_of(scene)] == [first]
    with pytest.raises(RuntimeError, match="not there any more"):
        ask.take_try(tried=second)
    ask.remove_key_view(view=tries.shown(scene).view)
    ask.delete_try()
    settle()
    assert not tries.tries_of(scene) and not ask.delete_try.poll()
    drawn()


# -- contact sheets ----------------------------------------------------------------------------------------------


def axes(scene: bpy.types.Scene) -> tuple[object, object]:
    return scene.instruct_nerf.sheet_across, scene.instruct_nerf.sheet_down


def test_a_sheet_is_over_the_first_two_numbers_until_chosen(scene: bpy.types.Scene, tmp_path: Path) -> None:
    assert "9 edits of one photo" in drawn()
    ask.make_sheet()
    settle()
    [asked] = said("edit/try", tmp_path)
    assert asked["across"] == {"name": "text_guidance", "values": [1.5, 3.75, 6.0]}
    assert asked["down"] == {"name": "image_guidance", "values": [0.75, 1.875, 3.0]}
    sheet = tries.shown(scene)
    assert len(sheet.cells) == 9 and sheet.columns == 3 and sheet_names(sheet) == ["text_guidance", "image_guidance"]
    assert "3.75, 1.875" in drawn()
    assert "9 edits of one photo. About" in drawn()  # as long as it took


def test_a_cell_that_is_taken_is_tried_as_it_was_in_the_sheet(scene: bpy.types.Scene, tmp_path: Path) -> None:
    across, down = axes(scene)
    across.over, across.first, across.last, across.count = "text_guidance", 1.0, 7.7, 4
    down.over, down.count = "seed", 3
    scene.instruct_nerf.seed = 5
    turned(scene).image_guidance = 1.25
    ask.make_sheet()
    settle()
    sheet = tries.shown(scene)
    assert len(sheet.cells) == 12
    for number in (0, 5, 11):
        ask.take_try(tried=sheet.id, cell=number)
        assert scene.instruct_nerf.tried_cell == number and tries.shown_cell(scene) == number
        tried(scene)
        asked, cell = said("edit/try", tmp_path)[-1], sheet.cells[number]
        assert (asked["instruction"], asked["seed"]) == (cell.instruction, cell.seed) and "across" not in asked
        assert asked["options"] == cell.options, number
    with pytest.raises(RuntimeError, match="has 12 pictures"):
        ask.take_try(tried=sheet.id, cell=12)


VALUES = (
    ("diffusion_steps", {"first": 1.0, "last": 4.0, "count": 6}, [1, 2, 3, 4]),
    ("diffusion_steps", {"count": 3}, [10, 25, 40]),
    ("keep_background", {}, ["auto", "on", "off"]),
    ("tethered", {}, [False, True]),
    ("seed", {"count": 4}, [0, 1, 2, 3]),
    ("text_guidance", {"first": 5.0, "last": -3.0, "count": 2}, [5.0, 0.0]),  # within the knob's range
    ("text_guidance", {"first": 0.1, "last": 0.2, "count": 4}, [0.1, 0.1333, 0.1667, 0.2]),
)


def test_the_values_of_an_axis(scene: bpy.types.Scene) -> None:
    across, _ = axes(scene)
    for over, more, values in VALUES:
        across.property_unset("kept_for")
        across.over = over
        for name, value in more.items():
            setattr(across, name, value)
        found = sheet_settings.values(across)
        assert found == values and [type(value) for value in found] == [type(value) for value in values], over
        drawn()


def test_another_knob_begins_with_its_own_values(scene: bpy.types.Scene) -> None:
    across, down = axes(scene)
    across.first = 2.0
    assert (across.first, across.last) == (2.0, 6.0)
    across.over = "image_guidance"
    assert (across.first, across.last) == (0.75, 3.0) and down.over == "image_guidance"
    assert "Columns and rows are over the same" in drawn()
    with pytest.raises(RuntimeError, match="over the same"):
        ask.make_sheet()
    down.over = "NONE"
    assert len(sheet_settings.asked(scene)) == 1 and "3 edits of one photo" in drawn()
    across.over = "text_guidance"
    assert (across.first, across.last) == (2.0, 6.0)  # as the artist left them
    across.property_unset("kept_for")
    scene.instruct_nerf.editor_choice = "hub/big"  # whose own is 7.5
    assert (across.first, across.last) == (3.75, 15.0)
    with pytest.raises(TypeError):
        across.over = "NONE"  # one column there must be


def test_instructions_stand_in_a_text_one_a_line(scene: bpy.types.Scene, tmp_path: Path) -> None:
    across, down = axes(scene)
    across.over, down.over = "instruction", "NONE"
    assert "Choose a text that has an instruction on each of its lines" in drawn()
    with pytest.raises(RuntimeError, match="Choose a text"):
        ask.make_sheet()
    across.lines = text = bpy.data.texts.new("instructions")
    text.from_string("make it night\n\n  make it   gold \nmake it night\n夜にする")
    ask.make_sheet()
    settle()
    [asked] = said("edit/try", tmp_path)
    assert asked["across"] == {"name": "instruction", "values": ["make it night", "make it gold", "夜にする"]}
    ask.take_try(cell=1)
    assert scene.instruct_nerf.instruction == "make it gold"
    assert tries.recent(scene) == ["夜にする", "make it gold", "make it night"]
    text.from_string("\n".join(map(str, range(17))))
    with pytest.raises(RuntimeError, match="at most 16 columns and rows: the text has 17"):
        ask.make_sheet()
    text.from_string("\n".join(map(str, range(16))))
    down.over, down.count = "seed", 5
    with pytest.raises(RuntimeError, match="at most 64 pictures, not 80"):
        ask.make_sheet()


def test_a_cancelled_sheet_is_read_from_the_project(scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(tries, "read_workspace", read.append)
    across, down = axes(scene)
    across.count = down.count = 8
    ask.make_sheet()
    assert session.wait(lambda: session.get().job.step > 2, 10.0)
    ask.cancel()
    settle()
    assert session.get().job.status == "cancelled" and read == [project.workspace_of(scene)]


def test_a_point_of_the_sheet_is_a_cell(scene: bpy.types.Scene) -> None:
    boxes = [(8, 20, 100, 50), (116, 20, 100, 50), (8, 90, 100, 50)]
    size = (230, 150)

    def at(x: float, y: float) -> int | None:
        return sheet_view.cell_at(boxes, size, x / size[0], 1 - y / size[1])

    assert [at(10, 22), at(107, 69), at(120, 40), at(50, 100)] == [0, 0, 1, 2]
    assert [at(4, 40), at(110, 40), at(50, 80), at(150, 100), at(-5, -5), at(500, 20)] == [None] * 6


def test_a_click_into_the_image_takes_the_cell_under_it(scene: bpy.types.Scene) -> None:
    ask.make_sheet()
    settle()
    sheet = tries.shown(scene)
    image = sheet_view.load(sheet.id, sheet.after)
    space = SimpleNamespace(image=image)
    assert sheet_view.tried_of(space) == sheet.id and sheet_view.load(sheet.id, sheet.after) == image
    operator = SimpleNamespace(report=lambda *_: None, over=lambda _context, result: result)
    context = SimpleNamespace(scene=scene)
    for number, cell in enumerate(sheet.cells):
        x, y, width, height = cell.box
        u, v = (x + width / 2) / image.size[0], 1 - (y + height / 2) / image.size[1]
        assert INSTRUCT_NERF_OT_pick_cell.picked(operator, context, space, u, v) == {"FINISHED"}
        assert scene.instruct_nerf.tried_cell == number
        assert knobs.options_of(scene, project.editor_of(scene)) == cell.options
    assert INSTRUCT_NERF_OT_pick_cell.picked(operator, context, space, 2.0, 2.0) == {"RUNNING_MODAL"}
    assert not ask.pick_cell.poll()  # no image editor shows one
    drawn_in_image_editor(scene, space)
    ask.delete_try()
    settle()
    assert not [image for image in bpy.data.images if image.get(sheet_view.TRIED)]


def drawn_in_image_editor(scene: bpy.types.Scene, space: object) -> None:
    texts: list[str] = []
    context = SimpleNamespace(
        scene=scene, region=None, space_data=space, preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0))
    )
    panel = panels.tries.INSTRUCT_NERF_PT_image
    assert panel.poll(context) and not panel.poll(SimpleNamespace(space_data=None))
    panel.draw(SimpleNamespace(layout=Notes(texts)), context)
    assert len([text for text in texts if "," in text]) >= 9


def test_recent_instructions_are_those_of_tries_and_edits(scene: bpy.types.Scene) -> None:
    assert tries.recent(scene) == []
    tried(scene)
    tried(scene, instruction="make it sunset")
    scene.instruct_nerf.instruction = "make it blurple"
    ask.start_edit()
    settle()
    assert tries.recent(scene) == ["make it sunset", "make it night", "make it blurple"]
    ask.use_instruction(instruction="make it night")
    assert scene.instruct_nerf.instruction == "make it night"
