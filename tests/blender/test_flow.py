# SPDX-License-Identifier: GPL-3.0-or-later
"""The artist's way through the add-on: open, choose, type, start, watch, cancel, resume, results."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import bpy
import pytest
from in_blender import settle
from test_panels import drawn

from blender_addon import jobs, project, session, tries
from blender_addon.scene import cameras


def names(scene: bpy.types.Scene) -> list[str]:
    return [c[cameras.VIEW] for c in cameras.cameras_of(project.root_of(scene))]


def shown(scene: bpy.types.Scene, view: str) -> str:
    camera = cameras.camera_of(project.root_of(scene), view)
    image = camera.data.background_images[0].image
    return Path(bpy.path.abspath(image.filepath)).parent.name


def edited(scene: bpy.types.Scene) -> None:
    scene.instruct_nerf.instruction = "make it night"
    assert bpy.ops.instruct_nerf.start_edit() == {"FINISHED"}
    settle()


def select(scene: bpy.types.Scene, views: list[str]) -> None:
    for camera in cameras.cameras_of(project.root_of(scene)):
        camera.select_set(camera[cameras.VIEW] in views)


def test_opening_brings_cameras_photos_and_what_was_left_out(opened: bpy.types.Scene) -> None:
    assert len(names(opened)) == 12
    found = project.project_of(opened).capture
    assert [reason for _name, reason in found.left_out] == ["the image does not exist"] * 2
    for camera in cameras.cameras_of(project.root_of(opened)):
        (slot,) = camera.data.background_images
        assert slot.image.size[:] == (60, 80) and slot.frame_method == "CROP"  # 16:9 is wider than they are
    assert not session.get().notices


def test_a_capture_that_is_none_is_said_in_the_panel_and_in_a_report(addon: object, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bpy.ops.instruct_nerf.open_capture(filepath=str(tmp_path / "empty"))
    settle()
    assert "holds no transforms.json" in session.get().notices["capture"]
    with pytest.raises(RuntimeError, match="There is nothing at"):  # bpy raises what operators report as errors
        bpy.ops.instruct_nerf.open_capture(filepath=str(tmp_path / "nowhere"))


def test_an_engine_that_lies_harms_nothing(addon: object, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*jobs.ENGINE_ARGUMENTS, "liar"])
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    assert "is not a list" in session.get().notices["capture"]
    assert project.root_of(bpy.context.scene) is None


def test_chosen_views_alone_are_sent(opened: bpy.types.Scene) -> None:
    chosen = names(opened)[2:11]
    select(opened, chosen)
    bpy.ops.instruct_nerf.use_selected()
    edited(opened)
    edit = project.edit_of(opened)
    assert sorted(edit.chosen) == chosen and set(edit.views) == set(chosen)
    bpy.ops.instruct_nerf.use_all()
    edited(opened)
    assert sorted(project.edit_of(opened).chosen) == names(opened)
    assert len(project.project_of(opened).edits) == 2


def test_too_few_views_are_warned_of_before_the_start(opened: bpy.types.Scene) -> None:
    assert not any("at least" in w for w in project.warnings_of_choice(opened))
    select(opened, names(opened)[:2])
    bpy.ops.instruct_nerf.use_selected()
    assert any("2 chosen, at least 8" in w for w in project.warnings_of_choice(opened))
    bpy.ops.instruct_nerf.select_chosen()
    assert sorted(o.name for o in bpy.context.selected_objects) == sorted(names(opened)[:2])


def test_pictures_before_and_after(opened: bpy.types.Scene) -> None:
    edited(opened)
    view = names(opened)[0]
    settings = opened.instruct_nerf
    assert settings.shown == "after" and shown(opened, view) == "after"
    for kind, folder in (("image", "images"), ("before", "before"), ("edited", "edited"), ("after", "after")):
        settings.shown = kind
        assert shown(opened, view) == folder
    settings.opacity, settings.in_front = 0.5, False
    slot = cameras.camera_of(project.root_of(opened), view).data.background_images[0]
    assert slot.alpha == 0.5 and slot.display_depth == "BACK"
    # Pictures of kinds no longer shown do not pile up.
    assert len([i for i in bpy.data.images if i.filepath]) == 12


def test_progress_and_the_latest_view_are_seen_while_it_runs(opened: bpy.types.Scene) -> None:
    opened.instruct_nerf.instruction = "make it night"
    opened.instruct_nerf.shown = "edited"
    bpy.ops.instruct_nerf.start_edit()
    job = session.get().job
    assert session.wait(lambda: job.stage == "edit" and job.step >= 3, 10.0)
    assert 0 < job.fraction < 1 and job.seconds_left > 0 and Path(job.image).is_file()
    assert any(shown(opened, view) == "edited" for view in names(opened))
    with pytest.raises(RuntimeError, match="Another job is running"):
        bpy.ops.instruct_nerf.start_edit()
    settle()
    assert job.status == "done" and job.fraction == 1.0


def test_cancel_answers_within_two_seconds_and_resume_goes_on(opened: bpy.types.Scene) -> None:
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    job = session.get().job
    assert session.wait(lambda: job.stage == "edit" and job.step >= 3, 10.0)
    began = time.monotonic()
    bpy.ops.instruct_nerf.cancel()
    assert session.wait(lambda: not job.active, 2.0) and time.monotonic() - began < 2.0
    assert job.status == "cancelled" and "edit" not in session.get().notices
    settle()
    (edit,) = project.project_of(opened).edits
    assert not edit.finished and 0 < edit.steps < edit.of
    bpy.ops.instruct_nerf.resume_edit(edit=edit.id)
    settle()
    (edit,) = project.project_of(opened).edits
    assert edit.finished and edit.steps == edit.of


def test_a_crash_in_the_middle_is_said_and_everything_can_start_again(
    opened: bpy.types.Scene, capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bpy.ops.instruct_nerf.stop_engine()
    assert session.wait(lambda: session.get().client is None, 5.0)
    fine = list(jobs.ENGINE_ARGUMENTS)
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*fine, "crash-edit", "garbage"])
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    state = session.get()
    assert state.job.status == "failed" and "exit code 7" in state.notices["edit"]
    assert session.wait(lambda: state.client is None, 5.0) and state.state == "stopped"
    assert "in the add-on itself" not in capsys.readouterr().out  # what reads the project again asks no dead engine
    assert any("device-side assert" in line for line in state.last_log)
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", fine)
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    edited(opened)
    assert project.edit_of(opened).finished and "edit" not in state.notices


def test_loading_a_file_in_the_middle_leaves_the_job_alone(opened: bpy.types.Scene, tmp_path: Path) -> None:
    opened.instruct_nerf.instruction = "make it night"
    blend = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.instruct_nerf.start_edit()
    job = session.get().job
    assert session.wait(lambda: job.stage == "edit", 10.0)
    bpy.ops.wm.read_homefile(use_empty=True)
    settle()
    assert job.status == "done" and not session.get().notices
    bpy.ops.wm.open_mainfile(filepath=blend)
    scene = bpy.context.scene
    assert len(names(scene)) == 12
    bpy.ops.instruct_nerf.reconnect()
    settle()
    assert project.edit_of(scene).finished
    scene.instruct_nerf.shown = "after"
    assert shown(scene, names(scene)[0]) == "after"


def test_undone_cameras_are_not_missed_by_a_running_job(opened: bpy.types.Scene) -> None:
    """What undo takes away stays away; pictures that arrive for it are dropped."""
    opened.instruct_nerf.instruction = "make it night"
    opened.instruct_nerf.shown = "edited"
    bpy.ops.instruct_nerf.start_edit()
    job = session.get().job
    assert session.wait(lambda: job.stage == "edit" and job.step >= 2, 10.0)
    cameras.remove(opened, opened.instruct_nerf.workspace)
    settle()
    assert job.status == "done" and project.root_of(opened) is None and not bpy.data.collections


def test_trying_one_view(opened: bpy.types.Scene) -> None:
    with pytest.raises(RuntimeError, match="active object"):
        bpy.ops.instruct_nerf.try_edit()
    bpy.context.view_layer.objects.active = cameras.cameras_of(project.root_of(opened))[3]
    with pytest.raises(RuntimeError, match="Type what the scene shall become"):
        bpy.ops.instruct_nerf.try_edit()
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.try_edit()
    settle()
    [tried] = tries.tries_of(opened)
    assert Path(tried.before).is_file() and Path(tried.after).is_file()


def test_an_editor_that_is_not_available_is_refused_with_its_reason(opened: bpy.types.Scene) -> None:
    settings = opened.instruct_nerf
    assert settings.editor_choice == "small" and settings.preset_choice == "preview"
    settings.editor_choice, settings.preset_choice, settings.device_choice = "hub/big", "paper", "cpu"
    assert (settings.editor, settings.preset, settings.device) == ("hub/big", "paper", "cpu")
    settings.instruction = "anything"
    with pytest.raises(RuntimeError, match="is not on this computer yet"):
        bpy.ops.instruct_nerf.start_edit()
    settings.device_choice = "AUTO"
    assert settings.device == ""


def test_disabling_ends_the_engine(addon, capture: Path) -> None:
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    pid = session.get().client.pid
    addon.unregister()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not hasattr(bpy.types.Scene, "instruct_nerf")
    assert not any("instruct" in str(h.__module__) for h in bpy.app.handlers.load_post)
    addon.register()  # and again


def test_the_workspace_is_beside_a_saved_file(addon: object, capture: Path, tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film" / "shot.blend"))
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    assert bpy.context.scene.instruct_nerf.workspace == "//instruct_nerf/ring"
    assert (tmp_path / "film" / "instruct_nerf" / "ring" / "images").is_dir()


def test_mesh_lies_under_the_root_as_the_file_says(opened: bpy.types.Scene) -> None:
    edited(opened)
    root = project.root_of(opened)
    root.location = (5.0, 0.0, 0.0)
    for _ in range(2):  # a second import replaces the first
        bpy.ops.instruct_nerf.import_mesh()
        settle()
    (item,) = [o for o in root.children if o.type == "MESH"]
    bpy.context.view_layer.update()
    low, high = (tuple(f(v.co[i] for v in item.data.vertices) for i in range(3)) for f in (min, max))
    assert low == (-1, -2, -3) and high == (1, 2, 3)  # no axis swapped, nothing scaled
    assert item.matrix_basis.is_identity and item.matrix_world.translation.x == pytest.approx(5.0)
    attribute = item.data.color_attributes[item.data.color_attributes.render_color_index]
    assert [round(255 * c) for c in attribute.data[0].color_srgb[:3]] == [200, 100, 50]
    node = next(n for n in item.data.materials[0].node_tree.nodes if n.bl_idname == "ShaderNodeVertexColor")
    assert node.layer_name == attribute.name
    assert len(bpy.data.meshes) == 1


def test_photos_without_cameras_get_theirs_where_asked_for(addon, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        (folder / f"{index}.jpg").write_bytes(b"not looked at here")
    scene = bpy.context.scene
    assert not bpy.ops.instruct_nerf.find_cameras.poll() and "find_cameras" not in drawn()
    bpy.ops.instruct_nerf.open_capture(filepath=str(folder))
    settle()
    shown = drawn()
    assert "capture" not in session.get().notices and "find_cameras" in shown and "find their cameras first" in shown
    heard = (tmp_path / "user" / "run" / "requests.jsonl").read_text()
    assert "capture/register" not in heard  # what takes minutes was not asked for
    bpy.ops.instruct_nerf.find_cameras()
    assert "find their cameras first" not in drawn()
    settle()
    assert "too few" in session.get().notices["capture"] and project.root_of(scene) is None
    (folder / "2.jpg").write_bytes(b"")
    bpy.ops.instruct_nerf.find_cameras()  # still offered
    settle()
    assert "capture" not in session.get().notices and "find_cameras" not in drawn()
    assert len(cameras.cameras_of(project.root_of(scene))) == 3
    assert scene.instruct_nerf.source == str(folder.resolve())  # what the artist chose, not what was made of it


def test_cameras_are_found_at_once_where_a_script_says_so_and_each_scene_has_its_own(addon, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.jpg").write_bytes(b"")
    bpy.ops.instruct_nerf.open_capture(filepath=str(folder))
    settle()
    first = bpy.context.scene
    bpy.context.window_manager.windows[0].scene = bpy.data.scenes.new("another")
    assert not bpy.ops.instruct_nerf.find_cameras.poll()
    bpy.ops.instruct_nerf.open_capture(filepath=str(folder), find_cameras=True)
    settle()
    assert len(cameras.cameras_of(project.root_of(bpy.context.scene))) == 3 and project.root_of(first) is None
    assert list(session.get().unplaced) == [first.session_uid]


def test_a_report_card_is_made_of_a_finished_edit(opened: bpy.types.Scene) -> None:
    assert not bpy.ops.instruct_nerf.report.poll()
    edited(opened)
    bpy.ops.instruct_nerf.report()
    assert session.get().job.title == "Report card"
    settle()
    page = Path(project.workspace_of(opened)) / "report.html"
    assert page.read_text() == project.edit_of(opened).id
    assert "results" not in session.get().notices


def test_frames_are_sent_as_blender_renders_them(opened: bpy.types.Scene) -> None:
    """The poses that reach the engine are the camera's in the capture frame, whatever the root's transform."""
    edited(opened)
    root = project.root_of(opened)
    root.location, root.rotation_euler, root.scale = (1, 2, 3), (0.4, 0.5, 0.6), (2.5, 2.5, 2.5)
    bpy.context.view_layer.update()
    views = cameras.cameras_of(root)
    opened.frame_start, opened.frame_end = 5, 7
    for frame, view in zip((5, 6, 7), (views[4], views[1], views[9]), strict=True):
        marker = opened.timeline_markers.new(view.name, frame=frame)
        marker.camera = view
    opened.frame_set(5)
    cameras.look_through(opened, views[0])
    bpy.ops.instruct_nerf.render_to_sequencer()
    settle()
    sent = json.loads((Path(project.workspace_of(opened)) / "last_frames.json").read_text())
    assert sent["first_frame"] == 5 and len(sent["cameras"]) == 3
    capture = project.project_of(opened).capture
    for camera, view in zip(sent["cameras"], (4, 1, 9), strict=True):
        expected = capture.views[view].camera
        flat = [v for row in expected.pose for v in row]
        assert camera["pose"] == pytest.approx(flat, abs=1e-5)
        assert camera["fx"] == pytest.approx(expected.intrinsics.fx, abs=0.01)
        assert camera["cy"] == pytest.approx(expected.intrinsics.cy, abs=0.01)
    assert opened.frame_current == 5


def test_a_stretched_root_is_refused_in_a_sentence(opened: bpy.types.Scene) -> None:
    edited(opened)
    root = project.root_of(opened)
    root.scale = (1, 1, 2)
    cameras.look_through(opened, cameras.cameras_of(root)[0])
    bpy.context.view_layer.update()
    opened.frame_set(3)
    bpy.ops.instruct_nerf.render_to_sequencer()
    settle()
    assert "same scale along X, Y and Z" in session.get().notices["results"]
    assert opened.frame_current == 3
