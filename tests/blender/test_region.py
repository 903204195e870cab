# SPDX-License-Identifier: GPL-3.0-or-later
"""The region that is sent is the one that Blender shows: inside and outside by rays that Blender itself casts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import bpy
import msgspec
import numpy as np
import pytest
from in_blender import settle
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree

from blender_addon import jobs, project, session
from blender_addon.scene import region
from engine import protocol
from engine.edit.solids import Solid


def asked(scene: bpy.types.Scene) -> protocol.Region:
    """The region as it is sent, as the engine takes it."""
    return msgspec.convert(jobs.region_params(scene, project.root_of(scene)), protocol.Region)


def enclosed(item: bpy.types.Object, place: Vector) -> bool:
    """Whether a ray from a place in the world leaves the object more often than it enters."""
    tree = BVHTree.FromObject(item, bpy.context.evaluated_depsgraph_get())
    back = item.matrix_world.inverted()
    start, way = back @ place, Vector((0.2673, 0.5345, 0.8017))
    count = 0
    while (hit := tree.ray_cast(start, way))[0] is not None:
        count, start = count + 1, hit[0] + 1e-5 * way
    return count % 2 == 1


def shapes() -> list[bpy.types.Object]:
    bpy.ops.mesh.primitive_cube_add(
        size=1.0, location=(0.5, 0.2, 0.1), rotation=(0.3, 0.5, 0.7), scale=(1.0, 2.0, -0.5)
    )
    bpy.ops.mesh.primitive_torus_add(location=(-0.6, 0.4, 0.3), rotation=(0.5, 0.2, 0.0))
    bpy.context.object.scale = (0.7, 0.9, 1.3)
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.5, location=(0.0, -0.8, 0.0))
    bpy.context.object.modifiers.new("two of them", "ARRAY").count = 2
    return [o for o in bpy.context.scene.objects if o.type == "MESH"]


def test_inside_is_what_blenders_rays_say_under_an_uneven_root(opened: bpy.types.Scene) -> None:
    root = project.root_of(opened)
    root.matrix_world = Matrix.LocRotScale((0.3, -0.2, 0.5), Vector((0.1, 0.7, -0.3)).to_track_quat(), (1.5, 0.6, 2.0))
    items = shapes()
    bpy.context.view_layer.update()
    for item in bpy.context.view_layer.objects:
        item.select_set(item in items)
    assert bpy.ops.instruct_nerf.region_selected() == {"FINISHED"}
    sent = asked(opened)
    frame = np.array(sent.frame).reshape(4, 4)
    solids = [
        Solid(np.array(s.vertices).reshape(-1, 3), np.array(s.triangles).reshape(-1, 3), s.name) for s in sent.solids
    ]
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (400, 3))  # in the capture frame
    own = points @ frame[:3, :3].T + frame[:3, 3]
    ours = np.any([solid.inside(own) for solid in solids], axis=0)
    slow = [any(enclosed(item, root.matrix_world @ Vector(p)) for item in items) for p in points]
    np.testing.assert_array_equal(ours, slow)
    assert 10 < sum(slow) < 390 and {s.name for s in sent.solids} == {item.name for item in items}


def test_a_box_at_the_cursor_is_sent_with_the_edit_and_only_then(opened: bpy.types.Scene, tmp_path: Path) -> None:
    opened.cursor.location = (0.5, 0.0, 1.0)
    assert bpy.ops.instruct_nerf.region_box() == {"FINISHED"}
    settings = opened.instruct_nerf
    assert settings.use_region and settings.region.name == region.NAME
    box = bpy.context.object
    assert box.display_type == "WIRE" and box.hide_render and box.location[:] == (0.5, 0.0, 1.0)
    bpy.ops.instruct_nerf.region_box()  # another into the same collection
    settings.region_softness, settings.region_invert = 0.25, True
    settings.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    bpy.context.view_layer.objects.active = project.root_of(opened).children[0]
    bpy.ops.instruct_nerf.try_edit()
    settle()
    settings.use_region = False
    bpy.ops.instruct_nerf.start_edit()
    settle()
    bpy.ops.instruct_nerf.try_edit()
    settle()
    heard = [json.loads(line) for line in (tmp_path / "user" / "run" / "requests.jsonl").read_text().splitlines()]
    first, second = [request for request in heard if request["method"] == "edit/run"]
    sent = msgspec.convert(first["region"], protocol.Region)
    assert len(sent.solids) == 2 and (sent.softness, sent.invert) == (0.25, True)
    assert "region" not in second
    tried, without = [request for request in heard if request["method"] == "edit/try"]
    assert tried["region"] == first["region"] and "region" not in without
    middle = np.array(sent.solids[0].vertices).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(middle, (0.5, 0.0, 1.0), atol=1e-6)


def test_what_is_no_region_is_said_before_anything_is_asked(opened: bpy.types.Scene) -> None:
    settings = opened.instruct_nerf
    settings.instruction, settings.use_region = "make it night", True
    with pytest.raises(RuntimeError, match="has no object"):
        bpy.ops.instruct_nerf.start_edit()
    with pytest.raises(RuntimeError, match="Select closed meshes"):
        bpy.ops.instruct_nerf.region_selected()
    bpy.ops.instruct_nerf.region_box()
    item = bpy.context.object
    item.modifiers.new("fine", "SUBSURF").levels = 6
    with pytest.raises(RuntimeError, match="“Region Box”: use simpler"):
        bpy.ops.instruct_nerf.start_edit()
    item.modifiers.clear()
    item.data.clear_geometry()
    with pytest.raises(RuntimeError, match="has no faces"):
        bpy.ops.instruct_nerf.start_edit()
    assert not session.get().busy


def test_the_region_survives_renaming_saving_and_another_engine(opened: bpy.types.Scene, tmp_path: Path) -> None:
    bpy.ops.instruct_nerf.region_box()
    opened.instruct_nerf.region.name = "where the can is"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    scene = bpy.context.scene
    assert scene.instruct_nerf.region.name == "where the can is" and len(asked(scene).solids) == 1
    size = np.array(asked(scene).solids[0].vertices).reshape(-1, 3)
    assert math.isclose(
        size[:, 0].max() - size[:, 0].min(), 0.4 * project.root_of(scene)["instruct_nerf_radius"], rel_tol=1e-5
    )
