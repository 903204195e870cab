# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine keeps loaded between jobs is let go of when the artist asks, and when Blender renders."""

from __future__ import annotations

import threading

import bpy
import pytest
from in_blender import settle

from blender_addon import session


def released() -> int:
    settle()
    client = session.get().client
    assert client is not None
    session.wait(lambda: False, 0.2)  # the log comes by another pipe
    return sum("let go of the editor" in line for line in client.log())


@pytest.fixture
def to_render(opened: bpy.types.Scene) -> bpy.types.Scene:
    scene = opened
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.render.resolution_x = scene.render.resolution_y = 8
    scene.camera = next(thing for thing in scene.objects if thing.type == "CAMERA")
    return scene


def test_when_the_artist_asks(opened: bpy.types.Scene) -> None:
    assert bpy.ops.instruct_nerf.free_memory() == {"FINISHED"}
    assert released() == 1 and session.get().state == "ready"


def test_when_blender_renders(to_render: bpy.types.Scene) -> None:
    assert released() == 0
    bpy.ops.render.render()
    assert released() == 1
    assert not session.get().release_wanted and not session.get().notices


def test_a_render_in_a_window_begins_in_a_thread_of_its_own(opened: bpy.types.Scene) -> None:
    thread = threading.Thread(target=session._before_render)
    thread.start()
    thread.join()
    assert session.get().release_wanted and released() == 1  # sent by the pump, on the main thread


def test_a_running_job_keeps_what_it_uses(to_render: bpy.types.Scene) -> None:
    to_render.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    job = session.get().job
    assert job is not None and job.active
    assert not bpy.ops.instruct_nerf.free_memory.poll()
    with pytest.raises(RuntimeError, match="when it is done"):
        session.release()
    bpy.ops.render.render()
    assert not session.get().release_wanted  # the render is over
    session._before_render()  # another, which takes longer than the job
    assert job.active and session.get().release_wanted
    assert released() == 1 and not job.active  # once: the first asked for nothing


def test_a_render_without_an_engine_starts_none(addon: object) -> None:
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.render.resolution_x = scene.render.resolution_y = 8
    scene.camera = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
    bpy.ops.render.render()
    assert session.get().client is None and not session.get().release_wanted
