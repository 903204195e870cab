# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on with the real engine: a Blender scene photographed, its NeRF begun, cancelled and gone on with."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import bpy
import pytest
from in_blender import ROOT, settle

from blender_addon import jobs, project, session

# Looked for and not imported: torch is the engine's, and the engine is another process.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the engine's packages are not installed"),
]

_spec = importlib.util.spec_from_file_location("take_pictures", ROOT / "docs" / "take_pictures.py")
take_pictures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(take_pictures)


@pytest.fixture
def photographed(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bpy.types.Scene:
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", ["-m", "engine", "serve"])
    python = take_pictures.engine_environment(tmp_path / "engine")
    project.preferences().engine_python = str(python)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 4
    bpy.ops.mesh.primitive_monkey_add()
    bpy.ops.instruct_nerf.photograph(count=16, width=48, height=48)
    settle(120)
    assert not session.get().notices
    return scene


def test_cancelled_closed_and_gone_on_with(photographed: bpy.types.Scene) -> None:
    scene = photographed
    assert len(project.project_of(scene).capture.views) == 16
    scene.instruct_nerf.instruction = "make it night"

    def begin() -> session.Job:
        bpy.ops.instruct_nerf.start_edit()
        job = session.get().job
        began = lambda: (job.stage == "train" and job.step > 3) or not job.active  # noqa: E731
        assert session.wait(began, 180.0) and job.active, session.get().notices
        return job

    def cancel(job: session.Job) -> None:
        began = time.monotonic()
        bpy.ops.instruct_nerf.cancel()
        assert session.wait(lambda: not job.active, 10.0)
        # Two seconds on a machine of our own; where others compute as well, their share more.
        crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else 1.0
        assert job.status == "cancelled" and time.monotonic() - began < 2.0 * crowd
        settle(60)

    cancel(begin())
    steps = project.project_of(scene).scene.steps
    assert steps > 3
    bpy.ops.instruct_nerf.stop_engine()
    assert session.wait(lambda: session.get().state == "stopped", 20.0)
    bpy.ops.instruct_nerf.reconnect()
    settle(60)
    assert project.project_of(scene).scene.steps == steps
    job = begin()
    assert job.step > steps
    cancel(job)
