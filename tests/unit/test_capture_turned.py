# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos that their EXIF turns: used turned where the poses were made so, else as stored; the same scene either way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import photo, transforms, write
from capture_writers import WRITERS, write_ring
from PIL import Image, ImageOps

from engine.capture import Capture, load_capture, open_capture, save_capture, write_images
from engine.capture.decoding import decode
from engine.capture.photos import stored_size

ORIENTATIONS = range(2, 9)
STORED_FOR = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # what to do to a picture so that the orientation undoes it
NO_SIZE = ("Blender-synthetic", "RealityCapture")  # formats that state neither size nor center in pixels


def store_turned(path: Path, orientation: int) -> None:
    """The same picture, stored so that its EXIF is needed to see it as before."""
    with Image.open(path) as picture:
        exif = Image.Exif()
        exif[274] = STORED_FOR[orientation]
        picture.getexif().clear()
        stored = ImageOps.exif_transpose(with_exif(picture.convert("RGB"), exif))
    exif[274] = orientation
    stored.save(path, exif=exif)


def with_exif(picture: Image.Image, exif: Image.Exif) -> Image.Image:
    picture.getexif()[274] = exif[274]
    return picture


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg"))


def made(capture: Capture, folder: Path) -> dict[str, np.ndarray]:
    write_images(capture, folder)
    return {view.name: np.asarray(Image.open(folder / view.image)) for view in capture.views}


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp", ".avif", ".jpg"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_undoes_how_it_is_stored(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    photo(path, 64, 48, quality=100)
    upright = np.asarray(Image.open(path).convert("RGB")).astype(int)
    store_turned(path, orientation)
    stored = (48, 64) if orientation >= 5 else (64, 48)
    assert stored_size(path) == stored and decode(path, (0, 0, 0)).size == stored
    assert np.abs(np.asarray(decode(path, (0, 0, 0), orientation)) - upright).mean() < 4


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in NO_SIZE])
@pytest.mark.parametrize("orientation", [6, 7])
def test_poses_made_for_turned_photos(tmp_path: Path, name: str, orientation: int) -> None:
    """In every format that states a size: the same views and the same pictures as of photos that were not turned."""
    write_ring(name, tmp_path / "a", 6)
    write_ring(name, tmp_path / "b", 6)
    for path in pictures(tmp_path / "b"):
        store_turned(path, orientation)
    plain, turned = open_capture(tmp_path / "a", 64), open_capture(tmp_path / "b", 64)
    assert not turned.left_out and all(source.turned for source in turned.sources)
    for one, other in zip(plain.views, turned.views, strict=True):
        assert one.name == other.name and one.intrinsics == other.intrinsics and np.allclose(one.pose, other.pose)
    assert np.allclose(plain.up, turned.up)
    save_capture(turned, tmp_path / "capture.json")
    ours = made(load_capture(tmp_path / "capture.json"), tmp_path / "turned")
    for key, picture in made(plain, tmp_path / "plain").items():
        assert np.abs(ours[key].astype(int) - picture).mean() < 4  # JPEG, where it is one


@pytest.mark.parametrize("name", WRITERS)
def test_poses_made_for_photos_as_stored(tmp_path: Path, name: str) -> None:
    """An EXIF that the program that made the poses did not look at."""
    write_ring(name, tmp_path / "a", 6)
    exif = Image.Exif()
    exif[274] = 6
    for path in pictures(tmp_path / "a"):
        with Image.open(path) as picture:
            pixels = picture.convert("RGB")
        pixels.save(path, exif=exif)
    capture = open_capture(tmp_path / "a", 64)
    assert len(capture.views) == 6 and not any(source.turned for source in capture.sources)


def turned_frames(folder: Path, orientations: list[int], **values) -> Path:
    meta = transforms(len(orientations), **values)
    write(folder, meta)
    for index, orientation in enumerate(orientations):
        if orientation > 1:
            store_turned(folder / f"images/{index}.png", orientation)
    return folder


def test_what_its_size_does_not_tell_follows_the_others(tmp_path: Path) -> None:
    """A photo held upside down has the same size either way: it is turned where those held upright were."""
    capture = open_capture(turned_frames(tmp_path / "a", [6, 3, 1, 8]), 64)
    assert [source.turned for source in capture.sources] == [True, True, False, True]
    alone = open_capture(turned_frames(tmp_path / "b", [3, 3, 1, 1]), 64)
    assert not any(source.turned for source in alone.sources)


def test_the_center_tells_where_no_size_is_stated(tmp_path: Path) -> None:
    values = {"w": None, "h": None, "cx": 24.0, "cy": 32.0}
    meta = {key: value for key, value in transforms(3, **values).items() if value is not None}
    write(tmp_path, meta)
    for index in range(3):
        photo(tmp_path / f"images/{index}.png", 48, 64)
        store_turned(tmp_path / f"images/{index}.png", 6)  # stored at 64 × 48
    capture = open_capture(tmp_path, 64)
    assert all(source.turned and (source.width, source.height) == (48, 64) for source in capture.sources)
    assert (capture.views[0].intrinsics.cx, capture.views[0].intrinsics.cy) == (24.0, 32.0)


@pytest.mark.parametrize("as_stored", [False, True])
def test_a_mask_stands_as_its_photo(tmp_path: Path, as_stored: bool) -> None:
    """Whether the mask was painted over the photo as it is seen or as it is stored."""
    meta = transforms(2)
    for index, frame in enumerate(meta["frames"]):
        frame["mask_path"] = f"masks/{index}.png"
    write(tmp_path, meta)
    mask = np.full((48, 64), 255, np.uint8)
    mask[:12, :16] = 0
    picture = Image.fromarray(mask)
    (tmp_path / "masks").mkdir()
    for index in range(2):
        store_turned(tmp_path / f"images/{index}.png", 6)
        (picture.transpose(Image.Transpose.ROTATE_90) if as_stored else picture).save(tmp_path / f"masks/{index}.png")
    capture = open_capture(tmp_path, 64)
    write_images(capture, tmp_path / "made")
    assert (np.asarray(Image.open(tmp_path / "made/0.mask.png")) == mask).all()
