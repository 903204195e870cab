# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in Blender see what their intrinsics say: compared with Blender's own projection."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from fake_engine import png
from mathutils import Euler, Matrix, Vector

from blender_addon import conversion, trajectories
from blender_addon.conversion import Camera, Intrinsics
from blender_addon.scene import cameras, images, points
from engine.capture.ply import write_points
from engine.capture.types import SparsePoints

pytestmark = pytest.mark.usefixtures("empty")


def random_camera(rng: random.Random) -> Camera:
    """Off-centre, with unequal focal lengths, portrait or landscape."""
    w, h = rng.randint(60, 2000), rng.randint(60, 2000)
    fx = w * rng.uniform(0.5, 3.0)
    k = Intrinsics(w, h, fx, fx * rng.uniform(0.6, 1.7), w * rng.uniform(0.2, 0.8), h * rng.uniform(0.2, 0.8))
    place = (rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(1, 3))
    return Camera(trajectories.looking_at(place, (0.1, 0.2, 0.3)), k)


def pinhole(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of points (n, 3) in the capture frame, by the textbook."""
    pose, k = np.array(camera.pose), camera.intrinsics
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    return np.stack([k.cx + k.fx * local[:, 0] / -local[:, 2], k.cy - k.fy * local[:, 1] / -local[:, 2]], axis=1)


def build(items: list[tuple[str, Camera]], **options: object) -> bpy.types.Object:
    return cameras.build(bpy.context.scene, "c", "/w", items, (0.0, 0.6, 0.8), (0.1, 0.2, 0.3), 3.0, **options)


def test_blender_projects_where_the_intrinsics_say() -> None:
    rng, scene = random.Random(1), bpy.context.scene
    items = [(f"v{i}", random_camera(rng)) for i in range(40)]
    root = build(items)
    root.matrix_world = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((1.7, 1.7, 1.7)))
    points = np.array([[rng.uniform(-0.4, 0.4) for _ in range(3)] for _ in range(20)])
    for name, camera in items:
        item = cameras.camera_of(root, name)
        cameras.look_through(scene, item)
        bpy.context.view_layer.update()
        expected = pinhole(camera, points)
        k = camera.intrinsics
        for point, pixel in zip(points, expected, strict=True):
            seen = world_to_camera_view(scene, item, root.matrix_world @ Vector(point))
            assert abs(seen.x * k.width - pixel[0]) < 0.05 and abs((1 - seen.y) * k.height - pixel[1]) < 0.05


def test_intrinsics_read_back_from_blender_are_those_put_in() -> None:
    rng, scene = random.Random(2), bpy.context.scene
    items = [(f"v{i}", random_camera(rng)) for i in range(20)]
    root = build(items)
    for name, camera in items:
        item = cameras.camera_of(root, name)
        cameras.look_through(scene, item)
        got, k = cameras.intrinsics_of(scene, item.data), camera.intrinsics
        assert (got.width, got.height) == (k.width, k.height)
        for side in ("fx", "fy", "cx", "cy"):
            assert abs(getattr(got, side) - getattr(k, side)) < 0.01
        np.testing.assert_allclose(np.array(cameras.pose_of(item)), np.array(camera.pose), atol=1e-5)


@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
def test_any_blender_camera_projects_as_its_intrinsics(fit: str) -> None:
    """Cameras that an artist makes, which need not be fitted horizontally."""
    rng, scene = random.Random(4), bpy.context.scene
    for _ in range(20):
        data = bpy.data.cameras.new("artist")
        data.sensor_fit, data.sensor_width, data.sensor_height = fit, rng.uniform(10, 50), rng.uniform(10, 50)
        data.lens, data.shift_x, data.shift_y = rng.uniform(15, 90), rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
        item = bpy.data.objects.new("artist", data)
        scene.collection.objects.link(item)
        render = scene.render
        render.resolution_x, render.resolution_y = 2 * rng.randint(50, 1000), 2 * rng.randint(50, 1000)
        render.resolution_percentage = rng.choice([100, 50])
        render.pixel_aspect_x, render.pixel_aspect_y = rng.choice([(1, 1), (1.4, 1), (1, 1.3)])
        bpy.context.view_layer.update()
        k = cameras.intrinsics_of(scene, data)
        point = Vector((rng.uniform(-1, 1), rng.uniform(-1, 1), -4.0))
        seen = world_to_camera_view(scene, item, point)
        (pixel,) = pinhole(Camera(conversion.IDENTITY, k), np.array([point]))
        assert abs(seen.x * k.width - pixel[0]) < 0.05 and abs((1 - seen.y) * k.height - pixel[1]) < 0.05


def test_a_rendered_point_lands_on_its_pixel() -> None:
    """A small sphere rendered by Cycles through an off-centre camera of unequal focal lengths: its middle is where
    the textbook puts it. Nothing but Blender's renderer says where."""
    scene = bpy.context.scene
    camera = Camera(trajectories.looking_at((0, -4, 1), (0, 0, 0)), Intrinsics(90, 120, 140.0, 175.0, 60.0, 45.0))
    root = build([("v", camera)], stand_upright=False)
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.06, location=(0.15, 0.2, 0.1))
    material = bpy.data.materials.new("white")
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Emission Color"].default_value = (1, 1, 1, 1)
    material.node_tree.nodes["Principled BSDF"].inputs["Emission Strength"].default_value = 1.0
    bpy.context.object.data.materials.append(material)
    cameras.look_through(scene, cameras.camera_of(root, "v"))
    scene.render.engine, scene.cycles.samples = "CYCLES", 16
    scene.render.film_transparent = True
    scene.render.filepath = bpy.app.tempdir + "point.png"
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    alpha = np.array(image.pixels[:]).reshape(120, 90, 4)[::-1, :, 3]
    rows, columns = np.indices(alpha.shape) + 0.5
    middle = (columns * alpha).sum() / alpha.sum(), (rows * alpha).sum() / alpha.sum()
    (expected,) = pinhole(camera, np.array([[0.15, 0.2, 0.1]]))
    np.testing.assert_allclose(middle, expected, atol=0.3)


def test_a_thousand_cameras_in_three_seconds() -> None:
    rng = random.Random(3)
    items = [(f"frame_{i:05d}.jpg", random_camera(rng)) for i in range(1000)]
    began = time.perf_counter()
    root = build(items)
    took = time.perf_counter() - began
    assert len(cameras.cameras_of(root)) == 1000
    assert took < 3.0, f"{took:.1f} s"


def test_a_thousand_pictures_in_three_seconds_and_old_ones_go(tmp_path: Path) -> None:
    rng = random.Random(3)
    root = build([(f"{i:05d}", random_camera(rng)) for i in range(1000)])
    for kind in ("a", "b"):
        png(tmp_path / kind / "0.png", 8, 8, (1, 2, 3))
        for i in range(1000):
            shutil.copy(tmp_path / kind / "0.png", tmp_path / kind / f"{i:05d}.png")
    for kind in ("a", "b", "a"):
        began = time.perf_counter()
        views = cameras.cameras_of(root)
        list(images.showing(views, lambda v, k=kind: str(tmp_path / k / f"{v}.png"), lambda _v: "", 1.0, True))
        took = time.perf_counter() - began
        shown = {Path(c.data.background_images[0].image.filepath).parent.name for c in views}
        assert shown == {kind} and len(bpy.data.images) == 1000
        assert took < 3.0, f"{took:.1f} s"


def test_a_picture_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    root = build([("v", random_camera(random.Random(1)))])
    camera, path = cameras.camera_of(root, "v"), tmp_path / "v.png"
    for time_stamp, colour in ((1, (255, 0, 0)), (2, (0, 0, 255))):
        png(path, 8, 8, colour)
        os.utime(path, (time_stamp, time_stamp))
        assert images.show(camera, str(path), 1.0, True)
        image = camera.data.background_images[0].image
        assert [round(255 * c) for c in image.pixels[:3]] == list(colour)


def test_opening_again_keeps_the_root_where_the_artist_put_it_and_the_choice() -> None:
    rng = random.Random(6)
    items = [(f"v{i}", random_camera(rng)) for i in range(6)]
    root = build(items)
    moved = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((2, 2, 2)))
    root.matrix_world = moved
    cameras.choose(root, ["v1", "v4"])
    again = build(items[:5])
    assert again == root and len(cameras.cameras_of(root)) == 5
    np.testing.assert_allclose(np.array(root.matrix_world), np.array(moved), atol=1e-5)
    assert cameras.chosen_views(root) == ["v1", "v4"]
    assert len(bpy.data.cameras) == 5


def test_choosing_twice_does_not_let_cameras_grow() -> None:
    root = build([(f"v{i}", random_camera(random.Random(i))) for i in range(3)])
    size = cameras.camera_of(root, "v0").data.display_size
    for names in (["v0"], ["v0", "v1"], ["v1"], [], ["v0"], []):
        cameras.choose(root, names)
    assert cameras.camera_of(root, "v0").data.display_size == pytest.approx(size)


@pytest.mark.parametrize("errors", [False, True], ids=["plain", "with errors"])
def test_sparse_points_lie_where_the_capture_has_them(tmp_path: Path, errors: bool) -> None:
    """Written by another library's hand, in the layout that docs/protocol.md states; under the root, never rendered."""
    rng = np.random.default_rng(2)
    places, colours = rng.normal(size=(500, 3)), rng.integers(0, 256, (500, 3), dtype=np.uint8)
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 500\n"
    header += "".join(f"property double {a}\n" for a in "xyz")
    header += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue"))
    header += ("property float error\n" if errors else "") + "end_header\n"
    path = tmp_path / "points.ply"
    error = np.float32(0.7).tobytes() if errors else b""
    rows = (p.astype("<f8").tobytes() + c.tobytes() + error for p, c in zip(places, colours, strict=True))
    path.write_bytes(header.encode() + b"".join(rows))
    root = build([("a", random_camera(random.Random(3)))])
    for _ in range(2):  # a second time replaces the first
        item = points.show(root, str(path))
    assert [o for o in root.children if o.type == "MESH"] == [item] and len(bpy.data.meshes) == 1
    root.location = (1, 2, 3)
    bpy.context.view_layer.update()
    for index in (0, 250, 499):
        world = item.matrix_world @ item.data.vertices[index].co
        assert (world - root.matrix_world @ Vector(places[index])).length < 1e-5
        seen = [round(255 * c) for c in item.data.color_attributes["Col"].data[index].color_srgb[:3]]
        assert seen == colours[index].tolist()
    assert item.hide_render and points.show(root, "") is None and len(bpy.data.meshes) == 0
    for damaged in (b"ply\n", path.read_bytes()[:-1], path.read_bytes().replace(b"vertex 500", b"vertex 999999999999")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"points\.ply does not hold"):
            points.show(root, str(path))
        assert not [o for o in root.children if o.type == "MESH"]


@pytest.mark.parametrize("errors", [False, True], ids=["plain", "with errors"])
def test_sparse_points_are_read_as_the_engine_writes_them(tmp_path: Path, errors: bool) -> None:
    """More of them than are read in one step, and than are shown, so that some are left out."""
    count, path = points.MOST + 5 * points.AT_ONCE + 3, tmp_path / "points.ply"
    places = np.random.default_rng(1).normal(size=(count, 3))
    write_points(SparsePoints(places, errors=np.ones(count, np.float32) if errors else None), path)
    item = points.show(build([("a", random_camera(random.Random(3)))]), str(path))
    bpy.context.view_layer.update()
    points.hide(bpy.context.scene, item.parent)
    assert item.hide_get() and not item.hide_viewport  # by the eye, which shows them again
    shown = np.empty(3 * len(item.data.vertices), np.float32)
    item.data.vertices.foreach_get("co", shown)
    np.testing.assert_array_equal(shown.reshape(-1, 3), places[::2].astype(np.float32))


def test_a_root_that_was_deleted_is_made_anew_with_all_that_hung_on_it() -> None:
    """The mesh, the choice and the collection are kept; no camera is there twice, and none of another capture goes."""
    views = [(f"v{i}", random_camera(random.Random(i))) for i in range(4)]
    other = cameras.build(bpy.context.scene, "other", "//other", [("w", views[0][1])], (0, 0, 1), (0, 0, 0), 1.0)
    root = build(views)
    cameras.choose(root, ["v1", "v2"])
    collection = cameras.collection_of(root)
    item = bpy.data.objects.new("mesh", bpy.data.meshes.new("mesh"))
    cameras.part_of(collection, "Meshes").objects.link(item)
    item.parent = root
    before, count = np.array(root.matrix_world), len(bpy.data.objects)
    bpy.data.objects.remove(root)
    again = build(views)
    bpy.context.view_layer.update()
    assert len(bpy.data.objects) == count and len(bpy.data.cameras) == 5
    assert cameras.chosen_views(again) == ["v1", "v2"] and cameras.collection_of(again) == collection
    np.testing.assert_allclose(np.array(item.matrix_world), before, atol=1e-6)
    assert len(cameras.cameras_of(other)) == 1


def test_a_capture_leaves_another_alone_whose_root_was_deleted_and_whose_views_have_the_same_names() -> None:
    scene, views = bpy.context.scene, [(f"000{i}.png", random_camera(random.Random(i))) for i in range(3)]
    root = build(views)
    collection, there = cameras.collection_of(root), cameras.cameras_of(root)
    bpy.data.objects.remove(root)
    other = cameras.build(scene, "other", "/other", views, (0, 0, 1), (0, 0, 0), 1.0)
    assert cameras.collection_of(other) != collection and len(bpy.data.objects) == 7
    assert all(item.parent is None for item in there) and len(cameras.cameras_of(other)) == 3
    again = build(views)  # which finds its own again, whose cameras are replaced
    assert cameras.collection_of(again) == collection and len(bpy.data.objects) == 8


def test_a_view_that_the_artist_unparented_is_left_alone_by_another_capture() -> None:
    scene, views = bpy.context.scene, [(f"000{i}.png", random_camera(random.Random(i))) for i in range(3)]
    root = build(views)
    scene.camera = loose = cameras.camera_of(root, "0001.png")
    loose.parent = None
    other = cameras.build(scene, "other", "/other", views, (0, 0, 1), (0, 0, 0), 1.0)
    assert scene.camera == loose and loose.parent is None and len(bpy.data.objects) == 8
    assert cameras.collection_of(other) != cameras.collection_of(root) and len(cameras.cameras_of(root)) == 2


@pytest.mark.parametrize("alone", [False, True], ids=["beside its view", "its view deleted"])
def test_the_artists_copy_of_a_view_stays_when_the_root_is_made_anew(alone: bool) -> None:
    scene, views = bpy.context.scene, [(f"v{i}", random_camera(random.Random(i))) for i in range(3)]
    root = build(views)
    collection, view = cameras.collection_of(root), cameras.camera_of(root, "v1")
    copy = view.copy()
    copy.data = view.data.copy()
    cameras.part_of(collection, "Cameras").objects.link(copy)
    copy.parent, scene.camera = None, copy
    if alone:
        bpy.data.objects.remove(view)
    bpy.data.objects.remove(root)
    again = build(views)
    assert cameras.collection_of(again) == collection and len(bpy.data.objects) == 5
    assert scene.camera == copy and copy.parent is None and len(cameras.cameras_of(again)) == 3


def test_a_collection_that_does_not_say_whose_it_is_stays_as_it_is() -> None:
    """As those of older files."""
    views = [(f"v{i}", random_camera(random.Random(i))) for i in range(2)]
    root = build(views)
    collection = cameras.collection_of(root)
    collection.pop(cameras.WORKSPACE, None)
    bpy.data.objects.remove(root)
    again = build(views)
    assert cameras.collection_of(again) != collection and len(bpy.data.objects) == 5


@pytest.mark.parametrize("own_is_shown", [False, True])
def test_points_are_hidden_beside_a_linked_object_of_the_same_name(tmp_path: Path, own_is_shown: bool) -> None:
    library = str(tmp_path / "library.blend")
    linked = bpy.data.objects.new("Sparse Points", bpy.data.meshes.new("m"))
    bpy.data.libraries.write(library, {linked})
    bpy.data.objects.remove(linked)
    with bpy.data.libraries.load(library, link=True) as (_, wanted):
        wanted.objects = ["Sparse Points"]
    scene = bpy.context.scene
    scene.collection.objects.link(wanted.objects[0])  # before the capture's: found first by name
    write_points(SparsePoints(np.zeros((3, 3))), tmp_path / "points.ply")
    root = build([("a", random_camera(random.Random(3)))])
    item = points.show(root, str(tmp_path / "points.ply"))
    assert item.name == wanted.objects[0].name
    if not own_is_shown:
        for collection in item.users_collection:
            collection.objects.unlink(item)
    bpy.context.view_layer.update()
    points.hide(scene, root)
    assert item.hide_get() is own_is_shown and not wanted.objects[0].hide_get()
