# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of edits in the panel: the list, choosing, names, muting, the trash, another on one or like one."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest
from in_blender import settle
from test_panels import drawn

from blender_addon import following, jobs, lineage, messages, project, rows, session, tree
from blender_addon.scene import cameras, images, mesh

nerf = bpy.ops.instruct_nerf


def heard(tmp_path: Path, method: str) -> list[dict]:
    """What the engine was asked."""
    lines = (tmp_path / "user" / "run" / "requests.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["method"] == method]


def edit(scene: bpy.types.Scene, instruction: str, parent: str = "") -> messages.Edit:
    """A finished edit."""
    scene.instruct_nerf.instruction, scene.instruct_nerf.parent = instruction, parent
    nerf.start_edit()
    settle()
    return project.chosen_edit(scene)


def with_edits(capture: Path, monkeypatch: pytest.MonkeyPatch, *modes: str) -> bpy.types.Scene:
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*jobs.ENGINE_ARGUMENTS, "tick=0", "grown", *modes])
    nerf.open_capture(filepath=str(capture))
    settle()
    bpy.ops.instruct_nerf.reconnect()
    settle()
    scene = bpy.context.scene
    scene.instruct_nerf.shown = "after"
    return scene


@pytest.fixture
def grown(addon: object, capture: Path, monkeypatch: pytest.MonkeyPatch) -> bpy.types.Scene:
    """A scene with edit-1, edit-2 that stands on it, and edit-3 beside them, the chosen one."""
    return with_edits(capture, monkeypatch)


def listed(scene: bpy.types.Scene) -> list[tuple[str, int]]:
    return [(row.name, row.depth) for row in scene.instruct_nerf.rows]


def behind(scene: bpy.types.Scene) -> str:
    """The file behind the first of the capture's cameras."""
    camera = cameras.cameras_of(project.root_of(scene))[0]
    return bpy.path.abspath(camera.data.background_images[0].image.filepath)


def test_an_edit_of_an_edit_is_asked_for_and_listed_below_it(grown: bpy.types.Scene, tmp_path: Path) -> None:
    assert edit(grown, "make it snowy", "edit-2").id == "edit-4"
    assert [r.get("parent") for r in heard(tmp_path, "edit/run")] == ["edit-2"]
    assert listed(grown) == [
        ("Captured Scene", 0), ("make it night", 1), ("turn it into gold", 2), ("make it snowy", 3),
        ("make it sunset", 1),
    ]  # fmt: skip
    settings = grown.instruct_nerf
    assert settings.rows[settings.row].edit == "edit-4" == project.edit_of(grown).id
    shown = drawn()
    assert all(
        words in shown for words in ("Captured Scene", "more_steps", "Stands On", "mute_edit", "On “turn it into gold”")
    )
    nerf.try_edit.poll()
    bpy.context.view_layer.objects.active = cameras.cameras_of(project.root_of(grown))[2]
    nerf.stand_on(edit="edit-2")
    assert settings.parent == "edit-2" == settings.parent_choice
    nerf.try_edit()
    settle()
    assert heard(tmp_path, "edit/try")[-1]["parent"] == "edit-2"
    settings.parent_choice = "AUTO"
    assert settings.parent == ""


def test_choosing_a_row_shows_its_views_and_its_mesh(grown: bpy.types.Scene) -> None:
    settings, root = grown.instruct_nerf, project.root_of(grown)
    nerf.import_mesh()
    settle()
    settings.row = 1
    assert project.edit_of(grown).id == "edit-1" and "edit-1" in behind(grown)
    nerf.import_mesh()
    settle()
    seen = {item[mesh.MESH]: not item.hide_get() for item in root.children if mesh.MESH in item}
    assert seen == {"edit-1": True, "edit-3": False}
    nerf.choose_edit(edit="edit-3")
    seen = {item[mesh.MESH]: (item.hide_get(), item.hide_render) for item in root.children if mesh.MESH in item}
    assert seen == {"edit-1": (True, True), "edit-3": (False, False)} and "edit-3" in behind(grown)
    settings.shown = "image"
    settings.row = 0
    assert settings.edit == lineage.ROOT and project.edit_of(grown) is None and settings.shown == "after"
    assert Path(behind(grown)).parent.name == "before"  # the unedited scene is itself what comes after nothing
    assert all(item.hide_get() for item in root.children if mesh.MESH in item)
    with pytest.raises(RuntimeError, match="There is no edit nobody"):
        nerf.choose_edit(edit="nobody")


def test_before_is_what_the_edit_stands_on(grown: bpy.types.Scene) -> None:
    name = str(cameras.cameras_of(project.root_of(grown))[0][cameras.VIEW])
    nerf.choose_edit(edit="edit-2")
    assert project.picture(grown, "before", name) == project.picture(grown, "before", name)
    assert project.picture(grown, "before", name) == lineage.find(project.edits_of(grown), "edit-1").views[name]
    nerf.choose_edit(edit="edit-1")
    assert Path(project.picture(grown, "before", name)).parent.name == "before"


def test_frames_mesh_and_report_are_of_the_chosen_node(grown: bpy.types.Scene, tmp_path: Path) -> None:
    grown.frame_end = 12
    nerf.camera_path()
    settle()
    for chosen, wanted in (("edit-2", "edit-2"), (lineage.ROOT, None)):
        nerf.choose_edit(edit=chosen)
        nerf.render_to_sequencer()
        settle()
        assert heard(tmp_path, "output/frames")[-1]["edit"] == wanted
        nerf.import_mesh()
        settle()
        assert heard(tmp_path, "output/mesh")[-1].get("edit") == wanted
    assert not nerf.report.poll()
    nerf.choose_edit(edit="edit-2")
    nerf.report()
    settle()
    assert heard(tmp_path, "output/report")[-1]["edit"] == "edit-2"


def test_a_name_is_typed_in_the_list_and_empty_it_is_the_instruction(grown: bpy.types.Scene, tmp_path: Path) -> None:
    row = grown.instruct_nerf.rows[2]
    row.title = "  Golden   夜 "
    assert listed(grown)[2] == ("Golden 夜", 2)  # at once
    settle()
    assert listed(grown)[2] == ("Golden 夜", 2)
    assert heard(tmp_path, "edit/label") == [
        {"method": "edit/label", "workspace": project.workspace_of(grown), "edit": "edit-2", "name": "Golden 夜"}
    ]
    nerf.rename_edit(edit="edit-2", name="turn it into gold")
    settle()
    assert heard(tmp_path, "edit/label")[-1]["name"] == "" and listed(grown)[2][0] == "turn it into gold"
    assert [e.id for e in project.edits_of(grown)] == ["edit-1", "edit-2", "edit-3"]  # in their order
    nerf.rename_edit(edit="edit-2", name="turn it into gold")  # nothing to do
    settle()
    assert len(heard(tmp_path, "edit/label")) == 2


def test_muted_what_lies_below_is_shown_and_taken(grown: bpy.types.Scene, tmp_path: Path) -> None:
    nerf.choose_edit(edit="edit-2")
    nerf.mute_edit()
    settle()
    assert project.edit_of(grown).id == "edit-1" and project.chosen_edit(grown).id == "edit-2"
    assert "edit-1" in behind(grown) and "“make it night” is shown" in drawn()
    nerf.import_mesh()
    settle()
    assert heard(tmp_path, "output/mesh")[-1]["edit"] == "edit-1"
    nerf.mute_edit(edit="edit-1", muted="ON")
    settle()
    assert project.edit_of(grown) is None and "the captured scene is shown" in drawn()
    nerf.mute_edit(muted="OFF")  # edit-2, which stands on what is muted
    settle()
    assert project.edit_of(grown) is None
    nerf.mute_edit(edit="edit-1")
    settle()
    assert project.edit_of(grown).id == "edit-2" and "Muted" not in drawn()


def test_what_the_engine_refuses_is_as_it_was_and_said(
    addon: object, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = with_edits(capture, monkeypatch, "stubborn")
    before = project.edits_of(scene)
    scene.instruct_nerf.rows[1].title = "Mine"
    nerf.mute_edit(edit="edit-1")
    assert project.edits_of(scene)[0].muted
    settle()
    assert project.edits_of(scene) == before and listed(scene)[1][0] == "make it night"
    assert session.get().notices["tree"] == "That cannot be written." and "cannot be written" in drawn()


def test_deleted_with_all_that_stands_on_it(grown: bpy.types.Scene, tmp_path: Path) -> None:
    grown.instruct_nerf.parent = "edit-2"
    nerf.choose_edit(edit="edit-2")
    assert [e.id for e in tree.going(grown, "edit-1")] == ["edit-1", "edit-2"]
    nerf.delete_edit(edit="edit-1")
    settle()
    assert heard(tmp_path, "edit/delete")[-1]["with_children"] is True
    assert listed(grown) == [("Captured Scene", 0), ("make it sunset", 1)]
    assert grown.instruct_nerf.edit == lineage.ROOT and grown.instruct_nerf.parent == ""
    assert "2 edits are in the system trash" in drawn()
    nerf.choose_edit(edit="edit-3")
    nerf.delete_edit()
    settle()
    assert heard(tmp_path, "edit/delete")[-1] == {
        "method": "edit/delete", "workspace": project.workspace_of(grown), "edit": "edit-3",
    }  # fmt: skip
    assert listed(grown) == [] and project.edit_of(grown) is None


def test_deleted_the_one_below_is_chosen(grown: bpy.types.Scene) -> None:
    nerf.choose_edit(edit="edit-2")
    nerf.delete_edit()
    settle()
    assert project.chosen_edit(grown).id == "edit-1" and "edit-1" in behind(grown)


def test_a_damaged_one_can_be_deleted(
    addon: object, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*jobs.ENGINE_ARGUMENTS, "damaged"])
    nerf.open_capture(filepath=str(capture))
    settle()
    assert "record of edit-0 is damaged" in drawn() and "Delete" in drawn()
    nerf.delete_edit(edit="edit-0")
    settle()
    assert heard(tmp_path, "edit/delete")[-1]["edit"] == "edit-0" and "damaged" not in drawn()


def test_more_steps_and_duplicates(grown: bpy.types.Scene, tmp_path: Path) -> None:
    nerf.choose_edit(edit="edit-1")
    assert not nerf.more_steps.poll()  # edit-2 stands on it
    with pytest.raises(ValueError, match="“turn it into gold” stands on it"):
        tree.more_steps(grown, "edit-1", 100)
    nerf.choose_edit(edit="edit-3")
    with pytest.raises(RuntimeError, match="It has 20 steps already"):
        nerf.more_steps(steps=20)
    nerf.more_steps(steps=25)
    settle()
    assert {k: v for k, v in heard(tmp_path, "edit/resume")[-1].items() if k in ("edit", "steps")} == {
        "edit": "edit-3", "steps": 25,
    }  # fmt: skip
    assert project.chosen_edit(grown).of == 25 and project.chosen_edit(grown).finished
    nerf.duplicate_edit(edit="edit-2", seed=7)
    settle()
    asked = heard(tmp_path, "edit/run")[-1]
    assert (asked["like"], asked["instruction"], asked["seed"]) == ("edit-2", "turn it into gold", 7)
    assert "views" not in asked and "steps" not in asked and "editor" not in asked
    assert project.chosen_edit(grown).parent == "edit-1" and listed(grown)[3] == ("turn it into gold", 2)


def test_the_panel_takes_an_edits_settings(grown: bpy.types.Scene) -> None:
    root, settings = project.root_of(grown), grown.instruct_nerf
    names = [str(camera[cameras.VIEW]) for camera in cameras.cameras_of(root)]
    editor = project.editor_of(grown)
    from blender_addon import knobs

    group = knobs.group_of(grown, editor)
    group.text_guidance, settings.seed, settings.steps, settings.preset = 5.5, 4, 30, "paper"
    cameras.choose(root, names[1:5])
    made = edit(grown, "make it snowy", "edit-1")
    group.property_unset("text_guidance")
    group.tethered, settings.seed, settings.steps, settings.preset, settings.parent = True, 0, 0, "preview", ""
    settings.instruction = "another"
    cameras.choose(root, ())
    nerf.take_settings()
    assert made.seed == 4 and round(group.text_guidance, 3) == 5.5 and not group.is_property_set("tethered")
    assert (settings.seed, settings.steps, settings.preset, settings.parent) == (4, 30, "paper", "edit-1")
    assert settings.instruction == "make it snowy" and cameras.chosen_views(root) == names[1:5]


def test_an_edit_that_is_gone_cannot_be_stood_on_and_is_said(grown: bpy.types.Scene) -> None:
    grown.instruct_nerf.parent = "edit-9"
    grown.instruct_nerf.instruction = "make it night"
    with pytest.raises(RuntimeError, match="is gone: choose another under Stands On"):
        nerf.start_edit()
    assert "is gone" in drawn()
    workspace = project.workspace_of(grown)
    held = session.get().projects[workspace]
    lost = messages.Edit("edit-8", "x", "preview", (), 5, 10, False, {}, {}, "", 0.0, parent="edit-7")
    session.get().projects[workspace] = messages.Project(held.capture, held.scene, (*held.edits, lost))
    jobs.show_again(workspace)
    nerf.choose_edit(edit="edit-8")
    assert listed(grown)[-1] == ("x", 1) and "What it stands on, edit-7, is gone" in drawn()
    with pytest.raises(RuntimeError, match="is not finished"):
        nerf.stand_on()


def test_pictures_of_a_run_that_was_cancelled_do_not_hide_anothers(
    addon: object, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nerf.open_capture(filepath=str(capture))
    settle()
    scene = bpy.context.scene
    edit(scene, "make it night")
    scene.instruct_nerf.shown = "edited"
    scene.instruct_nerf.instruction = "make it sunset"
    nerf.start_edit()
    assert session.wait(lambda: session.get().job.step >= 4, 10.0)
    nerf.cancel()
    settle()
    nerf.choose_edit(edit="edit-2")
    assert "edit-2" in behind(scene)
    nerf.choose_edit(edit="edit-1")
    assert "edit-1" in behind(scene) and "80 %" not in drawn()


def test_rows_follow_another_file_undo_and_another_project(grown: bpy.types.Scene, tmp_path: Path) -> None:
    blend = str(tmp_path / "tree.blend")
    grown.instruct_nerf.rows.clear()
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.open_mainfile(filepath=blend)
    scene = bpy.context.scene
    assert len(listed(scene)) == 4  # as is still known
    scene.instruct_nerf.rows.remove(2)
    following._after_undo()
    assert len(listed(scene)) == 4
    scene.instruct_nerf.workspace = str(tmp_path / "elsewhere")
    rows.follow(scene)
    assert listed(scene) == []


def test_edits_that_stand_on_each_other_make_nobody_wait() -> None:
    def made(name: str, parent: str, muted: bool = False) -> messages.Edit:
        return messages.Edit(name, name, "p", (), 1, 1, True, {}, {}, "", 0.0, parent=parent, muted=muted)

    names = ("0001-make-it-night", "edit-0", "20261126-021500-123", "capture", "scene", "tries")
    assert [lineage.is_edits(name) for name in names] == [True, True, False, False, False, False]
    edits = [made("a", "b"), made("b", "a"), made("c", ""), made("d", "c", True), made("e", "d"), made("f", "gone")]
    assert [(e.id, depth) for e, depth in lineage.in_order(edits)] == [
        ("c", 0), ("d", 1), ("e", 2), ("f", 0), ("a", 0), ("b", 0),
    ]  # fmt: skip
    assert [e.id for e in lineage.stack(edits, "a")] == ["b", "a"] and lineage.stack(edits, "zzz") == []
    assert lineage.shown(edits, "e").id == "c" and lineage.shown(edits, "f").id == "f"
    assert [e.id for e in lineage.standing_on(edits, "c")] == ["d", "e"]
    assert [e.id for e in lineage.standing_on(edits, "a")] == ["b"]


def test_a_hundred_edits_are_listed_and_drawn_quickly(opened: bpy.types.Scene) -> None:
    import time

    workspace = project.workspace_of(opened)
    held = session.get().projects[workspace]
    picture = next(iter(held.capture.views)).image
    edits = tuple(
        messages.Edit(f"e{n}", f"edit {n}", "p", ("a",), 1, 1, True, {"a": picture}, {}, "", 1.0,
                      parent=f"e{n - 1}" if n % 5 else "")
        for n in range(100)
    )  # fmt: skip
    session.get().projects[workspace] = messages.Project(held.capture, held.scene, edits)
    jobs.show_again(workspace)
    assert len(listed(opened)) == 101 and listed(opened)[5] == ("edit 4", 5)
    opened.instruct_nerf.row = 50
    drawn()
    from test_panels import Notes, context_now

    from blender_addon import panels

    context, times = context_now(), []
    for _ in range(20):
        began = time.thread_time()
        for item in list(opened.instruct_nerf.rows)[:12]:  # as many as the list shows
            panels.tree.draw_row(Notes([]), context, item)
        opened.instruct_nerf.row  # noqa: B018
        times.append(1000 * (time.thread_time() - began))
    assert sorted(times)[len(times) // 2] < 5.0


def test_images_of_other_edits_are_let_go(grown: bpy.types.Scene) -> None:
    nerf.choose_edit(edit="edit-1")
    ours = [i.filepath for i in bpy.data.images if i.get(images.PICTURE)]
    assert ours and all("edit-1" in path for path in ours)
