# SPDX-License-Identifier: GPL-3.0-or-later
"""What every reader needs of files that nobody vouches for: bounded reading, numbers, cameras, pictures by name."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from engine.capture.lens import Lens, is_centre, is_focal_length
from engine.capture.photos import EXTENSIONS, Photo, SkipView, find_photo, inside
from engine.capture.reading import MOST_VIEWS
from engine.capture.types import CaptureError

LARGEST_FILE = 64 * 2**20  # bytes
_MOST_BRACKETS = 2_000_000  # an empty list takes two bytes of text and thirty times that of memory
_MOST_FILES = 200_000  # looked at in a capture's folder
_DEEPEST = 6  # folders below it
_PICTURES = frozenset(extension.lower() for extension in EXTENSIONS)


class BadField(Exception):
    """A value that cannot be used; where it stands decides whether one view or the capture is at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def read_bytes(path: Path) -> bytes:
    """The content of a file of reasonable size. Raises CaptureError."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CaptureError(f"{path.name} is larger than {LARGEST_FILE >> 20} MB; it is not a capture's.", file=path)
        return path.read_bytes()
    except OSError as problem:
        raise CaptureError(f"{path.name} cannot be read: {problem.strerror or problem}.", file=path) from None


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises CaptureError."""
    data = read_bytes(path)
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise CaptureError(f"{path.name} lists millions of things; it is not a capture's.", file=path)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as problem:
        raise CaptureError(
            f"{path.name} is not valid JSON ({problem.msg}, line {problem.lineno}); it may be cut off, copy it again.",
            file=path,
        ) from None
    except (ValueError, RecursionError):  # not UTF-8; a number of thousands of digits; nested without end
        raise CaptureError(f"{path.name} is not a JSON text; it may be damaged, copy it again.", file=path) from None


def check_count(count: int, path: Path, things: str, field: str | None = None) -> None:
    """Raises CaptureError where a file lists none of what it is opened for, or too many."""
    if count == 0:
        raise CaptureError(f"{path.name} lists no {things}.", file=path, field=field)
    if count > MOST_VIEWS:
        raise CaptureError(
            f"{path.name} lists {count:,} {things}; at most {MOST_VIEWS:,} can be opened.", file=path, field=field
        )


def number(values: Any, key: str, default: float | None = None) -> float:
    """The finite number that `values` has under `key`, as such or as text. Raises BadField."""
    value = values.get(key) if isinstance(values, Mapping) else None
    if value is None:
        if default is None:
            raise BadField(key, "is missing")
        return default
    return as_number(value, key)


def as_number(value: Any, name: str) -> float:
    """A finite number, given as such or as text. Raises BadField, naming it."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not abs(found) < 1e9:
        raise BadField(name, "is not a usable number")
    return found


def size_of(values: Any, width: str = "width", height: str = "height") -> tuple[float, float]:
    """The size in pixels that a camera is for. Raises BadField."""
    sides = number(values, width), number(values, height)
    for key, side in ((width, sides[0]), (height, sides[1])):
        if not 1 <= side <= 100_000:
            raise BadField(key, f"is {side:g} pixels, which no picture is")
    return sides


def checked_lens(
    model: str, focal: tuple[float, float], centre: tuple[float, float], params: tuple[float, ...],
    size: tuple[float, float],
) -> Lens:  # fmt: skip
    """A lens whose values can be those of a picture of `size` pixels. Raises BadField.

    `focal` and `centre` are in pixels, across and down. A model whose parameters are all zero becomes a pinhole.
    """
    for value, side, axis in zip(focal, size, "xy", strict=True):
        if not is_focal_length(value, side):
            raise BadField(f"focal length {axis}", f"is {value:g} pixels, which no lens has for a picture of {side:g}")
    for value, side, axis in zip(centre, size, "xy", strict=True):
        if not is_centre(value, side):
            raise BadField(f"principal point {axis}", f"is {value:g} pixels, far outside a picture of {side:g}")
    if model == "OPENCV" and not any(params):
        model, params = "PINHOLE", ()
    return Lens(model, *focal, *centre, params)


def opengl_pose(rotation: Any, position: Any) -> list[list[float]]:
    """Rows (4 × 4), camera to world with OpenGL's camera axes, of a camera-to-world rotation (3, 3) with the axes
    x right, y down, z forward (OpenCV's) and a position (3,). Nothing is checked: `rigid_pose` does that."""
    pose = np.eye(4)
    pose[:3, :3] = np.asarray(rotation) * (1, -1, -1)
    pose[:3, 3] = position
    return pose.tolist()


def numbers(value: Any, count: int, what: str) -> np.ndarray:
    """(count,) float64 from an untrusted list. Raises SkipView, naming `what`, where it is none or not finite."""
    try:
        found = np.array(value, dtype=np.float64) if isinstance(value, list) and len(value) == count else None
    except (ValueError, TypeError, OverflowError):
        found = None
    if found is None or found.shape != (count,):
        raise SkipView(f"{what} is not a list of {count} numbers.")
    if not np.isfinite(found).all() or np.abs(found).max() > 1e12:
        raise SkipView(f"{what} holds values that are not numbers (NaN or infinity).")
    return found


def rotation_from_quaternion(xyzw: np.ndarray, what: str) -> np.ndarray:
    """(3, 3) rotation of a quaternion (4,), scalar last. Raises SkipView, naming `what`, for one not of length 1."""
    length = float(np.linalg.norm(xyzw))
    if abs(length - 1) > 1e-2:
        raise SkipView(f"{what} has a quaternion of length {length:.3g}, which is no rotation.")
    x, y, z, w = xyzw / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie directly in a folder, by their extension, in the order of their names' characters."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry, _ in zip(entries, range(_MOST_FILES), strict=False)]
    except OSError:
        return []
    return sorted(path for path in found if path.suffix.lower() in _PICTURES and not path.name.startswith("."))


class PhotosByName:
    """The pictures of a capture's folder, found by their names: programs write down where pictures lay on the machine
    that they ran on, or a bare label. Folders are walked once, when the first picture is not where it is listed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, list[str]] | None = None  # a name's characters, and a stem's -> relative paths

    def find(self, listed: str) -> Photo:
        """The picture that `listed` (a path of any machine, a file name, or a name without extension) means.

        Where several have its name, the one whose folders agree best with `listed`, then the one in `images`; where
        that does not decide, SkipView is raised, as it is where there is none.
        """
        if not listed.strip():
            raise SkipView("A camera names no picture.")
        path = PurePosixPath(listed.replace("\\", "/"))
        try:
            if not path.is_absolute() and inside(self.root, listed).is_file():
                return find_photo(self.root, listed)
        except (OSError, ValueError, SkipView):
            pass  # found by its name then, or said to be missing
        candidates = self._named(path.name)
        if not candidates:
            raise SkipView(
                f"The picture {path.name[:120]} is not in the capture's folder; copy the photos there, "
                "into a folder “images”."
            )
        wanted = [part.casefold() for part in path.parts[:-1]]
        ranked = sorted(candidates, key=lambda file: _agreement(file, wanted), reverse=True)
        if len(ranked) > 1 and _agreement(ranked[0], wanted) == _agreement(ranked[1], wanted):
            raise SkipView(
                f"Several pictures are called {path.name[:120]} ({ranked[0]}, {ranked[1]}), and which is meant is not "
                "said; keep one folder of them."
            )
        return find_photo(self.root, ranked[0])

    def _named(self, name: str) -> list[str]:
        if self._files is None:
            self._files = {}
            for file in _walk(self.root):
                for key in {PurePosixPath(file).name, "\0" + PurePosixPath(file).stem}:
                    self._files.setdefault(key, []).append(file)
        stem = PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in _PICTURES else name
        return self._files.get(name) or self._files.get("\0" + stem) or []


def _agreement(file: str, wanted: list[str]) -> tuple[int, bool, int]:
    folders = [part.casefold() for part in PurePosixPath(file).parts[:-1]]
    same = 0
    while same < min(len(folders), len(wanted)) and folders[-1 - same] == wanted[-1 - same]:
        same += 1
    return same, "images" in folders, -len(folders)


def _walk(root: Path) -> list[str]:
    """Relative paths of the pictures below `root`; links to folders are not followed, hidden folders left alone."""
    found: list[str] = []
    seen = 0
    for folder, folders, files in os.walk(root):
        relative = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and len(relative.parts) < _DEEPEST)
        found += [
            (relative / name).as_posix()
            for name in files
            if not name.startswith(".") and PurePosixPath(name).suffix.lower() in _PICTURES
        ]
        seen += len(files) + len(folders)
        if seen > _MOST_FILES:
            break
    return found
