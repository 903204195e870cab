# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist does while an edit runs, and what then becomes of both. Loading another file, undoing cameras, Save
As, disabling the extension and closing Blender: test_flow, test_projects, test_engine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import bpy
import pytest
from addon_captures import ring
from in_blender import ROOT, settle
from test_panels import drawn
from test_projects import start

from blender_addon import project, session
from blender_addon.scene import cameras


def test_saving_takes_nothing_from_the_job_and_the_file_knows_of_the_edit(
    opened: bpy.types.Scene, tmp_path: Path
) -> None:
    job = start(opened)
    path = str(tmp_path / "meanwhile.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    settle()
    assert job.status == "done" and project.edit_of(opened).finished
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=path)
    scene = bpy.context.scene
    assert project.edit_of(scene).finished and scene.instruct_nerf.shown == "after"
    assert not session.get().notices


def test_undo_in_the_middle_leaves_the_job_and_its_pictures(opened: bpy.types.Scene) -> None:
    bpy.ops.ed.undo_push(message="before")
    job = start(opened)
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.ed.undo_push(message="cube")
    for _ in range(3):
        bpy.ops.ed.undo()
        assert session.get().job is job and job.active
        session.wait(lambda: False, 0.05)
        bpy.ops.ed.redo()
    settle()
    scene = bpy.context.scene
    assert job.status == "done" and project.edit_of(scene).finished and not session.get().notices
    views = cameras.cameras_of(project.root_of(scene))
    assert len(views) == 12 and all(view.data.background_images for view in views)


def test_a_second_scene_can_be_worked_in_and_is_told_what_it_waits_for(opened: bpy.types.Scene, tmp_path: Path) -> None:
    job = start(opened)
    other = bpy.data.scenes.new("Other")
    bpy.context.window.scene = other
    assert "instruct_nerf.open_capture" in drawn()
    with pytest.raises(RuntimeError, match="Another job is running: wait for it, or cancel it"):
        bpy.ops.instruct_nerf.open_capture(filepath=str(ring(tmp_path / "second", count=9)))
    settle()
    assert job.status == "done" and project.root_of(other) is None
    bpy.ops.instruct_nerf.open_capture(filepath=str(tmp_path / "second"))
    settle()
    assert len(cameras.cameras_of(project.root_of(other))) == 9
    assert project.edit_of(opened).finished and len(cameras.cameras_of(project.root_of(opened))) == 12
    assert project.workspace_of(other) != project.workspace_of(opened)


def test_a_project_that_another_blender_works_in_says_who_does_and_is_free_afterwards(
    opened: bpy.types.Scene,
) -> None:
    """Of two engines one holds the project's lock; the other's refusal is what this Blender shows."""
    held = Path(project.workspace_of(opened)) / "held"
    held.touch()
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert "another engine (process 4711) has been editing there" in session.get().notices["edit"]
    assert "wait until it is done" in drawn() and project.edit_of(opened) is None
    assert bpy.ops.instruct_nerf.reconnect() == {"FINISHED"}  # reading is not refused
    settle()
    assert len(project.project_of(opened).capture.views) == 12
    held.unlink()
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert project.edit_of(opened).finished and "edit" not in session.get().notices


TWO_ENGINES = """
import json, sys
from engine import protocol
from engine.workspace import Workspace
with Workspace(sys.argv[1]).writing("editing"):
    print("holds", flush=True)
    sys.stdin.readline()
"""


def test_two_real_engines_do_not_write_in_one_project(tmp_path: Path) -> None:
    """Without Blender: the sentence that the add-on is sent comes from the lock of a process that lives."""
    folder = tmp_path / "project"
    (folder / "capture").mkdir(parents=True)
    (folder / "capture" / "capture.json").write_text(json.dumps({}))
    command = [sys.executable, "-c", TWO_ENGINES, str(folder)]
    first = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline().strip() == "holds"
        second = subprocess.run(command, cwd=ROOT, input="\n", capture_output=True, text=True, timeout=60)
        assert second.returncode != 0 and f"another engine (process {first.pid}" in second.stderr
    finally:
        first.stdin.write("\n")
        first.stdin.close()
        first.wait(timeout=30)
    began = time.monotonic()
    again = subprocess.run(command, cwd=ROOT, input="\n", capture_output=True, text=True, timeout=60)
    assert again.returncode == 0 and "holds" in again.stdout and time.monotonic() - began < 60
