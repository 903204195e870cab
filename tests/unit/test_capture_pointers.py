# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories copied without their large files, and a capture's photos chosen in place of the capture."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from capture_on_disk import photo, ring
from capture_writers import WRITERS, write_ring

from engine.capture import CaptureError, open_capture
from engine.files import is_pointer, read_bounded

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d7a" * 16 + "\nsize 1048576\n"
ANNEX = "/annex/objects/SHA256E-s1048576--" + "4d7a" * 16 + ".jpg\n"


@pytest.mark.parametrize("name", WRITERS)
def test_pointers_in_place_of_what_lists_the_cameras(tmp_path: Path, name: str) -> None:
    write_ring(name, tmp_path, 4)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".json", ".bin", ".txt", ".xml", ".csv", ".sfm", ".npy"):
            path.write_text(POINTER)
    for source in (tmp_path, tmp_path / WRITERS[name][1]):
        with pytest.raises(CaptureError, match="Git LFS") as caught:
            open_capture(source, 64)
        assert "git lfs pull" in caught.value.message


@pytest.mark.parametrize(("content", "what"), [(POINTER, "git lfs pull"), (ANNEX, "git annex get")])
def test_pointers_in_place_of_photos(tmp_path: Path, content: str, what: str) -> None:
    write_ring("Polycam", tmp_path / "some", 4)
    photos = sorted((tmp_path / "some").rglob("*.jpg"))
    photos[1].write_text(content)
    capture = open_capture(tmp_path / "some", 64)
    assert len(capture.views) == 3 and what in capture.left_out[0].reason
    for path in photos:
        path.write_text(content)
    with pytest.raises(CaptureError, match=what):
        open_capture(tmp_path / "some", 64)
    shutil.copytree(photos[0].parent, tmp_path / "photos alone")
    with pytest.raises(CaptureError, match=what) as caught:
        open_capture(tmp_path / "photos alone", 64)
    assert caught.value.field is None  # finding cameras would not help


def test_what_is_a_pointer(tmp_path: Path) -> None:
    for name, content, pointer in (
        ("a", POINTER, True),
        ("b", ANNEX, True),
        ("c", "version 2", False),
        ("d", "", False),
    ):
        (tmp_path / name).write_text(content)
        assert is_pointer(tmp_path / name) is pointer
    assert not is_pointer(tmp_path) and not is_pointer(tmp_path / "nothing")
    assert read_bounded(tmp_path / "c", 100) == b"version 2"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize(
    ("kind", "said"),
    [("pipe", "0.jpg is no picture: it is a pipe"), ("link", "0.jpg is a link to a file that does not exist"),
     ("annex", "git annex get")],
)  # fmt: skip
def test_what_stands_in_a_photos_place(tmp_path: Path, kind: str, said: str) -> None:
    names = [f"images/{index}.jpg" for index in range(4)]
    for name in names:
        photo(tmp_path / name, 64, 48)
    listed(tmp_path, names)
    path = tmp_path / names[0]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("../.git/annex/objects/Zz/x.jpg" if kind == "annex" else "../away/x.jpg")
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 3 and said in capture.left_out[0].reason, capture.left_out


def listed(folder: Path, names: list[str]) -> None:
    frames = [{"file_path": name, "transform_matrix": pose.tolist()} for name, pose in zip(names, ring(99))]  # noqa: B905
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 60, "w": 64, "h": 48, "frames": frames}))


def test_the_photos_of_a_capture_chosen_alone(tmp_path: Path) -> None:
    names = [f"images/{index}.jpg" for index in range(6)]
    for name in names:
        photo(tmp_path / "fox" / name, 64, 48)
    listed(tmp_path / "fox", names)
    capture = open_capture(tmp_path / "fox" / "images", 64)
    whole = open_capture(tmp_path / "fox", 64)
    assert [view.name for view in capture.views] == [view.name for view in whole.views]
    assert capture.source == tmp_path / "fox/images" and capture.root == whole.root
    assert "their cameras are those in fox (transforms.json)" in capture.notes[-1]


@pytest.mark.parametrize("kind", ["another's", "few", "broken", "its own"])
def test_what_lies_above_photos_is_not_taken_for_their_cameras(tmp_path: Path, kind: str) -> None:
    """Downloads, with photos of nobody's in a folder, and another capture beside."""
    names = [f"images/{index}.jpg" for index in range(6)]
    for name in (*names, *(f"holiday/{index}.jpg" for index in range(6))):
        photo(tmp_path / name, 64, 48)
    listed(tmp_path, names)
    if kind == "few":
        listed(tmp_path, [f"holiday/{index}.jpg" for index in range(2)])
    elif kind == "broken":
        (tmp_path / "transforms.json").write_text("{")
    elif kind == "its own":
        listed(tmp_path / "holiday", [f"{index}.jpg" for index in range(4)])
        assert len(open_capture(tmp_path / "holiday", 64).views) == 4
        return
    with pytest.raises(CaptureError, match="holds 6 photos and no cameras") as caught:
        open_capture(tmp_path / "holiday", 64)
    assert caught.value.field == "photos"
