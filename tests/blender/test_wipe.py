# SPDX-License-Identifier: GPL-3.0-or-later
"""Before and after in a camera's picture: which two they are, where the line is, and that nobody waits for it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from fake_engine import png
from mathutils import Matrix, Vector
from test_panels import drawn
from test_tree import with_edits

from blender_addon import project
from blender_addon import wipe as drawing
from blender_addon.operators.wipe import INSTRUCT_NERF_OT_wipe as Wipe
from blender_addon.scene import cameras, wipe

nerf = bpy.ops.instruct_nerf
WIDTH, HEIGHT = 900, 500  # of the viewport


@pytest.fixture
def scene(addon: object, capture: Path, monkeypatch: pytest.MonkeyPatch) -> bpy.types.Scene:
    return with_edits(capture, monkeypatch)


def looking_through(camera: bpy.types.Object) -> SimpleNamespace:
    """A viewport that looks through a camera, as Blender sets one up: the frame in its middle, smaller than itself."""
    scene, graph = bpy.context.scene, bpy.context.evaluated_depsgraph_get()
    scene.camera = camera
    graph.update()
    render = scene.render
    flat = camera.calc_matrix_camera(
        graph, x=render.resolution_x, y=render.resolution_y, scale_x=render.pixel_aspect_x,
        scale_y=render.pixel_aspect_y,
    )  # fmt: skip
    aspect = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
    high = 300.0
    onto = Matrix.Diagonal((high * aspect / WIDTH, high / HEIGHT, 1.0, 1.0))
    view = SimpleNamespace(
        view_perspective="CAMERA", perspective_matrix=onto @ flat @ camera.matrix_world.normalized().inverted()
    )
    space = SimpleNamespace(type="VIEW_3D", region_3d=view, camera=camera)
    region = SimpleNamespace(type="WINDOW", width=WIDTH, height=HEIGHT, x=40, y=20)
    return SimpleNamespace(space=space, region=region, high=high, wide=high * aspect)


def test_the_picture_lies_in_the_frame_whatever_the_scene_renders_at(scene: bpy.types.Scene) -> None:
    camera = cameras.cameras_of(project.root_of(scene))[3]
    project.root_of(scene).matrix_world @= Matrix.Rotation(0.4, 4, "X") @ Matrix.Scale(2.5, 4)
    cameras.look_through(scene, camera)
    seen = looking_through(camera)
    left, bottom, right, top = wipe.frame_of(scene, camera, seen.region, seen.space.region_3d)
    assert (right - left, top - bottom) == pytest.approx((seen.wide, seen.high), abs=0.05)
    # In the middle, wherever the principal point is: a picture behind a camera is not shifted with it.
    middle = [camera.matrix_world.normalized() @ Vector(c) for c in camera.data.view_frame(scene=scene)]
    assert len(middle) == 4 and 0 < left < right < WIDTH and 0 < bottom < top < HEIGHT
    scene.render.resolution_x *= 3  # a wider frame: the picture is as wide, and higher than it
    seen = looking_through(camera)
    left, bottom, right, top = wipe.frame_of(scene, camera, seen.region, seen.space.region_3d)
    (width, height), (x, y) = camera[cameras.SIZE], camera[cameras.ASPECT]
    assert (right - left) / (top - bottom) == pytest.approx(width * x / (height * y), rel=1e-3)
    assert right - left == pytest.approx(seen.wide, abs=0.05)


def test_what_is_before_is_the_parents_view_or_the_photo(scene: bpy.types.Scene) -> None:
    name = str(cameras.cameras_of(project.root_of(scene))[0][cameras.VIEW])
    nerf.choose_edit(edit="edit-2")
    assert "edit-1" in drawing.before_of(scene, name)
    nerf.choose_edit(edit="edit-1")
    assert Path(drawing.before_of(scene, name)).parent.name == "before"
    scene.instruct_nerf.wipe_before = "CAPTURE"
    assert drawing.before_of(scene, name) == project.picture(scene, "image", name)
    assert "Line" not in drawn()
    scene.instruct_nerf.use_wipe = True
    assert "Line" in drawn()


def test_the_picture_is_read_once_as_it_is_and_kept_by_no_file(scene: bpy.types.Scene, tmp_path: Path) -> None:
    path = drawing.before_of(scene, str(cameras.cameras_of(project.root_of(scene))[0][cameras.VIEW]))
    assert wipe.loaded(path) is None
    list(wipe.loading(path))
    image = wipe.loaded(path)
    assert image is not None and image.colorspace_settings.is_data and image.users == 0
    assert wipe.loaded(str(tmp_path / "another.png")) is None
    list(wipe.loading(str(tmp_path / "another.png")))
    assert wipe.NAME not in bpy.data.images
    list(wipe.loading(path))
    mine = bpy.data.images.new(f"{wipe.NAME} of mine", 4, 4)
    Path(path).write_bytes(Path(path).read_bytes())
    os.utime(path, ns=(1, 1))
    assert wipe.loaded(path) is None  # written anew
    list(wipe.loading(path))
    assert wipe.loaded(path) is not None and [i for i in bpy.data.images if wipe.FILE in i] == [wipe.loaded(path)]
    blend = str(tmp_path / "wipe.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.open_mainfile(filepath=blend)
    assert wipe.NAME not in bpy.data.images
    del mine


class Mouse:
    """The operator's context and events, without a window."""

    def __init__(self, scene: bpy.types.Scene, seen: SimpleNamespace) -> None:
        self.cursor: list[str] = []
        area = SimpleNamespace(regions=[SimpleNamespace(type="UI"), seen.region], tag_redraw=lambda: None)
        window = SimpleNamespace(
            cursor_modal_set=self.cursor.append, cursor_modal_restore=lambda: self.cursor.append("restored")
        )
        manager = SimpleNamespace(modal_handler_add=lambda _operator: None)
        self.context = SimpleNamespace(
            scene=scene, space_data=seen.space, area=area, window=window, window_manager=manager
        )

    @staticmethod
    def event(kind: str, x: float = 0.0) -> SimpleNamespace:
        return SimpleNamespace(type=kind, value="PRESS", mouse_x=x, mouse_y=0)


def test_the_line_follows_the_mouse_and_is_put_back_by_escape(scene: bpy.types.Scene) -> None:
    camera = cameras.cameras_of(project.root_of(scene))[1]
    cameras.look_through(scene, camera)
    seen = looking_through(camera)
    left, _, right, _ = wipe.frame_of(scene, camera, seen.region, seen.space.region_3d)
    settings, mouse, operator = scene.instruct_nerf, Mouse(scene, seen), SimpleNamespace()
    for name in ("invoke", "modal", "cancel", "_follow", "_end"):
        setattr(operator, name, getattr(Wipe, name).__get__(operator))

    def at(share: float) -> float:
        return seen.region.x + left + share * (right - left)

    assert operator.invoke(mouse.context, mouse.event("MOUSEMOVE", at(0.2))) == {"RUNNING_MODAL"}
    assert settings.use_wipe and settings.wipe == pytest.approx(0.2, abs=0.01) and mouse.cursor == ["MOVE_X"]
    for share, wanted in ((0.75, 0.75), (-3.0, 0.0), (9.0, 1.0), (0.4, 0.4)):
        operator.modal(mouse.context, mouse.event("MOUSEMOVE", at(share)))
        assert settings.wipe == pytest.approx(wanted, abs=0.01)
    assert operator.modal(mouse.context, mouse.event("LEFTMOUSE")) == {"FINISHED"}
    assert settings.wipe == pytest.approx(0.4, abs=0.01) and mouse.cursor[-1] == "restored"
    settings.use_wipe = False
    operator.invoke(mouse.context, mouse.event("MOUSEMOVE", at(0.9)))
    assert operator.modal(mouse.context, mouse.event("ESC")) == {"CANCELLED"}
    assert not settings.use_wipe and settings.wipe == pytest.approx(0.4, abs=0.01)
    seen.space.camera = None  # the artist has left the camera meanwhile
    operator.modal(mouse.context, mouse.event("MOUSEMOVE", at(0.1)))
    assert settings.wipe == pytest.approx(0.4, abs=0.01)


def test_only_a_viewport_that_looks_through_a_captures_camera_is_meant(scene: bpy.types.Scene) -> None:
    camera = cameras.cameras_of(project.root_of(scene))[0]
    seen = looking_through(camera)
    assert wipe.camera_seen(seen.space) == camera
    seen.space.region_3d.view_perspective = "PERSP"
    assert wipe.camera_seen(seen.space) is None and wipe.camera_seen(None) is None
    seen.space.region_3d.view_perspective = "CAMERA"
    seen.space.camera = bpy.data.objects.new("mine", bpy.data.cameras.new("mine"))
    assert wipe.camera_seen(seen.space) is None
    assert not nerf.wipe.poll()


def test_nobody_waits_for_it(scene: bpy.types.Scene, tmp_path: Path) -> None:
    """All but drawing itself, which needs a window: what a redraw asks, and reading a picture of 640 × 480 pixels."""
    camera = cameras.cameras_of(project.root_of(scene))[5]
    seen, path, times = looking_through(camera), png(tmp_path / "large.png", 640, 480, (9, 90, 200)), []
    for _ in range(30):
        began = time.thread_time()
        wipe.camera_seen(seen.space)
        drawing.before_of(scene, str(camera[cameras.VIEW]))
        wipe.loaded(path)
        wipe.frame_of(scene, camera, seen.region, seen.space.region_3d)
        times.append(1000 * (time.thread_time() - began))
    assert sorted(times)[15] < 1.0
    steps, slowest, done = wipe.loading(path), 0.0, False
    while not done:
        began = time.thread_time()
        done = next(steps, None) is None
        slowest = max(slowest, 1000 * (time.thread_time() - began))
    assert wipe.loaded(path) is not None and slowest < 20.0
    print(f"a redraw {sorted(times)[15]:.3f} ms, reading at most {slowest:.2f} ms")
