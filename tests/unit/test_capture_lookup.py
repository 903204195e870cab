# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos are found by the longest end of their paths, whatever machine, case, encoding or folder they are listed in."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import photo, ring, transforms, write
from capture_writers import FLIP, write_ring
from scipy.spatial.transform import Rotation

from engine.capture import Capture, CaptureError, open_capture
from engine.capture.lookup import Photos
from engine.capture.photos import SkipView

COUNT = 4


def reasons(capture: Capture) -> str:
    return " ".join(left.reason for left in capture.left_out)


# -- every format, with its photos listed in any way -------------------------------------------------------------------


def colmap_text(folder: Path, names: list[str], place: str = "sparse/0") -> None:
    """A model of the ring's cameras in COLMAP's text."""
    lines = []
    for index, (pose, name) in enumerate(zip(ring(len(names)), names, strict=True)):
        matrix = np.linalg.inv(pose @ FLIP)
        x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
        numbers = " ".join(map(repr, map(float, (w, x, y, z, *matrix[:3, 3]))))
        lines += [f"{index + 1} {numbers} 1 {name}", ""]
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / place / "cameras.txt").write_text("# cameras\n1 PINHOLE 64 48 60 61 31 25\n", encoding="utf-8")
    (folder / place / "images.txt").write_text("\n".join(["# images", *lines, ""]), encoding="utf-8")
    (folder / place / "points3D.txt").write_text("", encoding="utf-8")


def _json(path: Path, change: Callable[[object], None]) -> None:
    whole = json.loads(path.read_text(encoding="utf-8"))
    change(whole)
    path.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")


def listing(name: str, folder: Path, names: list[str]) -> Path:
    """A capture of the ring's cameras whose file lists exactly these paths; there are no photos. Gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "COLMAP":
        colmap_text(folder, names)
        return folder / "sparse/0/images.txt"
    if name == "transforms.json":
        meta = transforms(len(names))
        for frame, listed in zip(meta["frames"], names, strict=True):
            frame["file_path"] = listed
        write(folder, meta, pictures=False)
        return folder / "transforms.json"
    write_ring(name, folder, len(names))
    for picture in [*folder.rglob("*.png"), *folder.rglob("*.jpg")]:
        picture.unlink()
    path = folder / FILES[name]
    if name == "3D Gaussian Splatting":
        _json(path, lambda c: [camera.update(img_name=n) for camera, n in zip(c, names, strict=True)])  # type: ignore
    elif name == "Meshroom":
        _json(path, lambda c: [view.update(path=n) for view, n in zip(c["views"], names, strict=True)])  # type: ignore
    elif name == "OpenSfM":
        _json(path, lambda c: c[0].update(shots=dict(zip(names, c[0]["shots"].values(), strict=True))))  # type: ignore
    elif name == "Metashape":
        waiting = iter(names)
        path.write_text(
            re.sub(r'label="\d{3}"', lambda _: f'label="{next(waiting)}"', path.read_text()), encoding="utf-8"
        )
    else:
        header, *rows = path.read_text().splitlines()
        rows = [re.sub(r"^[^,]*", lambda _, n=n: n, row) for row, n in zip(rows, names, strict=True)]
        path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


FILES = {
    "3D Gaussian Splatting": "cameras.json",
    "Meshroom": "cameras.sfm",
    "OpenSfM": "reconstruction.json",
    "Metashape": "cameras.xml",
    "RealityCapture": "registration.csv",
}
FORMATS = ["transforms.json", "COLMAP", *FILES]
KINDS = {  # kind: (as listed, where it lies)
    "as it is": ("images/Hall_{}.png", "images/Hall_{}.png"),
    "other case": ("images/hall_{}.png", "images/HALL_{}.PNG"),
    "other case of the folder": ("Images/hall_{}.png", "images/hall_{}.png"),
    "mixed ending": ("images/Hall_{}.png", "images/Hall_{}.Png"),
    "accents apart": ("images/Küche_{}.png", "images/" + unicodedata.normalize("NFD", "Küche_{}.png")),
    "accents together": (unicodedata.normalize("NFD", "images/Küche_{}.png"), "images/Küche_{}.png"),
    "deeper": ("images/Hall_{}.png", "images/cam0/Hall_{}.png"),
    "flattened": ("images/cam0/Hall_{}.png", "Hall_{}.png"),
    "other folder": ("fotos/Hall_{}.png", "photos/Hall_{}.png"),
    "Windows": ("C:\\Users\\Some One\\scan\\images\\Hall_{}.png", "images/Hall_{}.png"),
    "Windows, forward": ("D:/scan/images/Hall_{}.png", "images/Hall_{}.png"),
    "network": ("\\\\host\\share\\scan\\images\\Hall_{}.png", "images/Hall_{}.png"),
    "other machine": ("/home/someone/scan/images/Hall_{}.png", "images/Hall_{}.png"),
    "address": ("file:///C:/my%20scans/images/Hall_{}.png", "images/Hall_{}.png"),
    "address on Linux": ("file:///home/me/images/Hall%20{}.png", "images/Hall {}.png"),
    "percent": ("images/Hall%20{}.png", "images/Hall {}.png"),
    "percent in the name": ("images/Hall%20{}.png", "images/Hall%20{}.png"),
    "elsewhere": ("../data/scan/images/Hall_{}.png", "images/Hall_{}.png"),
    "from here": ("./images/Hall_{}.png", "images/Hall_{}.png"),
    "other ending": ("images/Hall_{}.jpeg", "images/Hall_{}.png"),
    "no ending": ("images/Hall_{}", "images/Hall_{}.png"),
    "spaces": ("images/the hall, north {}.png", "images/the hall, north {}.png"),
    "sign": ("images/#{}.png", "images/#{}.png"),
    "sign first": ("#{}.png", "images/#{}.png"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_photos_are_found_however_they_are_listed(tmp_path: Path, name: str, kind: str) -> None:
    listed, file = KINDS[kind]
    listing(name, tmp_path, [listed.format(index) for index in range(COUNT)])
    for index in range(COUNT):
        photo(tmp_path / file.format(index))
        photo(tmp_path / f"depth/Hall_{index}.png")  # called like the photos, and none of them
    capture = open_capture(tmp_path, 64)
    assert [source.file for source in capture.sources] == [file.format(index) for index in range(COUNT)]
    for view, pose in zip(capture.views, ring(COUNT), strict=True):
        assert np.abs(view.pose - pose).max() < 1e-6


PAGES = {"gb18030": "照片", "cp932": "写真", "cp1252": "Küche", "cp949": "사진", "cp1251": "Кухня"}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", FORMATS)
def test_names_in_the_code_page_of_a_machine(tmp_path: Path, name: str, page: str) -> None:
    names = [f"images/{PAGES[page]}_{index}.png" for index in range(COUNT)]
    path = listing(name, tmp_path, names)
    path.write_bytes(path.read_text(encoding="utf-8").encode(page))
    for file in names:
        photo(tmp_path / file)
    assert [source.file for source in open_capture(tmp_path, 64).sources] == names


def test_xml_in_the_encoding_that_it_states(tmp_path: Path) -> None:
    names = [f"images/Küche_{index}.png" for index in range(COUNT)]
    path = listing("Metashape", tmp_path, names)
    for file in names:
        photo(tmp_path / file)
    text = path.read_text(encoding="utf-8")
    for encoding in ("windows-1252", "iso-8859-1", "gb18030", "utf-16"):
        path.write_bytes(text.replace('encoding="UTF-8"', f'encoding="{encoding}"').encode(encoding))
        assert [source.file for source in open_capture(tmp_path, 64).sources] == names


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", FORMATS)
def test_texts_in_any_unicode_with_any_line_ends(tmp_path: Path, name: str, encoding: str) -> None:
    names = [f"images/Küche_{index}.png" for index in range(COUNT)]
    path = listing(name, tmp_path, names)
    for file in names:
        photo(tmp_path / file)
    paths = [path, path.with_name("cameras.txt")] if name == "COLMAP" else [path]
    for each in paths:
        each.write_bytes(each.read_text(encoding="utf-8").replace("\n", "\r\n").encode(encoding))
    assert [source.file for source in open_capture(tmp_path, 64).sources] == names


def test_json_that_people_have_edited_by_hand(tmp_path: Path) -> None:
    names = [f"images/a//b, {index}.png" for index in range(COUNT)]
    path = listing("transforms.json", tmp_path, names)
    for file in names:
        photo(tmp_path / file)
    text = path.read_text()
    text = text.replace('"frames": [', '// the hall, "again"\n"frames": [ /* all, ] } */').replace(
        "}]", "}, // last\n]"
    )
    path.write_text(text)
    with pytest.raises(ValueError):
        json.loads(text)
    assert len(open_capture(tmp_path, 64).views) == COUNT
    path.write_text("/*" * 1_000_000)
    began = time.thread_time()
    with pytest.raises(CaptureError, match="not valid JSON"):
        open_capture(tmp_path, 64)
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    "listed", ["images/Hall_{}.png", "../images/Hall_{}.png", "Hall_{}", "E:/x/photos/Hall_{}.JPG"]
)
@pytest.mark.parametrize("name", FORMATS)
def test_photos_that_lie_above_the_chosen_file(tmp_path: Path, name: str, listed: str) -> None:
    folder = tmp_path / "scan" / "export"
    path = listing(name, folder, [listed.format(index) for index in range(COUNT)])
    place = "photos" if "photos" in listed else "images"
    for index in range(COUNT):
        photo(tmp_path / f"scan/{place}/Hall_{index}.png")
        photo(tmp_path / f"scan/other/images/Hall_{index}.png")
    deeper = tmp_path / "scan" / "output" / "ab12"
    for chosen in (path, folder, tmp_path / "scan", deeper):
        if chosen == deeper:
            shutil.copytree(folder, deeper)
        capture = open_capture(chosen, 64)
        files = [(capture.root / source.file).relative_to(tmp_path / "scan").as_posix() for source in capture.sources]
        assert files == [f"{place}/Hall_{index}.png" for index in range(COUNT)]


# -- which of several --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_cameras_of_a_rig_keep_their_own_folders(tmp_path: Path, name: str) -> None:
    names = [f"/scans/{side}/{index}.png" for side in ("left", "right") for index in range(2)]
    listing(name, tmp_path, names)
    for file in names:
        photo(tmp_path / "photos" / Path(file).parent.name / Path(file).name)
    capture = open_capture(tmp_path, 64)
    assert [s.file for s in capture.sources] == [f"photos/{side}/{i}.png" for side in ("left", "right") for i in (0, 1)]
    for side in ("left", "right"):  # laid together: whose photo each is, nobody can tell
        for index in range(2):
            (tmp_path / f"photos/{side}/{index}.png").unlink()
            photo(tmp_path / f"all/{index}.png")
    with pytest.raises(CaptureError, match="may be the picture of this camera or of"):
        open_capture(tmp_path, 64)


def test_a_photo_that_is_missing_is_not_taken_from_elsewhere(tmp_path: Path) -> None:
    names = [f"images/{index}.png" for index in range(COUNT)]
    listing("transforms.json", tmp_path, names)
    for file in names[1:]:
        photo(tmp_path / file)
    for folder in ("renders", "masks", "images_2"):
        photo(tmp_path / folder / "0.png")
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == COUNT - 1 and "does not exist in the capture's folder" in reasons(capture)


def test_a_picture_of_training_is_not_taken_from_the_test_pictures(tmp_path: Path) -> None:
    write_ring("Blender-synthetic", tmp_path, 6)
    for file in (tmp_path / "train").iterdir():
        photo(tmp_path / "test" / file.name)
        file.unlink()
    capture = open_capture(tmp_path, 64)
    assert {source.file.split("/")[0] for source in capture.sources} == {"val", "test"} and len(capture.views) == 4
    assert "does not exist" in reasons(capture)


def test_the_size_tells_reduced_and_distorted_copies_apart(tmp_path: Path) -> None:
    for folder, size in (("a", (32, 24)), ("b", (64, 48)), ("c", (66, 50))):
        photo(tmp_path / folder / "0.jpg", *size)
    photos = Photos(tmp_path)
    assert photos.find("/x/0.jpg", (64.0, 48.0)).file == "b/0.jpg"
    with pytest.raises(SkipView, match="Several pictures are called"):
        photos.find("/x/0.jpg")


def test_the_likelier_of_copies_in_other_formats(tmp_path: Path) -> None:
    for name in ("0.tif", "0.jpg", "0.dng", "1.dng"):
        photo(tmp_path / "images" / "x.png")
        (tmp_path / "images/x.png").rename(tmp_path / "images" / name)
    photos = Photos(tmp_path)
    assert photos.find("0").file == photos.find("images/0.dng").file == "images/0.jpg"
    with pytest.raises(SkipView, match="raw photo"):
        photos.find("1")


def test_other_things_of_the_folder_are_no_photos(tmp_path: Path) -> None:
    for name in ("masks/0.png", "depth_maps/0.png", ".hidden/0.png", "project/capture/images/0.png"):
        photo(tmp_path / name)
    (tmp_path / "project/capture/capture.json").write_text("{}")
    photos = Photos(tmp_path)
    with pytest.raises(SkipView, match="does not exist"):
        photos.find("0.jpg")
    assert photos.find("c:/somewhere/masks/0.png").file == "masks/0.png"  # where it is asked for


def test_thousands_of_photos_of_one_name_are_found_soon(tmp_path: Path) -> None:
    photo(tmp_path / "0000/rgb.png")
    for index in range(1, 1500):
        (tmp_path / f"{index:04d}").mkdir()
        os.link(tmp_path / "0000/rgb.png", tmp_path / f"{index:04d}/rgb.png")
    photos = Photos(tmp_path)
    began = time.thread_time()
    assert all(photos.find(f"D:/x/{i:04d}/rgb.png").file == f"{i:04d}/rgb.png" for i in range(1500))
    assert time.thread_time() - began < 3


@pytest.mark.skipif(os.name != "posix", reason="such names are Linux's")
def test_names_of_files_that_are_no_unicode_are_passed_over(tmp_path: Path) -> None:
    listing("COLMAP", tmp_path, ["K\u00fcche.png", "b.png"])
    photo(tmp_path / "images/b.png")
    os.rename(os.fsencode(tmp_path / "images/b.png"), os.fsencode(tmp_path) + b"/images/K\xfcche.png")
    photo(tmp_path / "images/b.png")
    capture = open_capture(tmp_path, 64)
    assert [source.file for source in capture.sources] == ["images/b.png"]
    for left in capture.left_out:
        left.name.encode(), left.reason.encode()


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("COLMAP", "Metashape", "RealityCapture")])
def test_half_characters_reach_no_sentence(tmp_path: Path, name: str) -> None:
    path = listing(name, tmp_path, ["good.png", "b\\ud800d.png"])
    path.write_text(path.read_text().replace("\\\\ud800", "\\ud800"))
    photo(tmp_path / "good.png")
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 1 and len(capture.left_out) == 1
    (capture.left_out[0].name + capture.left_out[0].reason).encode()


@pytest.mark.skipif(os.name != "posix", reason="such names are Linux's")
def test_a_folder_whose_name_is_no_unicode(tmp_path: Path) -> None:
    write(tmp_path / "scan", transforms(2))
    os.rename(os.fsencode(tmp_path / "scan"), os.fsencode(tmp_path) + b"/\xfcber")
    with pytest.raises(CaptureError, match="rename that folder") as caught:
        open_capture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfcber")), 64)
    caught.value.message.encode()


# -- masks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "mask",
    ["masks/Hall_{}.png", "masks/Hall_{}.JPG.png", "masks/hall_{}.jpg", "Masks/HALL_{}.PNG", "mask/Hall_{}_mask.png",
     "images/masks/Hall_{}.png", "image_masks/Hall_{}.png", "masks/mask_Hall_{}.png", "images/Hall_{}_mask.png",
     "images/HALL_{}.jpg.mask.png", "images/mask_Hall_{}.png"],
)  # fmt: skip
def test_masks_belong_to_every_format(tmp_path: Path, name: str, mask: str) -> None:
    listing(name, tmp_path, [f"images/Hall_{index}.JPG" for index in range(COUNT)])
    for index in range(COUNT):
        photo(tmp_path / f"images/Hall_{index}.JPG")
        photo(tmp_path / mask.format(index))
    capture = open_capture(tmp_path, 64)
    assert [source.mask for source in capture.sources] == [mask.format(index) for index in range(COUNT)]
    assert all(view.mask for view in capture.views)


def test_a_photo_that_is_called_a_mask_of_none_is_one(tmp_path: Path) -> None:
    names = ["images/gas_mask.jpg", "images/mask_of_clay.jpg", "images/mask.jpg"]
    listing("COLMAP", tmp_path, names)
    for file in names:
        photo(tmp_path / file)
    assert [(s.file, s.mask) for s in open_capture(tmp_path, 64).sources] == [(name, None) for name in sorted(names)]


def test_photos_in_a_folder_called_masks_are_not_their_own(tmp_path: Path) -> None:
    names = [f"masks/{index}.png" for index in range(2)]
    listing("transforms.json", tmp_path, names)
    for file in names:
        photo(tmp_path / file)
    assert [source.mask for source in open_capture(tmp_path, 64).sources] == [None, None]


def test_masks_of_folders_and_those_that_belong_to_nobody(tmp_path: Path) -> None:
    names = [f"images/{side}/{index}.png" for side in ("left", "right") for index in range(2)]
    listing("COLMAP", tmp_path, [name.removeprefix("images/") for name in names])
    for file in names:
        photo(tmp_path / file)
    for index in range(2):
        photo(tmp_path / f"masks/left/{index}.png")
    photo(tmp_path / "masks/right/other.png")
    capture = open_capture(tmp_path, 64)
    assert [s.mask for s in capture.sources] == ["masks/left/0.png", "masks/left/1.png", None, None]
