# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole pictures: each pixel where the lens saw it, written once, whole or not at all."""

from __future__ import annotations

import functools
import math
import os
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_on_disk import photo, shared, transforms, write
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from engine.capture import CaptureError, Lens, load_capture, open_capture, save_capture, write_images
from engine.capture.decoding import decode
from engine.capture.images import undistort
from engine.capture.photos import stored_size
from engine.capture.pinhole import pinhole_for
from engine.errors import BadInput, Cancelled

LENSES = {
    "pinhole": Lens("PINHOLE", 500, 510, 322.3, 238.6),
    "barrel": Lens("OPENCV", 500, 510, 322.3, 238.6, (-0.1, 0.03, 0.002, -0.001, 0, 0, 0, 0)),
    "cushion": Lens("OPENCV", 500, 510, 322.3, 238.6, (0.06, -0.08, -0.001, 0.0002, 0.01, 0, 0, 0)),
    "rational": Lens("OPENCV", 500, 510, 322.3, 238.6, (0.2, -0.05, 0.001, 0.0005, 0.002, 0.15, -0.04, 0.001)),
    "fisheye": Lens("OPENCV_FISHEYE", 400, 405, 318, 245, (0.02, -0.01, 0.003, -0.001)),
}


@functools.cache
def undistorted_by_opencv(lens: Lens, width: int, height: int) -> np.ndarray:
    """(height, width, 2): where each pixel of a photo lies on the image plane, by OpenCV's own inverses."""
    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    matrix = np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1]])
    points, params = (pixels - 0.5)[:, None], np.array(lens.params)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-14)
    if lens.model == "OPENCV_FISHEYE":
        return cv2.fisheye.undistortPoints(points, matrix, params, criteria=criteria).reshape(height, width, 2)
    return cv2.undistortPointsIter(points, matrix, params, None, None, criteria).reshape(height, width, 2)


@pytest.mark.parametrize("long_side", [640, 300, 64])
@pytest.mark.parametrize("kind", LENSES)
def test_pixels_are_where_the_source_puts_them(kind: str, long_side: int) -> None:
    """A wave that is plain on the image plane is photographed through the lens, by OpenCV's inverse, and undistorted.

    Its phase in each part of the flat picture says where the picture lies, to a fraction of a pixel.
    """
    lens, width, height = LENSES[kind], 640, 480
    camera = pinhole_for(lens, width, height, long_side)
    period = 12.0  # pixels of the flat picture
    on_plane = undistorted_by_opencv(lens, width, height)
    flat_at = on_plane * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    waves = np.concatenate([np.cos(2 * np.pi * flat_at / period), np.sin(2 * np.pi * flat_at[..., :1] / period)], -1)
    flat = undistort(Image.fromarray(np.round(127.5 + 120 * waves).astype(np.uint8)), lens, camera)
    assert flat.shape == (camera.height, camera.width, 3)

    v, u = np.mgrid[: camera.height, : camera.width] + 0.5
    size = 48 if long_side > 100 else 24
    worst = 0.0
    for top in range(2, camera.height - size - 1, size):
        for left in range(2, camera.width - size - 1, size):
            part = np.s_[top : top + size, left : left + size]
            for channel, at in ((0, u), (1, v)):
                phase = 2 * np.pi * at[part].ravel() / period
                basis = np.stack([np.cos(phase), np.sin(phase), np.ones_like(phase)], axis=1)
                c, s, _ = np.linalg.lstsq(basis, flat[part][..., channel].ravel().astype(float), rcond=None)[0]
                worst = max(worst, abs(math.atan2(-s, c)) / (2 * np.pi) * period)
    # At full size what is seen is remap's own grid of 1/32 pixel, which averaging makes finer.
    assert worst < (0.01 if long_side < 640 else 1 / 64 + 0.003), f"off by {worst:.4f} pixels"


@pytest.mark.parametrize("long_side", [320, 170, 45])
@pytest.mark.parametrize("kind", LENSES)
def test_each_pixel_is_the_mean_over_its_area(kind: str, long_side: int) -> None:
    lens, width, height = LENSES[kind].scaled(0.5, 0.5), 320, 240
    content = gaussian_filter(np.random.default_rng(1).uniform(0, 255, (height, width)), 2)
    content = np.clip((content - 127) * 6 + 127, 0, 255).astype(np.uint8)
    camera = pinhole_for(lens, width, height, long_side)
    ours = undistort(Image.fromarray(content).convert("RGB"), lens, camera)[..., 0]
    # The slow way: 8 × 8 samples for each pixel, by a spline where they are few in the photo's pixels.
    order, fine = (3 if long_side > 150 else 1), (np.arange(8) + 0.5) / 8
    v, u = np.mgrid[: camera.height, : camera.width]
    slow = np.zeros(u.shape)
    for dy in fine:
        for dx in fine:
            x, y = (u + dx - camera.cx) / camera.fx, (v + dy - camera.cy) / camera.fy
            at = lens.project(np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)) - 0.5
            slow += map_coordinates(content.astype(float), at[:, ::-1].T, order=order, mode="nearest").reshape(u.shape)
    slow /= 64
    error = np.abs(ours - slow)
    assert error.mean() < 0.025 * slow.std() and np.percentile(error, 99) < 0.08 * slow.std()
    # The bound is one that a shift of a tenth of a pixel exceeds.
    for moved in (ours[:, :-1] * 0.9 + ours[:, 1:] * 0.1, ours[:, 1:] * 0.9 + ours[:, :-1] * 0.1):
        assert min(np.abs(moved - slow[:, :-1]).mean(), np.abs(moved - slow[:, 1:]).mean()) > error.mean()


def test_unscaled_and_undistorted_is_the_photo_itself(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png")
    lens = Lens("PINHOLE", 60, 60, 31, 25)
    assert np.array_equal(undistort(picture, lens, pinhole_for(lens, 64, 48, 512)), np.asarray(picture))
    quarter = undistort(picture, lens, pinhole_for(lens, 64, 48, 16))
    assert np.abs(quarter - np.asarray(picture.reduce(4)).astype(int)).max() <= 1


def test_transparent_pixels_get_the_background(tmp_path: Path) -> None:
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = (200, 100, 0, 255)
    rgba[:24, 32:] = (0, 0, 255, 0)
    rgba[24:, 32:] = (0, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    over = np.asarray(decode(tmp_path / "a.png", (255, 255, 255)))
    assert tuple(over[0, 0]) == (200, 100, 0) and tuple(over[0, 40]) == (255, 255, 255)
    assert tuple(over[40, 40]) == (127, 127, 127)
    assert tuple(np.asarray(decode(tmp_path / "a.png", (10, 20, 30)))[0, 40]) == (10, 20, 30)


def test_kinds_of_pictures(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 64 * 48).reshape(48, 64)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "grey16.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "grey16.tif")
    cv2.imwrite(str(tmp_path / "colour16.png"), np.repeat((grey * 257).astype(np.uint16)[..., None], 3, -1))
    Image.fromarray(grey.astype(np.uint8)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(grey.astype(np.uint8)).convert("P").save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(tmp_path / "a.webp", lossless=True)
    for path in tmp_path.iterdir():
        rgb = decode(path, (0, 0, 0))
        assert (rgb.mode, rgb.size) == ("RGB", (64, 48)), path
        assert np.abs(np.asarray(rgb)[..., 1] - grey).max() < 6, path
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(Exception, match="not light from 0"):
        decode(tmp_path / "float.tif", (0, 0, 0))


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    photo(tmp_path / "a.jpg", quality=95)
    photo(tmp_path / "b.jpg", quality=95, exif=exif)
    assert np.array_equal(decode(tmp_path / "a.jpg", (0, 0, 0)), decode(tmp_path / "b.jpg", (0, 0, 0)))


def test_written_once(tmp_path: Path) -> None:
    source = write(tmp_path / "capture", transforms(5, k1=0.05))
    capture = open_capture(source, 32)
    folder, seen = tmp_path / "images", []
    assert write_images(capture, folder, lambda view, path: seen.append((view.name, path.exists()))) == 5
    assert sorted(seen) == [(str(index), True) for index in range(5)]
    for view in capture.views:
        assert Image.open(folder / view.image).size == (view.intrinsics.width, view.intrinsics.height)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 5
    seen.clear()
    assert write_images(capture, folder, lambda view, path: seen.append(view.name)) == 0 and len(seen) == 5

    # Without the photos, from what was saved.
    save_capture(capture, tmp_path / "capture.json")
    for picture in (source / "images").iterdir():
        picture.rename(tmp_path / picture.name)
    assert write_images(load_capture(tmp_path / "capture.json"), folder) == 0
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    # One is lost, and its photo is gone.
    (folder / "3.png").unlink()
    with pytest.raises(CaptureError, match=r"3\.png does not exist any more"):
        write_images(capture, folder)

    # Another working size, another photo, or a broken picture: made again.
    for picture in tmp_path.glob("?.png"):
        picture.rename(source / "images" / picture.name)
    assert write_images(capture, folder) == 1
    assert write_images(open_capture(source, 40), folder) == 5
    photo(source / "images/2.png", quality=1)
    os.utime(source / "images/2.png", (1, 1))
    (folder / "4.png").write_bytes(b"")
    assert write_images(open_capture(source, 40), folder) == 2


def test_stops_soon_and_leaves_nothing_unfinished(tmp_path: Path) -> None:
    capture = open_capture(write(tmp_path / "capture", transforms(60)), 32)
    folder, done = tmp_path / "images", []
    with pytest.raises(Cancelled):
        write_images(capture, folder, lambda view, path: done.append(view), lambda: len(done) >= 3)
    assert 3 <= len(list(folder.iterdir())) < 60
    assert all(Image.open(path).size == (32, 24) for path in folder.iterdir())
    assert threading.active_count() < 10
    kept = len(list(folder.iterdir()))
    assert write_images(capture, folder) == 60 - kept


def test_one_damaged_photo(tmp_path: Path) -> None:
    source = write(tmp_path / "capture", transforms(4))
    whole = (source / "images/2.png").read_bytes()
    (source / "images/2.png").write_bytes(whole[: len(whole) * 2 // 3])
    capture = open_capture(source, 32)
    assert len(capture.views) == 4  # its header is well
    with pytest.raises(CaptureError, match=r"2\.png cannot be read") as caught:
        write_images(capture, tmp_path / "images")
    assert caught.value.file.endswith("2.png")
    bad: dict[str, str] = {}
    write_images(capture, tmp_path / "images", on_bad=lambda view, reason: bad.update({view.name: reason}))
    assert list(bad) == ["2"] and len(list((tmp_path / "images").iterdir())) == 3
    assert len(capture.without(bad).views) == 3
    photo(source / "images/2.png", 20, 20)
    with pytest.raises(CaptureError, match="has changed"):
        write_images(capture, tmp_path / "images")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    capture = open_capture(write(tmp_path / "capture", transforms(1)), 32)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_images(capture, tmp_path / "file")


def test_fox_pictures(tmp_path: Path) -> None:
    capture = open_capture(shared("captures/fox"), 120)
    few = capture.without({view.name: "not in this test" for view in capture.views[2:]})
    assert write_images(few, tmp_path) == 2
    picture = np.asarray(Image.open(tmp_path / few.views[0].image)).astype(float)
    whole = np.asarray(Image.open(capture.root / few.sources[0].file).resize((67, 120), Image.Resampling.BOX))
    centre = np.s_[50:70, 25:42]
    assert np.abs(picture[centre] - whole.astype(float)[centre]).mean() < 6


def exr(path: Path, pixels: np.ndarray) -> None:
    """Writes float32 (H, W, 3 or 4), red first."""
    order = [2, 1, 0, 3][: pixels.shape[2]]
    assert cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., order]))


def test_exr_is_linear_and_becomes_srgb(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :64]
    linear = np.stack([x / 63, y / 47, np.full(x.shape, 2.0)], axis=-1).astype(np.float32)
    exr(tmp_path / "a.exr", linear)
    assert stored_size(tmp_path / "a.exr") == (64, 48)
    ours = np.asarray(decode(tmp_path / "a.exr", (0, 0, 0)))
    # IEC 61966-2-1 at a few values, worked out by hand; brighter than white is white.
    assert ours[0, 63, 0] == 255 and ours[0, 0, 0] == 0 and (ours[..., 2] == 255).all()
    exr(tmp_path / "b.exr", np.tile(np.float32([0.2140, 0.0030, 0.5]), (48, 64, 1)))
    assert np.abs(np.asarray(decode(tmp_path / "b.exr", (0, 0, 0)))[0, 0].astype(int) - [127.5, 9.9, 188]).max() <= 1
    # Half of it transparent, premultiplied: half of the background's light is added.
    exr(tmp_path / "c.exr", np.tile(np.float32([0.25, 0.0, 0.0, 0.5]), (48, 64, 1)))
    white = np.asarray(decode(tmp_path / "c.exr", (255, 255, 255)))[0, 0]
    assert np.abs(white.astype(int) - [225, 188, 188]).max() <= 1
    exr(tmp_path / "d.exr", np.tile(np.float32([np.nan, np.inf, -np.inf]), (48, 64, 1)))
    assert np.asarray(decode(tmp_path / "d.exr", (0, 0, 0)))[0, 0].tolist() == [0, 255, 0]


def test_exr_views_open_and_damaged_ones_do_not(tmp_path: Path) -> None:
    meta = transforms(4)
    for index, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"images/{index}"
    folder = write(tmp_path, meta, pictures=False)
    (folder / "images").mkdir()
    for index in range(4):
        exr(folder / f"images/{index}.exr", np.full((48, 64, 3), 0.2, np.float32))
    whole = (folder / "images/1.exr").read_bytes()
    (folder / "images/1.exr").write_bytes(whole[:40])
    (folder / "images/2.exr").write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"dataWindow") + len(b"dataWindow\0box2i\0") + 4
    (folder / "images/3.exr").write_bytes(whole[:at] + struct.pack("<4i", 1, 1, 60, 40) + whole[at + 16 :])
    capture = open_capture(folder, 32)
    assert [view.name for view in capture.views] == ["0", "2"]
    assert "1.exr cannot be read" in capture.left_out[0].reason and "data window" in capture.left_out[1].reason
    bad: dict[str, str] = {}
    write_images(capture, tmp_path / "made", on_bad=lambda view, reason: bad.update({view.name: reason}))
    assert list(bad) == ["2"] and "2.exr" in bad["2"]


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp"])
def test_usual_kinds_of_pictures(ending: str, tmp_path: Path) -> None:
    photo(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    photo(tmp_path / "b.png")
    assert stored_size(tmp_path / f"a.{ending}") == (64, 48)
    ours, theirs = (np.asarray(decode(tmp_path / name, (0, 0, 0))).astype(int) for name in (f"a.{ending}", "b.png"))
    assert np.abs(ours - theirs).mean() < (40 if ending == "jpg" else 1e-9)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits(ending: str, channels: int, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 48 * 64, dtype=np.uint16).reshape(48, 64, 1).repeat(channels, axis=2)
    if channels == 4:
        values[..., 3] = 65535
    assert cv2.imwrite(str(tmp_path / f"a.{ending}"), values)
    ours = np.asarray(decode(tmp_path / f"a.{ending}", (0, 0, 0))).astype(int)
    assert np.abs(ours - values[..., :1] / 257).max() <= 1


def test_the_background_chosen_stands_behind_what_is_transparent(tmp_path: Path) -> None:
    folder = write(tmp_path / "capture", transforms(1), pictures=False)
    (folder / "images").mkdir()
    Image.new("RGBA", (64, 48), (0, 0, 0, 0)).save(folder / "images/0.png")
    for background in ((255, 255, 255), (10, 200, 30)):
        capture = open_capture(folder, 64, background=background)
        write_images(capture, tmp_path / "out")
        assert np.asarray(Image.open(tmp_path / "out" / capture.views[0].image))[20, 20].tolist() == list(background)
    with pytest.raises(CaptureError, match="not a colour"):
        open_capture(folder, 64, background=(0, 300, 0))
