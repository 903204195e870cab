# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks: the artist's own, and those of the empty pixels that an undistorted picture has when all of it is kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_on_disk import photo, transforms, write
from PIL import Image

from engine.capture import Capture, CaptureError, Lens, load_capture, open_capture, save_capture, write_images
from engine.capture.decoding import decode_mask
from engine.capture.images import seen_pixels
from engine.capture.pinhole import WIDEST, is_cropped, pinhole_for, rays_of, sees, whole_rectangle


def masked(folder: Path, mask: np.ndarray, **values: object) -> Path:
    """A capture of two views, the first of which has a mask."""
    meta = transforms(2, **values)
    meta["frames"][0]["mask_path"] = "masks/0.png"
    write(folder, meta)
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks/0.png")
    return folder


def made(capture: Capture, folder: Path) -> list[np.ndarray | None]:
    write_images(capture, folder)
    return [None if v.mask is None else np.asarray(Image.open(folder / v.mask)) for v in capture.views]


def test_the_mask_comes_with_its_picture(tmp_path: Path) -> None:
    mask = np.full((48, 64), 255, np.uint8)
    mask[10:20, 30:50] = 0
    capture = open_capture(masked(tmp_path / "a", mask), 64)
    assert [view.mask for view in capture.views] == ["0.mask.png", None]
    first, second = made(capture, tmp_path / "images")
    assert np.array_equal(first, mask) and second is None
    # Half a pixel of a mask hides the whole pixel.
    half = made(open_capture(masked(tmp_path / "b", np.roll(mask, 1, axis=1)), 32), tmp_path / "half")[0]
    assert set(np.unique(half)) == {0, 255} and (half[5:10, 15:26] == 0).all() and half[:4].all() and half[:, :14].all()
    # It is kept, and made again where it is lost.
    assert write_images(capture, tmp_path / "images") == 0
    (tmp_path / "images/0.mask.png").unlink()
    assert write_images(capture, tmp_path / "images") == 1
    save_capture(capture, tmp_path / "capture.json")
    assert [view.mask for view in load_capture(tmp_path / "capture.json").views] == ["0.mask.png", None]


def test_masks_of_several_kinds(tmp_path: Path) -> None:
    pattern = np.zeros((48, 64), bool)
    pattern[:, 32:] = True
    kinds = {
        "zero and one": Image.fromarray(pattern.astype(np.uint8)),
        "one bit": Image.fromarray(pattern),
        "16 bit": Image.fromarray(pattern.astype(np.uint16) * 65535),
        "colour": Image.fromarray(pattern.astype(np.uint8) * 255).convert("RGB"),
        "half size": Image.fromarray(pattern[::2, ::2].astype(np.uint8) * 255),
    }
    for name, picture in kinds.items():
        picture.save(tmp_path / f"{name}.png")
        white = np.asarray(decode_mask(tmp_path / f"{name}.png", (64, 48)))
        assert np.array_equal(white == 255, pattern), name
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "black.png")
    assert not np.asarray(decode_mask(tmp_path / "black.png", (64, 48))).any()


def test_a_mask_is_undistorted_with_its_picture(tmp_path: Path) -> None:
    mask = np.full((48, 64), 255, np.uint8)
    mask[30:40, 40:60] = 0
    capture = open_capture(masked(tmp_path / "a", mask, k1=-0.15), 64)
    ours = made(capture, tmp_path / "images")[0]
    camera, lens = capture.views[0].intrinsics, capture.sources[0].lens
    # OpenCV's own undistortion of the same mask.
    matrix = np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1]])
    to = np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])
    maps = cv2.initUndistortRectifyMap(
        matrix, np.array(lens.params), None, to, (camera.width, camera.height), cv2.CV_32FC1
    )
    theirs = cv2.remap(mask, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    assert (ours[theirs == 255] == 255).mean() > 0.99 and (ours[theirs < 250] == 0).mean() > 0.99


def test_a_mask_that_is_missing_or_none(tmp_path: Path) -> None:
    meta = transforms(4)
    for index, mask in enumerate(("masks/none.png", "masks/text.png", "masks/shape.png", 5)):
        meta["frames"][index]["mask_path"] = mask
    write(tmp_path, meta)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/text.png").write_text("not a picture")
    photo(tmp_path / "masks/shape.png", 30, 40)
    capture = open_capture(tmp_path, 64)
    assert [view.name for view in capture.views] == ["0", "3"] and all(view.mask is None for view in capture.views)
    assert "text.png cannot be read as a picture" in capture.left_out[0].reason
    assert "30 × 40" in capture.left_out[1].reason and "2 pictures have no mask" in capture.notes[0]
    outside = transforms(2)
    outside["frames"][0]["mask_path"] = "../../mask.png"
    photo(tmp_path / "mask.png")
    capture = open_capture(write(tmp_path / "a/b", outside), 64)
    assert all(view.mask is None for view in capture.views) and "1 pictures have no mask" in capture.notes[0]


BARREL = Lens("OPENCV", 420, 430, 330, 230, (-0.25, 0.06, 0.001, 0.002, 0.0, 0.0, 0.0, 0.0))
FISHEYE = Lens("OPENCV_FISHEYE", 300, 300, 320, 240, (0.02, -0.01, 0.0, 0.0))


@pytest.mark.parametrize("lens", [BARREL, FISHEYE])
def test_all_pixels_are_kept(lens: Lens) -> None:
    """Every pixel of the photo, brought to the plane by OpenCV's inverse, lies in the picture, up to the widest."""
    y, x = np.mgrid[0.5:480:7, 0.5:640:7]
    at = np.stack([x.ravel(), y.ravel()], axis=1)[:, None] - 0.5
    matrix = np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1]])
    inverse = cv2.fisheye.undistortPoints if "FISHEYE" in lens.model else cv2.undistortPoints
    plane = inverse(at, matrix, np.array(lens.params))[:, 0]
    plane = plane[np.abs(plane).max(axis=1) < np.tan(WIDEST)]
    assert len(plane) > 3000
    camera = pinhole_for(lens, 640, 480, 640, all_pixels=True)
    pixels = plane * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    assert (pixels > -0.5).all() and (pixels < (camera.width + 0.5, camera.height + 0.5)).all()
    inside = pinhole_for(lens, 640, 480, 640)
    assert camera.width / camera.fx >= inside.width / inside.fx
    assert sees(lens, 640, 480, np.c_[plane, np.ones(len(plane))]).mean() > 0.999
    # The sides of the photo bow inward: in their middles, the picture's edge shows nothing.
    width, height = camera.width, camera.height
    middles = rays_of(camera, np.array([[0.5, height / 2], [width - 0.5, height / 2], [width / 2, 0.5]]))
    if lens is BARREL:
        assert not sees(lens, 640, 480, middles).any()


def test_the_fold_of_a_polynomial_is_not_seen() -> None:
    folding = Lens("OPENCV", 400, 400, 320, 240, (-0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    # x (1 - 0.4 x²) turns back at x = 0.913 and comes through the middle at 1.58.
    far = np.array([[1.5, 0.0, 1.0], [0.5, 0.0, 1.0]])
    assert (folding.project(far)[:, 0] < 640).all()
    assert sees(folding, 640, 480, far).tolist() == [False, True]
    assert whole_rectangle(folding, 640, 480)[2] < 0.92


def test_all_pixels_with_the_mask_of_the_empty_ones(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", transforms(2, k1=-0.15))
    usual, whole = open_capture(folder, 64), open_capture(folder, 64, all_pixels=True)
    assert usual.views[0].mask is None and whole.views[0].mask == "0.mask.png"
    mask = made(whole, tmp_path / "images")[0]
    picture = np.asarray(Image.open(tmp_path / "images/0.png"))
    assert 0.5 < (mask == 255).mean() < 1 and (picture[mask == 0] == 255).all() and mask[0, 0] == 0
    assert np.array_equal(mask == 255, seen_pixels(whole.sources[0], whole.views[0].intrinsics))
    # A pinhole camera has no empty pixels.
    assert open_capture(write(tmp_path / "b", transforms(2)), 64, all_pixels=True).views[0].mask is None
    # What the largest picture without empty pixels shows has none.
    assert seen_pixels(usual.sources[0], usual.views[0].intrinsics).all()


def test_a_wide_fisheye_is_cropped_and_that_is_said(tmp_path: Path) -> None:
    values = {"camera_model": "OPENCV_FISHEYE", "fl_x": 20.0, "fl_y": 20.0}
    folder = write(tmp_path, transforms(3, **values))
    for whole in (False, True):
        capture = open_capture(folder, 64, all_pixels=whole)
        assert "3 of 3 pictures see wider" in capture.notes[0]
    assert is_cropped(Lens("OPENCV_FISHEYE", 200, 200, 320, 240, (0.0,) * 4), 640, 480, all_pixels=True)


def test_names_do_not_meet_those_of_masks(tmp_path: Path) -> None:
    meta = transforms(2)
    meta["frames"][0]["file_path"] = "images/a.png"
    meta["frames"][1]["file_path"] = "images/a.mask.png"
    names = {view.name for view in open_capture(write(tmp_path, meta), 64).views}
    assert names == {"a", "a_mask"}


def test_a_saved_mask_of_another_name_is_refused(tmp_path: Path) -> None:
    mask = np.full((48, 64), 255, np.uint8)
    save_capture(open_capture(masked(tmp_path / "a", mask), 64), tmp_path / "capture.json")
    text = (tmp_path / "capture.json").read_text()
    (tmp_path / "capture.json").write_text(text.replace("0.mask.png", "../0.mask.png"))
    with pytest.raises(CaptureError, match="mask of view 0 is not its own"):
        load_capture(tmp_path / "capture.json")
