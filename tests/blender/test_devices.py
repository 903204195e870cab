# SPDX-License-Identifier: GPL-3.0-or-later
"""What computes is known late, and a preset for GPUs is asked for twice on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest
from in_blender import settle

from blender_addon import choices, jobs, project, session


def heard(tmp_path: Path, method: str) -> list[dict]:
    lines = (tmp_path / "user" / "run" / "requests.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["method"] == method]


@pytest.fixture
def modes(addon: object, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The stand-in engine runs with the words that the test names."""
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [*jobs.ENGINE_ARGUMENTS, *request.param])


@pytest.mark.parametrize("modes", [["late", "tick=0.05"]], indirect=True)
def test_what_is_asked_before_the_device_is_known_waits_for_it(modes: None, capture: Path, tmp_path: Path) -> None:
    scene, state = bpy.context.scene, session.get()
    scene.instruct_nerf.device = "cuda:0"  # of a former session
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    assert session.wait(lambda: state.info is not None, 20.0)
    assert not state.info.settled and choices.computing(state.info, "") == "PyTorch is being loaded."
    assert project.preset_name(scene) == "preview"  # nothing expensive is guessed
    assert project.device_name(scene) == "" and project.warnings_of_settings(scene) == ()
    assert state.busy and state.job.label == "Looking for what can compute"
    settle()
    assert state.info.settled and choices.computing(state.info, "") == "Computing on A card."
    (asked,) = heard(tmp_path, "capture/open")
    assert asked["preset"] == "paper" == project.preset_name(scene) and scene.instruct_nerf.opened_size == 512
    scene.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    (asked,) = heard(tmp_path, "edit/run")
    assert (asked["device"], asked["preset"]) == ("cuda:0", "paper")
    assert asked.keys().isdisjoint({"even_on_cpu", "depths", "planes"})
    scene.instruct_nerf.flat_surfaces = False
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert heard(tmp_path, "edit/run")[-1]["planes"] is False
    scene.instruct_nerf.compare_photos = False
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert heard(tmp_path, "edit/run")[-1]["depths"] is False and "planes" not in heard(tmp_path, "edit/run")[-1]


@pytest.mark.parametrize("modes", [["slow"]], indirect=True)
def test_days_on_a_cpu_are_asked_for_twice(modes: None, capture: Path, tmp_path: Path) -> None:
    scene = bpy.context.scene
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    settings = scene.instruct_nerf
    settings.instruction = "make it night"
    assert project.too_slow(scene) == ""
    settings.preset_choice = "paper"
    assert project.too_slow(scene) == "Paper takes about 3 days on this CPU."
    with pytest.raises(RuntimeError, match="about 3 days on this CPU"):
        bpy.ops.instruct_nerf.start_edit()
    assert "about 3 days" in session.get().notices["edit"] and not heard(tmp_path, "edit/run")
    bpy.ops.instruct_nerf.start_edit(even_on_cpu=True)
    settle()
    (asked,) = heard(tmp_path, "edit/run")
    assert asked["even_on_cpu"] is True and asked["preset"] == "paper" and asked["device"] == "cpu"
    edit = project.edit_of(scene)
    with pytest.raises(RuntimeError, match="about 3 days"):
        bpy.ops.instruct_nerf.resume_edit(edit=edit.id)
    with pytest.raises(RuntimeError, match="about 3 days"):
        bpy.ops.instruct_nerf.report()
    settings.preset_choice = "preview"
    with pytest.raises(RuntimeError, match="about 3 days"):  # an edit keeps its own preset
        bpy.ops.instruct_nerf.resume_edit(edit=edit.id)
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert heard(tmp_path, "edit/run")[-1]["preset"] == "preview" and not heard(tmp_path, "edit/resume")
