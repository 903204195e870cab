# SPDX-License-Identifier: GPL-3.0-or-later
"""The photo that an instruction is tried on: as a person sees it, whatever kind of file it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from engine import protocol
from engine.errors import BadInput
from engine.jobs import trying
from engine.jobs.trying import _photo
from engine.progress import Job


def patch(path: Path) -> np.ndarray:
    """(3,) the color in the middle, 0–255."""
    photo = _photo(path, 64)
    return photo[photo.shape[0] // 2, photo.shape[1] // 2].numpy() * 255


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_of_gray_are_not_white(tmp_path: Path, ending: str) -> None:
    Image.fromarray(np.full((48, 64), 100 * 257, np.uint16)).save(tmp_path / f"a.{ending}")
    assert np.abs(patch(tmp_path / f"a.{ending}") - 100).max() <= 1


def test_floating_point_is_light(tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64), 0.2140, np.float32)).save(tmp_path / "a.tif")
    assert np.abs(patch(tmp_path / "a.tif") - 127.5).max() <= 1


def test_profiles_are_honored(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = Image.new("LAB", (64, 48), (136, 208, 195))  # sRGB's red: L 53.24, a 80.09, b 67.2
    picture.save(tmp_path / "a.tif", icc_profile=lab)
    assert np.abs(patch(tmp_path / "a.tif") - (255, 0, 0)).max() < 12


def test_it_stands_as_the_camera_was_held_and_is_no_larger_than_asked(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, :100] = 255  # the left as stored is the upper edge
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    photo = _photo(tmp_path / "a.jpg", 64)
    assert tuple(photo.shape) == (64, 32, 3)
    assert photo[:24].min() > 0.9 and photo[-24:].max() < 0.1


def test_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 48), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (patch(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("name", ["pipe.png", "text.jpg", "absent.png", "raw.dng", "folder.png"])
def test_what_is_no_photo_gets_a_sentence(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "raw.dng").write_bytes(b"II*\0")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadInput) as caught:
        _photo(tmp_path / name, 64)
    assert name in caught.value.message and caught.value.file == str(tmp_path / name)


def test_a_photo_that_is_none_is_said_before_an_editor_is_loaded(tmp_path: Path, monkeypatch) -> None:
    loads = []
    monkeypatch.setattr(trying, "opened_editor", lambda *_: loads.append(1))
    asked = {"photo": str(tmp_path / "gone.jpg"), "out": str(tmp_path / "out.png"), "device": "cpu"}
    request = protocol.TryPhoto(instruction="make it night", **asked)
    with pytest.raises(BadInput, match=r"gone\.jpg does not exist"):
        trying.try_photo(request, Job())
    assert not loads
