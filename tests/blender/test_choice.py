# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing views: by what they see (compared with Blender's own projection, point by point), by number, by place."""

from __future__ import annotations

import math
import random
from itertools import product
from pathlib import Path

import bpy
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector
from test_cameras import build, random_camera

from blender_addon import highlight, project
from blender_addon.scene import cameras, choice


def chosen(scene: bpy.types.Scene) -> list[str]:
    return cameras.chosen_views(project.root_of(scene))


def names(scene: bpy.types.Scene) -> list[str]:
    return [c[cameras.VIEW] for c in cameras.cameras_of(project.root_of(scene))]


def sees(scene: bpy.types.Scene, camera: bpy.types.Object, point: Vector) -> bool:
    """Blender's own word, at the view's own size."""
    cameras.look_through(scene, camera)
    x, y, depth = world_to_camera_view(scene, camera, point)
    return depth > 0 and 0 <= x <= 1 and 0 <= y <= 1


def test_views_that_see_a_point_or_an_object_are_those_that_blender_says(empty: None) -> None:
    rng, scene = random.Random(5), bpy.context.scene
    root = build([(f"v{i:02d}", random_camera(rng)) for i in range(60)])
    root.matrix_world = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((1.7, 1.7, 1.7)))
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=root.matrix_world @ Vector((0.4, 0.6, 0.5)), rotation=(1, 2, 3))
    box = bpy.context.object
    box.scale = (1.0, 2.0, 0.3)
    bpy.context.view_layer.update()
    views = cameras.cameras_of(root)
    for _ in range(10):
        point = root.matrix_world @ Vector([rng.uniform(-1.5, 1.5) for _ in range(3)])
        assert choice.seeing(views, [point]) == [c[cameras.VIEW] for c in views if sees(scene, c, point)]
    inside = [box.matrix_world @ Vector(p) for p in product((-0.25, -0.125, 0.0, 0.125, 0.25), repeat=3)]
    slow = [c[cameras.VIEW] for c in views if any(sees(scene, c, p) for p in inside)]
    assert choice.seeing(views, choice.points_of([box])) == slow and 0 < len(slow) < 60


def test_growing_takes_the_nearest_of_the_others(empty: None) -> None:
    rng = random.Random(6)
    root = build([(f"v{i:02d}", random_camera(rng)) for i in range(50)])
    cameras.choose(root, ["v03", "v30"])
    into: list[str] = []
    list(choice.growing(cameras.cameras_of(root), into))
    places = {c[cameras.VIEW]: c.matrix_basis.translation for c in cameras.cameras_of(root)}
    expected = {"v03", "v30"}
    for name in ("v03", "v30"):
        others = sorted((n for n in places if n not in ("v03", "v30")), key=lambda n: (places[n] - places[name]).length)
        expected |= set(others[: choice.NEIGHBOURS])
    assert set(into) == expected


def test_the_buttons(opened: bpy.types.Scene) -> None:
    everything = names(opened)
    bpy.ops.instruct_nerf.choose_every(nth=3, first=2)
    assert chosen(opened) == everything[1::3]
    bpy.ops.instruct_nerf.choose_others()
    assert chosen(opened) == [n for n in everything if n not in everything[1::3]]
    cameras.choose(project.root_of(opened), everything[:1])
    bpy.ops.instruct_nerf.choose_more()
    assert everything[0] in chosen(opened) and len(chosen(opened)) == 1 + choice.NEIGHBOURS
    opened.cursor.location = (0.0, 0.0, 0.0)
    bpy.ops.instruct_nerf.choose_seeing(what="CURSOR")
    assert chosen(opened) == everything  # they look at the middle
    with pytest.raises(RuntimeError, match="Select the object"):
        bpy.ops.instruct_nerf.choose_seeing(what="OBJECTS")
    opened.cursor.location = (0.0, 0.0, 500.0)
    with pytest.raises(RuntimeError, match="No view sees"):
        bpy.ops.instruct_nerf.choose_seeing(what="CURSOR")
    with pytest.raises(RuntimeError, match="no other is left"):
        bpy.ops.instruct_nerf.choose_others()
    with pytest.raises(RuntimeError, match="fewer than 99"):
        bpy.ops.instruct_nerf.choose_every(nth=1, first=99)


def test_one_click_hides_all_but_the_chosen_and_another_shows_them(opened: bpy.types.Scene) -> None:
    views = cameras.cameras_of(project.root_of(opened))
    with pytest.raises(RuntimeError, match="none to hide"):
        bpy.ops.instruct_nerf.hide_others()
    bpy.ops.instruct_nerf.choose_every(nth=4)
    bpy.ops.instruct_nerf.hide_others()
    assert [not v.hide_get() for v in views] == [bool(v.get(cameras.CHOSEN)) for v in views]
    bpy.ops.instruct_nerf.hide_others()
    assert not any(v.hide_get() for v in views)


def test_the_choice_survives_saving_undo_and_renaming(opened: bpy.types.Scene, tmp_path: Path) -> None:
    wanted = names(opened)[2:5]
    bpy.ops.ed.undo_push(message="before")
    cameras.choose(project.root_of(opened), wanted)
    bpy.ops.ed.undo_push(message="chosen")
    for index, view in enumerate(cameras.cameras_of(project.root_of(opened))):
        view.name, view.data.name = f"other {index}", f"data {index}"
    project.root_of(opened).name = "another root"
    bpy.ops.ed.undo_push(message="renamed")
    assert chosen(bpy.context.scene) == wanted
    bpy.ops.ed.undo()
    assert chosen(bpy.context.scene) == wanted
    bpy.ops.ed.undo()
    assert chosen(bpy.context.scene) == []
    bpy.ops.ed.redo()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert chosen(bpy.context.scene) == wanted


def test_cameras_are_drawn_in_a_size_that_follows_the_scene(opened: bpy.types.Scene) -> None:
    root = project.root_of(opened)
    views = cameras.cameras_of(root)
    size = views[0].data.display_size
    assert 0 < size < 0.3 * root[cameras.RADIUS]
    root.scale = (3.0, 3.0, 3.0)
    bpy.context.view_layer.update()
    assert all(v.data.display_size == pytest.approx(3 * size, rel=1e-5) for v in views)
    cameras.choose(root, [views[0][cameras.VIEW]])
    assert views[0].data.display_size > 2 * views[1].data.display_size  # the others are drawn small
    cameras.choose(root, [])
    assert all(v.data.display_size == pytest.approx(3 * size, rel=1e-5) for v in views)


def test_many_cameras_leave_room_between_them(empty: None) -> None:
    few = build([(f"v{i}", random_camera(random.Random(i))) for i in range(20)])
    assert cameras.display_size(few, 1000) < cameras.display_size(few, 20) / 2
    # A dome of a thousand: on average, none reaches its neighbour.
    assert cameras.display_size(few, 1000) < math.sqrt(2 * math.pi / 1000) * few[cameras.RADIUS]


def test_points_and_cameras_lie_in_collections_of_their_own(opened: bpy.types.Scene) -> None:
    root = project.root_of(opened)
    views = cameras.cameras_of(root)
    (own,) = {c.name for v in views for c in v.users_collection}
    assert own == "Cameras" and root.users_collection[0].children[0].name == own
    assert list(bpy.data.collections[own].objects) == views
    bpy.data.collections[own].name = "Standpoints"
    cameras.build(opened, "x", opened.instruct_nerf.workspace, [("new", random_camera(random.Random(1)))], (0, 0, 1),
                  (0, 0, 0), 3.0)  # fmt: skip
    assert [o[cameras.VIEW] for o in bpy.data.collections["Standpoints"].objects] == ["new"]
    cameras.remove(opened, opened.instruct_nerf.workspace)
    assert not bpy.data.collections


def test_the_colour_lies_where_blender_draws_the_camera(empty: None) -> None:
    """The corners of a drawn camera are those of its picture, one display size wide."""
    rng = random.Random(9)
    root = build([(f"v{i}", random_camera(rng)) for i in range(10)])
    for camera in cameras.cameras_of(root):
        cameras.look_through(bpy.context.scene, camera)
        bpy.context.view_layer.update()
        ends = highlight.frustum(camera, 2.0)
        corners = {tuple(round(v, 5) for v in end) for end in ends} - {(0.0, 0.0, 0.0)}
        assert len(corners) == 4
        seen = [world_to_camera_view(bpy.context.scene, camera, camera.matrix_world @ Vector(c)) for c in corners]
        assert sorted((round(s.x, 3), round(s.y, 3)) for s in seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert max(c[0] for c in corners) - min(c[0] for c in corners) == pytest.approx(2.0, abs=1e-4)


def test_the_colour_is_of_what_is_not_hidden(opened: bpy.types.Scene) -> None:
    root, layer = project.root_of(opened), bpy.context.view_layer
    first, second, *others = cameras.cameras_of(root)
    assert not highlight.drawn(root, layer)
    first[cameras.CHOSEN] = second[cameras.CHOSEN] = True
    assert highlight.drawn(root, layer) == [first, second]
    first.hide_set(True)
    assert highlight.drawn(root, layer) == [second]
    first.hide_set(False)
    assert highlight.drawn(root, layer) == [first, second] and others
