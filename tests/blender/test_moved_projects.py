# SPDX-License-Identifier: GPL-3.0-or-later
"""A project that was moved, with its .blend file or alone, is found again, or asked for."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest
from addon_captures import ring
from in_blender import settle
from test_panels import drawn
from test_projects import heard, opened_capture, start

from blender_addon import project, session, workspaces
from blender_addon.scene import cameras


def moved_pair(tmp_path: Path) -> tuple[Path, Path]:
    """A .blend file and its project, saved, both in the folder `old`; the file's path and the project's."""
    (tmp_path / "old").mkdir()
    blend = tmp_path / "old" / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    opened_capture(ring(tmp_path / "photos"))
    folder = Path(project.workspace_of(bpy.context.scene))
    (folder / "capture").mkdir(exist_ok=True)
    (folder / "capture" / "capture.json").write_text("{}")  # as every project of the engine's has
    bpy.ops.wm.save_mainfile()
    return blend, folder


def test_the_file_and_its_project_are_moved_together(addon: object, tmp_path: Path) -> None:
    moved_pair(tmp_path)
    (tmp_path / "old").rename(tmp_path / "neu 2")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "neu 2" / "shot.blend"))
    scene = bpy.context.scene
    assert project.workspace_of(scene) == str(tmp_path / "neu 2" / "instruct_nerf" / "photos")
    assert not workspaces.is_missing(scene) and project.root_of(scene) is not None


@pytest.mark.parametrize("where", ["beside", "above", "same tail"])
def test_a_project_that_was_moved_alone_is_found_near_the_file(addon: object, tmp_path: Path, where: str) -> None:
    blend, folder = moved_pair(tmp_path)
    scene = bpy.context.scene
    new = blend.parent / "photos"
    if where == "same tail":  # an absolute path to another folder, as of another machine
        settings, root = scene.instruct_nerf, project.root_of(scene)
        settings.workspace = settings.opened_workspace = "/mnt/job/instruct_nerf/photos"
        root[cameras.WORKSPACE] = settings.workspace
        new = folder
    elif where == "above":
        new = tmp_path / "instruct_nerf" / "photos"
        new.parent.mkdir()
        folder.rename(new)
    else:
        folder.rename(new)
    session.get().projects.clear()
    assert workspaces.is_missing(scene)
    bpy.ops.instruct_nerf.reconnect()
    settle()
    assert project.workspace_of(scene) == str(new) and project.root_of(scene) is not None, session.get().notices
    assert len(cameras.cameras_of(project.root_of(scene))) == 12 and scene.instruct_nerf.workspace.startswith("//")
    assert not workspaces.typed(scene) and str(new) in session.get().news["capture"]
    assert project.project_of(scene).capture is not None


def test_a_project_that_is_not_found_is_asked_for_and_another_captures_is_not_taken(
    addon: object, tmp_path: Path
) -> None:
    _, folder = moved_pair(tmp_path)
    scene, kept = bpy.context.scene, bpy.context.scene.instruct_nerf.workspace
    new = tmp_path / "far" / "away" / "renamed"
    new.parent.mkdir(parents=True)
    folder.rename(new)
    session.get().projects.clear()
    assert "instruct_nerf.find_project" in drawn()
    with pytest.raises(RuntimeError, match="is not there: bring it back, or press Find Project"):
        bpy.ops.instruct_nerf.reconnect()
    with pytest.raises(RuntimeError, match="holds no project"):
        bpy.ops.instruct_nerf.find_project(directory=str(tmp_path))
    assert scene.instruct_nerf.workspace == kept
    for item in cameras.cameras_of(project.root_of(scene)):
        item[cameras.VIEW] = f"other {item[cameras.VIEW]}"
    bpy.ops.instruct_nerf.find_project(directory=str(new))
    settle()
    assert "is of another capture" in session.get().notices["capture"] and scene.instruct_nerf.workspace == kept
    for item in cameras.cameras_of(project.root_of(scene)):
        item[cameras.VIEW] = str(item[cameras.VIEW]).removeprefix("other ")
    bpy.ops.instruct_nerf.find_project(directory=str(new) + "/")
    settle()
    assert project.workspace_of(scene) == str(new) and "instruct_nerf.find_project" not in drawn()
    start(scene)
    settle()
    assert project.edit_of(scene).finished and heard(tmp_path, "edit/run")[-1]["workspace"] == str(new)


def test_a_folder_below_the_files_own_is_kept_relative_when_it_is_saved(addon: object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    wanted = tmp_path / "show" / "nerfs" / "mine"
    wanted.mkdir(parents=True)
    scene.instruct_nerf.workspace = str(wanted)
    opened_capture(ring(tmp_path / "photos"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "show" / "shot.blend"))
    assert scene.instruct_nerf.workspace == "//nerfs/mine" == scene.instruct_nerf.opened_workspace
    root = project.root_of(scene)
    assert root[cameras.WORKSPACE] == cameras.collection_of(root)[cameras.WORKSPACE] == "//nerfs/mine"
    assert project.workspace_of(scene) == str(wanted)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "elsewhere.blend"), copy=True)
    assert scene.instruct_nerf.workspace == "//nerfs/mine"
    scene.instruct_nerf.workspace = scene.instruct_nerf.opened_workspace = "/quite/elsewhere"
    bpy.ops.wm.save_mainfile()
    assert scene.instruct_nerf.workspace == "/quite/elsewhere"


def test_another_capture_begins_with_no_edit_of_the_one_before(addon: object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    opened_capture(ring(tmp_path / "a" / "photos"))
    scene.instruct_nerf.edit, scene.instruct_nerf.parent = "edit-1", "edit-1"
    opened_capture(tmp_path / "a" / "photos")  # the same again
    assert scene.instruct_nerf.edit == "edit-1" == scene.instruct_nerf.parent
    opened_capture(ring(tmp_path / "b" / "photos"))
    assert scene.instruct_nerf.edit == "" == scene.instruct_nerf.parent
