# SPDX-License-Identifier: GPL-3.0-or-later
"""Every format with every kind of picture: opened, measured and made into working pictures."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_writers import WRITERS, write_ring
from PIL import Image

from engine.capture import CaptureError, open_capture, write_images
from engine.capture.ply import read_points

KINDS = (".heic", ".avif", ".webp", ".tif", ".bmp", ".Jpg", ".JPEG", ".exr")
SLIGHT = 12  # levels, mean: what codecs do to the tests' picture


def converted(path: Path, ending: str) -> Path:
    """The same picture as another kind of file."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    path.unlink()
    target = path.with_suffix(ending)
    if ending == ".exr":
        values = np.asarray(pixels)[..., ::-1] / 255.0
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        assert cv2.imwrite(str(target), linear.astype(np.float32))
    else:
        pixels.save(target, quality=100)
    return target


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_all_kinds(tmp_path: Path, name: str, listed: bool) -> None:
    """Whether the format lists the pictures as the kind that they are, or as they were before they were converted."""
    write_ring(name, tmp_path / "plain", len(KINDS))
    write_ring(name, tmp_path / "mixed", len(KINDS))
    plain = open_capture(tmp_path / "plain", 64)
    pictures = sorted(path for path in (tmp_path / "mixed").rglob("*") if path.suffix in (".png", ".jpg"))
    assert len(pictures) == len(KINDS)
    texts = [path for path in (tmp_path / "mixed").rglob("*") if path.suffix in (".json", ".xml", ".csv", ".sfm")]
    for path, ending in zip(pictures, KINDS, strict=True):
        after = converted(path, ending)
        for text in texts if listed else ():
            text.write_text(text.read_text().replace(path.name, after.name))
    mixed = open_capture(tmp_path / "mixed", 64)
    assert [view.name for view in mixed.views] == [view.name for view in plain.views], mixed.left_out
    for one, other in zip(plain.views, mixed.views, strict=True):
        assert np.allclose(one.pose, other.pose) and one.intrinsics == other.intrinsics
    assert write_images(plain, tmp_path / "a") == write_images(mixed, tmp_path / "b") == len(KINDS)
    for view in plain.views:
        ours, theirs = (np.asarray(Image.open(tmp_path / folder / view.image)).astype(int) for folder in "ab")
        assert np.abs(ours - theirs).mean() < SLIGHT, view.name


@pytest.mark.parametrize("name", WRITERS)
def test_pipes_where_files_are_expected(tmp_path: Path, name: str) -> None:
    """None is waited for, whichever of the capture's files it stands for; pictures are left out, the rest opens."""
    write_ring(name, tmp_path / "a", 6)
    for path in sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        aside = tmp_path / "aside"
        path.rename(aside)
        os.mkfifo(path)
        try:
            capture = open_capture(tmp_path / "a", 64)
        except CaptureError as problem:
            assert problem.message.endswith(".")
        else:
            bad: dict[str, str] = {}
            write_images(capture, tmp_path / "made", on_bad=lambda view, why, bad=bad: bad.update({view.name: why}))
            assert len(capture.views) - len(bad) >= 4  # a split of Blender-synthetic has two
        path.unlink()
        aside.rename(path)


def test_a_pipe_of_points(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "points.ply")
    with pytest.raises(CaptureError, match="pipe"):
        read_points(tmp_path / "points.ply")


@pytest.mark.parametrize("count", [2 * 10**9, 10**15])
def test_points_that_are_not_there_take_no_memory(tmp_path: Path, count: int) -> None:
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n"
    header += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    (tmp_path / "points.ply").write_bytes(header.encode() + bytes(240))
    with pytest.raises(CaptureError, match="has no room for them"):
        read_points(tmp_path / "points.ply")
