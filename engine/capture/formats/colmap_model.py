# SPDX-License-Identifier: GPL-3.0-or-later
"""The three files of a COLMAP model: `cameras`, `images` and `points3D`, each `.bin` or `.txt`.

The layout is COLMAP's documented one (https://colmap.github.io/format.html). It is read here and not by pycolmap, whose
C++ allocates what a damaged file's counts ask for and may end the process. Every count is held against the file's size
first, and what a capture does not need (keypoints, tracks) is passed over unread. Rigs and frames, which newer versions
write besides, are not needed: `images` still has the pose of every picture.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine.capture.lens import COLMAP_MODELS
from engine.capture.ply import read_points as read_ply
from engine.capture.reading import check_count
from engine.capture.texts import decoded, lines_of, open_regular
from engine.capture.types import MOST_POINTS, CaptureError, SparsePoints

_LONGEST_NAME = 4096  # bytes

_MODEL_IDS = {
    0: "SIMPLE_PINHOLE", 1: "PINHOLE", 2: "SIMPLE_RADIAL", 3: "RADIAL", 4: "OPENCV", 5: "OPENCV_FISHEYE",
    6: "FULL_OPENCV", 7: "FOV", 8: "SIMPLE_RADIAL_FISHEYE", 9: "RADIAL_FISHEYE", 10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE", 12: "SIMPLE_DIVISION", 13: "DIVISION", 14: "SIMPLE_FISHEYE", 15: "FISHEYE",
    16: "EUCM", 17: "EQUIRECTANGULAR",
}  # fmt: skip
_COUNTS = {name: len(params.split()) for name, (_, params, _) in COLMAP_MODELS.items()} | {"EQUIRECTANGULAR": 2}

_CAMERA = struct.Struct("<IiQQ")  # id, model, width, height
_IMAGE = struct.Struct("<I7dI")  # id, quaternion w x y z, shift, camera
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])
_AT_ONCE = 16 * 2**20  # bytes of points
_COUNT = struct.Struct("<Q")


@dataclass(frozen=True)
class Camera:
    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class Image:
    name: str
    camera: int
    quaternion: tuple[float, float, float, float]  # w x y z
    shift: tuple[float, float, float]


def _damaged(path: Path, why: str) -> CaptureError:
    return CaptureError(f"{path.name} {why}; it may be damaged or no file of COLMAP's, copy it again.", file=path)


class _Binary:
    """A binary file of COLMAP's, read front to back; never more than is there."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.left = self.size = path.stat().st_size

    def take(self, layout: struct.Struct) -> tuple:
        data = self.stream.read(layout.size)
        self.left -= layout.size
        if len(data) < layout.size:
            raise _damaged(self.path, "ends early")
        return layout.unpack(data)

    def skip(self, size: int) -> None:
        if size > self.left:
            raise _damaged(self.path, "ends early")
        self.stream.seek(size, 1)
        self.left -= size

    def count(self, at_least: int) -> int:
        """A number of records of at least so many bytes each."""
        (count,) = self.take(_COUNT)
        if count * at_least > self.left:
            raise _damaged(self.path, f"says that it holds {count:,} entries, more than it has room for")
        return count

    def text(self) -> str:
        """A text that ends with a zero byte."""
        data = self.stream.read(min(_LONGEST_NAME, max(self.left, 0)))
        end = data.find(b"\0")
        if end < 0:
            raise _damaged(self.path, "holds a name without an end")
        self.stream.seek(end + 1 - len(data), 1)
        self.left -= end + 1
        return decoded(data[:end])


def _number(word: str) -> float:
    """A number, with the decimal comma too that some countries' machines write. Raises ValueError."""
    return float(word.replace(",", "."))


def count_images(model: Path) -> int:
    path = file_of(model, "images")
    if path.suffix == ".txt":
        return sum(1 for _ in _image_lines(path))
    with open_regular(path) as stream:
        return _Binary(path, stream).count(_IMAGE.size + 1 + _COUNT.size)


def read_cameras(model: Path) -> dict[int, Camera]:
    path = file_of(model, "cameras")
    cameras: dict[int, Camera] = {}
    if path.suffix == ".txt":
        for number, line in lines_of(path):
            if not line or line.startswith("#"):
                continue
            words = line.split()
            try:
                ident, camera_model = int(words[0]), words[1].upper()
                width, height = (int(_number(word)) for word in words[2:4])
                cameras[ident] = Camera(camera_model, width, height, tuple(map(_number, words[4:20])))
            except (ValueError, IndexError, OverflowError):  # a size without end
                raise _damaged(path, f"has no camera in line {number}") from None
            _not_too_many(path, len(cameras), "cameras")
        return cameras
    with open_regular(path) as stream:
        file = _Binary(path, stream)
        count = file.count(_CAMERA.size)
        _not_too_many(path, count, "cameras")
        for _ in range(count):
            ident, number, width, height = file.take(_CAMERA)
            if number not in _MODEL_IDS:
                raise _damaged(path, f"has a camera model number {number}, which is not known")
            camera_model = _MODEL_IDS[number]
            params = file.take(struct.Struct(f"<{_COUNTS[camera_model]}d"))
            cameras[ident] = Camera(camera_model, width, height, params)
    return cameras


def read_images(model: Path) -> list[Image]:
    path = file_of(model, "images")
    images: list[Image] = []
    if path.suffix == ".txt":
        for number, line in _image_lines(path):
            words = line.split(maxsplit=9)
            try:
                values = [_number(word) for word in words[1:8]]
                images.append(Image(words[9], int(words[8]), tuple(values[:4]), tuple(values[4:])))
            except (ValueError, IndexError):
                raise _damaged(path, f"has no picture in line {number}") from None
            _not_too_many(path, len(images), "pictures")
        return images
    with open_regular(path) as stream:
        file = _Binary(path, stream)
        count = file.count(_IMAGE.size + 1 + _COUNT.size)
        _not_too_many(path, count, "pictures")
        for _ in range(count):
            _, w, x, y, z, right, down, ahead, camera = file.take(_IMAGE)
            name = file.text()
            images.append(Image(name, camera, (w, x, y, z), (right, down, ahead)))
            (keypoints,) = file.take(_COUNT)
            file.skip(24 * keypoints)
    return images


def read_points(model: Path) -> SparsePoints | None:
    """The triangulated points; None where the model has none. Raises CaptureError."""
    path = file_of(model, "points3D")
    if not path.is_file():
        path = model / "points3D.ply"  # what 3D Gaussian Splatting's program makes of them
        return read_ply(path) if path.is_file() else None
    if path.suffix == ".bin":
        with open_regular(path) as stream:
            points = np.concatenate([np.empty(0, _POINT), *_binary_points(_Binary(path, stream))])
        return SparsePoints.usable(points["xyz"], points["rgb"], points["error"])
    positions: list[tuple[float, ...]] = []
    colours: list[tuple[int, ...]] = []
    errors: list[float] = []
    for number, line in lines_of(path):
        if not line or line.startswith("#"):
            continue
        words = line.split(maxsplit=8)
        try:
            positions.append((_number(words[1]), _number(words[2]), _number(words[3])))
            colours.append((int(words[4]) & 255, int(words[5]) & 255, int(words[6]) & 255))
            errors.append(_number(words[7]) if len(words) > 7 else math.nan)
        except (ValueError, IndexError):
            raise _damaged(path, f"has no point in line {number}") from None
        if len(positions) >= MOST_POINTS:
            break
    if not positions:
        return None
    return SparsePoints.usable(
        np.array(positions, dtype=np.float64), np.array(colours, dtype=np.uint8), np.array(errors)
    )


def _binary_points(file: _Binary) -> Iterator[np.ndarray]:
    """Arrays of `_POINT`, those that are kept. Each point is followed by its track, so they lie at uneven distances."""
    count = file.count(_POINT.itemsize)
    every = math.ceil(count / MOST_POINTS)
    length_of = struct.Struct("<Q").unpack_from
    where = _POINT.fields["track"][1]
    rest, done = b"", 0
    while done < count:
        data = rest + file.stream.read(_AT_ONCE)
        at, last, starts = 0, len(data) - _POINT.itemsize, []
        while at <= last and done + len(starts) < count:
            starts.append(at)
            at += _POINT.itemsize + 8 * length_of(data, at + where)[0]
        if not starts:
            raise _damaged(file.path, "ends early")
        kept = np.array(starts[-done % every :: every], dtype=np.int64)
        yield np.frombuffer(data, np.uint8)[kept[:, None] + np.arange(_POINT.itemsize)].view(_POINT)[:, 0]
        done += len(starts)
        rest = data[at:]
        beyond = file.stream.tell() + at - len(data)
        if beyond > file.size:
            raise _damaged(file.path, "ends early")
        if not rest:
            file.stream.seek(beyond)


def _not_too_many(path: Path, count: int, what: str) -> None:
    if count:
        check_count(count, path, what)


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model's cameras and images, both `.bin` or both `.txt`."""
    return any(
        (folder / f"cameras{kind}").is_file() and (folder / f"images{kind}").is_file() for kind in (".bin", ".txt")
    )


def file_of(model: Path, name: str) -> Path:
    """The model's file of that name: binary where both that must be there are."""
    binary = all((model / f"{each}.bin").is_file() for each in ("cameras", "images"))
    return model / f"{name}{'.bin' if binary else '.txt'}"


def _image_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The line of each picture. The one after it lists its keypoints and may be empty, or missing where an editor has
    taken the empty lines out."""
    keypoints = False
    for number, line in lines_of(path):
        if line.startswith("#"):
            continue
        if keypoints and not _is_image(line):
            keypoints = False
        elif line:
            keypoints = True
            yield number, line


def _is_image(line: str) -> bool:
    """Whether a line can be no list of keypoints, which are numbers by threes."""
    words = line.split(maxsplit=9)
    if len(words) < 10 or not words[8].isdigit() or len(words[9]) > _LONGEST_NAME:
        return False
    name = words[9].split()
    try:
        for word in name:
            _number(word)
    except ValueError:
        return True
    return len(name) % 3 != 0
