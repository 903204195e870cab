# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine inside Blender: passes, border, percentage, animation, what it asks for and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from in_blender import settle
from test_frames import read

from blender_addon import conversion, pixels, project, session
from blender_addon.render import line, source
from blender_addon.scene import cameras


@pytest.fixture
def scene(opened: bpy.types.Scene, tmp_path: Path) -> bpy.types.Scene:
    """A scene with an edit, that renders through one of the capture's cameras."""
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    opened.render.engine = "INSTRUCT_NERF"
    opened.camera = cameras.cameras_of(project.root_of(opened))[0]
    opened.render.resolution_x, opened.render.resolution_y, opened.render.resolution_percentage = 96, 70, 100
    settings = opened.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format, settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
    opened.render.filepath = str(tmp_path / "out.exr")
    layer = opened.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = True
    return opened


def asked(tmp_path: Path) -> list[dict]:
    lines = (tmp_path / "user" / "run" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return [said for said in map(json.loads, lines) if said["method"] == "view/render"]


def expected(width: int, height: int, cx: float, cy: float, live: bool = False) -> np.ndarray:
    """What the stand-in shows, upright."""
    x, y = np.meshgrid(np.arange(width) + 0.5 - cx, cy - np.arange(height) - 0.5)
    return np.stack([0.5 + x / 1000, 0.5 + y / 1000, np.full_like(x, 0.9 if live else 0.1)], axis=-1)


def test_a_final_render_has_color_depth_and_normals(scene: bpy.types.Scene, tmp_path: Path) -> None:
    bpy.ops.render.render(write_still=True)
    [sent] = asked(tmp_path)
    camera = sent["camera"]
    assert (camera["width"], camera["height"]) == (96, 70) and sent["edit"] == project.edit_of(scene).id
    assert sent["surfaces"] and sent["live"] and not sent["transparent"] and "primaries" not in sent
    root = project.root_of(scene).matrix_world
    assert camera["world"] == pytest.approx([entry for row in root for entry in row])
    out = Path(scene.render.filepath)
    color = read(out, "Combined", tmp_path)
    np.testing.assert_allclose(color[..., :3], expected(96, 70, camera["cx"], camera["cy"]), atol=2e-6)
    assert (color[..., 3] == 1).all() and (read(out, "Depth", tmp_path)[..., 0] == 3.0).all()
    np.testing.assert_allclose(read(out, "Normal", tmp_path)[5, 5, :3], [0.0, -0.6, 0.8], atol=1e-6)


@pytest.mark.parametrize("crop", [False, True])
def test_a_border_at_half_size_is_the_same_picture_there(scene: bpy.types.Scene, tmp_path: Path, crop: bool) -> None:
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 193, 140, 50
    render.use_border, render.use_crop_to_border = True, crop
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.29, 0.71, 0.2, 0.9
    scene.camera.data.shift_x = 0.1
    bpy.ops.render.render(write_still=True)
    [sent] = asked(tmp_path)
    left, bottom, right, top = source.border_of(render, 96, 70)
    assert (sent["camera"]["width"], sent["camera"]["height"]) == (right - left, top - bottom)
    whole = conversion.Camera(conversion.IDENTITY, cameras.intrinsics_of(scene, scene.camera.data)).intrinsics
    assert sent["camera"]["cx"] == pytest.approx(whole.cx - left)
    assert sent["camera"]["cy"] == pytest.approx(whole.cy - (70 - top))
    found = bpy.data.images.load(render.filepath)
    if crop:
        assert tuple(found.size) in ((0, 0), (right - left, top - bottom))
        return
    color = read(Path(render.filepath), "Combined", tmp_path)
    part = slice(70 - top, 70 - bottom), slice(left, right)
    np.testing.assert_allclose(color[part][..., :3], expected(96, 70, whole.cx, whole.cy)[part], atol=2e-6)
    assert not color[: 70 - top].any() and not color[:, :left].any()


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58, 1.0])
def test_a_border_is_cut_as_blender_cuts_it(scene: bpy.types.Scene, tmp_path: Path, share: float) -> None:
    """Sizes at which single and double precision come to different pixels: Blender would refuse another size."""
    scene.render.resolution_x = scene.render.resolution_y = 100
    scene.render.use_border, scene.render.use_crop_to_border = True, True
    scene.render.border_min_x, scene.render.border_max_x = 0.0, share
    bpy.ops.render.render(write_still=True)
    [sent] = asked(tmp_path)
    assert sent["camera"]["width"] == max(1, int(np.float32(share) * np.float32(100)))


def test_every_frame_of_an_animation_is_rendered_with_its_camera(scene: bpy.types.Scene, tmp_path: Path) -> None:
    views = cameras.cameras_of(project.root_of(scene))
    scene.frame_start, scene.frame_end = 3, 5
    for frame, camera in zip((3, 4, 5), views[2:5], strict=True):
        scene.timeline_markers.new("cut", frame=frame).camera = camera
    scene.render.image_settings.file_format  # noqa: B018
    scene.render.filepath = str(tmp_path / "film-")
    bpy.ops.render.render(animation=True)
    assert sorted(p.name for p in tmp_path.glob("film-*")) == [f"film-{n:04d}.exr" for n in (3, 4, 5)]
    for sent, view in zip(asked(tmp_path), views[2:5], strict=True):
        own = conversion.capture_pose_from_world(
            conversion.matrix_from_rows(project.root_of(scene).matrix_world),
            conversion.matrix_from_rows(view.matrix_world),
        )
        np.testing.assert_allclose(np.reshape(sent["camera"]["pose"], (4, 4)), own, atol=1e-5)


def test_transparency_and_the_unedited_scene_are_asked_for(scene: bpy.types.Scene, tmp_path: Path) -> None:
    scene.render.film_transparent, scene.instruct_nerf.edit = True, "/"
    scene.view_layers[0].use_pass_z = scene.view_layers[0].use_pass_normal = False
    bpy.ops.render.render()
    [sent] = asked(tmp_path)
    assert sent["transparent"] and not sent["surfaces"] and "edit" not in sent


def test_without_a_window_the_engine_is_started_and_the_project_read(scene: bpy.types.Scene, tmp_path: Path) -> None:
    """As `blender -b file.blend -f 1` finds it."""
    edit = project.edit_of(scene).id
    bpy.ops.instruct_nerf.stop_engine()
    assert session.wait(lambda: session.get().state == "stopped", 10)
    session.get().projects.clear()
    # The stand-in forgets what it was told when it ends.
    workspace = project.workspace_of(scene)
    Path(workspace, "restored").parent.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "edits_in", lambda *_: [type("E", (), {"id": edit, "parent": "", "muted": False})()])
        bpy.ops.render.render()
    assert session.get().state == "ready" and asked(tmp_path)[-1]["edit"] == edit


def test_a_render_while_an_edit_runs_shows_what_it_has(scene: bpy.types.Scene, tmp_path: Path) -> None:
    scene.instruct_nerf.instruction = "make it sunset"
    bpy.ops.instruct_nerf.start_edit()
    assert session.wait(lambda: session.get().job.stage == "edit", 20.0)
    bpy.ops.instruct_nerf.pause()
    bpy.ops.render.render(write_still=True)
    assert read(Path(scene.render.filepath), "Combined", tmp_path)[0, 0, 2] == pytest.approx(0.9)
    assert session.get().job.active
    bpy.ops.instruct_nerf.go_on()
    settle()
    assert session.get().job.status == "done" and not session.get().release_wanted


@pytest.mark.parametrize("fault", ["edit", "camera", "root", "capture", "fisheye"])
def test_what_cannot_be_rendered_is_one_sentence(scene: bpy.types.Scene, monkeypatch, fault: str) -> None:
    if fault == "edit":
        monkeypatch.setattr(source.lineage, "shown", lambda *_: type("E", (), {"id": "gone"})())
    elif fault == "camera":
        scene.camera = None
    elif fault == "root":
        project.root_of(scene).scale = (1, 2, 1)
    elif fault == "capture":
        scene.instruct_nerf.workspace = ""
    else:
        scene.camera = bpy.data.objects.new("fish", bpy.data.cameras.new("fish"))
        scene.collection.objects.link(scene.camera)
        scene.camera.data.type = "PANO"
        own = scene.camera.data if hasattr(scene.camera.data, "panorama_type") else scene.camera.data.cycles
        own.panorama_type = "FISHEYE_EQUISOLID"
    words = {
        "edit": "There is no edit gone", "camera": "camera", "root": "stretched or sheared",
        "capture": "shows no capture", "fisheye": "cannot be rendered",
    }  # fmt: skip
    with pytest.raises(RuntimeError, match=words[fault]):
        bpy.ops.render.render()


def test_an_engine_that_dies_while_it_renders_is_a_sentence(scene: bpy.types.Scene, monkeypatch) -> None:
    waited = line._wait

    def kill() -> None:
        session.get().client.kill()
        monkeypatch.setattr(line, "_wait", waited)

    monkeypatch.setattr(line, "_wait", kill)
    with pytest.raises(RuntimeError, match="ended unexpectedly"):
        bpy.ops.render.render()


def test_stopping_tells_the_engine(scene: bpy.types.Scene, tmp_path: Path) -> None:
    client = session.get().client
    params = {"workspace": project.workspace_of(scene), "camera": {"width": 9, "height": 9, "cx": 1.0, "cy": 1.0}}
    with pytest.raises(line.Stopped):
        line.ask(client, "view/render", params, lambda: True)
    assert session.wait(lambda: '"job/cancel"' in (tmp_path / "user" / "run" / "requests.jsonl").read_text(), 5)


def test_a_hidden_root_still_says_where_the_capture_is(scene: bpy.types.Scene, tmp_path: Path) -> None:
    root = project.root_of(scene)
    root.hide_render = True
    bpy.ops.render.render()
    assert asked(tmp_path)[0]["camera"]["world"] == pytest.approx([e for row in root.matrix_world for e in row])


def test_what_is_no_file_of_pixels_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.view"
    head = b"INSVIEW\0" + np.array([1, 2, 1, 4], "<u4").tobytes()
    body = np.arange(8, dtype="<f4").tobytes()
    path.write_bytes(head + body)
    assert list(pixels.read(path, (2, 1)).color) == list(range(8))
    for wrong in (b"", head, head + body[:-1], head + body + b"x", b"X" + head[1:] + body):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="cannot be read"):
            pixels.read(path, (2, 1))
    path.write_bytes(head + body)
    with pytest.raises(ValueError, match="cannot be read"):
        pixels.read(path, (1, 2))


def test_a_coarse_picture_fills_the_whole(tmp_path: Path) -> None:
    from array import array

    coarse = pixels.Pixels(2, 2, array("f", np.arange(16, dtype=np.float32)))
    found = np.array(pixels.enlarged(coarse, 5, 4).color).reshape(4, 5, 4)
    np.testing.assert_array_equal(found[:, :, 0], [[0, 0, 4, 4, 4]] * 2 + [[8, 8, 12, 12, 12]] * 2)


@pytest.mark.parametrize("kind", ["lens", "shift", "orthographic"])
def test_a_viewports_matrix_says_what_its_camera_says(empty: None, kind: str) -> None:
    """What a camera's own projection matrix, as a viewport that looks through it has, comes to in pixels."""
    scene = bpy.context.scene
    data = bpy.data.cameras.new("camera")
    item = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(item)
    if kind == "orthographic":
        data.type, data.ortho_scale = "ORTHO", 3.0
    if kind != "lens":
        data.shift_x, data.shift_y = 0.13, -0.06
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 320, 200, 100
    graph = bpy.context.evaluated_depsgraph_get()
    matrix = item.calc_matrix_camera(graph, x=320, y=200, scale_x=1.0, scale_y=1.0)
    projection, lens = conversion.intrinsics_from_projection(conversion.matrix_from_rows(matrix), 320, 200, 1.7)
    own, expected_lens = cameras.projection_of(scene, data, 1.7)
    assert projection == own
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(lens, name) == pytest.approx(getattr(expected_lens, name), rel=1e-5), name
