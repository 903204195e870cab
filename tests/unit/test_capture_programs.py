# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs of today write: layouts, spellings, rigs, and numbers that mean something else in each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from capture_on_disk import change, looking_at, photo, pixels, ring, transforms, write
from capture_writers import (
    gaussian_splatting,
    meshroom,
    metashape_xml,
    opensfm,
    photos,
    polycam,
    record3d,
)
from test_capture_lookup import colmap_text

from engine.capture import CaptureError, open_capture
from engine.capture.formats import opensfm as formats_opensfm

POINTS = np.random.default_rng(2).uniform(-1, 1, (30, 3))


# -- transforms.json ---------------------------------------------------------------------------------------------------


def test_k4_alone_is_nerfstudios_and_with_k5_or_k6_opencvs(tmp_path: Path) -> None:
    k = {"k1": -0.05, "k2": 0.02, "k3": -0.01, "k4": 0.03, "p1": 0.001, "p2": -0.0005}
    ours = open_capture(write(tmp_path / "a", transforms(1, **k)), 64).sources[0].lens
    assert (ours.model, ours.params) == ("BROWN", (-0.05, 0.02, -0.01, 0.03, 0.001, -0.0005))
    listed = transforms(1, distortion_params=[-0.05, 0.02, -0.01, 0.03, 0.001, -0.0005])
    assert open_capture(write(tmp_path / "b", listed), 64).sources[0].lens == ours
    rational = open_capture(write(tmp_path / "c", transforms(1, **k, k5=0.01, k6=0.002)), 64).sources[0].lens
    camera = np.array([[60.0, 0, 31], [0, 61, 25], [0, 0, 1]])
    points = POINTS + np.array([0.0, 0.0, 3.0])
    coefficients = np.array([-0.05, 0.02, 0.001, -0.0005, -0.01, 0.03, 0.01, 0.002])
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera, coefficients)[0][:, 0]
    assert rational.model == "OPENCV" and np.abs(rational.project(points) - expected).max() < 1e-9
    utils = pytest.importorskip("nerfstudio.cameras.camera_utils")
    torch = pytest.importorskip("torch")
    bent = torch.tensor((ours.project(points) - (31, 25)) / (60, 61))
    params = torch.tensor([-0.05, 0.02, -0.01, 0.03, 0.001, -0.0005], dtype=torch.float64)
    straight = utils.radial_and_tangential_undistort(bent, params, max_iterations=50).numpy()
    assert np.abs(straight - points[:, :2] / points[:, 2:]).max() < 1e-9


@pytest.mark.parametrize("spelled", ["PERSPECTIVE", "pinhole", "OpenCV", "simple-radial", "Brown Conrady", "opencv_",
                                     "PinholeCamera", "plumb_bob", "Radial K3"])  # fmt: skip
def test_spellings_of_perspective_cameras(tmp_path: Path, spelled: str) -> None:
    lens = open_capture(write(tmp_path, transforms(1, camera_model=spelled, k1=0.1)), 64).sources[0].lens
    assert lens.model == "OPENCV" and lens.params[0] == 0.1


@pytest.mark.parametrize("spelled", ["opencv_fisheye", "Fisheye", "OPENCV-FISHEYE", "kannala-brandt", "EquiDistant",
                                     "KB4", "fisheye camera"])  # fmt: skip
def test_spellings_of_fisheyes(tmp_path: Path, spelled: str) -> None:
    lens = open_capture(write(tmp_path, transforms(1, camera_model=spelled, k1=0.1)), 64).sources[0].lens
    assert (lens.model, lens.params) == ("OPENCV_FISHEYE", (0.1, 0, 0, 0))


def test_a_circle_of_a_fisheye_is_said_to_be_unused(tmp_path: Path) -> None:
    notes = open_capture(write(tmp_path, transforms(2, is_fisheye=True, fisheye_crop_radius=20.0)), 64).notes
    assert any("fisheye_crop_radius" in note and "masks" in note for note in notes)


def test_opencvs_rational_and_the_thin_prism_by_their_names(tmp_path: Path) -> None:
    k = {"k1": -0.05, "k2": 0.02, "k3": -0.01, "k4": 0.03, "p1": 0.001, "p2": -0.0005}
    lens = open_capture(write(tmp_path / "a", transforms(1, **k, camera_model="FULL_OPENCV")), 64).sources[0].lens
    assert (lens.model, lens.params) == ("OPENCV", (-0.05, 0.02, 0.001, -0.0005, -0.01, 0.03, 0, 0))
    meta = transforms(1, **k, sx1=0.002, camera_model="THIN_PRISM_FISHEYE")
    lens = open_capture(write(tmp_path / "b", meta), 64).sources[0].lens
    assert lens.model == "THIN_PRISM_FISHEYE"
    assert lens.params == (-0.05, 0.02, 0.001, -0.0005, -0.01, 0.03, 0.002, 0)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0001, 250.0])
def test_an_evenly_scaled_rotation_is_divided_by_its_scale(tmp_path: Path, scale: float) -> None:
    meta = transforms(4)
    for frame, pose in zip(meta["frames"], ring(4), strict=True):
        pose[:3, :3] *= scale
        frame["transform_matrix"] = pose.tolist()
    for view, pose in zip(open_capture(write(tmp_path, meta), 64).views, ring(4), strict=True):
        assert np.abs(view.pose - pose).max() < 1e-9


def test_numbers_as_text(tmp_path: Path) -> None:
    capture = open_capture(write(tmp_path, transforms(1, fl_x="60.5", w="64", h="48.0", k1="1e-2")), 64)
    assert capture.sources[0].lens.fx == 60.5 and capture.sources[0].lens.params[0] == 0.01


def test_panoramas_are_called_that_in_every_format(tmp_path: Path) -> None:
    write(tmp_path / "a", transforms(2, camera_model="equirectangular"))
    colmap_text(tmp_path / "b", ["0.png", "1.png"])
    (tmp_path / "b/sparse/0/cameras.txt").write_text("1 EQUIRECTANGULAR 64 48 64 48\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/cameras.xml").write_text(metashape_xml(ring(2), {"f": 10.0}, "spherical"))
    opensfm(tmp_path / "d", ring(2))
    change(tmp_path / "d/reconstruction.json", lambda w: w[0]["cameras"]["v2 me"].update(projection_type="spherical"))
    meshroom(tmp_path / "e", ring(2))
    change(tmp_path / "e/cameras.sfm", lambda w: w["intrinsics"][0].update(type="equirectangular"))
    for folder, names in (("b", ["0.png", "1.png"]), ("c", ["000.png", "001.png"])):
        photos(tmp_path / folder, [f"images/{name}" for name in names])
    for folder in "abcde":
        with pytest.raises(CaptureError, match="360° panorama"):
            open_capture(tmp_path / folder, 64)


# -- COLMAP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["colmap_sparse/0", "colmap_text", "reconstruction", "out/model/3", "distorted/sparse/0", "colmap/sparse/0",
     "my scan/sparse/0", "sfm"],
)  # fmt: skip
@pytest.mark.parametrize("pictures", ["images", "input", "images/camera"])
def test_models_in_any_folder(tmp_path: Path, place: str, pictures: str) -> None:
    names = [f"{index}.png" for index in range(4)]
    colmap_text(tmp_path, names, place)
    above = tmp_path / "my scan" if place.startswith("my") else tmp_path
    photos(above / pictures, names)
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 4 and not capture.left_out
    assert all((capture.root / source.file).is_file() for source in capture.sources)
    for chosen in (tmp_path / place, tmp_path / place / "images.txt"):
        assert len(open_capture(chosen, 64).views) == 4


def test_before_undistortion_and_after(tmp_path: Path) -> None:
    """3D Gaussian Splatting's folder: what was undistorted is taken, where it is there."""
    names = [f"{index}.png" for index in range(4)]
    colmap_text(tmp_path, names, "distorted/sparse/0")
    photos(tmp_path / "input", names)
    assert [s.file for s in open_capture(tmp_path, 64).sources] == [f"input/{name}" for name in names]
    colmap_text(tmp_path, names, "sparse/0")
    (tmp_path / "sparse/0/cameras.txt").write_text("1 PINHOLE 60 46 60 61 30 23\n")
    for name in names:
        photo(tmp_path / "images" / name, 60, 46)
    capture = open_capture(tmp_path, 64)
    assert [s.file for s in capture.sources] == [f"images/{name}" for name in names]
    assert capture.sources[0].width == 60


def test_a_workspace_of_undistorted_pictures_beside_the_photos(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(4)]
    colmap_text(tmp_path, names, "dense/sparse")
    photos(tmp_path / "images", names)
    photos(tmp_path / "dense/images", names)
    capture = open_capture(tmp_path, 64)
    assert capture.root / capture.sources[0].file == tmp_path / "dense/images/0.png"


def test_several_models_in_one_folder_of_any_name(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(5)]
    for number, count in ((0, 2), (1, 5), (2, 3)):
        colmap_text(tmp_path, names[:count], f"recon/{number}")
    photos(tmp_path / "images", names)
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 5 and "recon/1 (5); not opened: recon/0 (2), recon/2 (3)" in capture.notes[0]


def test_images_txt_with_and_without_lines_of_keypoints(tmp_path: Path) -> None:
    names = [f"the hall {index}.png" for index in range(6)]
    colmap_text(tmp_path, names)
    photos(tmp_path / "images", names)
    path = tmp_path / "sparse/0/images.txt"
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    keypoints = "10.5 20.25 -1 30.0 40.0 17 1 2 3"
    for text in (
        "\n".join(lines),
        "\n\n\n".join(lines),
        f"\n{keypoints}\n".join(lines) + f"\n{keypoints}\n",
        f"\n{keypoints}\n# a comment\n\n".join(lines),
        "\r\n".join(line + "\r\n" for line in lines),
        "\n".join([*lines[:3], keypoints, *lines[3:]]),
        "\n".join(line.replace(" ", "\t", 9) for line in lines),
        "\n".join(line.replace(".", ",", line.count(".") - 1) for line in lines),
    ):
        path.write_bytes(text.encode())
        assert len(open_capture(tmp_path, 64).views) == 6, text


def test_images_txt_without_empty_lines_of_pictures_called_by_numbers(tmp_path: Path) -> None:
    colmap_text(tmp_path, ["1", "2", "3", "4"])
    path = tmp_path / "sparse/0/images.txt"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line))
    photos(tmp_path / "images", [f"{index}.png" for index in range(1, 5)])
    assert len(open_capture(tmp_path, 64).views) == 4


def test_points_that_splatting_made_of_the_model(tmp_path: Path) -> None:
    colmap_text(tmp_path, ["0.png"])
    photos(tmp_path / "images", ["0.png"])
    (tmp_path / "sparse/0/points3D.txt").unlink()
    header = ["ply", "format ascii 1.0", "element vertex 1"] + [f"property float {axis}" for axis in "xyz"]
    (tmp_path / "sparse/0/points3D.ply").write_text("\n".join([*header, "end_header", "0.5 0 -1", ""]))
    assert open_capture(tmp_path, 64).points.positions.tolist() == [[0.5, 0, -1]]


# -- OpenSfM and OpenDroneMap ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gps", "known"),
    [
        (lambda index: {"gps_dop": 15.0, "gps_position": [index, index * index, 3]}, True),
        (lambda index: {"gps_dop": 999999.0, "gps_position": [0, 0, 0]}, False),
        (lambda index: {}, False),
        (lambda index: {"gps_dop": 15.0, "gps_position": [index, 2 * index, 3]}, False),  # along a line
        (lambda index: {"gps_dop": 5.0, "gps_position": [index, 2 * index + 0.02 * (index % 2), 3]}, False),  # nearly
        (lambda index: {"gps_dop": 15.0, "gps_position": [1, 2, 3]}, False),
        (lambda index: {"gps_dop": 15.0 if index < 2 else 999999.0, "gps_position": [index, index * index, 3]}, False),
        (lambda index: {"gps_dop": math.nan, "gps_position": "here"}, False),
    ],
)
def test_gravity_is_known_where_gps_was(tmp_path: Path, gps: Any, known: bool) -> None:
    opensfm(tmp_path, ring(5))

    def place(whole: list) -> None:
        for index, shot in enumerate(whole[0]["shots"].values()):
            for key in ("gps_dop", "gps_position"):
                shot.pop(key, None)
            shot.update(gps(index))

    change(tmp_path / "reconstruction.json", place)
    found = open_capture(tmp_path, 64).gravity_up
    assert (found is not None) == known


def test_gravity_is_not_known_where_the_cameras_stand_in_a_line(tmp_path: Path) -> None:
    poses = [looking_at((0.3 * index, -4, 1 + 0.001 * index**2), (0.3 * index, 0, 0)) for index in range(5)]
    opensfm(tmp_path, poses)

    def scatter(whole: list) -> None:
        for index, shot in enumerate(whole[0]["shots"].values()):
            shot.update(gps_dop=5.0, gps_position=[index, index * index, 3])  # as far off as phones are

    change(tmp_path / "reconstruction.json", scatter)
    assert open_capture(tmp_path, 64).gravity_up is None


def test_a_project_of_opendronemap(tmp_path: Path) -> None:
    opensfm(tmp_path, ring(4))
    (tmp_path / "opensfm/undistorted/images").mkdir(parents=True)
    (tmp_path / "reconstruction.json").rename(tmp_path / "opensfm/reconstruction.json")
    (tmp_path / "cameras.json").write_text('{"v2 me": {"projection_type": "brown", "focal_x": 1}}')
    photos(tmp_path, [f"opensfm/undistorted/images/{index:03d}.png.tif" for index in range(4)])
    for chosen in (tmp_path, tmp_path / "opensfm", tmp_path / "opensfm/reconstruction.json"):
        capture = open_capture(chosen, 64)
        assert [capture.root / s.file for s in capture.sources] == sorted((tmp_path / "images").glob("*.png"))
    (tmp_path / "opensfm/reconstruction.json").rename(tmp_path / "opensfm/undistorted/reconstruction.json")
    capture = open_capture(tmp_path / "opensfm/undistorted", 64)
    assert capture.sources[0].file == "images/000.png.tif"


def test_large_reconstructions_are_read_as_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opensfm(tmp_path, ring(4))
    path = tmp_path / "reconstruction.json"
    change(path, lambda w: w.append({"cameras": {}, "shots": {}}))
    before = open_capture(tmp_path, 64)
    monkeypatch.setattr(formats_opensfm, "LARGEST_FILE", path.stat().st_size - 100)
    after = open_capture(tmp_path, 64)
    assert before.sources == after.sources and before.points.positions.tolist() == after.points.positions.tolist()
    assert all((a.pose == b.pose).all() for a, b in zip(before.views, after.views, strict=True))
    monkeypatch.setattr(formats_opensfm, "_LARGEST", path.stat().st_size)
    text = path.read_text()
    change(path, lambda w: w[0]["points"].update(text_of_nothing=1))
    with pytest.raises(CaptureError, match=r"larger than|is not a capture's file"):
        open_capture(tmp_path, 64)
    for bad in (
        text.replace('"shots"', '"shot"'),
        text[:-9],
        text.replace("0.5", '"a"', 1),
        text.replace("1.1", "NaN"),
    ):
        path.write_text(bad + " " * (len(text) - len(bad)))
        with pytest.raises(CaptureError):
            open_capture(tmp_path, 64)


# -- Polycam, Record3D, 3D Gaussian Splatting --------------------------------------------------------------------------


def test_polycam_without_sizes(tmp_path: Path) -> None:
    polycam(tmp_path, ring(3))
    before = polycam(tmp_path / "before", ring(3))
    for path in (tmp_path / "keyframes/corrected_cameras").iterdir():
        change(path, lambda camera: [camera.pop(key) for key in ("width", "height")])
    capture = open_capture(tmp_path, 64)  # the pictures' own
    assert np.abs(pixels(capture, 1, POINTS) - before(1, POINTS)).max() < 1e-6
    for path in (tmp_path / "keyframes/corrected_images").iterdir():
        photo(path, 32, 24)
    (tmp_path / "before/keyframes/corrected_cameras").rename(tmp_path / "keyframes/cameras")
    capture = open_capture(tmp_path, 64)  # that of the cameras before their correction
    assert np.abs(pixels(capture, 1, POINTS) * 2 - before(1, POINTS)).max() < 1e-6


@pytest.mark.parametrize("size", [{"width": None, "height": None}, {"height": None}])
def test_polycam_with_half_a_size(tmp_path: Path, size: dict[str, None]) -> None:
    source = polycam(tmp_path, ring(3))
    for path in (tmp_path / "keyframes/corrected_cameras").iterdir():
        change(path, lambda camera: camera.update(size))
    assert np.abs(pixels(open_capture(tmp_path, 64), 1, POINTS) - source(1, POINTS)).max() < 1e-6


def test_polycams_cameras_go_with_their_own_pictures(tmp_path: Path) -> None:
    keyframes = tmp_path / "keyframes"
    before = polycam(tmp_path, ring(3))
    (keyframes / "corrected_images").rename(keyframes / "images")
    (keyframes / "corrected_images").mkdir()  # left empty, as by a download that was cut off
    for path in (keyframes / "corrected_cameras").iterdir():
        (keyframes / "cameras").mkdir(exist_ok=True)
        (keyframes / "cameras" / path.name).write_bytes(path.read_bytes())
        change(path, lambda camera: camera.update(fx=80.0))
    capture = open_capture(tmp_path, 64)
    assert np.abs(pixels(capture, 1, POINTS) - before(1, POINTS)).max() < 1e-6
    for path in (keyframes / "cameras").iterdir():
        path.unlink()
    capture = open_capture(tmp_path, 64)  # none but the corrected ones are left
    assert capture.sources[0].lens.fx == 80 and "corrected" in capture.notes[0]


def test_an_unpacked_r3d(tmp_path: Path) -> None:
    source = record3d(tmp_path, ring(3))
    (tmp_path / "rgb").rename(tmp_path / "rgbd")
    (tmp_path / "metadata.json").rename(tmp_path / "metadata")
    (tmp_path / "rgbd/0.depth").write_bytes(b"lzfse")
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 3 and np.abs(pixels(capture, 1, POINTS) - source(1, POINTS)).max() < 1e-6


@pytest.mark.parametrize(("size", "fits"), [((64, 48), True), ((32, 24), True), ((65, 49), True), ((68, 51), False),
                                            ((60, 45), False), ((128, 96), True)])  # fmt: skip
def test_splatting_was_trained_on_undistorted_pictures(tmp_path: Path, size: tuple[int, int], fits: bool) -> None:
    gaussian_splatting(tmp_path, ring(3))
    for path in (tmp_path / "images").iterdir():
        photo(path, *size)
    if fits:
        assert len(open_capture(tmp_path, 64).views) == 3
    else:
        with pytest.raises(CaptureError, match="the photo before it was undistorted"):
            open_capture(tmp_path, 64)
        photos(tmp_path, [f"undistorted/{index:03d}.png" for index in range(3)])  # found by their size
        assert open_capture(tmp_path, 64).sources[0].file == "undistorted/000.png"
