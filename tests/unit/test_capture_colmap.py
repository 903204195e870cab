# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP's models against what COLMAP itself wrote, reads and projects."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from capture_on_disk import SHARED, photo, shared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.capture import Capture, CaptureError, lookup, open_capture
from engine.capture.lookup import MOST_ABOVE
from engine.capture.pinhole import rays_of

KINDS = ("bin", "txt")


def synthetic(seed: int = 1, rigs: int = 1, frames: int = 6, model: str = "OPENCV", points: int = 40):
    """A model made by pycolmap: two cameras a rig where there is more than one rig."""
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = rigs
    options.num_cameras_per_rig = 2 if rigs > 1 else 1
    options.num_frames_per_rig = frames
    options.num_points3D = points
    options.camera_width, options.camera_height = 64, 48
    if model == "OPENCV":
        options.camera_model_id = pycolmap.CameraModelId.OPENCV
        options.camera_params = [60, 61, 31, 25, 0.02, -0.01, 0.001, 0.002]
    else:
        options.camera_model_id = pycolmap.CameraModelId.PINHOLE
        options.camera_params = [60, 61, 31, 25]
    return pycolmap.synthesize_dataset(options)


def on_disk(folder: Path, model: pycolmap.Reconstruction, place: str = "sparse/0", kind: str = "bin",
            images: str = "images") -> Path:  # fmt: skip
    """Writes the model where COLMAP would, and a picture for each of its images; gives the project's folder."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    (model.write_binary if kind == "bin" else model.write_text)(str(folder / place))
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        photo(folder / images / image.name, camera.width, camera.height)
    return folder


def assert_as_pycolmap_reads(capture: Capture, model: pycolmap.Reconstruction) -> None:
    by_name = {image.name: image for image in model.images.values()}
    assert len(capture.views) + len(capture.left_out) == len(by_name)
    for view, source in zip(capture.views, capture.sources, strict=True):
        name = next(n for n in by_name if source.file == n or source.file.endswith(f"/{n}"))
        image = by_name[name]
        camera_from_world = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        flipped = np.diag([1.0, -1, -1, 1])
        assert np.abs(flipped @ np.linalg.inv(view.pose) - camera_from_world).max() < 1e-9
        theirs = model.cameras[image.camera_id]
        rays = np.array([[0.1, -0.2, 1], [-0.3, 0.1, 2]])
        scale = np.array([source.width / theirs.width, source.height / theirs.height])
        assert np.abs(source.lens.project(rays) - theirs.img_from_cam(rays) * scale).max() < 1e-6
    theirs = {tuple(point.xyz): tuple(point.color) for point in model.points3D.values()}
    ours = capture.points
    assert ours is not None and len(ours) == len(theirs)
    for position, colour in zip(ours.positions, ours.colours, strict=True):
        near = min(theirs, key=lambda p: np.abs(np.array(p) - position).sum())
        assert np.allclose(near, position, atol=1e-9) and theirs[near] == tuple(colour)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", sorted(p.name for p in (SHARED / "fixtures/colmap").glob("*")))
def test_open_undistort_project(model: str, kind: str, tmp_path: Path) -> None:
    """A point, through the pinhole camera that a view got and back through the lens, falls where COLMAP puts it."""
    source = shared("fixtures/colmap") / model
    shutil.copytree(source / kind, tmp_path / "sparse/0")
    expected = json.loads((source / "expected_projections.json").read_text())
    for image in expected["images"]:
        photo(tmp_path / "images" / image["name"], expected["width"], expected["height"])
    capture = open_capture(tmp_path, 320)
    assert capture.format == "COLMAP" and len(capture.views) == len(expected["images"])
    seen = 0
    for view, image in zip(capture.views, sorted(expected["images"], key=lambda i: i["name"]), strict=True):
        points = np.array([point["xyz"] for point in image["points"]])
        there = np.array([point["uv_colmap"] for point in image["points"]])
        x, y, z = ((points - view.pose[:3, 3]) @ view.pose[:3, :3]).T
        camera = view.intrinsics
        pixels = np.stack([camera.fx * x / -z + camera.cx, camera.fy * -y / -z + camera.cy], axis=1)
        inside = ((pixels > 0) & (pixels < (camera.width, camera.height))).all(axis=1)
        seen += inside.sum()
        (lens,) = {s.lens for s in capture.sources}
        back = lens.project(rays_of(camera, pixels[inside]))
        assert np.abs(back - there[inside]).max() < 0.01
    assert seen > 100


def test_beer_as_pycolmap_reads_it() -> None:
    folder = shared("captures/beer")
    capture = open_capture(folder, 240)
    model = pycolmap.Reconstruction(str(folder / "sparse/0"))
    assert len(capture.views) == 71 and not capture.left_out and not capture.notes
    theirs = sorted((*point.xyz, *point.color) for point in model.points3D.values())
    assert sorted((*p, *c) for p, c in zip(capture.points.positions, capture.points.colours, strict=True)) == theirs
    by_name = {image.name: image for image in model.images.values()}
    for view, source in zip(capture.views, capture.sources, strict=True):
        assert np.allclose(view.pose[:3, 3], by_name[Path(source.file).name].projection_center(), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["sparse/0", "sparse", ".", "colmap/sparse/0", "dense/sparse"])
def test_places(kind: str, place: str, tmp_path: Path) -> None:
    model = synthetic()
    images = "dense/images" if place == "dense/sparse" else "images"
    capture = open_capture(on_disk(tmp_path, model, place, kind, images), 64)
    assert_as_pycolmap_reads(capture, model)
    assert capture.root == tmp_path if place != "dense/sparse" else capture.root == tmp_path / "dense"


@pytest.mark.parametrize("kind", KINDS)
def test_rigs_and_frames_in_subfolders(kind: str, tmp_path: Path) -> None:
    model = synthetic(rigs=2, frames=3)
    assert len(model.images) == 12 and any("/" in image.name for image in model.images.values()) is False
    for image in model.images.values():
        image.name = f"camera{image.camera_id}/{image.name}"
    on_disk(tmp_path, model, kind=kind)
    assert (tmp_path / f"sparse/0/rigs.{kind}").exists()
    assert_as_pycolmap_reads(open_capture(tmp_path, 64), model)
    # As versions before rigs wrote it.
    (tmp_path / f"sparse/0/rigs.{kind}").unlink()
    (tmp_path / f"sparse/0/frames.{kind}").unlink()
    assert_as_pycolmap_reads(open_capture(tmp_path, 64), pycolmap.Reconstruction(str(tmp_path / "sparse/0")))
    # And when the model's own folder, or a file of it, was chosen.
    for chosen in ("sparse/0", "sparse", f"sparse/0/images.{kind}"):
        capture = open_capture(tmp_path / chosen, 64)
        assert len(capture.views) == 12 and capture.root == tmp_path


@pytest.mark.parametrize("images", ["images", "input", "photos of mine", ".", "images_4"])
def test_where_the_pictures_are(images: str, tmp_path: Path) -> None:
    model = synthetic()
    on_disk(tmp_path, model, images=images)
    assert_as_pycolmap_reads(open_capture(tmp_path, 64), model)


def test_smaller_copies_are_used_where_there_is_nothing_else(tmp_path: Path) -> None:
    model = synthetic()
    on_disk(tmp_path, model)
    for image in model.images.values():
        photo(tmp_path / "images_2" / image.name, 32, 24)
    assert all(source.width == 64 for source in open_capture(tmp_path, 64).sources)
    shutil.rmtree(tmp_path / "images")
    capture = open_capture(tmp_path, 64)
    assert all(source.width == 32 for source in capture.sources)
    assert_as_pycolmap_reads(capture, model)


def test_of_several_models_the_largest(tmp_path: Path) -> None:
    small, large = synthetic(2, frames=3), synthetic(3, frames=7)
    on_disk(tmp_path, small, "sparse/0")
    on_disk(tmp_path, large, "sparse/1")
    (tmp_path / "sparse/2").mkdir()
    for name in ("cameras.bin", "images.bin"):
        (tmp_path / "sparse/2" / name).write_bytes(b"")
    capture = open_capture(tmp_path, 64)
    assert_as_pycolmap_reads(capture, large)
    assert "sparse/2 was passed over: images.bin ends early" in capture.notes[0]
    assert "sparse/1 (7); not opened: sparse/0 (3)" in capture.notes[1]


def test_pictures_that_the_model_does_not_have_are_said(tmp_path: Path) -> None:
    model = synthetic(frames=4)
    on_disk(tmp_path, model)
    photo(tmp_path / "images/blurred.jpg")
    photo(tmp_path / "images/elsewhere/other.jpg")
    capture = open_capture(tmp_path, 64)
    assert [(left.name, left.reason) for left in capture.left_out] == [
        ("blurred.jpg", "COLMAP found no camera for this picture.")
    ]


def test_masks_of_colmap(tmp_path: Path) -> None:
    model = synthetic(frames=4)
    on_disk(tmp_path, model)
    names = sorted(image.name for image in model.images.values())
    photo(tmp_path / f"masks/{names[0]}.png")
    photo(tmp_path / f"masks/{Path(names[1]).stem}.png", 32, 24)
    photo(tmp_path / f"masks/{names[2]}.png", 30, 30)
    capture = open_capture(tmp_path, 64)
    assert [source.mask for source in capture.sources] == [
        f"masks/{names[0]}.png", f"masks/{Path(names[1]).stem}.png", None,
    ]  # fmt: skip
    assert "The mask masks/" in capture.left_out[0].reason and "30 × 30" in capture.left_out[0].reason


# bad input -----------------------------------------------------------------------------------------------------------


def broken(folder: Path, change: Callable[[Path], object]) -> Capture:
    on_disk(folder, synthetic())
    change(folder / "sparse/0")
    return open_capture(folder, 64)


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes((model / name).read_bytes()[:size])


def put(name: str, at: int, data: bytes) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        whole = (model / name).read_bytes()
        (model / name).write_bytes(whole[:at] + data + whole[at + len(data) :])

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut("images.bin", 0), "images.bin ends early"),
        (cut("images.bin", 300), "images.bin says that it holds 6 entries, more than it has room for"),
        (cut("images.bin", 900), "images.bin ends early"),
        (cut("cameras.bin", 40), "cameras.bin ends early"),
        (put("images.bin", 0, struct.pack("<Q", 2**60)), "images.bin says that it holds 1,152,921,504,606,846,976"),
        (put("cameras.bin", 0, struct.pack("<Q", 2**63)), "cameras.bin says that it holds"),
        (put("cameras.bin", 12, struct.pack("<i", 99)), "camera model number 99"),
        (lambda model: Image.new("RGB", (64, 48)).save(model / "images.bin", format="PNG"), "images.bin says"),
        (lambda model: (model / "images.bin").write_bytes(bytes(8)), "images.bin lists no pictures"),
        (lambda model: (model / "images.bin").unlink(), "6 photos and no cameras"),
    ],
)
def test_bad_files_get_a_sentence(change: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        broken(tmp_path, change)
    assert said in caught.value.message and len(caught.value.message) < 500 and caught.value.file


def test_damaged_points_do_not_keep_the_cameras_from_opening(tmp_path: Path) -> None:
    for size, said in ((0, "ends early"), (100, "says that it holds 40 entries")):
        capture = broken(tmp_path, cut("points3D.bin", size))
        assert len(capture.views) == 6 and capture.points is None and f"points3D.bin {said}" in capture.notes[0]


def test_a_bad_picture_or_camera_is_left_out(tmp_path: Path) -> None:
    model = synthetic(frames=5)
    on_disk(tmp_path, model, kind="txt")
    path = tmp_path / "sparse/0/images.txt"
    lines = path.read_text().splitlines()
    where = [i for i, line in enumerate(lines) if not line.startswith("#")][::2]
    fields = [lines[i].split() for i in where]
    fields[0][1:5] = ["0"] * 4
    fields[1][5] = "nan"
    fields[2][8] = "77"
    fields[3][9] = "../../secret.png"
    for i, entry in zip(where, fields, strict=True):
        lines[i] = " ".join(entry)
    path.write_text("\n".join(lines))
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 1 and len(capture.left_out) == 5  # the fourth's picture is there, too, without camera
    said = " ".join(left.reason for left in capture.left_out)
    for part in ("no rotation", "not numbers", "The camera 77", "does not exist in the capture's folder"):
        assert part in said


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        ("1 OPENCV 64 48 0 61 31 25 0 0 0 0", "Of the camera 1, fx is a focal length of 0 pixels"),
        ("1 OPENCV 64 48 nan 61 31 25 0 0 0 0", "fx is a focal length of nan"),
        ("1 OPENCV 64 48 60 61 3e9 25 0 0 0 0", "cx puts the centre at 3e+09 pixels"),
        ("1 OPENCV 64 48 60 61 31 25 0 inf 0 0", "Of the camera 1, distortion is not"),
        ("1 OPENCV 0 48 60 61 31 25 0 0 0 0", "width is 0 pixels"),
        ("1 OPENCV 64 9999999 60 61 31 25 0 0 0 0", "height is 1e+07 pixels"),
        ("1 OPENCV 64 48 60 61 31 25", "4 parameters, which OPENCV has not"),
        ("1 EQUIRECTANGULAR 64 48 64 48", "a 360° panorama"),
        ("1 SOMETHING 64 48 60", "SOMETHING, which cannot be read yet"),
        ("one", "cameras.txt has no camera in line 1"),
        ("", "The camera 1 of the picture"),
    ],
)
def test_bad_cameras(camera: str, said: str, tmp_path: Path) -> None:
    on_disk(tmp_path, synthetic(), kind="txt")
    (tmp_path / "sparse/0/cameras.txt").write_text(camera)
    with pytest.raises(CaptureError) as caught:
        open_capture(tmp_path, 64)
    assert said in caught.value.message


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        kind: on_disk(tmp_path_factory.mktemp("colmap"), synthetic(points=8), kind=kind, place=".") for kind in KINDS
    }


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(KINDS),
    st.sampled_from(["cameras", "images", "points3D"]),
    st.integers(0, 10**6),
    st.integers(0, 30),
    st.one_of(
        st.binary(max_size=9),
        st.sampled_from([struct.pack("<Q", 2**n) for n in (31, 32, 40, 60, 63)] + [b"\n", b"nan ", b"1e999"]),
    ),
    st.booleans(),
)
def test_whatever_stands_in_the_files(
    models: dict[str, Path], kind: str, name: str, at: int, lost: int, data: bytes, ends: bool
) -> None:
    path = models[kind] / f"{name}.{kind}"
    whole = path.read_bytes()
    at %= len(whole)
    began = time.thread_time()
    try:
        path.write_bytes(whole[:at] + data + (b"" if ends else whole[at + lost :]))
        capture = open_capture(models[kind], 32)
    except CaptureError as problem:
        assert problem.message and len(problem.message) < 1000 and problem.file
    else:
        assert capture.views and all(left.reason for left in capture.left_out)
        assert all(np.isfinite(view.pose).all() for view in capture.views)
        assert capture.points is None or np.isfinite(capture.points.positions).all()
        assert np.isfinite(capture.centre).all() and capture.radius > 0
    finally:
        path.write_bytes(whole)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("side", ["1e999", "1,5e400", "-1e999", "nan", "9" * 400])
def test_a_size_without_end_is_said(tmp_path: Path, side: str) -> None:
    model = on_disk(tmp_path / "model", synthetic(points=8), kind="txt", place=".")
    path = model / "cameras.txt"
    lines = path.read_text().splitlines()
    index = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    words = lines[index].split()
    lines[index] = " ".join([*words[:2], side, *words[3:]])
    path.write_text("\n".join(lines))
    with pytest.raises(CaptureError):
        open_capture(model, 32)


def test_folders_above_are_not_searched_to_their_last_file(
    tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model in a folder of a full disk: whoever chose it would wait for the disk."""
    place = tmp_path / "disk" / "work" / "model"
    shutil.copytree(models["txt"], place)
    shutil.rmtree(place / "images")
    other = tmp_path / "disk" / "holidays"
    other.mkdir()
    for number in range(MOST_ABOVE + 500):
        (other / f"{number}.jpg").touch()
    looked_at: list[int] = []
    walk = lookup.walk
    monkeypatch.setattr(lookup, "walk", lambda *asked: looked_at.append(len(found := walk(*asked))) or found)
    with pytest.raises(CaptureError, match="does not exist in the capture's folder"):
        open_capture(place, 32)
    assert 0 < max(looked_at) <= MOST_ABOVE
