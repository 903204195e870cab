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
        light[light < 0.1] = 0.0  # dither
        rows, columns = np.indices(light.shape) + 0.5
        found = (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()
        np.testing.assert_allclose(found, expected, atol=0.6)


def test_the_scene_is_left_as_it_was_and_the_root_is_the_world(ball: bpy.types.Scene) -> None:
    ball.render.resolution_x, ball.render.filepath = 777, "//mine"
    bpy.ops.instruct_nerf.photograph(count=8, width=32, height=32)
    settle(60)
    assert ball.render.resolution_x == 777 and ball.render.filepath == "//mine" and ball.camera is None
    root = project.root_of(ball)
    assert root.matrix_world.is_identity and len(cameras.cameras_of(root)) == 8
    assert len(bpy.data.cameras) == 8


def test_its_mesh_lies_where_what_was_photographed_does_and_that_is_said(ball: bpy.types.Scene) -> None:
    bpy.ops.instruct_nerf.photograph(count=8, width=32, height=32)
    settle(60)
    ball.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    root, said = project.root_of(ball), []
    for place in (0.0, 3.0):
        root.location.x = place
        bpy.context.view_layer.update()
        bpy.ops.instruct_nerf.import_mesh()
        settle()
        said.append(session.get().news.get("results", ""))
    assert "hide one of them" in said[0] and "hide one of them" not in said[1]


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


def photographed(scene: bpy.types.Scene, **options: object) -> dict:
    """What was written; and that the ball is seen in each picture where its poses say, wherever in view."""
    bpy.ops.instruct_nerf.photograph(**options)
    settle(60)
    assert not session.get().notices
    folder = Path(project.workspace_of(scene)) / "source"
    data = json.loads((folder / "transforms.json").read_text())
    point = np.array([0.4, -0.3, 0.5, 1.0])
    for frame in data["frames"]:
        k = data | frame
        x, y, z, _ = np.linalg.inv(np.array(frame["transform_matrix"])) @ point
        expected = k["cx"] + k["fl_x"] * x / -z, k["cy"] - k["fl_y"] * y / -z
        image = bpy.data.images.load(str(folder / frame["file_path"]))
        assert tuple(image.size) == (k["w"], k["h"])
        light = np.array(image.pixels[:]).reshape(k["h"], k["w"], 4)[::-1, :, 0]
        light[light < 0.1] = 0.0  # dither
        rows, columns = np.indices(light.shape) + 0.5
        found = (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()
        np.testing.assert_allclose(found, expected, atol=0.6)
    return data


def test_along_a_curve_looking_at_what_is_selected_besides(ball: bpy.types.Scene) -> None:
    target = bpy.context.object
    bpy.ops.curve.primitive_bezier_circle_add(radius=3.0, location=(0.4, -0.3, 1.5))
    curve = bpy.context.object
    curve.data.bevel_depth = 0.01  # its thickness is no part of the way
    curve.hide_render = True
    target.select_set(True)
    data = photographed(ball, way="PATH", count=8, width=64, height=48)
    poses = np.array([frame["transform_matrix"] for frame in data["frames"]])
    assert len(poses) == 8
    places = poses[:, :3, 3] - (0.4, -0.3, 1.5)
    assert np.abs(np.linalg.norm(places, axis=1) - 3.0).max() < 0.02 and np.abs(places[:, 2]).max() < 1e-5
    steps = np.linalg.norm(np.diff(places, axis=0, append=places[:1]), axis=1)
    assert steps.max() / steps.min() < 1.02
    ahead = np.array([0.4, -0.3, 0.5]) - poses[:, :3, 3]
    assert np.abs(np.cross(ahead, poses[:, :3, 2])).max() < 1e-4


def test_through_the_scenes_own_cameras(ball: bpy.types.Scene) -> None:
    render = ball.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 96, 128, 50
    render.pixel_aspect_x, render.pixel_aspect_y = 1.0, 1.25
    for index, (x, lens) in enumerate(((-2.0, 30.0), (2.5, 45.0))):
        data = bpy.data.cameras.new("mine")
        data.lens, data.shift_x, data.sensor_fit = lens, 0.1 * index, "VERTICAL" if index else "AUTO"
        item = bpy.data.objects.new("mine", data)
        item.location = (x, -3.0, 2.0)
        item.scale = (2.0, 2.0, 2.0)  # means nothing to a camera
        ball.collection.objects.link(item)
        item.constraints.new("TRACK_TO").target = bpy.context.object
    bpy.context.view_layer.update()
    data = photographed(ball, way="CAMERAS")
    assert len(data["frames"]) == 2 and "fl_x" not in data
    first, second = data["frames"]
    assert (first["w"], first["h"]) == (48, 64) and first["fl_x"] < second["fl_x"] and first["fl_x"] > first["fl_y"]
    assert (render.resolution_percentage, render.pixel_aspect_y) == (50, 1.25) and ball.camera is None
    assert len(cameras.cameras_of(project.root_of(ball))) == 2
    data = photographed(ball, way="CAMERAS")  # a capture's cameras are not the scene's own
    assert len(data["frames"]) == 2


def test_the_animation_of_the_active_camera(ball: bpy.types.Scene) -> None:
    ball.render.resolution_x, ball.render.resolution_y = 64, 48
    item = bpy.data.objects.new("mine", bpy.data.cameras.new("mine"))
    ball.collection.objects.link(item)
    item.constraints.new("TRACK_TO").target = bpy.context.object
    ball.camera, ball.frame_start, ball.frame_end = item, 1, 25
    for frame, place, lens in ((1, (-3, -3, 2), 30), (25, (3, -3, 2), 60)):
        item.location, item.data.lens = place, lens
        item.keyframe_insert("location", frame=frame)
        item.data.keyframe_insert("lens", frame=frame)
    ball.frame_set(7)
    data = photographed(ball, way="ANIMATION", count=9)
    places = np.array([frame["transform_matrix"] for frame in data["frames"]])[:, :3, 3]
    assert len(places) == 9 and np.allclose(places[0], (-3, -3, 2)) and np.allclose(places[-1], (3, -3, 2))
    assert (np.diff(places[:, 0]) > 0).all() and data["frames"][0]["fl_x"] < data["frames"][-1]["fl_x"]
    assert ball.frame_current == 7 and ball.camera == item


@pytest.mark.parametrize(
    ("way", "said"),
    [("PATH", "Select the curve"), ("CAMERAS", "no cameras of its own"), ("ANIMATION", "no active camera")],
)
def test_what_is_missing_is_said(ball: bpy.types.Scene, way: str, said: str) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    with pytest.raises(RuntimeError, match=said):
        bpy.ops.instruct_nerf.photograph(way=way)


def test_cameras_that_are_no_pinholes_are_said_and_leave_no_capture(ball: bpy.types.Scene) -> None:
    item = bpy.data.objects.new("wide", bpy.data.cameras.new("wide"))
    item.data.type = "ORTHO"
    ball.collection.objects.link(item)
    bpy.ops.instruct_nerf.photograph(way="CAMERAS")
    settle(60)
    assert any("not a perspective camera" in text for text in session.get().notices.values())
    assert not (Path(project.workspace_of(ball)) / "source/transforms.json").exists()
    assert ball.render.image_settings.color_mode == "RGBA"
