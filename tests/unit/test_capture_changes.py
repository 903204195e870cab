# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos that changed after a scene was trained on them: said when the capture is opened again, and only then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import transforms, write
from PIL import Image

from engine import protocol
from engine.capture import open_capture, write_images
from engine.capture.changes import changed_photos
from engine.capture.images import photo_of
from engine.errors import BadInput, Cancelled
from engine.jobs import capture as job
from engine.records import SceneRecord
from engine.workspace import Workspace

COUNT = 4


def picture(path: Path, seed: int = 0, **saving) -> None:
    """Something soft that a codec does little to."""
    small = np.random.default_rng(seed).integers(60, 190, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((128, 96), Image.Resampling.BICUBIC).save(path, **saving)


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A capture of JPEGs, and a project whose scene was trained on it."""
    meta = transforms(COUNT, w=128, h=96, fl_x=120.0, fl_y=120.0, cx=64.0, cy=48.0)
    for index, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"images/{index}.jpg"
    source = write(tmp_path / "capture", meta)
    for index in range(COUNT):
        picture(source / f"images/{index}.jpg", index, quality=95)
    open_again(source, tmp_path / "project")
    job.write_images(protocol.WriteImages(str(tmp_path / "project")), job.Job())
    workspace = Workspace(tmp_path / "project")
    with workspace.writing("a test"):
        workspace.save_scene(SceneRecord("preview", "cpu", 0, 10, 10))
    return source, tmp_path / "project"


def open_again(source: Path, project: Path) -> protocol.Capture:
    return job.open_into_workspace(protocol.OpenCapture(str(project), str(source), long_side=128))


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def test_the_same_photos_open(trained: tuple[Path, Path]) -> None:
    source, project = trained
    assert len(open_again(*trained).views) == COUNT
    for path in (source / "images").iterdir():  # copied from another disk
        touch(path)
    assert len(open_again(*trained).views) == COUNT
    assert photo_of(Workspace(project).images / "0.png")


def test_new_pixels_are_said(trained: tuple[Path, Path]) -> None:
    source, _ = trained
    picture(source / "images/2.jpg", 99, quality=95)
    with pytest.raises(BadInput, match=r"have changed since .* images/2\.jpg") as caught:
        open_again(*trained)
    assert caught.value.field == "workspace"


def test_new_pixels_in_as_many_bytes(trained: tuple[Path, Path]) -> None:
    """A picture without compression keeps its size whatever it shows."""
    source, project = trained
    path = source / "images/1.jpg"
    picture(path, 99, quality=90)
    data = path.read_bytes()
    before = open_capture(source, 128)
    write_images(before, project.parent / "made")
    path.write_bytes(data)
    picture(path, 100, quality=90)
    grown = path.read_bytes()
    size = max(len(data), len(grown))
    path.write_bytes(data.ljust(size, b"\0"))
    touch(path)
    before = open_capture(source, 128)
    write_images(before, project.parent / "made")
    path.write_bytes(grown.ljust(size, b"\0"))
    after = open_capture(source, 128)
    assert [found.file for found in changed_photos(before, after, project.parent / "made")] == ["images/1.jpg"]


def test_another_exif_changes_nothing(trained: tuple[Path, Path]) -> None:
    source, _ = trained
    exif = Image.Exif()
    exif[270] = "a title"
    picture(source / "images/0.jpg", 0, quality=95, exif=exif)
    assert len(open_again(*trained).views) == COUNT


def test_pictures_of_an_earlier_version(trained: tuple[Path, Path]) -> None:
    """They do not say what photo they were made of: what the photo shows is compared."""
    source, project = trained
    for path in Workspace(project).images.glob("*.png"):
        Image.open(path).save(path)
    for path in (source / "images").iterdir():
        touch(path)
    assert len(open_again(*trained).views) == COUNT
    picture(source / "images/3.jpg", 99, quality=95)
    with pytest.raises(BadInput, match="have changed"):
        open_again(*trained)


def test_a_cancel_while_comparing(trained: tuple[Path, Path]) -> None:
    source, project = trained
    before = open_capture(source, 128)
    for path in (source / "images").iterdir():
        touch(path)

    def check() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        list(changed_photos(before, open_capture(source, 128), Workspace(project).images, check))


def test_another_folder_of_the_same_photos(trained: tuple[Path, Path]) -> None:
    source, project = trained
    shutil.copytree(source, source.with_name("elsewhere"))
    assert len(open_again(source.with_name("elsewhere"), project).views) == COUNT


def test_a_photo_that_changes_between_opening_and_making(tmp_path: Path) -> None:
    source = write(tmp_path / "capture", transforms(2))
    capture = open_capture(source, 64)
    data = (source / "images/1.png").read_bytes()
    (source / "images/1.png").write_bytes(data + b"more")
    bad: dict[str, str] = {}
    write_images(capture, tmp_path / "made", on_bad=lambda view, reason: bad.update({view.name: reason}))
    assert list(bad) == ["1"] and "has changed" in bad["1"]


@pytest.mark.parametrize("long_side", [0, 16, 32, 63, 8193, 10**9])
def test_working_sizes_that_are_none(tmp_path: Path, long_side: int) -> None:
    source = write(tmp_path / "capture", transforms(3))
    with pytest.raises(BadInput, match="from 64 to 8192") as caught:
        job.open_into_workspace(protocol.OpenCapture(str(tmp_path / "w"), str(source), long_side=long_side))
    assert caught.value.field == "long_side" and not (tmp_path / "w/capture").exists()


def test_pictures_too_narrow_to_measure(tmp_path: Path) -> None:
    meta = transforms(3, w=400, h=80, fl_x=300.0, fl_y=300.0, cx=200.0, cy=40.0)
    source = write(tmp_path / "capture", meta, pictures=False)
    (source / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (400, 80)).save(source / f"images/{index}.png")
    with pytest.raises(BadInput, match="choose 128 or more") as caught:
        job.open_into_workspace(protocol.OpenCapture(str(tmp_path / "w"), str(source), long_side=64))
    assert caught.value.field == "long_side"
    opened = job.open_into_workspace(protocol.OpenCapture(str(tmp_path / "w"), str(source), long_side=128))
    assert min(view.height for view in opened.views) >= 24
