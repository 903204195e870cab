# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that fills up, at every kind of file that is written: one sentence, nothing half written, nothing lost, and
after room is made the same thing is written."""

import contextlib
import ctypes
import json
import os
import sys

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from engine import protocol
from engine.capture import Intrinsics
from engine.capture.ply import write_points
from engine.capture.registration import register
from engine.capture.store import load_capture, save_capture
from engine.capture.types import CaptureError, SparsePoints
from engine.errors import BadInput
from engine.files import LOCK, replacing_folder, write_bytes
from engine.jobs.capture import open_into_workspace, write_images
from engine.output.frame_folder import FrameFolder
from engine.output.mesh import write_ply
from engine.pictures import save_picture
from engine.progress import Job
from engine.records import EditRecord, SceneRecord
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.workspace import Workspace

from .conftest import ring, sphere_picture
from .test_checkpoint_hostile import a_trainer

resource = pytest.importorskip("resource", reason="limits of POSIX")
SMALL = 300  # bytes that a file may have where the disk is not a real one


class Disk:
    """A folder on a disk that can be filled, and emptied again."""

    def __init__(self, folder):
        self.folder = folder

    @contextlib.contextmanager
    def full(self):
        raise NotImplementedError


class Tmpfs(Disk):
    """A disk of its own of two megabytes."""

    @contextlib.contextmanager
    def full(self):
        ballast = self.folder.parent / "ballast"
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
        ballast.unlink()


class Limited(Disk):
    """Where no disk may be mounted: files of this process end after `SMALL` bytes, as they do on some disks."""

    @contextlib.contextmanager
    def full(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["tmpfs", "limited"])
def disk(request, tmp_path):
    if request.param == "limited":
        (tmp_path / "project").mkdir()
        yield Limited(tmp_path / "project")
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("tmpfs is Linux's")
    point = tmp_path / "disk"
    point.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(point), b"tmpfs", 0, b"size=2m"):
        pytest.skip("this user may not mount a disk")
    try:
        (point / "project").mkdir()
        yield Tmpfs(point / "project")
    finally:
        assert libc.umount2(os.fsencode(point), 2) == 0  # lazily, should a test have failed with a file open


def noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def an_edit(name, text):
    return EditRecord(name, text, None, "preview", "e", "lpips", [f"view {k}" for k in range(200)], {"steps": 3}, 1)


def a_report(folder, seed):
    write_bytes(folder / "report.html", noise(40, 40, seed).tobytes())


def a_mesh(folder, seed):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.vertices += seed
    write_ply(mesh, folder / "mesh.ply")


def a_checkpoint(folder, seed):
    torch.manual_seed(seed)
    a_trainer().save(folder / "scene" / "checkpoint.safetensors")
    Checkpoint(folder / "scene" / "checkpoint.safetensors").nerf("cpu")


def registered(folder, seed):
    with replacing_folder(folder / "registered") as fresh:
        (fresh / "images").mkdir()
        Image.fromarray(noise(40, 40, seed)).save(fresh / "images" / "a.png")


def a_scene(folder, seed):
    Workspace(folder).save_scene(SceneRecord("preview" + "x" * 190, "cpu" + "x" * 190, seed, 1, 2))


# Kind of file → what writes it into a folder; other numbers, other content.
WRITERS = {
    "scene's record": a_scene,
    "edit's record": lambda folder, seed: Workspace(folder).save_edit(an_edit("0001-a", f"make it {seed}")),
    "checkpoint": a_checkpoint,
    "picture": lambda folder, seed: save_picture(folder / "scene" / "views" / "a.png", noise(40, 40, seed)),
    "points": lambda folder, seed: write_points(SparsePoints(np.full((500, 3), seed)), folder / "points.ply"),
    "mesh": a_mesh,
    "report": a_report,
    "list of frames": lambda folder, seed: FrameFolder(folder / "frames", range(seed, seed + 500)).finish(),
    "registered photos": registered,
}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != LOCK
    }


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_is_one_sentence_and_costs_nothing(disk, kind, existing):
    write = WRITERS[kind]
    if existing:
        write(disk.folder, 1)
    before = content(disk.folder)
    with disk.full(), pytest.raises(BadInput) as caught:
        write(disk.folder, 2)
    assert "The disk with" in caught.value.message and caught.value.message.count(
        "."
    ) <= 2 + caught.value.message.count("./")
    after = content(disk.folder)
    assert {k: v for k, v in after.items() if v is not None} == {k: v for k, v in before.items() if v is not None}
    write(disk.folder, 2)
    write_twice = content(disk.folder)
    assert write_twice != before and not [name for name in write_twice if ".part" in name]


@pytest.fixture
def capture(tmp_path):
    """A folder that `open_into_workspace` reads, its pictures too large for what is left of a full disk."""
    folder = tmp_path / "capture"
    folder.mkdir()
    i = Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)
    frames = []
    for number, pose in enumerate(ring(6)):
        Image.fromarray(sphere_picture(pose, i)).save(folder / f"{number:02d}.png")
        frames.append({"file_path": f"{number:02d}.png", "transform_matrix": pose.tolist()})
    numbers = {"w": 48, "h": 40, "fl_x": i.fx, "fl_y": i.fy, "cx": i.cx, "cy": i.cy}
    (folder / "transforms.json").write_text(json.dumps({**numbers, "frames": frames}))
    return folder


def test_opening_and_preparing_pictures_go_on_after_room_is_made(disk, capture):
    ask = protocol.OpenCapture(str(disk.folder), str(capture), "preview")
    with disk.full(), pytest.raises(BadInput, match="The disk with"):
        open_into_workspace(ask)
    assert [name for name, data in content(disk.folder).items() if data is not None] == []
    open_into_workspace(ask)
    with disk.full(), pytest.raises(BadInput, match="The disk with") as caught:
        write_images(protocol.WriteImages(ask.workspace), Job())
    assert not isinstance(caught.value, CaptureError)  # no photo is at fault
    workspace = Workspace(disk.folder)
    assert len(load_capture(workspace.capture_file).views) == 6
    assert not [name for name in content(disk.folder) if ".part" in name]
    write_images(protocol.WriteImages(ask.workspace), Job())
    assert len(list(workspace.images.glob("*.png"))) == 6
    with disk.full(), pytest.raises(BadInput, match="The disk with"):
        save_capture(load_capture(workspace.capture_file).without({"00": "x"}), workspace.capture_file)
    assert len(load_capture(workspace.capture_file).views) == 6


def test_a_read_only_project_is_found_out_before_any_work(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("tmpfs is Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    point = tmp_path / "disk"
    (point).mkdir()
    if libc.mount(b"none", os.fsencode(point), b"tmpfs", 0, b"size=1m"):
        pytest.skip("this user may not mount a disk")
    try:
        workspace = Workspace(point / "project")
        a_scene(workspace.folder, 1)
        assert libc.mount(b"none", os.fsencode(point), b"tmpfs", 32 | 1, None) == 0  # remounted, to be read only
        began = []
        with pytest.raises(BadInput, match="read-only"), workspace.writing("training the scene"):
            began.append(1)
        assert not began and workspace.scene_record() is not None
    finally:
        libc.umount2(os.fsencode(point), 2)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="to root every folder is writable")
def test_a_folder_without_permission_is_found_out_before_any_work(tmp_path):
    workspace = Workspace(tmp_path / "project")
    a_scene(workspace.folder, 1)
    workspace.scene.chmod(0o500)
    try:
        with pytest.raises(BadInput, match="permission"), workspace.writing("training the scene"):
            pass
    finally:
        workspace.scene.chmod(0o700)


def test_photos_are_registered_after_room_is_made(disk, tmp_path):
    """The worker's own process is the one that finds the disk full."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(noise(200, 300, number)).save(photos / f"{number}.jpg", quality=95)
    if isinstance(disk, Limited):
        pytest.skip("what ends a file ends this process's alone")
    with disk.full(), pytest.raises(BadInput, match="The disk with"):
        register(photos, disk.folder / "registered", long_side=200)
    assert content(disk.folder) == {}
