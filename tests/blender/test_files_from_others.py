# SPDX-License-Identifier: GPL-3.0-or-later
"""A project may come from anyone: pipes in the place of pictures, and headers that claim what is not there."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import bpy
import pytest
from in_blender import settle
from test_cameras import build, random_camera

from blender_addon import meshes, previews, project, session
from blender_addon import ply as ply_files
from blender_addon.scene import cameras, images, mesh, points
from blender_addon.trajectories import exhausted

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "pipe.png")
    return str(tmp_path / "pipe.png")


@pytest.mark.timeout(20)
def test_a_pipe_is_no_picture_and_is_not_waited_for(addon: object, pipe: str) -> None:
    import random

    root = build([("v", random_camera(random.Random(1)))])
    assert images.load(pipe, {}) is None and not images.show(cameras.camera_of(root, "v"), pipe, 1.0, True)
    assert previews.icon(pipe) == 0
    assert images.load("/dev/zero", {}) is None and images.load("a\0b", {}) is None
    for read in (lambda: exhausted(mesh.importing(root, pipe, "m", "")), lambda: points.show(root, pipe)):
        with pytest.raises(ValueError, match=r"pipe\.png"):
            read()


@pytest.mark.timeout(30)
def test_pipes_in_a_project_hang_nothing(opened: bpy.types.Scene) -> None:
    folder = Path(project.workspace_of(opened)) / "images"
    for path in sorted(folder.glob("*.png"))[:3]:
        path.unlink()
        os.mkfifo(path)
    views = cameras.cameras_of(project.root_of(opened))
    for camera in views:
        camera.data.background_images.clear()
    project.apply_pictures(opened)
    assert sum(len(camera.data.background_images) for camera in views) == 9
    bpy.ops.instruct_nerf.reconnect()
    settle()
    assert not session.get().busy


HEADER = (
    "ply\nformat {form} 1.0\nelement vertex {n}\nproperty float x\nproperty float y\nproperty float z\n"
    "element face {m}\nproperty list {kind} int vertex_indices\nend_header\n"
)


def ply(path: Path, n: object, m: object, body: bytes, kind: str = "uchar", form: str = "binary_little_endian") -> str:
    path.write_bytes(HEADER.format(n=n, m=m, kind=kind, form=form).encode() + body)
    return str(path)


VERTICES = struct.pack("<9f", *range(9))


@pytest.mark.parametrize(
    ("n", "m", "body", "kind"),
    [
        (2_000_000_000, 1, VERTICES, "uchar"),
        (3, 2_000_000_000, VERTICES, "uchar"),
        (3, 1, VERTICES + struct.pack("<B3i", 3, 0, 1, 3), "uchar"),
        (3, 1, VERTICES + struct.pack("<B3i", 3, 0, 1, -1), "uchar"),
        (3, 1, VERTICES + struct.pack("<I3i", 2**31, 0, 1, 2), "uint"),
        (3, 1, VERTICES + struct.pack("<i3i", -5, 0, 1, 2), "int"),
        (3, 1, VERTICES + struct.pack("<B4i", 4, 0, 1, 2, 9), "uchar"),
        (3, 1, VERTICES + struct.pack("<B2i", 3, 0, 1), "uchar"),
        (3, 1, VERTICES + struct.pack("<B3i", 3, 0, 1, 1), "uchar"),
        (3, 1, VERTICES + struct.pack("<B4i", 4, 0, 1, 0, 2), "uchar"),
        (3, 1, VERTICES + struct.pack("<B2i", 2, 0, 1), "uchar"),
        (3, 0, VERTICES, "uchar"),
        (-3, 0, VERTICES, "uchar"),
        ("many", 0, VERTICES, "uchar"),
        (10**30, 0, VERTICES, "uchar"),
        (3, 0, VERTICES, "mystery"),
    ],
)
def test_a_mesh_that_claims_what_it_does_not_hold_is_refused(
    addon: object, tmp_path: Path, n: object, m: object, body: bytes, kind: str
) -> None:
    path = ply(tmp_path / "mesh.ply", n, m, body, kind)
    with pytest.raises(ValueError, match=r"mesh\.ply is damaged or holds no mesh"):
        exhausted(ply_files.reading(path))
    root = bpy.data.objects.new("root", None)
    bpy.context.collection.objects.link(root)
    with pytest.raises(ValueError, match=r"mesh\.ply"):
        exhausted(mesh.importing(root, path, "m", ""))
    assert not bpy.data.meshes


def test_text_headers_without_an_end_and_other_files_are_refused(tmp_path: Path) -> None:
    for index, content in enumerate((b"", b"ply\n" * 5000, b"\xff" * 3000, b"ply\nformat ascii 1.0\n" + b"a" * 10**6)):
        path = tmp_path / f"{index}.ply"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            exhausted(ply_files.reading(path))


def test_a_picture_lies_where_its_camera_saw_it_in_a_frame_of_any_shape(opened: bpy.types.Scene) -> None:
    """Ctrl+Numpad 0 makes a view's camera the scene's without its size. The camera is fitted horizontally, so the
    picture must be as wide as the frame; how Blender lays a picture out is worked out here from its own rules."""
    render = opened.render
    root = project.root_of(opened)
    for width, height, aspect in ((1920, 1080, 1.0), (1080, 1920, 1.0), (60, 80, 1.1), (500, 500, 2.0), (90, 110, 1.0)):
        render.resolution_x, render.resolution_y = width, height
        render.pixel_aspect_x, render.pixel_aspect_y = (aspect, 1.0) if aspect > 1.5 else (1.0, aspect)
        camera = cameras.cameras_of(root)[2]
        opened.camera = camera
        bpy.context.view_layer.update()
        frame = width * render.pixel_aspect_x / (height * render.pixel_aspect_y)  # of a height of 1
        for item in cameras.cameras_of(root):
            (slot,) = item.data.background_images
            k = cameras.intrinsics_of(opened, item.data)
            x, y = slot.image.display_aspect
            picture = slot.image.size[0] * x / (slot.image.size[1] * y)
            if slot.frame_method == "STRETCH":
                shown = frame, 1.0
            elif (slot.frame_method == "CROP") == (picture > frame):
                shown = picture, 1.0
            else:
                shown = frame, frame / picture
            seen = next(v for v in project.project_of(opened).capture.views if v.name == item[cameras.VIEW]).camera
            # A pixel of the picture is as wide, in angle, as a pixel of the photo: that is what lies on the scene.
            assert shown[0] / frame * k.width / k.fx == pytest.approx(seen.intrinsics.width / seen.intrinsics.fx)
            assert shown[1] * k.height / k.fy == pytest.approx(seen.intrinsics.height / seen.intrinsics.fy, rel=1e-5)


def test_a_resolution_that_the_engine_refuses_cannot_be_chosen(
    opened: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    for wrong, sentence in (
        (meshes.Choices(resolution=3), "8 to 1024"),
        (meshes.Choices(faces=7), "100 to 10,000,000"),
        (meshes.Choices(texture=1000), "1024, 2048 or 4096"),
    ):
        with pytest.raises(ValueError, match=sentence):
            meshes.import_mesh(opened, "", wrong)
    asked = []
    monkeypatch.setattr(meshes, "import_mesh", lambda scene, edit, choices: asked.append(choices))
    for resolution, faces in ((0, 0), (3, 7), (8, 100), (1024, 10_000_000), (1100, 2_000_000_000)):
        more = {"fill_holes": resolution == 8, "flat_floor": faces == 100}
        bpy.ops.instruct_nerf.import_mesh(resolution=resolution, faces=faces, **more)
    most = (1024, 10_000_000, False, False)
    told = [(choices.resolution, choices.faces, choices.fill_holes, choices.flat_floor) for choices in asked]
    assert told == [(0, 0, False, False), (8, 100, False, False), (8, 100, True, True), most, most]
    assert [choices.words().get("flat_floor") for choices in asked] == [None, None, True, None, None]
    operator = bpy.ops.instruct_nerf.import_mesh.get_rna_type()
    assert {int(item.identifier) for item in operator.properties["colors"].enum_items} == set(meshes.TEXTURES)
    assert operator.properties["faces"].default == 200_000  # all of a scene's can be too many for Blender
    assert operator.properties["flat_floor"].default  # which is nearer to the truth (docs/geometry.md)
    asked.clear()
    for colors, faces in (("0", None), ("2048", None), ("2048", 0), ("1024", 70_000)):
        bpy.ops.instruct_nerf.import_mesh(colors=colors, **({} if faces is None else {"faces": faces}))
    assert [(choices.texture, choices.faces) for choices in asked] == [
        (0, 200_000),
        (2048, 50_000),
        (2048, 0),
        (1024, 70_000),
    ]
    assert {choices.checked() for choices in asked}
    limits = bpy.ops.instruct_nerf.import_mesh.get_rna_type().properties["resolution"]
    assert limits.hard_max == 1024 and not session.get().busy


def test_films_of_scenes_of_any_name_have_names_that_the_engine_takes() -> None:
    import re

    from blender_addon.results import film_name

    names = [
        "Scene",
        "shot-3",
        "夜",
        "朝",
        "größe",
        "a/b",
        "..",
        "-x",
        "x" * 200,
        "Scene.001",
        "Scene 001",
        "Scene_001",
    ]
    made = [film_name(name) for name in names]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) for name in made)
    assert len(set(made)) == len(made) and made[0] == "Scene"
