# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of the two sides of a line, and which files of a capture are sent over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blender_addon.relay import photos
from blender_addon.relay.places import Places, Refused


@pytest.mark.parametrize("root", ["/home/me/files", "C:\\Users\\me\\files"])
def test_every_path_has_one_of_the_other_side(root: str, tmp_path: Path) -> None:
    places = Places(root)
    project, capture = tmp_path / "shots" / "p", tmp_path / "shots"
    there = places.full(places.project(str(project)))
    photos_there = places.full(places.capture(str(capture), str(project)))
    sep = places.separator
    assert there.startswith(root + sep + "projects" + sep) and photos_there.startswith(root + sep + "captures" + sep)
    for local, far in (
        (project, there),
        (project / "scene" / "views" / "a.png", sep.join((there, "scene", "views", "a.png"))),
        (capture / "images" / "1.jpg", sep.join((photos_there, "images", "1.jpg"))),
        (capture, photos_there),
    ):
        assert places.there(str(local)) == far
        assert places.here(far)[0] == str(local)
    assert places.here(sep.join((there, "scene", "views", "a.png")))[1] is not None
    assert places.here(sep.join((photos_there, "images", "1.jpg")))[1] is None  # a photo is never fetched
    assert places.there(str(tmp_path / "other")) is None and places.here(root + sep + "other") == ("", None)
    said = places.said(f"{there}{sep}scene is damaged; see {photos_there}.")
    assert said == f"{project}{sep}scene is damaged; see {capture}."


def test_a_project_keeps_its_folder_there(tmp_path: Path) -> None:
    first = Places("/f")
    name = first.project(str(tmp_path / "p"))
    first.capture("/photos/fox", str(tmp_path / "p"))
    again = Places("/f")
    assert again.project(str(tmp_path / "p")) == name
    assert again.here("/f/" + first.capture("/photos/fox", str(tmp_path / "p")))[0] == "/photos/fox"
    assert Places("/f").project(str(tmp_path / "q")) != name


@pytest.mark.parametrize(
    "record", ["", "[]", "{}", '{"folder": "../../x"}', '{"folder": 3}', '{"folder": "a/b"}', "[" * 100_000, "\0"]
)
def test_a_record_that_is_none_is_another_project(record: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(record)
    name = Places("/f").project(str(tmp_path))
    assert name.startswith("projects/") and ".." not in name and name.count("/") == 1
    assert json.loads((tmp_path / "elsewhere.json").read_text())["folder"] == name.removeprefix("projects/")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be written"):
        Places("/f").project(str(tmp_path / "file" / "p"))


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_what_is_sent_of_a_capture(tmp_path: Path) -> None:
    sent = ["images/1.jpg", "images/2.PNG", "masks/1.png", "sparse/0/images.bin", "transforms.json"]
    written(tmp_path, *sent, ".git/x.png", "images/.1.jpg", "scene.blend", "a.zip", "p/capture/capture.json", "p/1.png")
    assert sorted(photos.files_of(str(tmp_path))) == sorted(sent)
    assert photos.folder_of(str(tmp_path)) == photos.folder_of(str(tmp_path / "transforms.json")) == str(tmp_path)
    for model in ("sparse/0", "sparse/0/images.bin"):  # the photos lie in a folder above
        assert photos.folder_of(str(tmp_path / model)) == str(tmp_path)


def test_links_are_followed_and_not_in_circles(tmp_path: Path) -> None:
    written(tmp_path / "store", "a.jpg")
    written(tmp_path / "capture", "transforms.json")
    (tmp_path / "capture" / "images").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "round").symlink_to(tmp_path / "capture")
    assert sorted(photos.files_of(str(tmp_path / "capture"))) == ["images/a.jpg", "transforms.json"]


def test_a_folder_of_too_many_files_is_no_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, *(f"{number}.jpg" for number in range(5)))
    monkeypatch.setattr(photos, "MOST", 4)
    with pytest.raises(Refused, match="more than 4 files"):
        photos.files_of(str(tmp_path))
