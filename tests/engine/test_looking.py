# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render engine is given: the pixels of the scene, linear, lowest row first, saved or as a job has it."""

import shutil
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from engine import protocol
from engine.errors import BadInput
from engine.jobs import asked, capture, frames, scene
from engine.jobs.live_surfels import LONG_SIDE
from engine.jobs.looking import render_view
from engine.output.frames import NOTHING, display
from engine.presets import PRESETS
from engine.progress import Job
from engine.workspace import Workspace

from .conftest import PRESET

WORLD = (0.0, -2.0, 0.0, 5.0, 0.0, 0.0, 2.0, 1.0, -2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def project(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "project")
    return tmp_path / "project"


def camera_of(project, number=3, **more):
    view = capture.load_opened(Workspace(project)).views[number]
    i = view.intrinsics
    return protocol.PathCamera(
        tuple(view.pose.ravel().tolist()), i.width, i.height, i.fx, i.fy, i.cx, i.cy, **more
    )  # fmt: skip


def read(path):
    """(H, W, floats) as an upright picture."""
    data = Path(path).read_bytes()
    assert data[:8] == b"INSVIEW\0"
    version, width, height, floats = struct.unpack("<4I", data[8:24])
    values = np.frombuffer(data[24:], "<f4")
    assert version == 1 and len(values) == width * height * floats
    color = values[: width * height * 4].reshape(height, width, 4)[::-1]
    if floats == 4:
        return color
    assert floats == 8
    depth, normal = np.split(values[width * height * 4 :], [width * height])
    return np.concatenate(
        [color, depth.reshape(height, width, 1)[::-1], normal.reshape(height, width, 3)[::-1]], axis=-1
    )


def look(project, job=None, **more):
    job = job or Job()
    return render_view(protocol.RenderView(str(project), **more), job, job.check)


def test_a_view_has_the_pixels_of_a_frame(project):
    camera = camera_of(project, world=WORLD)
    seen = read(look(project, camera=camera, surfaces=True).pixels)
    request = protocol.RenderFrames(str(project), None, "path", [camera], format="png")
    [png] = frames.render_frames(request, Job()).after
    np.testing.assert_array_equal(np.round(display(seen[..., :3]) * 255), np.array(Image.open(png)))
    assert (seen[..., 3] == 1).all()
    import OpenEXR

    [exr] = frames.render_frames(msgspec.structs.replace(request, format="exr"), Job()).after
    with OpenEXR.File(exr, separate_channels=True) as file:
        channels = {name.split("ViewLayer.")[1]: channel.pixels for name, channel in file.channels().items()}
    np.testing.assert_array_equal(seen[..., 4], channels["Depth.Z"])
    np.testing.assert_array_equal(seen[..., 6], channels["Normal.Y"])
    assert (seen[..., 4] < NOTHING).any()
    through = read(look(project, camera=camera, transparent=True).pixels)
    assert through.shape[2] == 4
    for index, name in enumerate("RGBA"):
        np.testing.assert_allclose(through[..., index], channels[f"Combined.{name}"], atol=1e-3)


def test_a_part_of_a_picture_is_what_the_whole_has_there(project):
    """As a border is rendered: the same camera with another size and center."""
    camera = camera_of(project)
    part = msgspec.structs.replace(camera, width=20, height=17, cx=camera.cx - 13, cy=camera.cy - 9)
    whole, some = (read(look(project, camera=c, surfaces=True).pixels) for c in (camera, part))
    np.testing.assert_allclose(some[1:-1, 1:-1], whole[10:25, 14:32], atol=2e-5)


def test_primaries_turn_the_color(project):
    camera, turn = camera_of(project), (0.0, 0.0, 1.0, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0)
    plain, turned = (read(look(project, camera=camera, primaries=p).pixels) for p in (None, turn))
    np.testing.assert_allclose(turned[..., 0], plain[..., 2], rtol=1e-6)
    np.testing.assert_allclose(turned[..., 1], plain[..., :2].mean(axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(turned[..., 3], plain[..., 3])
    with pytest.raises(BadInput, match="primaries"):
        look(project, camera=camera, primaries=(float("nan"),) * 9)


@pytest.mark.parametrize(
    ("edit", "more", "said"),
    [
        ("none", {}, "There is no edit none"),
        (None, {"width": 0}, "cannot be rendered"),
        (None, {"world": (1.0,) * 16}, "stretched or mirrored"),
    ],
)
def test_what_cannot_be_seen_is_one_sentence(project, edit, more, said):
    camera = msgspec.structs.replace(camera_of(project), **more)
    with pytest.raises(BadInput, match=said):
        look(project, camera=camera, edit=edit)


def test_a_workspace_without_a_scene_is_one_sentence(tmp_path, project):
    with pytest.raises(BadInput):
        look(tmp_path / "nothing", camera=camera_of(project))


def test_only_the_latest_pictures_stay(project):
    camera = camera_of(project)
    paths = [look(project, camera=camera).pixels for _ in range(asked.KEPT + 3)]
    there = [Path(path).exists() for path in paths]
    assert there == [False] * 3 + [True] * asked.KEPT
    Workspace(project).sweep()
    assert Path(paths[-1]).exists()


def test_what_a_job_works_on_is_seen_live_and_as_surfels(project, monkeypatch):
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    camera, job, saved = camera_of(project), Job(every=0.0), read(look(project, camera=camera_of(project)).pixels)
    surfels = Workspace(project).scene / "surfels.bin"
    found = {}

    def progress(told):
        if told.stage == "train" and told.step == PRESET.train.steps + 5 and not found:
            for live in (True, False):
                found[live] = look(project, job, camera=camera, live=live)
            found["elsewhere"] = look(project, job, camera=camera)
            found["surfels"] = job.wishes.make(protocol.SURFELS, protocol.ShowSurfels(1))

    job.on_progress = progress
    scene.train_scene(protocol.TrainScene(str(project), PRESET.name, "cpu", steps=PRESET.train.steps + 8), job)
    assert found[True].step == PRESET.train.steps + 5 and found[False].step is None and job.live is None
    live = read(found[True].pixels)
    np.testing.assert_array_equal(read(found[False].pixels), saved)
    assert 0 < np.abs(live - saved).max() < 0.5
    answer = found["surfels"].result(0)
    assert answer.surfels == str(surfels) and answer.step >= PRESET.train.steps + 5
    magic, _version, count = struct.unpack("<8sII", surfels.read_bytes()[:16])
    assert magic == b"INSURFEL" and 500 < count <= 24 * LONG_SIDE**2
    places = np.frombuffer(surfels.read_bytes()[16 : 16 + 16 * count], "<f4").reshape(-1, 4)
    radius = np.linalg.norm(places[:, :3], axis=1)  # of a sphere of 1.5 in a room of 6
    assert 1.0 < np.median(radius) < 7.0 and (places[:, 3] > 0).all()
