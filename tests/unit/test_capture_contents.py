# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files that no reader knows: what is there is said, and what to do with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from capture_on_disk import photo, transforms, write

from engine.capture import CaptureError, contents, open_capture
from engine.capture.registration import find_photos, find_video
from engine.errors import Cancelled


def said(source: Path) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        open_capture(source, 64)
    message = caught.value.message
    assert message.endswith(".") and "\n" not in message and "holds no capture" not in message and len(message) < 300
    assert caught.value.file == str(source)
    return caught.value


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something")


@pytest.mark.parametrize(
    "names, parts",
    [
        (["a.jpg", "b.JPG", "c.Jpg", "d.jPeG"], ["4 photos and no cameras"]),
        (["IMG_1.HEIC", "IMG_2.heic", "IMG_3.Heif"], ["3 photos (HEIC, HEIF) and no cameras"]),
        (["a.avif"], ["1 photo (AVIF)"]),
        (["images/a.jpg", "images/b.jpg", "images/a_mask.png", "images/b.jpg.mask.png"], ["2 photos and no cameras"]),
        ([".a.HEIC.icloud", "a.heic.icloud"], ["iCloud", "download"]),
        ([".IMG_1.HEIC.icloud", ".IMG_2.HEIC.icloud"], ["iCloud", "download"]),
        (["scan.zip.crdownload"], ["a download that has not ended", "wait"]),
        (["a.gif"], ["1 picture of a kind that is not read (GIF)"]),
        (["masks/a.png", "masks/b.png"], ["neither photos", "the folder masks"]),
        (
            ["a.jpg", "b.jpg", "c.jpg", "scan.psx"],
            ["3 photos and no cameras", "scan.psx, a Metashape", "Export Cameras"],
        ),
        (["1.jpg", "2.jpg", "3.jpg", "sfm_data.bin"], ["no cameras; find", "openMVG2Colmap"]),
        (
            ["1.jpg", "2.jpg", "3.jpg", "params/x_calibrated_camera_parameters.txt"],
            ["no cameras; find", "Pix4D's list"],
        ),
        (["sfm_data.json"], ["an openMVG scene", "no photos", "beside the photos"]),
        (["DCIM/100CANON/A.JPG", "DCIM/100CANON/B.JPG"], ["2 photos in DCIM/100CANON and no cameras"]),
        (["cover.jpg", *(f"DCIM/100CANON/{n}.JPG" for n in range(9))], ["10 photos in DCIM/100CANON"]),
        (["1.jpg", "2.jpg", "3.jpg", *(f"edited/{n}.jpg" for n in range(9))], ["3 photos and no cameras"]),
        (["DCIM/100CANON/A.JPG", "DCIM/101CANON/A.JPG"], ["2 photos in 2 folders (DCIM/100CANON"]),
        (["a.dng", "b.DNG", "c.CR3"], ["3 raw photos (DNG, CR3)", "export JPEG or TIFF"]),
        (["a.dng", "a.jpg"], ["1 photo and no cameras"]),  # both, as phones keep them
        (["walk.MP4"], ["a video (walk.MP4)"]),
        (["a.mp4", "b.mov"], ["2 videos", "choose one"]),
        (["scan.zip"], ["scan.zip", "archive", "unpack"]),
        (["scan.r3d"], ["Record3D", ".zip", "unpack"]),
        (["scan.psx", "scan.files/project.zip"], ["Metashape project", "Export Cameras"]),
        (["scan.rcproj"], ["RealityCapture project", "CSV"]),
        (["scan.insv"], ["360°", "flat"]),
        (["a.jxl", "b.jxl"], ["2 pictures of a kind that is not read (JXL)", "JPEG or PNG"]),
        (["mesh.glb"], ["finished model"]),
        (["notes.txt", "b.pdf", "c.pdf"], ["neither photos nor a video", "2 .pdf"]),
        ([".DS_Store", "Thumbs.db", "__MACOSX/a.jpg"], ["choose the folder"]),
        ([], ["is empty"]),
        (["masks/a.png", "thumbs/b.jpg", "notes.txt"], ["neither photos"]),
    ],
)
def test_folders(tmp_path: Path, names: list[str], parts: list[str]) -> None:
    source = tmp_path / "chosen"
    source.mkdir()
    put(*(source / name for name in names))
    problem = said(source)
    assert all(part in problem.message for part in parts), problem.message
    registers = "no cameras" in problem.message or "without cameras" in problem.message
    assert problem.field == ("photos" if registers else None)


@pytest.mark.parametrize(
    "name, part",
    [("walk.mov", "is a video"), ("scan.zip", "unpack"), ("scan.r3d", "Record3D"), ("a.nef", "raw photo (NEF)"),
     ("a.heic", "single picture"), ("scan.psz", "Metashape"), ("x.glb", "finished model"), ("x.doc", "is no capture")],
)  # fmt: skip
def test_files(tmp_path: Path, name: str, part: str) -> None:
    put(tmp_path / name)
    assert part in said(tmp_path / name).message


def test_cameras_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "sfm_data.json").write_text('{"sfm_data_version": "0.3", "views": []}')
    assert "is an openMVG scene" in said(tmp_path / "sfm_data.json").message
    (tmp_path / "sfm_data.json").unlink()
    for index in range(3):
        photo(tmp_path / f"{index}.jpg")
    (tmp_path / "blocks.xml").write_text('<?xml version="1.0"?>\n<BlocksExchange version="2.1"></BlocksExchange>')
    problem = said(tmp_path)
    assert problem.field == "photos" and "those of blocks.xml, a BlocksExchange file" in problem.message


def test_a_panorama_is_said_once(tmp_path: Path) -> None:
    write(tmp_path, {"camera_model": "EQUIRECTANGULAR", "w": 200, "h": 100} | transforms(3))
    problem = said(tmp_path / "transforms.json")
    assert "360° panorama" in problem.message and problem.message.endswith("align those.")


def test_a_pipe_is_no_capture(tmp_path: Path) -> None:
    for name in ("scan", "scan.json", "scan.mp4", "scan.xml", "scan.npy"):
        os.mkfifo(tmp_path / name)
        said(tmp_path / name)


def test_own_projects_are_not_looked_into(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    write(tmp_path / "project/capture", transforms(3))
    put(tmp_path / "project/capture/capture.json")
    assert "1 photo and" in said(tmp_path).message
    (tmp_path / "a.jpg").unlink()
    assert "neither photos" in said(tmp_path).message


def test_links(tmp_path: Path) -> None:
    """A folder of links to photos, a link to their folder, and links in a circle."""
    photo(tmp_path / "disk/a.jpg")
    folder = tmp_path / "chosen"
    folder.mkdir()
    (folder / "b.jpg").symlink_to(tmp_path / "disk/a.jpg")
    (folder / "gone.jpg").symlink_to(tmp_path / "disk/gone.jpg")
    assert [path.name for path in find_photos(folder)] == ["b.jpg"]
    (folder / "b.jpg").unlink()
    (folder / "round").symlink_to(folder)
    (folder / "away").symlink_to(tmp_path / "disk")
    assert [path.name for path in find_photos(folder)] == ["a.jpg"]


def test_one_video_in_a_folder_is_the_video(tmp_path: Path) -> None:
    put(tmp_path / "clip/walk.MOV")
    assert find_video(tmp_path) == tmp_path / "clip/walk.MOV" == find_video(tmp_path / "clip/walk.MOV")
    photo(tmp_path / "a.jpg")
    assert find_video(tmp_path) is None and find_video(tmp_path / "a.jpg") is None


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not called empty."""

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(contents.os, "scandir", refuse)
    assert "no permission to look into" in contents.nothing_known(tmp_path).message


def test_looking_can_be_cancelled(tmp_path: Path) -> None:
    source = write(tmp_path / "a", transforms(20))
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 5:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        open_capture(source, 64, check=check)
    assert len(asked) == 6
    put(*(tmp_path / f"b/{index}/notes.txt" for index in range(20)))
    with pytest.raises(Cancelled):
        open_capture(tmp_path / "b", 64, check=check)
