# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose project, root and results are whose: captures of one name, Save As, several scenes, folders that move."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import bpy
import pytest
from addon_captures import ring
from in_blender import settle

from blender_addon import jobs, project, session, workspaces
from blender_addon.asking import request
from blender_addon.scene import cameras


def opened_capture(path: Path) -> None:
    bpy.ops.instruct_nerf.open_capture(filepath=str(path))
    settle()


def start(scene: bpy.types.Scene) -> session.Job:
    scene.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    state = session.get()
    assert session.wait(lambda: state.job.stage == "edit" and state.job.step >= 2, 10.0), state.notices
    return state.job


def heard(tmp_path: Path, method: str) -> list[dict]:
    """What the engine was asked."""
    lines = (tmp_path / "user" / "run" / "requests.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["method"] == method]


@pytest.fixture(params=["saved", "unsaved"])
def saved(addon: object, tmp_path: Path, request: pytest.FixtureRequest) -> bool:
    if request.param == "saved":
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    return request.param == "saved"


def test_captures_in_folders_of_one_name_have_projects_and_roots_of_their_own(saved: bool, tmp_path: Path) -> None:
    scene = bpy.context.scene
    first, second = ring(tmp_path / "a" / "photos", count=9), ring(tmp_path / "b" / "photos", count=11)
    opened_capture(first)
    mine, root = project.workspace_of(scene), project.root_of(scene)
    opened_capture(second)
    other = project.workspace_of(scene)
    assert mine != other and project.root_of(scene) != root
    assert len(cameras.cameras_of(root)) == 9 and len(cameras.cameras_of(project.root_of(scene))) == 11
    opened_capture(first)  # back: it is where it was
    assert project.workspace_of(scene) == mine and project.root_of(scene) == root
    opened_capture(second)
    assert project.workspace_of(scene) == other


def test_a_capture_finds_its_own_folder_again_in_a_file_that_knows_nothing_of_it(addon: object, tmp_path: Path) -> None:
    blend = str(tmp_path / "shot.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    first, second = ring(tmp_path / "a" / "photos"), ring(tmp_path / "b" / "photos")
    found = []
    for path in (first, second, first, second):
        opened_capture(path)
        found.append(project.workspace_of(bpy.context.scene))
        bpy.ops.wm.open_mainfile(filepath=blend)  # unsaved, so nothing is known
    assert found[:2] == found[2:] and found[0] != found[1]


def test_a_folder_that_is_none_leaves_the_capture_before_alone(saved: bool, tmp_path: Path) -> None:
    scene = bpy.context.scene
    opened_capture(ring(tmp_path / "a" / "photos"))
    kept = {name: getattr(scene.instruct_nerf, name) for name in ("source", "workspace", "opened_size")}
    root = project.root_of(scene)
    for folder in (tmp_path / "empty", tmp_path / "b" / "photos"):
        folder.mkdir(parents=True)
        opened_capture(folder)
        assert "holds no transforms.json" in session.get().notices["capture"]
        assert {name: getattr(scene.instruct_nerf, name) for name in kept} == kept
        assert project.root_of(scene) == root and len(cameras.cameras_of(root)) == 12
        assert project.project_of(scene).capture is not None


def test_a_project_folder_that_the_artist_names_is_used(saved: bool, tmp_path: Path) -> None:
    scene, wanted = bpy.context.scene, str(tmp_path / "my own")
    scene.instruct_nerf.workspace = wanted
    opened_capture(ring(tmp_path / "a" / "photos"))
    assert scene.instruct_nerf.workspace == wanted and (tmp_path / "my own" / "images").is_dir()
    opened_capture(ring(tmp_path / "b" / "others"))  # of the next capture nothing was said
    assert scene.instruct_nerf.workspace != wanted
    named = str(tmp_path / "another")
    scene.instruct_nerf.workspace = named
    opened_capture(tmp_path / "b" / "others")
    assert scene.instruct_nerf.workspace == named


def test_another_scenes_project_is_not_taken(saved: bool, tmp_path: Path) -> None:
    scene = bpy.context.scene
    opened_capture(ring(tmp_path / "a" / "photos"))
    bpy.context.window.scene = other = bpy.data.scenes.new("Another")
    other.instruct_nerf.workspace = project.workspace_of(scene)
    with pytest.raises(RuntimeError, match="is the project of the capture in the scene “Scene”"):
        bpy.ops.instruct_nerf.open_capture(filepath=str(ring(tmp_path / "b" / "photos")))
    bpy.context.window.scene = scene


@pytest.mark.parametrize("copy", [False, True])
def test_saved_into_another_folder_a_file_keeps_its_project_and_a_running_edit(
    addon: object, tmp_path: Path, copy: bool
) -> None:
    scene = bpy.context.scene
    (tmp_path / "old").mkdir()
    (tmp_path / "new" / "deep").mkdir(parents=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "old" / "shot.blend"))
    opened_capture(ring(tmp_path / "photos"))
    workspace = project.workspace_of(scene)
    assert scene.instruct_nerf.workspace == "//instruct_nerf/photos"
    scene.instruct_nerf.editor_model = "//model"
    job = start(scene)
    elsewhere = str(tmp_path / "new" / "deep" / "shot.blend")
    bpy.ops.wm.save_as_mainfile(filepath=elsewhere, copy=copy)
    settle()
    for _ in range(2):
        assert project.workspace_of(scene) == workspace and project.root_of(scene) is not None
        assert cameras.absolute(scene.instruct_nerf.editor_model) == str(tmp_path / "old" / "model")
        assert not workspaces.typed(scene)
        assert project.edit_of(scene).finished and job.status == "done" and not session.get().notices
        bpy.ops.wm.open_mainfile(filepath=elsewhere)
        scene = bpy.context.scene
        bpy.ops.instruct_nerf.reconnect()
        settle()
    if copy:
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "old" / "shot.blend"))
    # And the two together may be moved, as ever.
    shutil.copytree(tmp_path, tmp_path.with_name("moved " + tmp_path.name))


def test_saving_fails_and_the_paths_are_what_they_were(addon: object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    (tmp_path / "old").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "old" / "shot.blend"))
    opened_capture(ring(tmp_path / "photos"))
    with pytest.raises(RuntimeError):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "nowhere" / "at all" / "shot.blend"))
    assert scene.instruct_nerf.workspace == "//instruct_nerf/photos" and project.root_of(scene) is not None


def test_a_result_goes_to_the_scene_that_asked(opened: bpy.types.Scene) -> None:
    """Of two scenes that show one project, whatever their names."""
    other = opened.copy()
    other.name = "A first by its name"
    for asking, idle in ((opened, other), (other, opened)):
        bpy.context.window.scene = asking
        asking.instruct_nerf.shown = idle.instruct_nerf.shown = "image"
        asking.instruct_nerf.edit = idle.instruct_nerf.edit = ""
        start(asking)
        bpy.context.window.scene = idle  # looking at the other one meanwhile
        settle()
        assert asking.instruct_nerf.shown == "after" and asking.instruct_nerf.edit
        assert idle.instruct_nerf.shown == "image" and not idle.instruct_nerf.edit
    bpy.context.window.scene = opened


def test_a_scene_linked_from_another_file_is_not_this_files(opened: bpy.types.Scene, tmp_path: Path) -> None:
    workspace = opened.instruct_nerf.workspace
    opened.name = "A linked"
    library = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=library)
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(library, link=True) as (_source, target):
        target.scenes = ["A linked"]
    assert bpy.data.scenes["A linked"].library is not None
    assert project.scene_of(cameras.absolute(workspace)) is None
    mine = bpy.context.scene
    mine.name = "Z mine"
    mine.instruct_nerf.workspace = workspace
    assert project.scene_of(cameras.absolute(workspace)) == mine
    mine.collection.children.link(bpy.data.scenes["A linked"].collection.children[0])
    assert project.root_of(mine) is None  # the linked root cannot be built on


def test_a_scene_renamed_meanwhile_is_still_the_one(opened: bpy.types.Scene) -> None:
    job = start(opened)
    opened.name = "Another name"
    root = project.root_of(opened)
    root.name, root.users_collection[0].name = "Mine", "Things"
    for index, camera in enumerate(cameras.cameras_of(root)):
        camera.name = f"cam {index}"
    settle()
    assert job.status == "done" and opened.instruct_nerf.shown == "after"
    bpy.ops.instruct_nerf.import_mesh()
    settle()
    (collection,) = next(o for o in root.children if o.type == "MESH").users_collection
    assert collection in bpy.data.collections["Things"].children_recursive


def test_a_result_that_no_scene_shows_any_more_is_said(opened: bpy.types.Scene) -> None:
    job = start(opened)
    workspace = project.workspace_of(opened)
    opened.instruct_nerf.workspace = "/somewhere/else"
    settle()
    assert job.status == "done"
    assert "make it night" in session.get().news["capture"] and workspace in session.get().news["capture"]


@pytest.mark.parametrize("anew", [False, True])
def test_a_project_renamed_in_the_middle_is_no_success(opened: bpy.types.Scene, anew: bool) -> None:
    job = start(opened)
    folder = Path(project.workspace_of(opened))
    folder.rename(folder.with_name("renamed"))
    if anew:
        folder.mkdir()  # as an engine does that writes on
    settle()
    assert job.status == "failed"
    assert "moved, renamed or deleted" in session.get().notices["edit"] and str(folder) in session.get().notices["edit"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name("renamed").rename(folder)
    start(opened)
    settle()
    assert session.get().job.status == "done" and "edit" not in session.get().notices


def test_the_first_capture_is_prepared_as_the_engine_found_out(
    addon: object, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is still starting when the first capture is opened; on this machine its preset is another."""
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*jobs.ENGINE_ARGUMENTS, "gpu"])
    scene = bpy.context.scene
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    assert session.get().info is None and session.get().busy
    settle()
    (asked,) = heard(tmp_path, "capture/open")
    assert asked["preset"] == "paper" == scene.instruct_nerf.preset_choice and scene.instruct_nerf.opened_size == 512


def test_a_later_preset_prepares_the_pictures_anew_until_they_are_trained(
    opened: bpy.types.Scene, tmp_path: Path
) -> None:
    settings = opened.instruct_nerf
    assert settings.opened_size == 240 and project.other_size(opened) == 0
    settings.preset_choice = "paper"
    assert project.other_size(opened) == 512
    start(opened)
    settle()
    assert [r["preset"] for r in heard(tmp_path, "capture/open")] == ["preview", "paper"]
    assert [r["preset"] for r in heard(tmp_path, "edit/run")] == ["paper"] and settings.opened_size == 512
    settings.preset_choice = "preview"  # the NeRF is there now: its pictures stay
    start(opened)
    settle()
    assert len(heard(tmp_path, "capture/open")) == 2 and len(heard(tmp_path, "edit/run")) == 2


def test_a_cancel_before_the_engine_is_there_asks_nothing(addon: object, capture: Path, tmp_path: Path) -> None:
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    assert session.get().info is None
    bpy.ops.instruct_nerf.cancel()
    assert session.get().job.status == "cancelled" and not session.get().busy
    settle()
    assert not heard(tmp_path, "capture/open") and not bpy.context.scene.instruct_nerf.workspace


def test_an_engine_of_another_protocol_is_said_and_nothing_waits_for_it(
    addon: object, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*jobs.ENGINE_ARGUMENTS, "old"])
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    assert session.wait(lambda: not session.get().busy and session.get().client is None, 10.0)
    assert "install the engine again" in session.get().notices["capture"]


def test_editors_are_kept_by_their_names_whatever_folder_they_lay_in(
    addon: object, capture: Path, tmp_path: Path
) -> None:
    """Files of the version before keep the folder inside an environment that an update has replaced."""
    scene = bpy.context.scene
    old = "/home/a/environments/0123456789ab/lib/python3.11/site-packages/engine/editors/weights/small"
    scene.instruct_nerf.editor = old
    blend = str(tmp_path / "old.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.open_mainfile(filepath=blend)
    scene = bpy.context.scene
    assert scene.instruct_nerf.editor == "small"
    opened_capture(capture)
    scene.instruct_nerf.editor = old.replace("/", "\\")  # as a script would set it
    start(scene)
    settle()
    assert [r["editor"] for r in heard(tmp_path, "edit/run")] == ["small"]
    scene.instruct_nerf.editor = "one that is no more"
    scene.instruct_nerf.device, scene.instruct_nerf.preset = "cuda:7", "gone"
    start(scene)
    settle()
    asked = heard(tmp_path, "edit/run")[-1]
    assert (asked["editor"], asked["preset"], asked["device"]) == ("small", "preview", "cpu")


def test_disabling_in_the_middle_of_a_job_ends_the_engine_and_raises_nothing(
    addon, opened: bpy.types.Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    start(opened)
    process = session.get().client._process
    addon.unregister()
    assert process.poll() is not None
    addon.register()
    assert "Traceback" not in "".join(capfd.readouterr())


def test_seeing_a_dead_engine_off_waits_for_nothing(opened: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    client = session.get().client
    slow = client.close

    def close(patience: float) -> int:
        time.sleep(1.0)  # as threads that do not end at once
        return slow(patience)

    monkeypatch.setattr(client, "close", close)
    client.kill()
    longest, until = 0.0, time.monotonic() + 5.0
    while session.get().client is not None and time.monotonic() < until:
        began = time.monotonic()
        session.pump()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.01)
    assert session.get().client is None and longest < 0.3
    assert "ended unexpectedly" in session.get().notices["engine"]


def test_a_new_engine_takes_back_what_was_said_of_the_end_of_the_old_one(opened: bpy.types.Scene) -> None:
    state = session.get()
    state.notices["edit"] = "Something else."
    workspace = project.workspace_of(opened)
    os.kill(state.client.pid, signal.SIGSTOP)  # it would answer now and then before its end
    request("workspace/read", {"workspace": str(workspace)}, lambda _r: None, panel="capture")
    state.client.kill()
    until = time.monotonic() + 10.0
    while state.client is not None and time.monotonic() < until:
        session.pump()
        time.sleep(0.01)
    assert "ended unexpectedly" in state.notices["capture"] == state.notices["engine"]
    jobs.start_engine()
    settle()
    assert state.notices == {"edit": "Something else."}


def test_names_that_no_unicode_holds_are_said_before_anything_is_asked(addon: object, tmp_path: Path) -> None:
    folder = bytes(ring(tmp_path / "photos")) + b"\xff"
    (tmp_path / "photos").rename(folder.decode("utf-8", "surrogateescape"))
    scene = bpy.context.scene
    from blender_addon import opening

    with pytest.raises(ValueError, match="rename it"):
        opening.open_capture(scene, folder.decode("utf-8", "surrogateescape"))
    assert not session.get().busy
    jobs.start_engine()
    settle()
    for value in ("\udcff", {"a": ["\udcff"]}, {"pose": [1.0, float("nan")]}):
        with pytest.raises(ValueError):
            request("workspace/read", {"workspace": value}, lambda _r: None, panel="edit")
    assert session.get().waiting == 0
