# SPDX-License-Identifier: GPL-3.0-or-later
"""A new editor, one file and one row, from the panel: its own knobs are drawn, set, sent, and make the edit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bpy
import pytest
from in_blender import ROOT, settle
from PIL import Image

from blender_addon import jobs, knobs, project, trajectories


def capture_of(folder: Path, views: int = 6) -> Path:
    """Grey pictures from a ring of cameras."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for index in range(views):
        Image.new("RGB", (64, 48), (120, 120, 120)).save(folder / f"images/{index}.png")
        pose = trajectories.looking_at((3.0 - index % 2, index - 2.5, 1.0), (0.0, 0.0, 0.0))
        frames.append({"file_path": f"images/{index}.png", "transform_matrix": pose})
    data = {"w": 64, "h": 48, "fl_x": 70.0, "fl_y": 70.0, "cx": 32.0, "cy": 24.0, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def use_toy_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the engine be the one with a preset and an editor that take seconds; the editor's model folder."""
    toy = folder / "my-toy"
    toy.mkdir()
    (toy / "model_index.json").write_text(json.dumps({"_class_name": "ToyPipeline"}))
    monkeypatch.setenv("INSTRUCT_NERF_EDITOR", str(toy))
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [str(ROOT / "tests" / "engine" / "toy_engine.py")])
    return toy


@pytest.mark.slow
def test_a_new_editors_knobs_go_from_the_panel_into_the_edit(
    addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = use_toy_engine(tmp_path, monkeypatch)
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture_of(tmp_path / "capture")))
    settle(120)
    scene = bpy.context.scene
    editor = project.editor_of(scene)
    assert editor is not None and editor.name == str(toy)
    assert {"brightness", "tint", "checks", "mirrored"} <= {knob.name for knob in knobs.usable(editor)}

    group = knobs.group_of(scene, editor)
    assert (group.brightness, group.tint) == (0.5, "none")  # as its row declares them
    group.tint, group.brightness = "red", 0.25
    scene.instruct_nerf.instruction = "paint it"
    bpy.ops.instruct_nerf.start_edit()
    settle(300)
    edit = project.edit_of(scene)
    assert edit is not None and edit.finished, scene
    record = json.loads((Path(scene.instruct_nerf.workspace) / "edits" / edit.id / "edit.json").read_text())
    assert record["settings"]["options"] == {"brightness": 0.25, "tint": "red", "checks": 1, "mirrored": False}
    with Image.open(next(iter(edit.images.values()))) as picture:
        red, green, blue = (sum(channel.getdata()) / 64 / 48 for channel in picture.convert("RGB").split())
    assert red > 200 and green < 60 and blue < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux2_klein", "flux_kontext", "qwen_image_edit", "instruct_pix2pix_xl"])
def test_every_editor_edits_a_scene_from_the_panel(
    name: str, addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The editors of today, of tiny networks, as a folder of the artist's own."""
    write = "import sys; from pathlib import Path; from tests.engine import tiny_editors as t; "
    write += "print(t.written(sys.argv[1], Path(sys.argv[2])))"  # in a process of its own: it needs torch
    written = subprocess.run(
        [sys.executable, "-c", write, name, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = written.stdout.split()[-1]
    monkeypatch.setenv("INSTRUCT_NERF_EDITOR", folder)
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [str(ROOT / "tests" / "engine" / "toy_engine.py")])
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture_of(tmp_path / "capture")))
    settle(120)
    scene = bpy.context.scene
    editor = project.editor_of(scene)
    assert editor is not None and editor.name == folder
    assert "diffusion_steps" in {knob.name for knob in knobs.usable(editor)}
    knobs.group_of(scene, editor).diffusion_steps = 2
    scene.instruct_nerf.instruction = "make it gold"
    bpy.ops.instruct_nerf.start_edit()
    settle(400)
    edit = project.edit_of(scene)
    assert edit is not None and edit.finished, scene
    record = json.loads((Path(scene.instruct_nerf.workspace) / "edits" / edit.id / "edit.json").read_text())
    assert record["editor"] == folder and record["settings"]["options"]["diffusion_steps"] == 2
    assert set(edit.images) == set(record["chosen"])
