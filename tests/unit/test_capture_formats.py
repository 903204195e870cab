# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures of other programs see the points where those programs see them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from capture_on_disk import photo, ring, shared
from capture_writers import (
    SIZE,
    WRITERS,
    gaussian_splatting,
    llff,
    meshroom,
    metashape_xml,
    opensfm,
    photos,
    polycam,
    reality_capture,
    record3d,
    write_ring,
)

from engine.capture import Capture, CaptureError, open_capture

POINTS = np.random.default_rng(1).uniform(-1, 1, (30, 3))


def pixels(capture: Capture, index: int, points: np.ndarray) -> np.ndarray:
    """Where a view's photo sees world points (N, 3): (N, 2), by the capture's pose and lens."""
    pose = capture.views[index].pose
    return capture.sources[index].lens.project((points - pose[:3, 3]) @ pose[:3, :3] * (1, -1, -1))


def converter(name: str) -> ModuleType:
    """nerfstudio's own reader of a format. What its file imports for raw photos and points is not installed."""
    for other in ("rawpy", "open3d"):
        try:
            importlib.import_module(other)
        except ImportError:  # not installed, or without a library of the system's that it needs
            sys.modules[other] = ModuleType(other)
    try:
        return importlib.import_module(f"nerfstudio.process_data.{name}")
    finally:
        for other in ("rawpy", "open3d"):
            if getattr(sys.modules.get(other), "__spec__", None) is None:
                sys.modules.pop(other, None)


def reasons(capture: Capture) -> str:
    return " ".join(left.reason for left in capture.left_out)


@pytest.mark.parametrize("name", WRITERS)
def test_points_fall_on_the_pixels_where_the_source_sees_them(tmp_path: Path, name: str) -> None:
    source = write_ring(name, tmp_path, 6)
    capture = open_capture(tmp_path, 512)
    assert len(capture.views) == 6 and not capture.left_out and capture.root == tmp_path
    for index in range(6):
        assert np.abs(pixels(capture, index, POINTS) - source(index, POINTS)).max() < 1e-6  # pixels


@pytest.mark.parametrize("name", WRITERS)
def test_pictures_at_half_their_size(tmp_path: Path, name: str) -> None:
    source = write_ring(name, tmp_path, 3)
    for file in sorted(tmp_path.rglob("*.png")) + sorted(tmp_path.rglob("*.jpg")):
        photo(file, SIZE[0] // 2, SIZE[1] // 2)
    capture = open_capture(tmp_path, 512)
    for index in range(3):
        assert np.abs(pixels(capture, index, POINTS) * 2 - source(index, POINTS)).max() < 1e-5


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_found_in_its_folder_and_by_its_file(tmp_path: Path, name: str) -> None:
    write_ring(name, tmp_path, 3)
    if name not in ("Polycam", "Blender-synthetic"):
        assert open_capture(tmp_path / WRITERS[name][1], 64).format == open_capture(tmp_path, 64).format


@pytest.mark.parametrize(
    ("name", "up"),
    [("Record3D", (0, 1, 0)), ("Polycam", (0, 1, 0)), ("OpenSfM", (0, 0, 1)), ("RealityCapture", (0, 0, 1)),
     ("Metashape", (0, 1, 0)), ("LLFF", None), ("Meshroom", None), ("3D Gaussian Splatting", None)],
)  # fmt: skip
def test_up_where_the_source_knows_it(tmp_path: Path, name: str, up: tuple[float, float, float] | None) -> None:
    write_ring(name, tmp_path, 3)
    found = open_capture(tmp_path, 64).gravity_up
    assert (found is None) == (up is None)
    if up is not None:
        assert np.allclose(found, up, atol=1e-9)


# -- Blender-synthetic -------------------------------------------------------------------------------------------------


def test_lego_opens_by_its_folder() -> None:
    capture = open_capture(shared("captures/lego"), 400)
    camera = capture.views[0].intrinsics
    assert (capture.format, len(capture.views), capture.left_out) == ("Blender-synthetic", 50, [])
    assert math.isclose(camera.fx, 200 / math.tan(0.6911112070083618 / 2)) and camera.cx == camera.cy == 200
    assert sum(view.held_out for view in capture.views) == 6  # there is no test list, so every eighth


def test_val_and_test_are_held_out_and_a_broken_list_takes_nothing_from_the_others(tmp_path: Path) -> None:
    write_ring("Blender-synthetic", tmp_path, 9)
    capture = open_capture(tmp_path, 64)
    held = {s.file.split("/")[0]: v.held_out for v, s in zip(capture.views, capture.sources, strict=True)}
    assert held == {"train": False, "val": True, "test": True}
    (tmp_path / "transforms_test.json").write_text("{")
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 6 and "transforms_test.json is not valid JSON" in capture.notes[0]
    for split in ("train", "val"):
        (tmp_path / f"transforms_{split}.json").write_text("{")
    with pytest.raises(CaptureError, match=r"transforms_train\.json is not valid JSON"):
        open_capture(tmp_path, 64)


def test_the_same_picture_in_two_lists(tmp_path: Path) -> None:
    write_ring("Blender-synthetic", tmp_path, 6)
    (tmp_path / "transforms_test.json").write_text((tmp_path / "transforms_train.json").read_text())
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 4 and not capture.left_out and "2 pictures" in capture.notes[0]
    assert sum(view.held_out for view in capture.views) == 2


# -- LLFF --------------------------------------------------------------------------------------------------------------


def similarity(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(scale, rotation, shift) that takes points a (N, 3) to b best (Umeyama)."""
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(b0.T @ a0)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * signs) @ vt
    scale = float((s * signs).sum() / (a0**2).sum())
    return scale, rotation, b.mean(axis=0) - scale * rotation @ a.mean(axis=0)


def test_beer_by_llff_and_by_colmap_agree_up_to_a_similarity(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    folder = shared("captures/beer")
    model = pycolmap.Reconstruction(str(folder / "sparse/0"))
    theirs = {}
    for image in model.images.values():
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        theirs[image.name] = (pose * (1, -1, -1, 1), image.camera)
    capture = open_capture(folder / "poses_bounds.npy", 512)
    assert len(capture.views) == len(theirs) == 71 and not capture.left_out
    a = np.array([theirs[Path(source.file).name][0] for source in capture.sources])
    b = np.array([view.pose for view in capture.views])
    scale, rotation, shift = similarity(a[:, :3, 3], b[:, :3, 3])
    off = np.linalg.norm(a[:, :3, 3] @ rotation.T * scale + shift - b[:, :3, 3], axis=1).max()
    turned = np.einsum("ij,njk->nik", rotation, a[:, :3, :3])
    angle = max(np.linalg.norm(cv2.Rodrigues(x.T @ y)[0]) for x, y in zip(turned, b[:, :3, :3], strict=True))
    assert off < 1e-6 * capture.radius and angle < 1e-6
    # LLFF's program wrote the first camera's focal length for all, and forgot the distortion.
    assert {source.lens.fx for source in capture.sources} == {theirs["0000.jpg"][1].params[0]}


def test_llff_takes_the_folder_with_as_many_pictures_as_there_are_rows(tmp_path: Path) -> None:
    source = llff(tmp_path, ring(4))
    (tmp_path / "images/000.png").unlink()
    with pytest.raises(CaptureError, match="4 rows and the folder images 3 pictures"):
        open_capture(tmp_path, 64)
    photos(tmp_path, [f"images_2/{index}.png" for index in range(4)], (32, 24))
    capture = open_capture(tmp_path, 64)
    assert capture.sources[0].file == "images_2/0.png"
    assert np.abs(pixels(capture, 1, POINTS) * 2 - source(1, POINTS)).max() < 1e-5


# -- 3D Gaussian Splatting ---------------------------------------------------------------------------------------------


def test_splatting_pictures_are_found_by_name_or_said_to_be_missing(tmp_path: Path) -> None:
    gaussian_splatting(tmp_path, ring(4))
    for folder in ("copies", "more", "masks"):  # others of the same name
        photos(tmp_path, [f"{folder}/{index:03d}.png" for index in range(4)])
    (tmp_path / "images/003.png").unlink()
    capture = open_capture(tmp_path, 64)
    assert [source.file for source in capture.sources] == [f"images/{index:03d}.png" for index in range(3)]
    assert "Several pictures are called 003" in reasons(capture)
    for folder in ("images", "copies", "more"):
        for file in (tmp_path / folder).glob("*"):
            file.unlink()
    with pytest.raises(CaptureError, match="copy the photos there"):
        open_capture(tmp_path, 64)


def test_splatting_points_that_training_began_with(tmp_path: Path) -> None:
    gaussian_splatting(tmp_path, ring(3))
    header = ["ply", "format ascii 1.0", "element vertex 1"] + [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    (tmp_path / "input.ply").write_text("\n".join([*header, "end_header", "0.5 0 -1 1 2 3", ""]))
    points = open_capture(tmp_path, 64).points
    assert points.positions.tolist() == [[0.5, 0, -1]] and points.colours.tolist() == [[1, 2, 3]]
    (tmp_path / "input.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 5\n")
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 3 and capture.points is None and "points are left out" in capture.notes[0]


# -- Record3D ----------------------------------------------------------------------------------------------------------


def test_record3d_as_nerfstudio_reads_it(tmp_path: Path) -> None:
    utils = converter("record3d_utils")
    folder = shared("fixtures/record3d")
    capture = open_capture(folder, 512)
    assert len(capture.views) == 21 and capture.notes == ["324 of 345 poses have no picture."]
    files = [capture.root / source.file for source in capture.sources]
    indices = np.array([int(file.stem) for file in files])
    utils.record3d_to_json(files, capture.root / "metadata.json", tmp_path, indices)
    theirs = json.loads((tmp_path / "transforms.json").read_text())
    for view, source, frame in zip(capture.views, capture.sources, theirs["frames"], strict=True):
        assert np.abs(view.pose - frame["transform_matrix"]).max() < 1e-6
        assert math.isclose(source.lens.fx, theirs["fl_x"]) and math.isclose(source.lens.fy, theirs["fl_y"])
        assert (source.width, source.height) == (theirs["w"], theirs["h"]) == (1440, 1920)
    # nerfstudio puts the principal point into the middle; the file says where it is.
    assert abs(capture.sources[0].lens.cx - 724.64587) < 1e-4 and abs(capture.sources[0].lens.cy - 963.78375) < 1e-4


def test_record3d_poses_agree_with_what_its_pictures_show() -> None:
    """Features of neighbouring pictures lie on each other's epipolar lines: no other turn of the cameras has that."""
    capture = open_capture(shared("fixtures/record3d"), 512)
    found = []
    detector = cv2.SIFT_create(1500)
    for source in capture.sources[:6]:
        grey = cv2.imread(str(capture.root / source.file), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        found.append(detector.detectAndCompute(grey, None))
    distances: dict[int, list[float]] = {degrees: [] for degrees in (0, 90, 180, 270)}
    for index in range(5):
        pairs = cv2.BFMatcher().knnMatch(found[index][1], found[index + 1][1], k=2)
        good = [first for first, second in pairs if first.distance < 0.7 * second.distance]
        a = np.array([found[index][0][match.queryIdx].pt for match in good]) + 0.5
        b = np.array([found[index + 1][0][match.trainIdx].pt for match in good]) + 0.5
        _, kept = cv2.findFundamentalMat(a, b, cv2.FM_RANSAC, 2.0)
        a, b = a[kept.ravel() > 0], b[kept.ravel() > 0]
        for degrees, into in distances.items():
            c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ np.diag([1, -1, -1, 1])
            relative = np.linalg.inv(capture.views[index + 1].pose @ turn) @ capture.views[index].pose @ turn
            x, y, z = relative[:3, 3]
            lens = capture.sources[index].lens
            back = np.linalg.inv([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]])
            fundamental = back.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3] @ back
            lines = np.c_[a, np.ones(len(a))] @ fundamental.T
            into += (np.abs((np.c_[b, np.ones(len(b))] * lines).sum(axis=1)) / np.hypot(*lines.T[:2])).tolist()
    medians = {degrees: float(np.median(values)) for degrees, values in distances.items()}
    assert medians[0] < 6 and min(medians[degrees] for degrees in (90, 180, 270)) > 3 * medians[0], medians  # pixels


def test_record3d_intrinsics_of_each_frame(tmp_path: Path) -> None:
    record3d(tmp_path, ring(3))
    meta = json.loads((tmp_path / "metadata.json").read_text())
    meta["perFrameIntrinsicCoeffs"] = [[80.0 + index, 81, 30, 20] for index in range(7)]
    (tmp_path / "metadata.json").write_text(json.dumps(meta))
    lenses = [source.lens for source in open_capture(tmp_path, 64).sources]
    assert [(lens.fx, lens.fy, lens.cx, lens.cy) for lens in lenses] == [(80 + i, 81, 30, 20) for i in range(3)]


# -- Polycam -----------------------------------------------------------------------------------------------------------

WORLD = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # nerfstudio turns y up to z up: (z, x, y)


def test_polycam_as_nerfstudio_reads_it(tmp_path: Path) -> None:
    utils = converter("polycam_utils")
    polycam(tmp_path, ring(5))
    images = sorted((tmp_path / "keyframes/corrected_images").iterdir())
    utils.polycam_to_json(images, [], None, tmp_path / "keyframes/corrected_cameras", tmp_path)
    theirs = json.loads((tmp_path / "transforms.json").read_text())
    (tmp_path / "transforms.json").unlink()
    capture = open_capture(tmp_path, 64)
    for view, source, frame in zip(capture.views, capture.sources, theirs["frames"], strict=True):
        assert np.abs(WORLD @ view.pose - frame["transform_matrix"]).max() < 1e-12
        lens = source.lens
        assert (lens.fx, lens.fy, lens.cx, lens.cy) == tuple(frame[key] for key in ("fl_x", "fl_y", "cx", "cy"))


def test_polycam_without_corrected_cameras_and_from_within(tmp_path: Path) -> None:
    polycam(tmp_path, ring(3))
    for kind in ("cameras", "images"):
        (tmp_path / f"keyframes/corrected_{kind}").rename(tmp_path / f"keyframes/{kind}")
    assert open_capture(tmp_path, 64).sources[0].file == "keyframes/images/1000.jpg"
    assert open_capture(tmp_path / "keyframes", 64).sources[0].file == "images/1000.jpg"


# -- Metashape ---------------------------------------------------------------------------------------------------------


def test_metashape_as_nerfstudio_reads_it(tmp_path: Path) -> None:
    utils = converter("metashape_utils")
    poses = ring(4)
    calibration = {"f": 70.0, "cx": 1.0, "cy": -0.5, "k1": 0.05, "k2": -0.02, "k3": 0.01}
    (tmp_path / "cameras.xml").write_text(metashape_xml(poses, calibration))
    photos(tmp_path, [f"images/{index:03d}.png" for index in range(4)])
    utils.metashape_to_json(
        {f"{i:03d}": Path(f"images/{i:03d}.png") for i in range(4)}, tmp_path / "cameras.xml", tmp_path
    )
    theirs = json.loads((tmp_path / "transforms.json").read_text())
    (tmp_path / "transforms.json").unlink()
    capture = open_capture(tmp_path, 64)
    assert capture.gravity_up is None  # the component was never placed in the world
    for view, source, frame in zip(capture.views, capture.sources, theirs["frames"], strict=True):
        assert np.abs(WORLD @ view.pose - frame["transform_matrix"]).max() < 1e-9
        lens = source.lens
        assert (lens.fx, lens.fy, lens.cx, lens.cy) == tuple(frame[key] for key in ("fl_x", "fl_y", "cx", "cy"))
        k1, k2, p1, p2, k3, *_ = lens.params
        assert (k1, k2, k3, p1, p2) == tuple(frame[key] for key in ("k1", "k2", "k3", "p1", "p2"))


def test_metashape_fisheye(tmp_path: Path) -> None:
    poses, k = ring(3), (0.05, -0.02, 0.01, -0.004)
    calibration = {"f": 40.0} | {f"k{index + 1}": value for index, value in enumerate(k)}
    (tmp_path / "cameras.xml").write_text(metashape_xml(poses, calibration, "fisheye"))
    photos(tmp_path, [f"{index:03d}.png" for index in range(3)])
    capture = open_capture(tmp_path, 64)
    pose = poses[1] @ np.diag([1.0, -1, -1, 1])
    local = (POINTS - pose[:3, 3]) @ pose[:3, :3]
    expected = cv2.fisheye.projectPoints(
        local[None], np.zeros(3), np.zeros(3), np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]]), np.array(k)
    )[0][0]
    assert np.abs(pixels(capture, 1, POINTS) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ({"f": 0.0}, "focal"),
        ({}, "f is missing"),
        ({"f": -5.0}, "focal"),
        ({"f": math.nan}, "f is not a usable number"),
    ],
)
def test_metashape_values_that_cannot_be_kept(tmp_path: Path, calibration: dict[str, float], said: str) -> None:
    (tmp_path / "cameras.xml").write_text(metashape_xml(ring(2), calibration))
    photos(tmp_path, ["000.png", "001.png"])
    with pytest.raises(CaptureError, match=said):
        open_capture(tmp_path, 64)


def test_metashape_on_the_whole_earth_stands_on_its_ellipsoid(tmp_path: Path) -> None:
    latitude, longitude, height = math.radians(48.2), math.radians(16.4), 180.0
    a, e2 = 6378137.0, 6.69437999014e-3  # WGS 84
    n = a / math.sqrt(1 - e2 * math.sin(latitude) ** 2)
    up = np.array(
        [math.cos(latitude) * math.cos(longitude), math.cos(latitude) * math.sin(longitude), math.sin(latitude)]
    )
    place = np.array([(n + height) * up[0], (n + height) * up[1], (n * (1 - e2) + height) * up[2]])
    rotation = cv2.Rodrigues(np.array([0.3, -1.0, 0.4]))[0]
    transform = (
        f"<transform><rotation>{' '.join(map(str, rotation.ravel()))}</rotation><translation>"
        f"{' '.join(map(str, place))}</translation><scale>3</scale></transform>"
    )
    (tmp_path / "cameras.xml").write_text(metashape_xml(ring(2), {"f": 70.0}, transform=transform))
    photos(tmp_path, ["000.png", "001.png"])
    assert np.abs(open_capture(tmp_path, 64).gravity_up - rotation.T @ up).max() < 1e-6


def test_metashape_parts_are_joined_by_way_of_the_world(tmp_path: Path) -> None:
    poses = ring(5)
    first = np.diag([2.0, 2, 2, 1])
    second = np.eye(4)
    second[:3, :3], second[:3, 3] = 0.5 * cv2.Rodrigues(np.array([0.3, -1.0, 0.4]))[0], (1, 2, 3)
    moved = np.linalg.inv(second) @ first @ poses[4]  # the last camera in the second part's own frame
    moved[:3, :3] /= np.cbrt(np.linalg.det(moved[:3, :3]))
    text = metashape_xml([*poses[:4], moved], {"f": 70.0}, transform="<transform><scale>2</scale></transform>")
    turn = " ".join(map(repr, (second[:3, :3] / 0.5).ravel().tolist()))
    part = (
        f'<component id="1"><transform><rotation>{turn}</rotation><translation>1 2 3</translation><scale>0.5</scale>'
        "</transform></component></components>"
    )
    text = text.replace('sensor_id="0" component_id="0" label="004"', 'sensor_id="0" component_id="1" label="004"')
    photos(tmp_path, [f"{index:03d}.png" for index in range(5)])
    (tmp_path / "cameras.xml").write_text(text.replace("</components>", part))
    capture = open_capture(tmp_path, 64)
    assert np.abs(capture.views[4].pose - poses[4]).max() < 1e-9
    (tmp_path / "cameras.xml").write_text(text.replace("</components>", '<component id="1"/></components>'))
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 4 and "could not join" in reasons(capture)


# -- RealityCapture ----------------------------------------------------------------------------------------------------


def test_reality_capture_as_nerfstudio_reads_it(tmp_path: Path) -> None:
    utils = converter("realitycapture_utils")
    reality_capture(tmp_path, ring(4))
    files = {f"{i:03d}": Path(f"images/{i:03d}.png") for i in range(4)}
    utils.realitycapture_to_json(files, tmp_path / "registration.csv", None, tmp_path)
    theirs = json.loads((tmp_path / "transforms.json").read_text())
    (tmp_path / "transforms.json").unlink()
    capture = open_capture(tmp_path, 64)
    for view, source, frame in zip(capture.views, capture.sources, theirs["frames"], strict=True):
        assert np.abs(view.pose - frame["transform_matrix"]).max() < 1e-9
        lens = source.lens
        ours = (lens.fx, lens.fy, lens.cx, lens.cy, *lens.params)
        # Which takes t1 and t2 for OpenCV's p1 and p2; by Epic's own reference they stand the other way round.
        keys = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4", "p2", "p1")
        assert np.allclose(ours, [frame[key] for key in keys])


def test_reality_capture_in_a_maps_coordinates_is_brought_near(tmp_path: Path) -> None:
    far = np.array([512345.25, 5312345.5, 180.125])
    poses = ring(4)
    for pose in poses:
        pose[:3, 3] += far
    reality_capture(tmp_path, poses)
    capture = open_capture(tmp_path, 64)
    moved = np.array([512345, 5312346, 181.0])
    assert "(512345, 5312346, 181) was taken off" in capture.notes[0] and capture.origin == tuple(moved)
    for view, pose in zip(capture.views, poses, strict=True):
        assert np.abs(view.pose[:3, 3] - (pose[:3, 3] - moved)).max() < 1e-8


# -- Meshroom ----------------------------------------------------------------------------------------------------------


def changed(path: Path, change) -> None:
    scene = json.loads(path.read_text())
    change(scene)
    path.write_text(json.dumps(scene))


def test_meshroom_older_and_newer_files_say_the_same(tmp_path: Path) -> None:
    source = meshroom(tmp_path, ring(3))
    scene = tmp_path / "cameras.sfm"

    def older(s: dict) -> None:  # pixels, from the upper left corner
        s["version"] = ["1", "0", "0"]
        s["intrinsics"][0] |= {"pxFocalLength": ["70", "71.4"], "principalPoint": ["33", "23.5"]}

    def newer(s: dict) -> None:  # the distortion has a type of its own
        s["version"] = ["1", "2", "11"]
        s["intrinsics"][0] |= {"type": "pinhole", "distortionType": "brown", "principalPoint": ["1", "-0.5"]}

    for change in (older, newer):
        changed(scene, change)
        assert np.abs(pixels(open_capture(tmp_path, 64), 1, POINTS) - source(1, POINTS)).max() < 1e-6


def test_meshroom_projects_open_by_their_folder_and_have_points(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(3))
    deep = tmp_path / "MeshroomCache/StructureFromMotion/0a1b"
    deep.mkdir(parents=True)
    (tmp_path / "cameras.sfm").rename(deep / "cameras.sfm")
    capture = open_capture(tmp_path, 64)
    assert capture.root == tmp_path and len(capture.views) == 3
    assert capture.points.positions.tolist() == [[0.5, 0, -1]] and capture.points.colours.tolist() == [[1, 2, 3]]


def test_meshroom_views_without_a_camera_and_lenses_that_cannot_be_read(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(3))
    changed(tmp_path / "cameras.sfm", lambda s: s["poses"].pop())
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 2 and "found no camera" in reasons(capture)
    changed(tmp_path / "cameras.sfm", lambda s: s["intrinsics"][0].update(type="3deradial4"))
    with pytest.raises(CaptureError, match="3deradial4"):
        open_capture(tmp_path, 64)
    changed(tmp_path / "cameras.sfm", lambda s: s.pop("poses"))
    with pytest.raises(CaptureError, match="has no poses"):
        open_capture(tmp_path, 64)


# -- OpenSfM -----------------------------------------------------------------------------------------------------------


def test_opensfm_lenses(tmp_path: Path) -> None:
    opensfm(tmp_path, ring(3))
    path = tmp_path / "reconstruction.json"
    camera = {"projection_type": "perspective", "width": 640, "height": 480, "focal": 0.9, "k1": -0.1, "k2": 0.02}
    changed(path, lambda s: s[0]["cameras"].update({"v2 me": camera}))
    lens = open_capture(tmp_path, 64).sources[0].lens
    assert (lens.model, lens.fx, lens.fy, lens.cx, lens.cy) == ("OPENCV", 57.6, 57.6, 32, 24)
    assert lens.params[:2] == (-0.1, 0.02) and not any(lens.params[2:])
    changed(path, lambda s: s[0]["cameras"]["v2 me"].update(projection_type="fisheye"))
    lens = open_capture(tmp_path, 64).sources[0].lens
    assert (lens.model, lens.params) == ("OPENCV_FISHEYE", (-0.1, 0.02, 0, 0))
    changed(path, lambda s: s[0]["cameras"]["v2 me"].update(projection_type="spherical"))
    with pytest.raises(CaptureError, match="spherical"):
        open_capture(tmp_path, 64)


def test_opensfm_the_largest_reconstruction_is_opened_and_said(tmp_path: Path) -> None:
    opensfm(tmp_path, ring(3))
    shot = {"rotation": [0, 0, 0], "translation": [0, 0, 0], "camera": "v2 me"}
    changed(tmp_path / "reconstruction.json", lambda s: s.insert(0, {"cameras": {}, "shots": {"x.png": shot}}))
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 3 and "the largest, of 3 pictures, was opened; the others have 1" in capture.notes[0]
    assert capture.points.positions.tolist() == [[0.5, 0, -1]] and capture.points.colours.tolist() == [[1, 2, 3]]
