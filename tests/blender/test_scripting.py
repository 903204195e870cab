# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/scripting.md: its script works to the letter, and what it names is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import bpy
import pytest
from in_blender import ROOT

from blender_addon import project, session

PAGE = (ROOT / "docs" / "scripting.md").read_text("utf-8")


def run(script: str, *arguments: str) -> None:
    """As ``blender --background --python`` does, with arguments after ``--``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["blender", "--background", "--python", "edit.py", "--", *arguments])
        exec(compile(script, "edit.py", "exec"), {"__name__": "__main__"})


def script() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    return found


def test_the_script_makes_an_edit_a_mesh_and_a_film(addon: object, capture: Path, tmp_path: Path) -> None:
    run(script(), str(capture), "make it night", str(tmp_path / "night.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "night.blend"))
    scene = bpy.context.scene
    bpy.ops.instruct_nerf.reconnect()
    assert bpy.ops.instruct_nerf.wait() == {"FINISHED"}
    edit = project.edit_of(scene)
    assert edit is not None and edit.finished and edit.instruction == "make it night" and len(edit.chosen) == 6
    assert [item.type for item in project.root_of(scene).children].count("MESH") == 1
    sequencer = scene.sequence_editor
    assert (
        len(getattr(sequencer, "strips", None) or sequencer.sequences) >= 2
        and scene.frame_end == 48
        and scene.render.filepath.endswith(".mp4")
    )
    assert Path(project.workspace_of(scene)).is_relative_to(tmp_path)


def test_what_goes_wrong_ends_the_script_with_its_sentence(addon: object, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match=r"holds no transforms\.json"):
        run(script(), str(tmp_path / "empty"), "make it night", str(tmp_path / "night.blend"))


def test_waiting_can_be_given_up(addon: object, capture: Path) -> None:
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    with pytest.raises(RuntimeError, match=r"not done after 0\.01 seconds"):
        bpy.ops.instruct_nerf.wait(timeout=0.01)
    assert bpy.ops.instruct_nerf.wait(timeout=30.0) == {"FINISHED"} and session.get().settled


def test_what_the_page_names_is_there(addon: object) -> None:
    rows = re.findall(r"^\| (`.*?) \| ", PAGE, re.M)
    named = [found for row in rows for found in re.findall(r"`(\w+)\(([^)]*)\)`", row)]
    assert len(named) > 30
    for name, arguments in named:
        known = getattr(bpy.ops.instruct_nerf, name).get_rna_type().properties
        missing = [argument for argument in arguments.split(", ") if argument and argument not in known]
        assert not missing, (name, missing)
