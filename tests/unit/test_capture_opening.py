# SPDX-License-Identifier: GPL-3.0-or-later
"""Where captures lie in the folder that was chosen, and which of several files is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
from capture_on_disk import ring, transforms, write
from capture_writers import gaussian_splatting, meshroom, opensfm, photos, record3d
from test_capture_lookup import FORMATS, colmap_text, listing

from engine.capture import CaptureError, open_capture


@pytest.mark.parametrize("name", FORMATS)
def test_a_zips_own_folder(tmp_path: Path, name: str) -> None:
    names = [f"images/{index}.png" for index in range(3)]
    listing(name, tmp_path / "scan/scan", names)
    photos(tmp_path / "scan/scan", names)
    (tmp_path / "__MACOSX").mkdir()
    assert len(open_capture(tmp_path, 64).views) == 3


def test_of_several_captures_one_is_to_be_chosen(tmp_path: Path) -> None:
    for scan in ("hall", "garden"):
        write(tmp_path / scan, transforms(2))
    with pytest.raises(CaptureError, match=r"several captures \(garden/transforms.json, hall/transforms.json\)"):
        open_capture(tmp_path, 64)


def test_a_format_that_cannot_be_read_gives_way_to_one_that_can(tmp_path: Path) -> None:
    colmap_text(tmp_path, ["0.png", "1.png"])
    photos(tmp_path / "images", ["0.png", "1.png"])
    (tmp_path / "transforms.json").write_text('{"frames": ')
    capture = open_capture(tmp_path, 64)
    assert capture.format == "COLMAP" and "opened as COLMAP, for: transforms.json is not valid JSON" in capture.notes[0]
    (tmp_path / "sparse/0/images.txt").write_text("1 2 3")
    with pytest.raises(CaptureError, match=r"transforms\.json is not valid JSON"):
        open_capture(tmp_path, 64)


@pytest.mark.parametrize("name", ["Transforms.JSON", "transforms (1).json", "transforms_colmap.json", "cameras.json"])
def test_files_that_were_renamed(tmp_path: Path, name: str) -> None:
    write(tmp_path, transforms(3))
    (tmp_path / "transforms.json").rename(tmp_path / name)
    (tmp_path / "camera_path.json").write_text('{"camera_path": [], "keyframes": []}')
    assert len(open_capture(tmp_path, 64).views) == 3
    (tmp_path / "again.json").write_bytes((tmp_path / name).read_bytes())
    if name != "Transforms.JSON":  # which is the name
        with pytest.raises(CaptureError, match=r"several files of cameras.*again.json.*choose one"):
            open_capture(tmp_path, 64)


def test_other_programs_files_that_were_renamed(tmp_path: Path) -> None:
    gaussian_splatting(tmp_path / "splat", ring(3))
    (tmp_path / "splat/cameras.json").rename(tmp_path / "splat/Cameras (2).json")
    opensfm(tmp_path / "sfm", ring(3))
    (tmp_path / "sfm/reconstruction.json").rename(tmp_path / "sfm/reconstruction_1.json")
    assert [len(open_capture(tmp_path / name, 64).views) for name in ("splat", "sfm")] == [3, 3]


def test_meshrooms_cache_itself(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(3))
    for node in ("SfMExpanding", "PrepareDenseScene"):
        (tmp_path / "MeshroomCache" / node / "a").mkdir(parents=True)
        (tmp_path / "MeshroomCache" / node / "a/cameras.sfm").write_bytes((tmp_path / "cameras.sfm").read_bytes())
    (tmp_path / "cameras.sfm").unlink()
    assert len(open_capture(tmp_path / "MeshroomCache", 64).views) == 3


def test_models_with_photos_of_their_own_are_several_captures(tmp_path: Path) -> None:
    for name in ("hall", "yard"):
        colmap_text(tmp_path / name, [f"{index}.png" for index in range(3)])
        photos(tmp_path / name, [f"images/{index}.png" for index in range(3)])
    with pytest.raises(CaptureError, match=r"several captures \(hall, yard\); choose one"):
        open_capture(tmp_path, 64)


def test_json_files_of_other_names_are_known_by_what_they_hold(tmp_path: Path) -> None:
    for writer, name, found in (
        (gaussian_splatting, "cameras.json", "3D Gaussian Splatting cameras.json"),
        (opensfm, "reconstruction.json", "OpenSfM reconstruction.json"),
        (record3d, "metadata.json", "Record3D"),
    ):
        folder = tmp_path / name
        writer(folder, ring(2))
        (folder / name).rename(folder / "renamed.json")
        assert open_capture(folder / "renamed.json", 64).format == found
    write(tmp_path / "t", transforms(2))
    (tmp_path / "t/transforms.json").rename(tmp_path / "t/nerf.json")
    assert open_capture(tmp_path / "t/nerf.json", 64).format == "transforms.json"


@pytest.mark.parametrize(
    ("name", "said"), [("scan.psx", "Export Cameras"), ("x.r3d", "unpack it"), ("y.zip", "unpack it"),
                       ("database.db", "sparse/0"), ("z.rcproj", "as CSV"), ("sfm.abc", "ConvertSfMFormat")],
)  # fmt: skip
def test_files_beside_a_capture_say_what_to_do(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(CaptureError, match=said):
        open_capture(tmp_path / name, 64)
