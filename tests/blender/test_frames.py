# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of any camera lie where Blender's own render of the same thing lies, read by Blender itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from in_blender import settle
from mathutils import Euler, Matrix, Vector

from blender_addon import project, session, wire
from blender_addon.scene import cameras, flight
from blender_addon.trajectories import looking_at

HALF = 0.5  # pixels
SIZE = 96, 70
CENTER, RADIUS = Vector((0.4, -0.3, 0.5)), 0.8
KINDS = ("lens", "shift", "tall sensor", "orthographic", "orthographic shift", "panorama", "part of a panorama")


def root_of_an_artist(scene: bpy.types.Scene) -> bpy.types.Object:
    root = bpy.data.objects.new("root", None)
    root[cameras.WORKSPACE] = "/w"
    root.matrix_world = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((1.7, 1.7, 1.7)))
    scene.collection.objects.link(root)
    return root


def camera(scene: bpy.types.Scene, kind: str) -> bpy.types.Object:
    data = bpy.data.cameras.new(kind)
    item = bpy.data.objects.new(kind, data)
    scene.collection.objects.link(item)
    item.matrix_world = Matrix(looking_at((3.0, -3.5, 2.0), (0.2, -0.1, 0.3)))
    data.lens = 40.0
    if "shift" in kind:
        data.shift_x, data.shift_y = 0.11, -0.07
    if kind == "tall sensor":
        data.sensor_fit, data.sensor_height, data.lens = "VERTICAL", 20.0, 30.0
    if "orthographic" in kind:
        data.type, data.ortho_scale = "ORTHO", 4.0
    if "panorama" in kind:
        data.type = "PANO"
        own = data if hasattr(data, "panorama_type") else data.cycles
        own.panorama_type = "EQUIRECTANGULAR"
        item.matrix_world = Matrix(looking_at((1.6, -1.5, 1.0), (0.2, -0.1, 0.3)))
        if kind != "panorama":
            own.longitude_min, own.longitude_max, own.latitude_min, own.latitude_max = -1.1, 1.3, -0.9, 0.7
    return item


def tree_of(scene: bpy.types.Scene) -> bpy.types.NodeTree:
    """An empty compositor."""
    if hasattr(scene, "compositing_node_group"):  # from 5.0 on
        tree = scene.compositing_node_group = bpy.data.node_groups.new("read", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        return tree
    scene.use_nodes = True
    scene.node_tree.nodes.clear()
    return scene.node_tree


def read(path: Path, name: str, folder: Path) -> np.ndarray:
    """(H, W, 4) a pass of a multilayer file, as Blender's compositor has it, the upper row first."""
    image = bpy.data.images.load(str(path))
    assert (
        tuple(image.size) == (0, 0) and image.type == "MULTILAYER"
    )  # it is loaded to know the size, which layers have
    scene = bpy.data.scenes.new("read")
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = *SIZE, 100
    scene.view_settings.view_transform = "Raw"
    tree = tree_of(scene)
    node = tree.nodes.new("CompositorNodeImage")
    node.image = image
    end = tree.nodes.new("NodeGroupOutput" if hasattr(scene, "compositing_node_group") else "CompositorNodeComposite")
    tree.links.new(node.outputs[name], end.inputs[0])
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_depth, settings.color_mode = "OPEN_EXR", "32", "RGBA"
    scene.render.filepath = str(folder / f"{path.stem}-{name}-read.exr")
    bpy.ops.render.render(write_still=True, scene=scene.name)
    found = bpy.data.images.load(scene.render.filepath)
    found.colorspace_settings.name = "Non-Color"
    values = np.array(found.pixels[:], np.float32).reshape(found.size[1], found.size[0], 4)[::-1]
    bpy.data.scenes.remove(scene)
    return values


def rendered(scene: bpy.types.Scene, folder: Path) -> Path:
    """Blender's own render of the frame that the scene stands at, with alpha, depth and normals."""
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format, settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
    scene.render.filepath = str(folder / f"blender-{scene.frame_current:04d}.exr")
    bpy.ops.render.render(write_still=True)
    return Path(scene.render.filepath)


def center_of(alpha: np.ndarray) -> np.ndarray:
    weights = alpha / alpha.sum()
    return np.array([(weights.sum(axis=axis) * np.arange(alpha.shape[1 - axis])).sum() for axis in (0, 1)])


@pytest.mark.slow
def test_every_kind_of_camera_lies_where_blender_renders_it(empty: None, tmp_path: Path) -> None:
    """Cameras by markers, every second frame, at half of the size, with pixels that are not square."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 16, "CPU"
    scene.cycles.pixel_filter_type, scene.cycles.use_denoising = "BOX", False
    scene.render.film_transparent = True
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 193, 140, 50
    scene.render.pixel_aspect_x = 1.2
    scene.view_layers[0].use_pass_z = scene.view_layers[0].use_pass_normal = True
    root = root_of_an_artist(scene)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=128, ring_count=64, radius=RADIUS, location=CENTER)
    bpy.ops.object.shade_smooth()
    for number, kind in enumerate(KINDS):
        scene.timeline_markers.new(kind, frame=2 * number + 1).camera = camera(scene, kind)
    numbers = range(1, 2 * len(KINDS), 2)
    sampled: list = []
    for _ in flight.sample(scene.name, "/w", numbers, sampled):
        pass
    inverse = root.matrix_world.inverted()
    said = {
        "cameras": [wire.camera_object(item) for item in sampled],
        "center": list(inverse @ CENTER),
        "radius": RADIUS / 1.7,
    }
    (tmp_path / "cameras.json").write_text(json.dumps(said))
    script = Path(__file__).with_name("sphere_frames.py")
    subprocess.run([sys.executable, str(script), str(tmp_path / "cameras.json"), str(tmp_path)], check=True)
    for number, kind in enumerate(KINDS):
        scene.frame_set(numbers[number])
        theirs = rendered(scene, tmp_path)
        ours = tmp_path / f"{number:04d}.exr"
        color, depth, normal = (read(ours, name, tmp_path) for name in ("Combined", "Depth", "Normal"))
        own_color, own_depth, own_normal = (read(theirs, name, tmp_path) for name in ("Combined", "Depth", "Normal"))
        assert color.shape == own_color.shape == (*SIZE[::-1], 4), kind
        off = np.linalg.norm(center_of(color[..., 3]) - center_of(own_color[..., 3]))
        edges = np.abs(color[..., 3] - own_color[..., 3]).sum() / np.sqrt(own_color[..., 3].sum())
        both = (color[..., 3] > 0.5) & (own_color[..., 3] > 0.999)
        assert both.sum() > 100, kind
        assert off < HALF / 5, (kind, off)  # half a pixel is asked for
        assert edges < 1.0, (kind, edges)
        np.testing.assert_allclose(depth[both, 0], own_depth[both, 0], rtol=0.02, err_msg=kind)
        assert np.median(np.abs(depth[both, 0] / own_depth[both, 0] - 1)) < 2e-3, kind
        assert (depth[color[..., 3] == 0, 0] > 1e9).all() and own_depth.max() > 1e9
        agreement = np.einsum("nc,nc->n", normal[both, :3], own_normal[both, :3])
        assert np.median(agreement) > 0.99 and (agreement > 0.8).mean() > 0.9, (kind, agreement.min())
        np.testing.assert_allclose(color[both][0, :3], [0.21404, 0.05088, 1.0], atol=2e-3, err_msg=kind)


def test_a_shutter_samples_between_frames_and_keeps_the_frames_camera(empty: None) -> None:
    scene = bpy.context.scene
    root_of_an_artist(scene)
    first, second = camera(scene, "lens"), camera(scene, "shift")
    for frame, place in ((1, (0.0, 0.0, 0.0)), (11, (10.0, 0.0, 0.0))):
        second.location = place
        second.keyframe_insert("location", frame=frame)
    curves = second.animation_data.action
    for curve in curves.fcurves if hasattr(curves, "fcurves") else curves.layers[0].strips[0].channelbags[0].fcurves:
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"
    scene.timeline_markers.new("a", frame=1).camera = first
    scene.timeline_markers.new("b", frame=5).camera = second
    scene.render.motion_blur_shutter = 0.5
    scene.frame_set(3, subframe=0.25)
    moments = flight.moments_of(scene, 4)
    assert moments == pytest.approx([-0.1875, -0.0625, 0.0625, 0.1875])
    sampled: list = []
    for _ in flight.sample(scene.name, "/w", [5, 6], sampled, moments):
        pass
    assert len(sampled) == 8 and (scene.frame_current, scene.frame_subframe) == (3, pytest.approx(0.25))
    root = cameras.root_of(scene, "/w")
    where = [(root.matrix_world @ Vector([row[3] for row in item.pose[:3]])).x for item in sampled]
    expected = [frame + moment - 1 for frame in (5, 6) for moment in moments]  # a unit a frame, also before the cut
    assert where == pytest.approx(expected, abs=1e-4)
    assert {item.intrinsics.cx for item in sampled} == {sampled[0].intrinsics.cx}


@pytest.mark.parametrize(
    ("position", "expected"), [("CENTER", [-0.25, 0.25]), ("START", [0.25, 0.75]), ("END", [-0.75, -0.25])]
)
def test_when_the_shutter_is_open(empty: None, position: str, expected: list[float]) -> None:
    scene = bpy.context.scene
    scene.render.motion_blur_shutter = 1.0
    if not hasattr(scene.render, "motion_blur_position"):
        pytest.skip("this Blender leaves it to Cycles")
    scene.render.motion_blur_position = position
    assert flight.moments_of(scene, 2) == pytest.approx(expected)


def test_a_fisheye_is_refused_with_a_sentence(empty: None) -> None:
    scene = bpy.context.scene
    root_of_an_artist(scene)
    scene.camera = camera(scene, "panorama")
    own = scene.camera.data if hasattr(scene.camera.data, "panorama_type") else scene.camera.data.cycles
    own.panorama_type = "FISHEYE_EQUISOLID"
    with pytest.raises(ValueError, match="set its type to Perspective, Orthographic, or Panoramic and Equirectangular"):
        list(flight.sample(scene.name, "/w", [1], []))


def test_the_button_asks_for_every_nth_frame_with_its_moments(opened: bpy.types.Scene) -> None:
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    opened.camera = camera(opened, "orthographic")
    opened.frame_start, opened.frame_end, opened.frame_step = 4, 9, 2
    bpy.ops.instruct_nerf.render_frames(kind="exr", overwrite=True, moments=3)
    settle()
    sent = json.loads((Path(project.workspace_of(opened)) / "last_frames.json").read_text())
    told = {name: sent[name] for name in ("first_frame", "step", "format", "overwrite", "samples")}
    assert told == {"first_frame": 4, "step": 2, "format": "exr", "overwrite": True, "samples": 3}
    assert len(sent["cameras"]) == 9
    assert {item["projection"] for item in sent["cameras"]} == {"orthographic"}
    root = project.root_of(opened)
    assert sent["cameras"][0]["world"] == pytest.approx([entry for row in root.matrix_world for entry in row])
    assert "frames lie in" in session.get().news["results"]
