# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to an edit while it runs, by the panel's buttons: pause, go on, another instruction, a view again, a look."""

from __future__ import annotations

import json
import time
from pathlib import Path

import bpy
import pytest
from in_blender import settle
from test_panels import drawn

from blender_addon import drawing, knobs, project, session, talking
from blender_addon.scene import cameras, region

ask = bpy.ops.instruct_nerf


@pytest.fixture
def editing(opened: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> bpy.types.Scene:
    """A scene whose edit has begun."""
    opened.instruct_nerf.instruction = "make it night"
    ask.start_edit()
    assert session.wait(lambda: session.get().job.stage == "edit", 20.0)
    return opened


def said(method: str, tmp_path: Path) -> list[dict]:
    """What the engine was asked by that method."""
    lines = (tmp_path / "user" / "run" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return [asked for asked in map(json.loads, lines) if asked["method"] == method]


def test_a_running_edit_pauses_and_goes_on(editing: bpy.types.Scene) -> None:
    job = session.get().job
    assert ask.pause.poll() and not ask.go_on.poll()
    ask.pause()
    assert session.wait(lambda: job.paused, 5.0)
    assert "Paused at" in drawn() and "instruct_nerf.go_on" in drawn() and "instruct_nerf.pause" not in drawn()
    assert ask.go_on.poll() and not ask.pause.poll()
    session.wait(lambda: False, 0.3)  # the step that it was taking
    at = job.step
    session.wait(lambda: False, 0.5)
    assert job.step == at and job.seconds_left is None
    ask.go_on()
    settle()
    assert not job.paused and job.status == "done" and project.edit_of(editing).finished


def test_a_paused_edit_can_be_cancelled(editing: bpy.types.Scene) -> None:
    ask.pause()
    assert session.wait(lambda: session.get().job.paused, 5.0)
    ask.cancel()
    settle()
    assert session.get().job.status == "cancelled" and not ask.go_on.poll()


def test_a_changed_instruction_is_told_to_the_running_edit(editing: bpy.types.Scene, tmp_path: Path) -> None:
    settings, job = editing.instruct_nerf, session.get().job
    group = knobs.group_of(editing, project.editor_of(editing))
    assert not ask.change_edit.poll()  # nothing was changed
    settings.instruction, group.text_guidance = "make it sunset", 5.0
    assert talking.changes(editing) == {"instruction": "make it sunset", "options": {"text_guidance": 5.0}}
    ask.pause()
    ask.change_edit()
    assert session.wait(lambda: "From step" in session.get().news.get("edit", ""), 5.0)
    assert "“make it sunset”, text guidance 5.0" in session.get().news["edit"]
    assert not ask.change_edit.poll()  # it was told
    group.property_unset("text_guidance")  # back to the editor's own
    assert talking.changes(editing) == {"options": {"text_guidance": 3.0}}
    ask.change_edit()
    ask.go_on()
    settle()
    told = said("job/change", tmp_path)
    assert [asked.get("instruction") for asked in told] == ["make it sunset", None]
    assert [asked.get("options") for asked in told] == [{"text_guidance": 5.0}, {"text_guidance": 3.0}]
    assert all(asked["job"] == job.id for asked in told)
    assert project.edit_of(editing).said == "make it night → make it sunset" and "night → make it sunset" in drawn()


def test_another_editors_knobs_are_not_told(editing: bpy.types.Scene) -> None:
    editing.instruct_nerf.editor_choice = "hub/big"  # it is for the next edit
    knobs.group_of(editing, project.editor_of(editing)).text_guidance = 2.0
    assert talking.changes(editing) == {}
    editing.instruct_nerf.instruction = "make it blurple"
    assert talking.changes(editing) == {"instruction": "make it blurple"}


def test_a_resumed_edit_knows_what_it_was_told(editing: bpy.types.Scene) -> None:
    ask.pause()
    editing.instruct_nerf.instruction = "make it sunset"
    ask.change_edit()
    assert session.wait(lambda: "From step" in session.get().news.get("edit", ""), 5.0)
    ask.cancel()
    settle()
    ask.resume_edit(edit=project.edit_of(editing).id)
    assert session.wait(lambda: session.get().job.stage == "edit", 20.0)
    assert talking.changes(editing) == {} and "From step" not in session.get().news.get("edit", "")
    editing.instruct_nerf.instruction = "make it night"
    assert talking.changes(editing) == {"instruction": "make it night"}


def test_a_view_is_edited_again_and_looked_at(editing: bpy.types.Scene, tmp_path: Path) -> None:
    assert not ask.look.poll() and not ask.edit_again.poll()  # no camera of the capture is meant
    camera = cameras.cameras_of(project.root_of(editing))[2]
    bpy.context.view_layer.objects.active = camera
    ask.pause()
    ask.look()
    job = session.get().job
    assert session.wait(lambda: job.kind == talking.NOW, 5.0)
    assert Path(job.image).exists() and job.view == camera[cameras.VIEW] and talking.NOW in drawing.KINDS
    ask.edit_again()
    assert session.wait(lambda: "once more" in session.get().news.get("edit", ""), 5.0)
    ask.go_on()
    settle()
    [looked], [again] = said("job/render", tmp_path), said("job/remake", tmp_path)
    assert again["view"] == camera[cameras.VIEW]
    assert (looked["camera"]["width"], looked["camera"]["height"]) == (60, 80) and len(looked["camera"]["pose"]) == 16
    assert [change.view for change in project.edit_of(editing).changes] == [camera[cameras.VIEW]]


def test_a_view_is_left_as_captured(editing: bpy.types.Scene, tmp_path: Path) -> None:
    assert not ask.leave_view.poll()  # no camera of the capture is meant
    camera = cameras.cameras_of(project.root_of(editing))[2]
    bpy.context.view_layer.objects.active = camera
    ask.leave_view()
    assert session.wait(lambda: "is as captured" in session.get().news.get("edit", ""), 5.0)
    settle()
    [left] = said("job/remake", tmp_path)
    assert (left["view"], left["captured"]) == (camera[cameras.VIEW], True)


def test_a_running_edit_is_given_another_region(editing: bpy.types.Scene, tmp_path: Path) -> None:
    settings = editing.instruct_nerf
    assert not ask.change_region.poll()  # there is none
    ask.pause()
    ask.region_box()
    assert ask.change_region.poll()
    ask.change_region()
    assert session.wait(lambda: "inside the region alone" in session.get().news.get("edit", ""), 5.0)
    told = session.get().job.sent["region"]
    with pytest.raises(RuntimeError, match="keeps to this region already"):
        ask.change_region()
    (box,) = region.objects_of(settings.region)
    box.location.x += 0.5
    bpy.context.view_layer.update()
    settings.region_invert = True
    ask.change_region()
    assert session.wait(lambda: session.get().job.sent["region"] != told, 5.0)
    settings.use_region = False
    assert ask.change_region.poll()  # none any more
    ask.change_region()
    assert session.wait(lambda: "the whole scene" in session.get().news.get("edit", ""), 5.0)
    assert not ask.change_region.poll()
    ask.go_on()
    settle()
    first, moved, none = (asked["region"] for asked in said("job/change", tmp_path))
    assert none is None and not first["invert"] and moved["invert"]
    moves = [b - a for a, b in zip(first["solids"][0]["vertices"], moved["solids"][0]["vertices"], strict=True)]
    assert all(abs(move - (0.0 if number % 3 else 0.5)) < 1e-5 for number, move in enumerate(moves))


def test_nothing_is_asked_of_what_does_not_run(opened: bpy.types.Scene) -> None:
    for operator in (
        ask.pause, ask.go_on, ask.change_edit, ask.change_region, ask.edit_again, ask.leave_view, ask.look,
    ):  # fmt: skip
        assert not operator.poll()
    for function in (lambda: talking.pause(True), lambda: talking.change(opened), lambda: talking.look(opened, "x")):
        with pytest.raises(RuntimeError):
            function()
    assert "instruct_nerf.change_edit" not in drawn() and "Change Instruction" not in drawn()
    ask.reconnect()
    began = time.monotonic()
    assert not ask.pause.poll() and time.monotonic() - began < 1.0  # opening cannot pause
    settle()
