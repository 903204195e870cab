# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of any camera: where its rays go, what a compositor is given, and what is not rendered twice."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from engine import cli, protocol
from engine.capture import Intrinsics
from engine.errors import BadInput
from engine.geometry import Viewpoint, camera_rays, unproject
from engine.jobs import frames as jobs
from engine.jobs.scene import kept_scene
from engine.output.frames import NOTHING, blurred, display, frame_from, linear, note_of, write_frame
from engine.progress import Job
from engine.scenes.base import RenderedView
from engine.scenes.nerfacto import scene as nerfacto_scene
from engine.workspace import Workspace
from tests.engine.conftest import looking_at, ring

LENS = Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)
FLAT = Intrinsics(48, 40, 8.0, 9.0, 22.0, 21.0)  # pixels a unit
AROUND = Intrinsics(64, 32, 64 / (2 * np.pi), 32 / np.pi, 32.0, 16.0)
TURNED = np.array([[0, -2, 0, 5], [0, 0, 2, 1], [-2, 0, 0, 3], [0, 0, 0, 1.0]])  # twice as large, and turned


def ball(camera, radius=1.5, alpha=0.75):
    """What a camera sees of a gray sphere at the origin, a closed form, over nothing."""
    begin, ahead = (rays @ camera.pose[:3, :3].T for rays in camera_rays(camera))
    begin = np.broadcast_to(begin + camera.pose[:3, 3], ahead.shape)
    along = np.einsum("hwc,hwc->hw", begin, ahead)
    root = along**2 - np.einsum("hwc,hwc->hw", begin, begin) + radius**2
    hit = (root > 0) & (along < 0)
    depth = np.where(hit, -along - np.sqrt(np.maximum(root, 0)), np.inf)
    opacity = torch.tensor(hit * alpha, dtype=torch.float32)
    rgb = torch.full((*depth.shape, 3), 0.5) * opacity[..., None] + (1 - opacity[..., None]) * torch.ones(3)
    return RenderedView(rgb, torch.tensor(depth, dtype=torch.float32), opacity, torch.ones(3)), begin, ahead


@pytest.mark.parametrize(
    ("projection", "lens"), [("perspective", LENS), ("orthographic", FLAT), ("equirectangular", AROUND)]
)
def test_depth_and_normals_are_in_blenders_world(projection, lens):
    camera = Viewpoint(looking_at(np.array([3.0, 2.0, 1.0]), np.zeros(3)), lens, projection=projection)
    render, begin, ahead = ball(camera)
    frame = frame_from(render, camera, TURNED)
    full = render.opacity.numpy() > 0
    assert 50 < full.sum() < full.size
    assert (frame.depth[~full] == NOTHING).all() and not frame.normal[~full].any()
    points = begin[full] + ahead[full] * render.depth.numpy()[full][:, None]
    world = points @ TURNED[:3, :3].T + TURNED[:3, 3]
    eye = TURNED[:3, :3] @ camera.pose[:3, 3] + TURNED[:3, 3]
    axis = TURNED[:3, :3] @ -camera.pose[:3, 2] / 2
    expected = np.linalg.norm(world - eye, axis=1) if projection == "equirectangular" else (world - eye) @ axis
    np.testing.assert_allclose(frame.depth[full], expected, rtol=1e-5)
    cosine = np.einsum("nc,nc->n", frame.normal[full], points / 1.5 @ TURNED[:3, :3].T / 2)
    assert np.median(cosine) > 0.99 and np.mean(cosine > 0.9) > 0.7
    np.testing.assert_allclose(np.linalg.norm(frame.normal[full], axis=1), 1, atol=1e-5)


def test_color_is_linear_and_premultiplied():
    camera = Viewpoint(looking_at(np.array([0.0, -4.0, 0.0]), np.zeros(3)), LENS)
    frame = frame_from(ball(camera)[0], camera, np.eye(4))
    np.testing.assert_allclose(frame.color[21, 22], [*[0.75 * 0.21404114] * 3, 0.75], rtol=1e-4)
    assert not frame.color[0, 0].any()
    values = np.linspace(0, 1, 101)
    np.testing.assert_allclose(display(linear(values)), values, atol=1e-12)


def test_a_room_that_is_seen_through_keeps_its_color():
    """Of a scene without empty space what shows through is its own farthest, not black."""
    view = RenderedView(torch.full((2, 2, 3), 0.5), torch.ones(2, 2), torch.full((2, 2), 0.9))
    frame = frame_from(view, Viewpoint(np.eye(4), Intrinsics(2, 2, 2.0, 2.0, 1.0, 1.0)), np.eye(4))
    np.testing.assert_allclose(frame.color[..., :3] / frame.color[..., 3:], 0.21404114, rtol=1e-4)


def test_an_exr_has_blenders_channels(tmp_path):
    camera = Viewpoint(looking_at(np.array([0.0, -4.0, 0.0]), np.zeros(3)), LENS)
    frame = frame_from(ball(camera)[0], camera, np.eye(4))
    write_frame(tmp_path / "a" / "0001.exr", frame, "made of this")
    with OpenEXR.File(str(tmp_path / "a" / "0001.exr"), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    assert set(channels) == {
        *(f"ViewLayer.Combined.{c}" for c in "RGBA"), "ViewLayer.Depth.Z", *(f"ViewLayer.Normal.{c}" for c in "XYZ"),
    }  # fmt: skip
    np.testing.assert_array_equal(channels["ViewLayer.Depth.Z"], frame.depth)
    np.testing.assert_array_equal(channels["ViewLayer.Normal.Y"], frame.normal[..., 1])
    np.testing.assert_allclose(channels["ViewLayer.Combined.A"], frame.color[..., 3], atol=1e-3)
    assert note_of(tmp_path / "a" / "0001.exr") == "made of this"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["0001.exr"]


@pytest.mark.parametrize("content", [None, b"", b"\x76\x2f\x31\x01", b"nonsense" * 100])
def test_what_is_no_frame_of_ours_has_no_note(tmp_path, content):
    if content is not None:
        (tmp_path / "0001.exr").write_bytes(content)
    assert note_of(tmp_path / "0001.exr") is None


def test_moments_are_averaged_in_linear_light():
    frames = [
        SimpleNamespace(color=np.full((1, 1, 4), value, np.float32), depth=index, normal=index)
        for index, value in enumerate((0.0, 0.3, 0.9))
    ]
    made = [jobs.exr.Frame(frame.color, np.array(frame.depth), np.array(frame.normal)) for frame in frames]
    mean = blurred(made)
    np.testing.assert_allclose(mean.color, 0.4, rtol=1e-6)
    assert mean.depth == 1 and mean.normal == 1


# what the NeRF is asked


@pytest.fixture
def project(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "project")


@pytest.mark.parametrize("compiled", [True, False])
def test_the_nerf_follows_the_rays_of_every_projection(project, monkeypatch, compiled):
    """A ray of any camera sees what the middle of a pinhole camera sees that stands on it."""
    if not compiled:
        monkeypatch.setattr(nerfacto_scene, "can_march", lambda nerf: False)
    scene = kept_scene(Workspace(project), None, "cpu", Job())
    pose = ring(9)[4]
    for projection, lens in (
        ("orthographic", Intrinsics(8, 6, 3.0, 4.0, 3.5, 2.5)),
        ("equirectangular", Intrinsics(8, 6, 8 / (2 * np.pi), 6 / np.pi, 4.0, 3.0)),
    ):
        camera = Viewpoint(pose, lens, projection=projection)
        seen = scene.render(camera)
        begin, ahead = (np.broadcast_to(rays, (6, 8, 3)) @ pose[:3, :3].T for rays in camera_rays(camera))
        begin = begin + pose[:3, 3]
        for y, x in ((0, 0), (2, 5), (5, 7)):
            there = looking_at(begin[y, x], begin[y, x] + ahead[y, x])
            alone = scene.render(Viewpoint(there, Intrinsics(1, 1, 50.0, 50.0, 0.5, 0.5)))
            np.testing.assert_allclose(seen.rgb[y, x], alone.rgb[0, 0], atol=2e-3)
            np.testing.assert_allclose(seen.depth[y, x], alone.depth[0, 0], rtol=1e-2)


def test_a_pinhole_cameras_rays_are_as_they_were():
    camera = Viewpoint(ring(5)[2], LENS)
    begin, ahead = camera_rays(camera)
    points = (begin + 2.0 * ahead) @ camera.pose[:3, :3].T + camera.pose[:3, 3]
    np.testing.assert_allclose(points, unproject(torch.full((40, 48), 2.0, dtype=torch.float64), camera), atol=1e-9)


# the job


def asked(project, count=2, **more):
    cameras = [
        protocol.PathCamera(tuple(pose.ravel().tolist()), 12, 10, 15.0, 15.0, 6.0, 5.0) for pose in ring(9)[:count]
    ]
    return protocol.RenderFrames(str(project), None, "walk", cameras, device="cpu", **more)


def times(project, kind="png"):
    return {path.name: path.stat().st_mtime_ns for path in (project / "scene/frames/walk/after").glob(f"*.{kind}")}


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_what_is_there_is_not_rendered_again(project, kind):
    made = jobs.render_frames(asked(project, format=kind, first_frame=5, step=3), Job())
    assert [path.rpartition("/")[2] for path in made.after] == [f"0005.{kind}", f"0008.{kind}"]
    before = times(project, kind)
    again = jobs.render_frames(asked(project, 3, format=kind, first_frame=5, step=3), Job())
    assert again.after[:2] == made.after
    after = times(project, kind)
    assert len(after) == 3 and {name: after[name] for name in before} == before
    jobs.render_frames(asked(project, 3, format=kind, first_frame=5, step=3, overwrite=True), Job())
    assert all(times(project, kind)[name] > after[name] for name in after)


@pytest.mark.parametrize("what", ["camera", "world", "scene", "samples", "damaged"])
def test_what_was_made_of_something_else_is_made_anew(project, what):
    request = asked(project, format="exr")
    jobs.render_frames(request, Job())
    before = times(project, "exr")
    first = request.cameras[0]
    if what == "camera":
        first = msgspec.structs.replace(first, fx=15.5)
    elif what == "world":
        first = msgspec.structs.replace(first, world=tuple(TURNED.ravel().tolist()))
    cameras = [first, *request.cameras[1:]]
    if what == "samples":
        request = msgspec.structs.replace(request, cameras=[cameras[0], cameras[0], cameras[1], cameras[1]], samples=2)
    else:
        request = msgspec.structs.replace(request, cameras=cameras)
    if what == "scene":
        checkpoint = project / "scene" / "checkpoint.safetensors"
        checkpoint.write_bytes(checkpoint.read_bytes())
    if what == "damaged":
        (project / "scene/frames/walk/after/0001.exr").write_bytes(b"half")
    jobs.render_frames(request, Job())
    after = times(project, "exr")
    assert after["0001.exr"] > before["0001.exr"]
    assert (after["0002.exr"] > before["0002.exr"]) is (what in ("scene", "samples"))


def test_another_format_takes_the_place_of_the_first(project):
    jobs.render_frames(asked(project), Job())
    (project / "scene/frames/walk/after/own.png").write_bytes(b"the artist's")
    jobs.render_frames(asked(project, format="exr"), Job())
    assert sorted(path.name for path in (project / "scene/frames/walk/after").iterdir()) == [
        "0001.exr", "0002.exr", "own.png",
    ]  # fmt: skip


def test_a_blurred_picture_is_the_mean_of_its_moments(project):
    two = asked(project)
    apart = [np.asarray(Image.open(path)) / 255 for path in jobs.render_frames(two, Job()).after]
    [both] = jobs.render_frames(msgspec.structs.replace(two, samples=2), Job()).after
    expected = display((linear(apart[0]) + linear(apart[1])) / 2)
    np.testing.assert_allclose(np.asarray(Image.open(both)) / 255, expected, atol=0.01)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"samples": 0}, "samples", "whole frames"),
        ({"samples": 3}, "samples", "whole frames"),
        ({"step": 0}, "step", "choose 1 or more"),
        ({"step": 2**20 - 2}, "first_frame", "Blender has none there"),
        ({"world": (1.0,) * 15}, "cameras", "its world is not 16 finite numbers"),
        ({"world": (float("nan"),) * 16}, "cameras", "its world is not 16 finite numbers"),
        ({"world": tuple(np.diag([1.0, 2.0, 1.0, 1.0]).ravel())}, "cameras", "stretched or mirrored"),
        ({"world": tuple(np.diag([-1.0, 1.0, 1.0, 1.0]).ravel())}, "cameras", "stretched or mirrored"),
        ({"world": (0.0,) * 16}, "cameras", "stretched or mirrored"),
        ({"projection": "orthographic", "fx": 0.0}, "cameras", "more than zero"),
        ({"projection": "orthographic", "fy": -1.0}, "cameras", "more than zero"),
        ({"projection": "equirectangular", "fx": 1.0}, "cameras", "looks around more than once"),
        ({"projection": "equirectangular", "fx": 15.0, "fy": 1.0}, "cameras", "looks around more than once"),
    ],
)
def test_what_cannot_be_rendered_is_one_sentence(project, change, field, words):
    request = asked(project)
    camera = {name: value for name, value in change.items() if name in ("world", "projection", "fx", "fy")}
    cameras = [msgspec.structs.replace(request.cameras[0], **camera), request.cameras[1]]
    rest = {name: value for name, value in change.items() if name not in camera}
    with pytest.raises(BadInput) as refused:
        jobs.render_frames(msgspec.structs.replace(request, cameras=cameras, **rest), Job())
    assert refused.value.field == field
    assert words in refused.value.message and "\n" not in refused.value.message
    assert not (project / "scene" / "frames").exists()


def test_by_hand(project, tmp_path, capsys):
    file = tmp_path / "cameras.json"
    file.write_bytes(msgspec.json.encode(asked(project).cameras))
    with pytest.raises(BadInput, match="There is no edit 0009-none"):
        cli.render(project, edit="0009-none", cameras=file, format="exr")
    cli.render(project, cameras=file, format="exr", samples=2)
    [made] = json.loads(capsys.readouterr().out)["after"]
    assert note_of(Path(made))
