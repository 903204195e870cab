# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture as a JSON file, so that a workspace opens again without the folder that the capture came from."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from engine.capture.fields import BadField, checked_lens, checked_side, rigid_pose
from engine.capture.lens import Lens
from engine.capture.masks import Hidden, Masks
from engine.capture.photos import LARGEST, LONGEST, SkipView
from engine.capture.ply import read_points, write_points
from engine.capture.reading import MOST_VIEWS
from engine.capture.types import Capture, CaptureError, Intrinsics, LeftOut, SourceView, SparsePoints, View
from engine.files import read_bounded, remove_file, write_record
from engine.text import from_json

POINTS = "points.ply"  # beside the capture's file
_VERSION = 1
_LARGEST_FILE = 96 * 2**20  # bytes; 20,000 views take 30 MB
_LARGEST_SIDE = 8192  # pixels, of a working picture
_LONGEST_NAME = 245  # bytes of UTF-8; systems take 255, endings included


_Pose = tuple[(float,) * 16]  # no other number is even read


class _View(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    pose: _Pose  # row-major
    intrinsics: Intrinsics
    image: str
    held_out: bool
    source: SourceView
    mask: str | None = None


class _Saved(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    source: str
    root: str
    format: str
    views: list[_View]
    left_out: list[LeftOut]
    notes: list[str]
    background: tuple[int, int, int]
    points: int = 0  # in POINTS
    gravity_up: tuple[float, float, float] | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    masks: Masks = "auto"
    hidden: Hidden | None = None


class StoredPoints:
    """As `SparsePoints`, in a PLY file that is read when they are first asked for; CaptureError where it is damaged."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    @property
    def positions(self) -> np.ndarray:
        return self._read.positions

    @property
    def colours(self) -> np.ndarray | None:
        return self._read.colours

    @property
    def errors(self) -> np.ndarray | None:
        return self._read.errors

    @cached_property
    def _read(self) -> SparsePoints:
        points = read_points(self.path)
        if points is None or len(points) != self._count:
            raise _broken(self.path, f"it does not hold {self._count:,} points")
        return points


def save_capture(capture: Capture, path: Path) -> None:
    """Writes the capture as JSON, whole or not at all, and its points beside it.

    Raises BadInput where a file cannot be written.
    """
    path = Path(path)
    points, stored = capture.points, path.with_name(POINTS)
    if points is not None and not (isinstance(points, StoredPoints) and points.path == stored):
        write_points(SparsePoints(points.positions, points.colours, points.errors), stored)
    saved = _Saved(
        _VERSION,
        str(capture.source),
        str(capture.root),
        capture.format,
        [
            _View(view.name, view.pose.ravel().tolist(), view.intrinsics, view.image, view.held_out, source, view.mask)
            for view, source in zip(capture.views, capture.sources, strict=True)
        ],
        capture.left_out,
        capture.notes,
        capture.background,
        0 if points is None else len(points),
        None if capture.gravity_up is None else tuple(capture.gravity_up.tolist()),
        capture.origin,
        capture.masks,
        capture.hidden,
    )
    write_record(path, saved)
    if points is None:
        remove_file(stored)


def load_capture(path: Path) -> Capture:
    """Reads what `save_capture` wrote; nothing in the file is trusted. Raises CaptureError."""
    path = Path(path)
    try:
        saved = from_json(read_bounded(path, _LARGEST_FILE), _Saved)
    except OSError as problem:
        raise CaptureError(f"{path.name} cannot be read: {problem.strerror or problem}.", file=path) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise _broken(path, str(problem)) from None
    if saved.version != _VERSION:
        raise _broken(path, f"it has version {saved.version} where this engine knows {_VERSION}")
    if not all(0 <= channel <= 255 for channel in saved.background):
        raise _broken(path, "its background is not a colour")
    if not 0 < len(saved.views) <= MOST_VIEWS:
        raise _broken(path, f"it holds {len(saved.views):,} views")
    views = [_checked_view(view, path) for view in saved.views]
    if not 0 <= saved.points <= 2**32:
        raise _broken(path, "its number of points is none")
    up = None if saved.gravity_up is None else np.array(saved.gravity_up)
    if up is not None and not abs(float(np.linalg.norm(up)) - 1) < 1e-6:  # NaN is not
        raise _broken(path, "its up is no direction")
    if not all(map(math.isfinite, saved.origin)):
        raise _broken(path, "its origin is no place")
    if len({view.name.casefold() for view in views}) < len(views):
        raise _broken(path, "two of its views have the same name")
    return Capture(
        Path(saved.source),
        Path(saved.root),
        saved.format,
        views,
        [view.source for view in saved.views],
        saved.left_out,
        saved.notes,
        saved.background,
        StoredPoints(path.with_name(POINTS), saved.points) if saved.points else None,
        up,
        saved.origin,
        saved.masks,
        saved.hidden,
    )


def _checked_view(saved: _View, path: Path) -> View:
    name, source = saved.name, saved.source
    if not _is_name(name):
        raise _broken(path, f"{name[:80]!r} is not a view's name")
    if saved.image != f"{name}.png":
        raise _broken(path, f"the picture of view {name} is not its own")
    if saved.mask not in (None, f"{name}.mask.png"):
        raise _broken(path, f"the mask of view {name} is not its own")
    try:
        pose = rigid_pose([saved.pose[row : row + 4] for row in range(0, 16, 4)], f"the pose of view {name}")
    except SkipView as problem:
        raise _broken(path, str(problem).rstrip(".")) from None
    try:
        flat = saved.intrinsics
        for camera, lens, longest in (
            (flat, Lens("PINHOLE", flat.fx, flat.fy, flat.cx, flat.cy), _LARGEST_SIDE),
            (source, source.lens, LONGEST),
        ):
            size = checked_side(camera.width, "width"), checked_side(camera.height, "height")
            if max(size) > longest or size[0] * size[1] > LARGEST:
                raise BadField("size", f"is {size[0]} × {size[1]} pixels, which no picture of a capture has")
            checked_lens(lens, size)
    except BadField as problem:
        raise _broken(path, f"the camera of view {name}: {problem}") from None
    return View(name, pose, saved.intrinsics, saved.image, saved.held_out, saved.mask)


def _is_name(name: str) -> bool:
    """Whether it names files, with an ending added, on every system, and nothing else."""
    wrong = name.startswith(".") or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name)
    return 0 < len(name.encode("utf-8", "replace")) <= _LONGEST_NAME and not wrong


def _broken(path: Path, why: str) -> CaptureError:
    return CaptureError(f"{path.name} is damaged ({why}); open the capture again.", file=path)
