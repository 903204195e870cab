# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of COLMAP's models: `cameras`, `images` and `points3D`, each `.bin` or `.txt`.

The layout is COLMAP's documented one (https://colmap.github.io/format.html). It is read here and not by pycolmap, whose
C++ allocates what a damaged file's counts ask for and may end the process. Every count is held against the file's size
first, and what a capture does not need (keypoints, tracks) is passed over unread. Rigs and frames, which newer versions
write besides, are not needed: `images` still has the pose of every picture.

COLMAP's poses are world to camera, in axes x right, y down, z forward; the capture frame is COLMAP's world.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine.capture.lens import COLMAP_MODELS, Lens
from engine.capture.photos import EXTENSIONS, SkipView, find_mask, find_photo, inside
from engine.capture.reading import MOST_VIEWS, Reading, Shot, rigid_pose, usable_lens
from engine.capture.types import MOST_POINTS, CaptureError, LeftOut, SparsePoints

FORMAT = "COLMAP"
_LONGEST_LINE = 64 * 2**20  # bytes; a picture's keypoints are one line
_LONGEST_NAME = 4096  # bytes
_PICTURES = ("images", "input", "images_2", "images_4", "images_8", "rgb", "imgs", "color", "frames", "image")

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
class _Camera:
    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    quaternion: tuple[float, float, float, float]  # w x y z
    shift: tuple[float, float, float]


def find(folder: Path) -> Path | None:
    """The folder itself where a model lies in it or where COLMAP's programs put one, else None."""
    return folder if _models(folder) else None


def read(path: Path) -> Reading:
    """All shots of a model: `path` is a folder that `find` knows, or a file of a model.

    Of several models the one with most pictures is read. Raises CaptureError for what leaves no capture, and lists
    single bad pictures as left out.
    """
    models = _models(path if path.is_dir() else path.parent)
    if not models:
        raise CaptureError(
            f"{path.name} belongs to no COLMAP model (cameras and images, both .bin or both .txt); choose its folder.",
            file=path,
        )
    reading = Reading(path, FORMAT)
    sizes = []
    problems = []
    for model in models:
        try:
            sizes.append((_count_images(model), model))
        except CaptureError as problem:
            problems.append(problem)
            reading.notes.append(f"The model {_place(model, path)} was passed over: {problem.message}")
    if not sizes:
        raise problems[0]
    count, model = max(sizes, key=lambda entry: entry[0])  # of equals the first
    if len(sizes) > 1:
        others = ", ".join(f"{_place(m, path)} ({n})" for n, m in sizes if m != model)
        reading.notes.append(
            f"Of {len(sizes)} models the one with most pictures was opened, {_place(model, path)} ({count}); "
            f"not opened: {others}."
        )
    cameras, images = _read_cameras(model), _read_images(model)
    if not images:
        raise CaptureError(f"{_file(model, 'images').name} lists no pictures.", file=_file(model, "images"))
    reading.root = _root(model)
    pictures = _pictures_folder(reading.root, model, images)
    masks = _masks_folder(reading.root, pictures)
    lenses = _lenses(cameras)
    for image in images:
        listed = f"{pictures}/{image.name}" if pictures else image.name
        try:
            photo = find_photo(reading.root, listed)
            if image.camera not in lenses:
                raise SkipView(f"The camera {image.camera} of the picture {image.name[:120]} is not in the model.")
            lens = lenses[image.camera]
            if isinstance(lens, str):
                raise SkipView(lens)
            camera = cameras[image.camera]
            mask = find_mask(reading.root, _mask_names(masks, image.name), photo) if masks else None
            pose = _pose(image)
            reading.shots.append(
                Shot(image.name, photo, pose, lens, float(camera.width), float(camera.height), mask=mask)
            )
        except SkipView as problem:
            reading.left_out.append(LeftOut(image.name[:300], str(problem)))
    reading.left_out += _without_camera(reading.root, pictures, images)
    try:
        reading.points = _read_points(model)
    except CaptureError as problem:
        reading.notes.append(f"The sparse points were left out: {problem.message}")
    return reading


# where things are ----------------------------------------------------------------------------------------------------


def _models(folder: Path) -> list[Path]:
    """The folders of all models that belong to `folder`, by names alone."""
    for place in (folder, folder / "sparse", folder / "colmap" / "sparse", folder / "dense" / "sparse",
                  folder / "dense" / "0" / "sparse"):  # fmt: skip
        if not place.is_dir():
            continue
        inner = sorted((p for p in place.iterdir() if p.name.isdigit()), key=lambda p: (len(p.name), p.name))[:100]
        found = [model for model in (place, *inner) if _is_model(model)]
        if found:
            return found
    return []


def _is_model(folder: Path) -> bool:
    return any(
        (folder / f"cameras{kind}").is_file() and (folder / f"images{kind}").is_file() for kind in (".bin", ".txt")
    )


def _root(model: Path) -> Path:
    """The project's folder, to which pictures are relative: above `sparse`, `sparse/0` and `colmap/sparse/0`."""
    root = model.parent if model.name.isdigit() and model.parent.name == "sparse" else model
    root = root.parent if root.name == "sparse" else root
    return root.parent if root.name == "colmap" and root != model else root


def _place(model: Path, chosen: Path) -> str:
    return model.relative_to(chosen).as_posix() if model.is_relative_to(chosen) and model != chosen else model.name


def _file(model: Path, name: str) -> Path:
    binary = all((model / f"{each}.bin").is_file() for each in ("cameras", "images"))
    return model / f"{name}{'.bin' if binary else '.txt'}"


def _pictures_folder(root: Path, model: Path, images: list[_Image]) -> str:
    """The folder, relative to `root`, where most of the pictures lie; `images` where none lies anywhere."""
    folders = [name for name in _PICTURES if (root / name).is_dir()]
    places = [*folders[:1], "", *folders[1:]] if folders[:1] == ["images"] else ["", *folders]
    beside = model.relative_to(root).as_posix()
    others = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))[:100]
    places += [name for name in (beside, *others) if name not in places and name != "."]

    some = images[:: math.ceil(len(images) / 200)]

    def hits(place: str) -> int:
        count = 0
        for image in some:
            try:
                count += inside(root, f"{place}/{image.name}" if place else image.name).is_file()
            except (SkipView, OSError):
                continue
        return count

    best, most = "images", 0
    for place in places:
        found = hits(place)
        if found > most:
            best, most = place, found
        if most == len(some):
            break
    return best


def _without_camera(root: Path, pictures: str, images: list[_Image]) -> list[LeftOut]:
    """The pictures beside those of the model that COLMAP found no camera for."""
    if not pictures:
        return []  # the project's folder itself, which may hold any pictures
    known = {image.name for image in images}
    left_out = []
    for folder in sorted({Path(image.name.replace("\\", "/")).parent for image in images})[:100]:
        try:
            there = inside(root, f"{pictures}/{folder.as_posix()}")
            names = sorted(entry.name for entry in os.scandir(there) if entry.name.endswith(EXTENSIONS))
        except (SkipView, OSError):
            continue
        for name in names[:MOST_VIEWS]:
            listed = (folder / name).as_posix()
            if listed not in known:
                left_out.append(LeftOut(listed, "COLMAP found no camera for this picture."))
    return left_out


def _masks_folder(root: Path, pictures: str) -> str:
    """The folder `masks` beside that of the pictures, or in the root; empty where there is none."""
    places = ((Path(pictures).parent / "masks").as_posix(), "masks")
    return next((place for place in places if (root / place).is_dir()), "")


def _mask_names(masks: str, name: str) -> list[str]:
    """Where COLMAP looks for a picture's mask (`masks/<name>.png`), and where others put it."""
    bare = name.rsplit(".", 1)[0]
    return [f"{masks}/{name}.png", f"{masks}/{bare}.png", f"{masks}/{name}"]


# what they hold ------------------------------------------------------------------------------------------------------


def _lenses(cameras: dict[int, _Camera]) -> dict[int, Lens | str]:
    """Each camera's lens, or the sentence that says why it has none."""
    lenses: dict[int, Lens | str] = {}
    for ident, camera in cameras.items():
        try:
            if camera.model not in COLMAP_MODELS:
                panorama = camera.model == "EQUIRECTANGULAR"
                raise SkipView(
                    f"The camera {ident} is {camera.model[:40]}, "
                    + ("a panorama, which has no flat picture." if panorama else "which cannot be read yet.")
                )
            if not (1 <= camera.width <= 100_000 and 1 <= camera.height <= 100_000):
                raise SkipView(
                    f"The camera {ident} has a size of {camera.width} × {camera.height} pixels, which no picture has."
                )
            lens = Lens.from_colmap(camera.model, camera.params)
            lenses[ident] = usable_lens(lens, camera.width, camera.height, f"the camera {ident}")
        except SkipView as problem:
            lenses[ident] = str(problem)
        except ValueError:
            lenses[ident] = f"The camera {ident} has {len(camera.params)} parameters, which {camera.model} has not."
    return lenses


def _pose(image: _Image) -> np.ndarray:
    """(4, 4) camera to world, OpenGL axes. Raises SkipView."""
    what = f"The pose of {image.name[:120]}"
    w, x, y, z = image.quaternion
    length = math.sqrt(w * w + x * x + y * y + z * z) if all(map(math.isfinite, image.quaternion)) else math.nan
    if not 1e-6 < length < 1e6:
        raise SkipView(f"{what} has no rotation (its quaternion is {w:g} {x:g} {y:g} {z:g}).")
    w, x, y, z = w / length, x / length, y / length, z / length
    camera_from_world = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = camera_from_world.T * (1, -1, -1)  # y down, z forward -> y up, z back
    with np.errstate(all="ignore"):
        pose[:3, 3] = -camera_from_world.T @ np.array(image.shift)
    return rigid_pose(pose, what)


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
        return data[:end].decode("utf-8", "replace")


def _count_images(model: Path) -> int:
    path = _file(model, "images")
    if path.suffix == ".txt":
        return sum(1 for _ in _image_lines(path))
    with path.open("rb") as stream:
        return _Binary(path, stream).count(_IMAGE.size + 1 + _COUNT.size)


def _read_cameras(model: Path) -> dict[int, _Camera]:
    path = _file(model, "cameras")
    cameras: dict[int, _Camera] = {}
    if path.suffix == ".txt":
        for number, line in _lines(path):
            if not line or line.startswith("#"):
                continue
            words = line.split()
            try:
                ident, camera_model, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
                cameras[ident] = _Camera(camera_model, width, height, tuple(map(float, words[4:20])))
            except (ValueError, IndexError):
                raise _damaged(path, f"has no camera in line {number}") from None
            _not_too_many(path, len(cameras), "cameras")
        return cameras
    with path.open("rb") as stream:
        file = _Binary(path, stream)
        count = file.count(_CAMERA.size)
        _not_too_many(path, count, "cameras")
        for _ in range(count):
            ident, number, width, height = file.take(_CAMERA)
            if number not in _MODEL_IDS:
                raise _damaged(path, f"has a camera model number {number}, which is not known")
            camera_model = _MODEL_IDS[number]
            params = file.take(struct.Struct(f"<{_COUNTS[camera_model]}d"))
            cameras[ident] = _Camera(camera_model, width, height, params)
    return cameras


def _read_images(model: Path) -> list[_Image]:
    path = _file(model, "images")
    images: list[_Image] = []
    if path.suffix == ".txt":
        for number, line in _image_lines(path):
            words = line.split(maxsplit=9)
            try:
                values = [float(word) for word in words[1:8]]
                images.append(_Image(words[9], int(words[8]), tuple(values[:4]), tuple(values[4:])))
            except (ValueError, IndexError):
                raise _damaged(path, f"has no picture in line {number}") from None
            _not_too_many(path, len(images), "pictures")
        return images
    with path.open("rb") as stream:
        file = _Binary(path, stream)
        count = file.count(_IMAGE.size + 1 + _COUNT.size)
        _not_too_many(path, count, "pictures")
        for _ in range(count):
            _, w, x, y, z, right, down, ahead, camera = file.take(_IMAGE)
            name = file.text()
            images.append(_Image(name, camera, (w, x, y, z), (right, down, ahead)))
            (keypoints,) = file.take(_COUNT)
            file.skip(24 * keypoints)
    return images


def _read_points(model: Path) -> SparsePoints | None:
    """The triangulated points; None where the model has none. Raises CaptureError."""
    path = _file(model, "points3D")
    if not path.is_file():
        return None
    if path.suffix == ".bin":
        with path.open("rb") as stream:
            points = np.concatenate([np.empty(0, _POINT), *_binary_points(_Binary(path, stream))])
        return SparsePoints.usable(points["xyz"], points["rgb"])
    positions: list[tuple[float, ...]] = []
    colours: list[tuple[int, ...]] = []
    for number, line in _lines(path):
        if not line or line.startswith("#"):
            continue
        words = line.split(maxsplit=7)
        try:
            positions.append((float(words[1]), float(words[2]), float(words[3])))
            colours.append((int(words[4]) & 255, int(words[5]) & 255, int(words[6]) & 255))
        except (ValueError, IndexError):
            raise _damaged(path, f"has no point in line {number}") from None
        if len(positions) >= MOST_POINTS:
            break
    if not positions:
        return None
    return SparsePoints.usable(np.array(positions, dtype=np.float64), np.array(colours, dtype=np.uint8))


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
    if count > MOST_VIEWS:
        raise CaptureError(f"{path.name} lists {count:,} {what}; at most {MOST_VIEWS:,} can be opened.", file=path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, stripped. Raises CaptureError for a line that no program writes."""
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise _damaged(path, f"has a line {number} without an end")
            yield number, line.decode("utf-8", "replace").strip()


def _image_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The line of each picture; the one after it, which may be empty, lists its keypoints."""
    lines = _lines(path)
    for number, line in lines:
        if line and not line.startswith("#"):
            yield number, line
            next(lines, None)
