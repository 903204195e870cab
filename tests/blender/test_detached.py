# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit that outlives the Blender that began it: another one finds it and follows it to its end. The engine's own
server, whose edits only tick."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest
from fake_engine import png
from in_blender import settle
from test_panels import drawn

from blender_addon import jobs, project, session

ask = bpy.ops.instruct_nerf
TICKING = str(Path(__file__).parents[1] / "unit" / "ticking_engine.py")


def photographed(folder: Path) -> Path:
    """A capture of eight views, as small as they can be."""
    frames = []
    for number in range(8):
        png(folder / f"{number}.png", 64, 48, (30 * number, 90, 90))
        pose = [[1, 0, 0, number], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
        frames.append({"file_path": f"{number}.png", "transform_matrix": pose})
    data = {"w": 64, "h": 48, "fl_x": 60, "fl_y": 60, "cx": 32, "cy": 24, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def begun(tmp_path: Path) -> bpy.types.Scene:
    """A scene in a saved file, whose edit runs."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    ask.open_capture(filepath=str(photographed(tmp_path / "capture")))
    settle()
    scene = bpy.context.scene
    scene.instruct_nerf.instruction = "make it night"
    ask.start_edit(even_on_cpu=True)
    assert session.wait(lambda: session.get().job.step > 2 or not session.get().job.active, 20.0)
    assert session.get().job.active, session.get().notices
    return scene


@pytest.fixture
def editing(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bpy.types.Scene:
    """A scene whose edit has begun, in a saved file."""
    pytest.importorskip("msgspec", reason="the engine's packages are not installed")
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [TICKING])
    monkeypatch.setenv("STEPS", "300")
    return begun(tmp_path)


def test_a_detached_edit_goes_on_while_blender_is_closed_and_is_found_again(
    editing: bpy.types.Scene, tmp_path: Path
) -> None:
    job, engine = session.get().job, session.get().client.pid
    assert ask.detach.poll() and "instruct_nerf.detach" in drawn()
    ask.detach()
    assert session.wait(lambda: job.status == "detached", 10.0), session.get().notices
    settle()
    assert session.get().client.pid != engine and not session.get().notices
    assert "goes on by itself" in session.get().news["edit"]
    [found] = project.project_of(editing).jobs
    assert (found.state, found.title) == ("running", "make it night") and "make it night: " in drawn()
    # Blender is closed: the add-on ends as at its end, and its own engine with it.
    bpy.ops.wm.save_mainfile()
    import blender_addon

    blender_addon.unregister()
    assert session.get().client is None
    blender_addon.register()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    scene = bpy.context.scene
    ask.reconnect()
    settle()
    [found] = project.project_of(scene).jobs
    assert found.state == "running" and 0 < found.fraction < 1
    ask.attach()
    job = session.get().job
    assert session.wait(lambda: job.step > 5, 10.0)
    ask.pause()
    assert session.wait(lambda: job.paused, 10.0), session.get().notices
    ask.go_on()
    settle()
    assert job.status == "done" and not session.get().notices
    edit = project.edit_of(scene)
    assert edit.finished and edit.instruction == "make it night" and scene.instruct_nerf.edit == edit.id
    assert project.project_of(scene).jobs == () and not ask.attach.poll() and "make it night: " not in drawn()


def test_following_can_be_given_up_and_taken_up_again(editing: bpy.types.Scene) -> None:
    ask.detach()
    assert session.wait(lambda: session.get().job.status == "detached", 10.0)
    settle()
    ask.attach()
    engine, job = session.get().client.pid, session.get().job
    assert session.wait(lambda: job.step > 3, 10.0)
    ask.detach()
    assert session.wait(lambda: job.status == "detached", 10.0)
    settle()
    assert session.get().client.pid == engine  # it only followed
    ask.look_at_jobs()
    settle()
    ask.attach()
    job = session.get().job
    assert session.wait(lambda: job.step > 3, 10.0)
    ask.cancel()
    settle()
    assert job.status == "cancelled" and project.project_of(editing).jobs == ()


@pytest.mark.slow
def test_a_whole_edit_outlives_its_blender_and_its_mesh_is_imported(
    addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine itself, with an editor and a preset that take seconds."""
    from test_toy_editor import capture_of, use_toy_engine

    use_toy_engine(tmp_path, monkeypatch)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    ask.open_capture(filepath=str(capture_of(tmp_path / "capture")))
    settle(120)
    scene = bpy.context.scene
    scene.instruct_nerf.instruction = "paint it"
    ask.start_edit()
    job = session.get().job
    assert session.wait(lambda: bool(job.stage) or not job.active, 240.0) and job.active, session.get().notices
    ask.detach()
    assert session.wait(lambda: job.status == "detached", 60.0), (job, session.get().notices)
    settle(120)
    bpy.ops.wm.save_mainfile()
    import blender_addon

    blender_addon.unregister()
    blender_addon.register()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    scene = bpy.context.scene
    ask.reconnect()
    settle(120)
    assert len(project.project_of(scene).jobs) == 1
    ask.attach()
    settle(300)
    edit = project.edit_of(scene)
    assert edit is not None and edit.finished and len(edit.views) == 6
    ask.import_mesh()
    settle(300)
    assert session.get().job.status == "done" or "surface" in session.get().notices["results"]
