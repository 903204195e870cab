# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture is once it has been opened. Frames and conventions: docs/frames.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.capture.lens import Lens
from engine.capture.masks import Hidden, Masks
from engine.capture.upright import up_from_cameras
from engine.errors import BadInput


class CaptureError(BadInput):
    """A capture that cannot be opened or read: one sentence, and the file and field at fault where known."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera at `width` × `height` pixels; all values in pixels, pixel centres at half-integers.

    `cy` counts down from the picture's upper edge. A point straight ahead falls on (`cx`, `cy`).
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def scaled_to(self, width: int, height: int) -> Intrinsics:
        """The same camera when its picture is resized, edge to edge, to `width` × `height`."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def matrix(self) -> np.ndarray:
        """(3, 3) float64: camera axes x right, y down, z forward -> homogeneous pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class View:
    """One picture of a capture, as everything after the reader sees it: pinhole, at working size.

    `name` is unique in its capture and safe as a file name. `pose` is (4, 4) float64, camera to world in the capture
    frame, OpenGL camera axes (x right, y up, z back). `image` is the file name of the pinhole picture in the folder
    that `write_images` fills. `held_out` views are measured on and never trained on. `mask`, beside `image`, is a
    picture of the same size, black where the view shows nothing of the scene and is not trained on.
    """

    name: str
    pose: np.ndarray
    intrinsics: Intrinsics
    image: str
    held_out: bool
    mask: str | None = None


class Points(Protocol):
    """What `SparsePoints` has, whether in memory or still in a file."""

    @property
    def positions(self) -> np.ndarray: ...

    @property
    def colours(self) -> np.ndarray | None: ...

    @property
    def errors(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...


MOST_POINTS = 2_000_000  # kept of a source's sparse points
FARTHEST = 1e10  # from the source's origin, in its units: a map's coordinates in millimetres fit


@dataclass(frozen=True, eq=False)
class SparsePoints:
    """Points that the source triangulated: `positions` (N, 3) float64 in the capture frame, all finite, and `colours`
    (N, 3) uint8 sRGB and `errors` (N,) float32, how far off they are where views see them, pixels of the source's
    pictures, 0 or more; None where the source has none."""

    positions: np.ndarray
    colours: np.ndarray | None = None
    errors: np.ndarray | None = None

    @classmethod
    def usable(
        cls, positions: np.ndarray, colours: np.ndarray | None = None, errors: np.ndarray | None = None
    ) -> SparsePoints | None:
        """Those whose positions are numbers and not absurdly far away; None where none is left."""
        good = (np.abs(positions) < FARTHEST).all(axis=1)  # NaN is not
        if not good.any():
            return None
        if errors is not None:
            with np.errstate(all="ignore"):
                errors = errors.astype(np.float32)
            # What is no error (COLMAP's −1 where it has not computed it, NaN) says nothing of any.
            errors = errors[good] if ((errors >= 0) & (errors < FARTHEST)).all() else None
        return cls(positions[good], None if colours is None else colours[good], errors)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class SourceView:
    """The picture as the artist has it, from which a view's pinhole picture is made.

    `file` is relative to the capture's `root`, with forward slashes. `width`, `height` are in pixels, as stored, and
    `lens` belongs to that size; where the poses were made for the photo turned as its EXIF says, `turned` is true and
    both belong to the turned photo. `file_bytes` and `modified_ns` tell whether the file has changed since the capture
    was opened. `mask`, relative to `root` too, is a picture of the same shape (turned or not), dark where the photo
    shows nothing of the scene: less than half as bright as the mask's brightest.
    """

    file: str
    width: int
    height: int
    lens: Lens
    file_bytes: int
    modified_ns: int
    mask: str | None = None
    turned: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A view that the source lists and that could not be opened. `name` is as listed; `reason` is a sentence."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Capture:
    """An opened capture: pinhole views with poses in the capture frame.

    `source` is what the artist chose (a folder or a file), `root` the folder that picture paths are relative to,
    `format` the name of the reader. `views` are in natural order of their pictures' paths, and `sources[i]` is what
    `views[i]` is made from. `background` is the colour (sRGB, 0-255) put behind transparent pixels. `points` are those
    that the source has, and `gravity_up` is where it knows up to be, a unit vector in the capture frame. `origin` is
    where the capture frame's origin lies in the source's own coordinates: (0, 0, 0) but for those of a map. `masks` is
    what the artist says of masks and transparency, `hidden` what they were found to be (None: not looked at yet).
    """

    source: Path
    root: Path
    format: str
    views: list[View]
    sources: list[SourceView]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    background: tuple[int, int, int] = (255, 255, 255)
    points: Points | None = None
    gravity_up: np.ndarray | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    masks: Masks = "auto"
    hidden: Hidden | None = None

    @cached_property
    def _by_name(self) -> dict[str, View]:
        return {view.name: view for view in self.views}

    def view(self, name: str) -> View:
        """The view of that name; CaptureError where there is none."""
        if name not in self._by_name:
            raise CaptureError(f"The capture has no view named {name!r}.", field="views")
        return self._by_name[name]

    def without(self, reasons: Mapping[str, str]) -> Capture:
        """The same capture with some views, by name, moved to `left_out` for the reasons given."""
        kept = [index for index, view in enumerate(self.views) if view.name not in reasons]
        return replace(
            self,
            views=[self.views[index] for index in kept],
            sources=[self.sources[index] for index in kept],
            left_out=self.left_out + [LeftOut(v.name, reasons[v.name]) for v in self.views if v.name in reasons],
        )

    @cached_property
    def positions(self) -> np.ndarray:
        """(N, 3) float64: where the cameras are, in the capture frame."""
        return np.array([view.pose[:3, 3] for view in self.views]).reshape(-1, 3)

    @cached_property
    def centre(self) -> np.ndarray:
        """(3,) float64: what the cameras look at, the point nearest to all optical axes (least squares).

        Axes that are (nearly) parallel meet nowhere: then it is a point ahead of the cameras' mean position, as far as
        they are spread. Cameras that look outward meet behind themselves: then it is their mean position.
        """
        ahead = -np.array([view.pose[:3, 2] for view in self.views]).reshape(-1, 3)
        middle = self.positions.mean(axis=0)
        across = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]  # what of a vector is not along the axis
        total = across.mean(axis=0)
        # The smallest eigenvalue is the mean squared sine of the axes to their common direction: about 0.6 degrees.
        if np.linalg.eigvalsh(total)[0] < 1e-4:
            spread = float(np.linalg.norm(self.positions - middle, axis=1).mean())
            return middle + ahead.mean(axis=0) * (spread or 1.0)
        moment = np.einsum("nij,nj->i", across, self.positions - middle) / len(ahead)
        point = middle + np.linalg.solve(total, moment)
        in_front = np.einsum("ni,ni->n", point - self.positions, ahead) > 0
        return point if in_front.mean() >= 0.5 else middle

    @cached_property
    def radius(self) -> float:
        """Mean distance of the cameras to `centre`, in the capture's units; never zero."""
        return float(np.linalg.norm(self.positions - self.centre, axis=1).mean()) or 1.0

    @cached_property
    def up(self) -> np.ndarray:
        """(3,) float64 unit vector: up by the source's own gravity where it knows it, else by the cameras."""
        if self.gravity_up is not None:
            return self.gravity_up
        return up_from_cameras(np.array([view.pose[:3, :3] for view in self.views]))
