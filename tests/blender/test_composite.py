# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own objects in what the engine renders: before it, behind it, and their shadows on the mesh."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from in_blender import ROOT, settle
from mathutils import Matrix

from blender_addon import jobs, project
from blender_addon.render import composite
from blender_addon.scene.mesh import MESH

FAKE_ENGINE = str(ROOT / "tests" / "addon" / "fake_engine.py")
SIZE = 64
ask = bpy.ops.instruct_nerf


@pytest.fixture
def scene(addon: object, capture: Path, tmp_path: Path, request, monkeypatch) -> bpy.types.Scene:
    """Seen from above by a camera of the artist's own: the stand-in's wall, red and two units away at the left, blue
    and six at the right."""
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [FAKE_ENGINE, *getattr(request, "param", ["wall"])])
    ask.open_capture(filepath=str(capture))
    settle()
    scene = bpy.context.scene
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.render.resolution_percentage = 100
    scene.cycles.samples, scene.cycles.device, scene.cycles.use_denoising = 8, "CPU", False
    scene.cycles.pixel_filter_type = "BOX"
    scene.camera = bpy.data.objects.new("above", bpy.data.cameras.new("above"))
    scene.collection.objects.link(scene.camera)
    scene.camera.matrix_world = Matrix.Translation((0, 0, 10))
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_depth, settings.color_mode = "OPEN_EXR", "32", "RGBA"
    scene.render.filepath = str(tmp_path / "out.exr")
    return scene


def cube(height: float, size: float = 2.0, color: tuple = (0, 1, 0)) -> bpy.types.Object:
    """One that glows, in the middle, its upper side so high."""
    bpy.ops.mesh.primitive_cube_add(size=size, location=(0, 0, height - size / 2))
    material = bpy.data.materials.new("glow")
    if not material.use_nodes:
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    glow, end = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    glow.inputs[0].default_value = (*color, 1)
    tree.links.new(glow.outputs[0], end.inputs[0])
    bpy.context.object.data.materials.append(material)
    return bpy.context.object


def rendered(scene: bpy.types.Scene) -> np.ndarray:
    """(H, W, 4) what a final render writes, the upper row first."""
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    image.colorspace_settings.name = "Non-Color"
    values = np.array(image.pixels[:], np.float32).reshape(SIZE, SIZE, 4)[::-1]
    bpy.data.images.remove(image)
    return values


def colors(values: np.ndarray) -> np.ndarray:
    """Of each pixel which channel is alone in it; −1 of mixtures."""
    alone = (values[..., :3] > 0.95).sum(axis=-1) == 1
    return np.where(alone & ((values[..., :3] < 0.05).sum(axis=-1) == 2), values[..., :3].argmax(axis=-1), -1)


def test_a_cube_stands_before_what_is_far_and_behind_what_is_near(scene: bpy.types.Scene) -> None:
    cube(height=6.0)  # four units ahead of the camera
    ask.composite()
    found = colors(rendered(scene))
    # A square of two units at a distance of four, of a camera whose picture is 36/50 of the distance wide.
    half = SIZE / 2 * 2.0 / (4.0 * 36.0 / 50.0)
    left, right = found[:, : SIZE // 2], found[:, SIZE // 2 :]
    assert (left == 0).mean() > 0.96  # red hides it
    inside = np.zeros((SIZE, SIZE // 2), bool)
    middle = SIZE // 2
    inside[int(middle - half + 1.5) : int(middle + half - 0.5), 1 : int(half - 0.5)] = True
    assert inside.sum() > 400 and (right[inside] == 1).all()  # green hides blue
    outside = np.zeros_like(inside)
    outside[: int(middle - half - 1)] = outside[int(middle + half + 2) :] = outside[:, int(half + 2) :] = True
    outside[:, 0] = False  # between red and blue
    assert outside.sum() > 100 and (right[outside] == 2).all()


def test_behind_everything_and_before_everything(scene: bpy.types.Scene) -> None:
    item = cube(height=3.0)
    ask.composite()
    assert set(np.unique(colors(rendered(scene)))) <= {0, 2, -1}
    item.location.z = 8.0  # its upper side a unit ahead of the camera
    found = colors(rendered(scene))
    assert (found[4:-4, 4:-4] == 1).all()


def test_the_edge_of_what_is_before_has_no_fringe(scene: bpy.types.Scene) -> None:
    """At a slanted edge a pixel is a mixture of its two colors, by the share of each."""
    item = cube(height=9.0, size=0.4)
    item.rotation_euler.z = 0.3
    scene.cycles.samples = 64
    ask.composite()
    values = rendered(scene)[..., :3]
    right = values[:, SIZE // 2 + 2 :]
    assert ((right[..., 1] > 0.1) & (right[..., 1] < 0.9)).sum() > 20
    np.testing.assert_allclose(right[..., 1] + right[..., 2], 1.0, atol=0.02)


def test_what_is_added_and_changed_later_is_there(scene: bpy.types.Scene) -> None:
    ask.composite()
    partner = composite.partner_of(scene)
    item = cube(height=9.0)
    scene.world = bpy.data.worlds.new("another")
    other = bpy.data.objects.new("other", scene.camera.data)
    scene.collection.objects.link(other)
    other.matrix_world = scene.camera.matrix_world
    scene.camera = other
    scene.timeline_markers.new("cut", frame=5).camera = other
    bpy.context.view_layer.update()
    assert item.name in partner.objects and partner.world == scene.world and partner.camera == other
    assert [(m.frame, m.camera) for m in partner.timeline_markers] == [(5, other)]
    assert (colors(rendered(scene))[4:-4, 4:-4] == 1).all()
    bpy.data.objects.remove(item)
    bpy.context.view_layer.update()
    assert 1 not in colors(rendered(scene))


def tree_of(scene: bpy.types.Scene):
    if hasattr(scene, "compositing_node_group"):
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def test_it_goes_without_a_trace(scene: bpy.types.Scene) -> None:
    before = {name: len(getattr(bpy.data, name)) for name in ("scenes", "objects", "collections", "node_groups")}
    ask.composite()
    assert ask.composite_end.poll() and len(bpy.data.scenes) == 2
    ask.composite()  # again: not a second one
    assert len(bpy.data.scenes) == 2
    ask.composite_end()
    after = {name: len(getattr(bpy.data, name)) for name in before}
    assert after == before and tree_of(scene) is None and not ask.composite_end.poll()
    cube(height=9.0)
    assert set(np.unique(colors(rendered(scene)))) <= {0, 2, -1}


def test_an_artists_own_nodes_stay_behind_ours(scene: bpy.types.Scene) -> None:
    from test_frames import tree_of as emptied

    tree = emptied(scene)
    render = tree.nodes.new("CompositorNodeRLayers")
    invert = tree.nodes.new("CompositorNodeInvert")
    end = tree.nodes.new("NodeGroupOutput" if hasattr(scene, "compositing_node_group") else "CompositorNodeComposite")
    picture = next(socket for socket in invert.inputs if socket.type == "RGBA")
    tree.links.new(render.outputs[0], picture)
    tree.links.new(invert.outputs[0], end.inputs[0])
    plain = rendered_with_engine(scene)
    cube(height=9.0)
    ask.composite()
    np.testing.assert_allclose(rendered(scene)[8:-8, 8:-8, :3], np.broadcast_to([1, 0, 1], (48, 48, 3)), atol=0.01)
    count = len(tree.nodes)
    ask.composite_end()
    assert tree_of(scene) == tree and len(tree.nodes) == 3 < count
    np.testing.assert_allclose(rendered(scene), plain, atol=1e-5)


def rendered_with_engine(scene: bpy.types.Scene) -> np.ndarray:
    ask.use_engine()
    return rendered(scene)


@pytest.mark.parametrize("scene", [[]], indirect=True)
def test_an_object_casts_its_shadow_on_the_mesh(scene: bpy.types.Scene) -> None:
    """The mesh's upper side lies three units high. What the stand-in shows lies before the object, not its shadow."""
    scene.instruct_nerf.instruction = "make it night"
    ask.start_edit()
    settle()
    ask.import_mesh()
    settle()
    root = project.root_of(scene)
    root.matrix_world = Matrix()
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.data.angle = 3.0, 0.01
    scene.collection.objects.link(sun)
    if scene.world is not None and scene.world.node_tree:
        for node in scene.world.node_tree.nodes:
            if node.type == "BACKGROUND":
                node.inputs[1].default_value = 0.0
    sun.rotation_euler.x = 0.25 * np.pi
    scene.cycles.max_bounces = 0
    bpy.ops.mesh.primitive_plane_add(size=0.5, location=(0, 0, 4.0))
    scene.render.engine = "INSTRUCT_NERF"
    alone = rendered(scene)
    ask.composite()
    values = rendered(scene)
    share = values[..., :3] / np.maximum(alone[..., :3], 1e-3)
    # From 10 units up a unit at 3 is as large as SIZE / (7 · 36/50) pixels. The shadow falls a unit away, to +Y.
    unit = SIZE / (7.0 * 36.0 / 50.0)
    x, y = np.meshgrid(*2 * [(np.arange(SIZE) + 0.5 - SIZE / 2) / unit])
    shaded, free = (np.hypot(x, y + side) < 0.15 for side in (1.0, -1.0))
    assert share[shaded].max() < 0.1  # in the shadow of the only light
    np.testing.assert_allclose(share[free], 1.0, atol=0.02)
    np.testing.assert_allclose(share[np.abs(x) > 1.3], 1.0, atol=0.02)  # beside the mesh
    [mesh] = [item for item in root.children if MESH in item]
    assert not mesh.is_shadow_catcher  # as it is in the artist's own scene


def test_there_must_be_a_capture(addon: object) -> None:
    assert not ask.composite.poll() and not ask.use_engine.poll()
