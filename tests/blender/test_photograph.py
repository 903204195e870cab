# SPDX-License-Identifier: GPL-3.0-or-later
"""A Blender scene as a capture: what is written is where the cameras stood, and the scene is left as it was."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from in_blender import settle

from blender_addon import project, session
from blender_addon.scene import cameras


@pytest.fixture
def ball(addon: object) -> bpy.types.Scene:
    """A small glowing ball off the middle of a dark cube-sized nothing."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 4
    scene.world = bpy.data.worlds.new("dark")
    scene.world.color = (0, 0, 0)
    bpy.ops.mesh.primitive_cube_add(size=2.0)
    bpy.context.object.display_type = "WIRE"
    bpy.context.object.visible_camera = False
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.15, location=(0.4, -0.3, 0.5))
    material = bpy.data.materials.new("glow")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Emission Color"].default_value = (1, 1, 1, 1)
    shader.inputs["Emission Strength"].default_value = 5.0
    bpy.context.object.data.materials.append(material)
    return scene


def test_a_ball_is_where_the_written_poses_say(ball: bpy.types.Scene) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.instruct_nerf.photograph(count=8, width=64, height=48)
    settle(60)
    assert not session.get().notices
    folder = Path(project.workspace_of(ball)) / "source"
    data = json.loads((folder / "transforms.json").read_text())
    assert len(data["frames"]) == 8 and (data["w"], data["h"]) == (64, 48)
    point = np.array([0.4, -0.3, 0.5, 1.0])
    for frame in data["frames"]:
        x, y, z, _ = np.linalg.inv(np.array(frame["transform_matrix"])) @ point
        expected = data["cx"] + data["fl_x"] * x / -z, data["cy"] - data["fl_y"] * y / -z
        image = bpy.data.images.load(str(folder / frame["file_path"]))
        light = np.array(image.pixels[:]).reshape(48, 64, 4)[::-1, :, 0]
        rows, columns = np.indices(light.shape) + 0.5
        found = (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()
        np.testing.assert_allclose(found, expected, atol=0.6)


def test_the_scene_is_left_as_it_was_and_the_root_is_the_world(ball: bpy.types.Scene) -> None:
    ball.render.resolution_x, ball.render.filepath = 777, "/tmp/mine"
    bpy.ops.instruct_nerf.photograph(count=8, width=32, height=32)
    settle(60)
    assert ball.render.resolution_x == 777 and ball.render.filepath == "/tmp/mine" and ball.camera is None
    root = project.root_of(ball)
    assert root.matrix_world.is_identity and len(cameras.cameras_of(root)) == 8
    assert len(bpy.data.cameras) == 8


def test_stopped_in_the_middle_it_leaves_no_capture(ball: bpy.types.Scene) -> None:
    bpy.ops.instruct_nerf.photograph(count=20, width=32, height=32)
    assert session.wait(lambda: session.get().task.fraction > 0.1, 30.0)
    bpy.ops.instruct_nerf.cancel()
    settle()
    folder = Path(project.workspace_of(ball)) / "source"
    assert not (folder / "transforms.json").exists() and not bpy.data.cameras
    assert ball.render.image_settings.color_mode == "RGBA"


def test_nothing_to_photograph_is_said(addon: object) -> None:
    with pytest.raises(RuntimeError, match="nothing to photograph"):
        bpy.ops.instruct_nerf.photograph(count=8)
