# SPDX-License-Identifier: GPL-3.0-or-later
"""transforms.json of instant-ngp and nerfstudio: what opens, as what, and what is said of the rest."""

from __future__ import annotations

import json
import math
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_on_disk import looking_at, photo, ring, shared, transforms, write
from PIL import Image

from engine.capture import Capture, CaptureError, open_capture
from engine.capture.reading import unique_names


def opened(folder: Path, meta: Any, pictures: bool = True, long_side: int = 512) -> Capture:
    return open_capture(write(folder, meta, pictures), long_side)


def reasons(capture: Capture) -> str:
    return " ".join(left.reason for left in capture.left_out)


def test_fox_says_which_images_are_missing() -> None:
    capture = open_capture(shared("captures/fox"), 240)
    assert len(capture.views) == 50 and len(capture.left_out) == 17
    assert capture.left_out[0].name == "images/0005.jpg" and "does not exist" in capture.left_out[0].reason
    listed = json.loads((shared("captures/fox") / "transforms.json").read_text())["frames"]
    assert np.allclose(capture.views[0].pose, listed[0]["transform_matrix"], atol=1e-9)
    assert [view.name for view in capture.views] == sorted(view.name for view in capture.views)
    assert sum(view.held_out for view in capture.views) == 6
    camera = capture.views[0].intrinsics
    # k1 > 0: the flat picture is a little narrower than the photo; its scale is the photo's.
    assert max(camera.width, camera.height) == 240 and camera.width in (134, 135)
    assert math.isclose(camera.fx / camera.fy, 1375.52 / 1374.49)


def test_lego_opens_by_its_file() -> None:
    capture = open_capture(shared("captures/lego") / "transforms_train.json", 400)
    camera = capture.views[0].intrinsics
    assert (camera.width, camera.height, camera.cx, camera.cy) == (400, 400, 200, 200)
    assert math.isclose(camera.fx, 200 / math.tan(0.6911112070083618 / 2)) and camera.fx == camera.fy
    assert [view.name for view in capture.views[:3]] == ["r_0", "r_2", "r_4"]
    assert np.linalg.norm(capture.centre) < 0.01


def test_poses_and_intrinsics_as_given(tmp_path: Path) -> None:
    applied = {"applied_transform": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]], "applied_scale": 0.5}
    capture = opened(tmp_path, transforms(9, **applied))
    for view, pose in zip(capture.views, ring(9), strict=True):
        assert np.allclose(view.pose, pose, atol=1e-12)
    camera = capture.views[0].intrinsics
    assert (camera.width, camera.height) == (64, 48)
    assert np.allclose((camera.fx, camera.fy, camera.cx, camera.cy), (60, 61, 31, 25), rtol=1e-12)
    assert [view.held_out for view in capture.views] == [False] * 7 + [True, False]
    assert (capture.format, capture.left_out) == ("transforms.json", [])


def test_field_of_view_alone(tmp_path: Path) -> None:
    meta = transforms(2)
    for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
        del meta[key]
    across = opened(tmp_path / "a", meta | {"camera_angle_x": 0.8}).views[0].intrinsics
    assert math.isclose(across.fx, 32 / math.tan(0.4)) and across.fx == across.fy and (across.cx, across.cy) == (32, 24)
    both = opened(tmp_path / "b", meta | {"camera_angle_x": 0.8, "camera_angle_y": 0.5}).views[0].intrinsics
    assert math.isclose(both.fy, 24 / math.tan(0.25)) and both.fx == across.fx
    degrees = opened(tmp_path / "c", meta | {"x_fov": math.degrees(0.8)}).views[0].intrinsics
    assert math.isclose(degrees.fx, across.fx)


def test_a_frame_has_its_own_intrinsics_over_the_shared(tmp_path: Path) -> None:
    meta = transforms(3, k1=0.1)
    meta["frames"][1] |= {"fl_x": 70.0, "cx": 30.0, "k1": None}
    meta["frames"][2] |= {"camera_angle_x": 0.8, "k2": 0.05, "w": None}
    first, second, third = (source.lens for source in opened(tmp_path, meta).sources)
    assert (first.fx, first.params[0]) == (60, 0.1)
    assert (second.fx, second.fy, second.cx, second.cy) == (70, 70, 30, 25) and second.params == first.params
    assert math.isclose(third.fx, 32 / math.tan(0.4)) and third.params[:2] == (0.0, 0.05)


def test_lens_models(tmp_path: Path) -> None:
    listed = transforms(1, distortion_params=[0.1, 0.02, 0.003, 0.0, 0.001, 0.002])
    assert opened(tmp_path / "a", listed).sources[0].lens.params == (0.1, 0.02, 0.001, 0.002, 0.003, 0, 0, 0)
    for fisheye in ({"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}):
        lens = opened(tmp_path / "b", transforms(1, k1=0.1, k4=0.01, **fisheye)).sources[0].lens
        assert (lens.model, lens.params) == ("OPENCV_FISHEYE", (0.1, 0, 0, 0.01))
    assert opened(tmp_path / "c", transforms(1, camera_model="PINHOLE", k1=0.0)).sources[0].lens.model == "PINHOLE"
    with pytest.raises(CaptureError, match="camera_model is EQUIRECTANGULAR") as caught:
        opened(tmp_path / "d", transforms(1, camera_model="EQUIRECTANGULAR"))
    assert caught.value.field == "camera_model" and caught.value.file.endswith("transforms.json")


def test_paths_as_programs_write_them(tmp_path: Path) -> None:
    meta = transforms(3)
    for index, listed in enumerate(("./images/0", "images\\1.png", "./images/x/../2.png")):
        meta["frames"][index]["file_path"] = listed
    for index in range(3):
        photo(tmp_path / f"images/{index}.png")
    capture = opened(tmp_path, meta, pictures=False)
    assert [source.file for source in capture.sources] == ["images/0.png", "images/1.png", "images/2.png"]


def test_order_is_natural_and_names_are_safe(tmp_path: Path) -> None:
    meta = transforms(6)
    files = ["b/10.png", "b/9.png", "a/9.png", "b/CON.png", "a/ü: §.png", "b/A-9.png"]
    for frame, file in zip(meta["frames"], files, strict=True):
        frame["file_path"] = f"photos/{file}"
    capture = opened(tmp_path, meta)
    assert [(view.name, source.file) for view, source in zip(capture.views, capture.sources, strict=True)] == [
        ("a-9", "photos/a/9.png"),
        ("a-ü", "photos/a/ü: §.png"),
        ("b-9", "photos/b/9.png"),
        ("b-10", "photos/b/10.png"),
        ("b-A-9", "photos/b/A-9.png"),
        ("b-CON", "photos/b/CON.png"),
    ] or os.name == "nt"
    for name in ("CON", "nul.x", "...", "a/../b", "x" * 500):
        (safe,) = unique_names([f"{name}.png"])
        assert (
            safe and not safe.startswith(".") and len(safe) < 100 and safe.split(".")[0].lower() not in ("con", "nul")
        )
    assert unique_names(["a/b-c.png", "a-b/c.png", "A/B-C.png"]) == ["a-b-c", "a-b-c-2", "A-B-C-3"]


def test_thousands_of_names_that_are_cut_to_the_same(tmp_path: Path) -> None:
    files = [f"{'long' * 30}/{index}/x.png" for index in range(10_000)]
    began = time.thread_time()
    names = unique_names([*files, "a/x.png"])
    assert len(set(names)) == 10_001 and names[1].endswith("-2") and names[9_999].endswith("-10000")
    assert time.thread_time() - began < 2


def test_twice_the_same_picture(tmp_path: Path) -> None:
    meta = transforms(3)
    meta["frames"][2]["file_path"] = "./images/1.png"
    capture = opened(tmp_path, meta)
    assert len(capture.views) == 2 and "more than once" in reasons(capture)
    assert np.allclose(capture.views[1].pose, ring(3)[1])


def test_size_by_a_uniform_scale_is_scaled_exactly(tmp_path: Path) -> None:
    camera = opened(tmp_path / "a", transforms(1, w=128.0, h=96.0)).sources[0].lens
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (30, 30.5, 15.5, 12.5)
    rounded = opened(tmp_path / "b", transforms(1, w=257, h=191)).sources[0].lens  # a quarter, rounded to whole pixels
    assert math.isclose(rounded.fx, 60 * 64 / 257) and math.isclose(rounded.fy, 61 * 48 / 191)
    enlarged = opened(tmp_path / "c", transforms(1, w=13, h=10, fl_x=20, fl_y=20, cx=6, cy=5)).sources[0].lens
    assert math.isclose(enlarged.fx, 20 * 64 / 13)


@pytest.mark.parametrize(("width", "height", "said"), [(48, 64, "turned"), (80, 48, "cropped"), (64, 50, "cropped")])
def test_size_that_contradicts_is_left_out(tmp_path: Path, width: int, height: int, said: str) -> None:
    meta = transforms(2)
    meta["frames"][1] |= {"w": width, "h": height}
    capture = opened(tmp_path, meta)
    assert len(capture.views) == 1
    assert said in reasons(capture) and "64 × 48" in reasons(capture) and "images/1.png" in reasons(capture)


@pytest.mark.parametrize("lens", [{}, {"k1": 0.01}])
def test_photos_from_before_they_were_undistorted(tmp_path: Path, lens: dict[str, float]) -> None:
    """A few percent larger, in the same shape: of a camera with a distortion, that is how it was reduced."""
    write(tmp_path, transforms(2, w=500, h=375, fl_x=500, fl_y=500, cx=250, cy=187, **lens), pictures=False)
    for index in range(2):
        photo(tmp_path / f"images/{index}.png", 510, 382)
    if lens:
        assert open_capture(tmp_path, 64).sources[0].lens.fx == pytest.approx(510)
        return
    with pytest.raises(CaptureError, match="before it was undistorted"):
        open_capture(tmp_path, 64)


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    folder = write(tmp_path, transforms(1) | {"frames": [transforms(1)["frames"][0] | {"file_path": "a.jpg"}]}, False)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    photo(folder / "a.jpg", exif=exif)
    assert Image.open(folder / "a.jpg").getexif()[274] == 6
    capture = open_capture(folder, 512)
    assert (capture.sources[0].width, capture.sources[0].height) == (64, 48)


def broken(change: Any) -> list[list[float]]:
    pose = looking_at((4.0, 1.0, 1.0))
    change(pose)
    return pose.tolist()


def _set(pose: np.ndarray, where: Any, value: Any) -> None:
    pose[where] = value


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (broken(lambda p: _set(p, (0, 0), math.nan)), "not numbers"),
        (broken(lambda p: _set(p, (1, 3), math.inf)), "not numbers"),
        (broken(lambda p: _set(p, (0, 3), 1e300)), "far away"),
        (broken(lambda p: _set(p, (slice(3), slice(3)), p[:3, :3] * 1e8)), "absurdly large"),
        (broken(lambda p: _set(p, (slice(3), 0), -p[:3, 0])), "mirrored"),
        (broken(lambda p: _set(p, (slice(3), 0), p[:3, 1])), "not a rotation"),
        (broken(lambda p: _set(p, (slice(3), slice(3)), 0)), "not a rotation"),
        (broken(lambda p: _set(p, 3, (0, 0, 1, 0))), "0 0 0 1"),
        ([[1, 0, 0, 0]], "4 × 4"),
        ([[1, 0], [0]], "not a matrix"),
        ({"a": 1}, "not a matrix"),
        ([["a"] * 4] * 4, "not a matrix"),
        ([[10**400] * 4] * 4, "not a matrix"),
        (None, "missing"),
    ],
)
def test_bad_matrix_leaves_out_its_view_alone(tmp_path: Path, matrix: Any, said: str) -> None:
    meta = transforms(3)
    meta["frames"][1]["transform_matrix"] = matrix
    capture = opened(tmp_path, meta)
    assert [view.name for view in capture.views] == ["0", "2"]
    assert said in reasons(capture) and "images/1.png" in reasons(capture)


def test_matrix_of_few_digits_is_made_a_rotation(tmp_path: Path) -> None:
    meta = transforms(1)
    meta["frames"][0]["transform_matrix"] = np.round(ring(1)[0], 3).tolist()
    rotation = opened(tmp_path, meta).views[0].pose[:3, :3]
    assert np.abs(rotation.T @ rotation - np.eye(3)).max() < 1e-12


@pytest.mark.parametrize(
    "values",
    [{"fl_x": 0}, {"fl_x": -5}, {"fl_x": math.nan}, {"fl_x": "sixty"}, {"fl_x": True}, {"fl_x": 10**400}, {"w": 0},
     {"h": -1}, {"cx": math.inf}, {"k1": "a"}, {"k1": [1]}, {"camera_angle_x": 0.0}, {"distortion_params": [1]},
     {"camera_model": 5}, {"camera_model": ["OPENCV"]}, {"equirectangular": True}],
)  # fmt: skip
def test_bad_shared_values_name_file_and_field(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(CaptureError) as caught:
        opened(tmp_path, transforms(2) | values)
    (field,) = values
    assert caught.value.field == field and field in caught.value.message and "transforms.json" in caught.value.message


@pytest.mark.parametrize(
    "values",
    [{"fl_x": 0}, {"w": 10**6}, {"w": 0}, {"fl_x": 1e-3}, {"cx": 1e8}, {"camera_angle_x": 4.0}, {"k3": math.nan}],
)
def test_bad_values_of_a_frame_leave_it_out(tmp_path: Path, values: dict[str, Any]) -> None:
    meta = transforms(2)
    meta["frames"][1] |= values
    capture = opened(tmp_path, meta)
    assert len(capture.views) == 1 and f"images/1.png, {next(iter(values))}" in reasons(capture)


def test_no_focal_length(tmp_path: Path) -> None:
    meta = transforms(2)
    del meta["fl_x"], meta["fl_y"]
    with pytest.raises(CaptureError, match="camera_angle_x is missing"):
        opened(tmp_path, meta)


def test_paths_that_leave_the_folder(tmp_path: Path) -> None:
    photo(tmp_path / "secret.png")
    folder = tmp_path / "capture"
    meta = transforms(6)
    secret = str(tmp_path / "secret.png")
    outside = ["../secret.png", secret, "images/../../secret", "//host/share/secret.png", "C:secret.png"]
    for frame, file in zip(meta["frames"][1:], outside, strict=True):
        frame["file_path"] = file
    photo(folder / "images/0.png")
    capture = opened(folder, meta, pictures=False)
    assert len(capture.views) == 1 and len(capture.left_out) == 5
    assert reasons(capture).count("does not exist in the capture's folder") == 5


def test_pictures_that_are_none(tmp_path: Path) -> None:
    meta = transforms(7)
    write(tmp_path, meta)
    (tmp_path / "images/1.png").write_bytes(b"not a picture")
    (tmp_path / "images/2.png").write_bytes(b"")
    (tmp_path / "images/3.png").unlink()
    (tmp_path / "images/3.png").mkdir()
    header = (tmp_path / "images/4.png").read_bytes()
    (tmp_path / "images/4.png").write_bytes(header[:20])
    header = header[:16] + struct.pack(">II", 60_000, 20_000) + header[24:29]  # a bomb: it says 1.2 gigapixels
    (tmp_path / "images/5.png").write_bytes(header + struct.pack(">I", zlib.crc32(header[12:29])) + b"IDAT" * 99)
    Image.new("1", (31_000, 10)).save(tmp_path / "images/6.png")
    began = time.monotonic()
    capture = open_capture(tmp_path, 512)
    assert time.monotonic() - began < 2
    assert [view.name for view in capture.views] == ["0"] and len(capture.left_out) == 6
    assert "178 megapixels" in capture.left_out[-2].reason and "too large" in capture.left_out[-1].reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"frames": [{"file_path": ', "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b'{"w": 3}', "no list"),
        (b'{"frames": {}}', "no list"),
        (b'{"frames": []}', "no frames"),
        (b'{"frames": [3, null]}', "Frame 0 is not an object"),
        (b'{"frames": [{"file_path": 3}]}', "no file_path"),
        (b'{"frames": [{"file_path": "\\u0000"}]}', "not a path"),
        (b'{"frames": [{"file_path": "' + b"x" * 5000 + b'"}]}', "x..."),
        (b"[" * 100_000, "not a JSON text"),
        (b'{"w": ' + b"1" * 10_000 + b"}", "not a JSON text"),
        (b"\xff\xfe{\x00}\x00", "no list"),
        (b'{"frames": [' + b"{}," * 30_000 + b"{}]}", "30,001 frames"),
    ],
)
def test_bad_files_get_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "transforms.json").write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        open_capture(tmp_path, 512)
    assert said in caught.value.message and len(caught.value.message) < 500
    assert caught.value.file


def test_bom_and_wrong_places(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", transforms(1))
    path = folder / "transforms.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_capture(folder, 512).views) == len(open_capture(path, 512).views) == 1
    for source, said in (
        (tmp_path / "nothing", "does not exist"),
        (folder / "images/0.png", "single picture"),
        (Path("\0"), "not a path"),
        (Path("x" * 5000), "xxx"),
    ):
        with pytest.raises(CaptureError, match=said):
            open_capture(source, 512)
    with pytest.raises(CaptureError) as caught:
        open_capture(folder, 3)
    assert caught.value.field == "long_side"


def test_a_thousand_views_open_in_about_a_second(tmp_path: Path) -> None:
    meta = transforms(1000, k1=0.05, k2=-0.03)
    write(tmp_path, meta, pictures=False)
    photo(tmp_path / "images/0.png")
    for index in range(1, 1000):
        os.link(tmp_path / "images/0.png", tmp_path / f"images/{index}.png")
    began = time.thread_time()
    capture = open_capture(tmp_path, 32)
    assert len(capture.views) == 1000 and len(capture.left_out) == 0
    assert time.thread_time() - began < 3  # a loaded machine; about half a second on a free one


def test_lists_of_the_pictures_to_measure_on(tmp_path: Path) -> None:
    lists = {
        "train_filenames": ["images/0.png", "images/1.png"],
        "val_filenames": ["./images/2.png"],
        "test_filenames": ["images\\3.png", "images/1.png"],
    }
    capture = opened(tmp_path / "a", transforms(5, **lists))
    assert [view.held_out for view in capture.views] == [False, False, True, True, False]
    strange = opened(tmp_path / "b", transforms(9, val_filenames=5, test_filenames=[None]))
    assert sum(view.held_out for view in strange.views) == 1 and len(strange.notes) == 2
    assert not any(view.held_out for view in open_capture(tmp_path / "a", 64, held_out_every=0).views)


def test_depth_pictures_are_said_to_be_unused(tmp_path: Path) -> None:
    meta = transforms(2)
    meta["frames"][0]["depth_file_path"] = "depths/0.png"
    assert "depth_file_path" in opened(tmp_path, meta).notes[0]


def test_the_aria_glasses_camera_as_nerfstudio_projects_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    utils = pytest.importorskip("nerfstudio.cameras.camera_utils")
    params = [0.02, -0.03, 0.01, 0.004, -0.002, 0.001, 0.001, -0.002, 0.003, -0.001, 0.002, 0.0005]
    meta = transforms(1, camera_model="FISHEYE624", distortion_params=params)
    lens = opened(tmp_path, meta).sources[0].lens
    points = np.array([[0.3, -0.2, 1.0], [-0.5, 0.4, 1.2], [0.0, 0.1, 2.0]])
    given_ = torch.tensor([[60.0, 61.0, 31.0, 25.0, *params]], dtype=torch.float64)
    theirs = utils.fisheye624_project(torch.tensor(points)[None], given_)[0].numpy()
    assert np.abs(lens.project(points) - theirs).max() < 1e-9
    with pytest.raises(CaptureError, match="12 numbers"):
        opened(tmp_path, transforms(1, camera_model="FISHEYE624"))
