# SPDX-License-Identifier: GPL-3.0-or-later
"""A real, small NeRF through the render engine: its picture is the PNG frame that the engine makes."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
import turntable
from in_blender import ROOT, settle

from blender_addon import asking, jobs, opening, project, session, wire
from blender_addon.scene import cameras, flight

STEPS = 60
ENGINE = (
    f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['serve']; "
    "runpy.run_module('engine', run_name='__main__')"
)


def pixels(path: str) -> np.ndarray:
    """(H, W, 3) 0–255, as stored."""
    image = bpy.data.images.load(path)
    image.colorspace_settings.name = "Non-Color"
    values = np.array(image.pixels[:], np.float32).reshape(image.size[1], image.size[0], 4)
    return np.round(values[..., :3] * 255)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_render_under_the_standard_view_is_the_frame(
    addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = turntable.photographed(tmp_path / "monkey", turntable.monkey(), 16)
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", ["-c", ENGINE])
    bpy.data.batch_remove(list(bpy.data.objects))
    bpy.ops.instruct_nerf.open_capture(filepath=str(source))
    settle(300)
    scene = bpy.context.scene
    workspace = project.workspace_of(scene)
    trained = {"workspace": workspace, "preset": "preview", "device": "cpu", "steps": STEPS}
    asking.run_job(wire.SCENE_TRAIN, trained, lambda _: None, panel="edit", title="Training", workspace=workspace)
    settle(1200)
    assert session.get().job.status == "done", session.get().notices
    opening.read_workspace(workspace)
    settle()
    cameras.look_through(scene, cameras.cameras_of(project.root_of(scene))[3])
    scene.instruct_nerf.edit = "/"
    sampled: list = []
    list(flight.sample(scene.name, workspace, [1], sampled))
    found: list = []
    asking.run_job(
        wire.OUTPUT_FRAMES,
        {"workspace": workspace, "edit": None, "name": "one", "cameras": [wire.camera_object(sampled[0])]},
        found.append, panel="results", title="Frames", workspace=workspace,
    )  # fmt: skip
    settle(300)
    bpy.ops.instruct_nerf.use_engine()
    scene.view_settings.view_transform = "Standard"
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGB", "8"
    scene.render.dither_intensity, scene.render.film_transparent = 0.0, False
    scene.render.filepath = str(tmp_path / "render.png")
    bpy.ops.render.render(write_still=True)
    frame, render = pixels(found[0]["after"][0]), pixels(scene.render.filepath)
    assert frame.std() > 10 and frame.shape == render.shape
    assert np.abs(frame - render).max() <= 2
