# SPDX-License-Identifier: GPL-3.0-or-later
"""From any format to a Capture. A reader yields shots; sizes, names, order and pinhole cameras are made here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from engine.capture.exif import TOPS, turns
from engine.capture.lens import Lens, is_centre, is_focal_length
from engine.capture.photos import EXTENSIONS, Photo, SkipView
from engine.capture.pinhole import NoPinhole, is_cropped, pinhole_for
from engine.capture.types import Capture, CaptureError, LeftOut, SourceView, SparsePoints, View
from engine.capture.upright import up_from_cameras

ORTHONORMAL = 1e-2  # how far a rotation may be from one, by the rounding of the file it was written to
MOST_VIEWS = 20_000  # of one capture
FARTHEST = 1e9  # a camera's distance to the origin, in the capture's units


@dataclass(frozen=True)
class Shot:
    """One photo as a reader describes it: `pose` as in View, `lens` for a picture of `width` × `height` pixels.

    `held_out` where the source itself says which pictures are for measuring; `mask` as in SourceView.
    """

    listed: str
    photo: Photo
    pose: np.ndarray
    lens: Lens
    width: float
    height: float
    held_out: bool | None = None
    mask: str | None = None


@dataclass
class Reading:
    """What a reader found: `points` and `up` as in Capture, where the source has them."""

    root: Path
    format: str
    shots: list[Shot] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    points: SparsePoints | None = None
    up: np.ndarray | None = None


def rigid_pose(rows: object, what: str) -> np.ndarray:
    """A camera-to-world matrix from untrusted rows (3 or 4 of 4 numbers) -> (4, 4) float64, a rotation made exact.

    Raises SkipView, naming `what`, for anything but a rotation and a shift.
    """
    if rows is None:
        raise SkipView(f"{what} is missing.")
    try:
        pose = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise SkipView(f"{what} is not a matrix of numbers.") from None
    if pose.shape not in ((3, 4), (4, 4)):
        raise SkipView(f"{what} is not a 4 × 4 matrix.")
    if not np.isfinite(pose).all():
        raise SkipView(f"{what} holds values that are not numbers (NaN or infinity).")
    if pose.shape == (4, 4) and not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6):
        raise SkipView(f"{what} does not end with the row 0 0 0 1.")
    rotation, shift = pose[:3, :3], pose[:3, 3]
    if np.abs(shift).max() > FARTHEST:
        raise SkipView(f"{what} puts the camera absurdly far away.")
    if np.abs(rotation).max() > 1e6:
        raise SkipView(f"{what} is scaled; a camera's rotation must have scale 1.")
    off = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if off > ORTHONORMAL:
        scale = np.linalg.norm(rotation, axis=0)
        even = scale.min() > 1e-6 and np.abs(rotation / scale - _nearest_rotation(rotation)).max() < ORTHONORMAL
        kind = "is scaled; a camera's rotation must have scale 1" if even else "is not a rotation (sheared or singular)"
        raise SkipView(f"{what} {kind}.")
    if np.linalg.det(rotation) < 0:
        raise SkipView(f"{what} is mirrored.")
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = rotation if off < 1e-12 else _nearest_rotation(rotation), shift
    return exact


def usable_lens(lens: Lens, width: float, height: float, what: str) -> Lens:
    """The lens, where it can be one for a picture of `width` × `height` pixels. Raises SkipView, naming `what`."""
    for axis, focal, centre, side in (("x", lens.fx, lens.cx, width), ("y", lens.fy, lens.cy, height)):
        if not is_focal_length(focal, side):
            raise SkipView(
                f"The focal length f{axis} of {what} is {focal:g} pixels, which no lens has for a picture of {side:g}."
            )
        if not is_centre(centre, side):
            raise SkipView(f"The centre c{axis} of {what} is {centre:g} pixels, far outside a picture of {side:g}.")
    if not all(abs(value) < 1e9 for value in lens.params):
        raise SkipView(f"The distortion of {what} is not a list of usable numbers.")
    return lens


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


def make_capture(
    source: Path, reading: Reading, long_side: int, held_out_every: int, all_pixels: bool = False
) -> Capture:
    """The Capture of what a reader found; arguments as of `open_capture`. Raises CaptureError where no view is left."""
    left_out = list(reading.left_out)
    notes = list(reading.notes)
    made: list[tuple[Shot, SourceView]] = []
    seen: set[str] = set()
    shots = sorted(reading.shots, key=lambda shot: natural(shot.photo.file))
    for shot, turned in zip(shots, turns(shots), strict=True):
        try:
            if shot.photo.file in seen:
                raise SkipView(f"The picture {shot.photo.file} is listed more than once; its first camera is used.")
            shot = _turned(shot) if turned else shot
            lens = lens_as_stored(shot)
        except SkipView as problem:
            left_out.append(LeftOut(shot.listed, str(problem)))
            continue
        seen.add(shot.photo.file)
        p = shot.photo
        made.append((shot, SourceView(p.file, p.width, p.height, lens, p.file_bytes, p.modified_ns, shot.mask, turned)))

    names = unique_names([view.file for _, view in made])
    views: list[View] = []
    sources: list[SourceView] = []
    held: list[int] = []  # EXIF orientations
    cropped = 0
    said = any(shot.held_out for shot, _ in made) and not all(shot.held_out for shot, _ in made)
    for (shot, stored), name in zip(made, names, strict=True):
        try:
            intrinsics = pinhole_for(stored.lens, stored.width, stored.height, long_side, all_pixels)
        except NoPinhole as problem:
            left_out.append(LeftOut(shot.listed, f"The picture {stored.file} cannot be undistorted: {problem}."))
            continue
        cropped += is_cropped(stored.lens, stored.width, stored.height, all_pixels)
        masked = stored.mask is not None or (all_pixels and not stored.lens.is_pinhole)
        # Every eighth view, counted from one: fewer than eight views are all trained on.
        held_out = held_out_every > 1 and (len(views) + 1) % held_out_every == 0
        if said and held_out_every > 1:
            held_out = bool(shot.held_out)
        views.append(View(name, shot.pose, intrinsics, f"{name}.png", held_out, f"{name}.mask.png" if masked else None))
        sources.append(stored)
        held.append(1 if stored.turned else shot.photo.orientation)
    if not views:
        why = f" The first of {len(left_out)} left out: {left_out[0].reason}" if left_out else " It lists no pictures."
        raise CaptureError(f"None of the capture's views can be used.{why}", file=source, field="frames")
    if cropped:
        notes.append(f"{cropped} of {len(views)} pictures see wider than a flat picture can: their edges were cut off.")
    return Capture(
        source,
        reading.root,
        reading.format,
        views,
        sources,
        left_out,
        notes,
        points=reading.points,
        gravity_up=_up_as_held(views, held) if reading.up is None else reading.up,
    )


def _turned(shot: Shot) -> Shot:
    """The shot of the photo turned as its EXIF says; a size that is the stored one (the reader's, where the format
    states none) with it."""
    photo = shot.photo
    if photo.orientation < 5:
        return shot
    size = (shot.width, shot.height)
    size = size[::-1] if size == (photo.width, photo.height) else size
    return replace(shot, photo=replace(photo, width=photo.height, height=photo.width), width=size[0], height=size[1])


def _up_as_held(views: list[View], orientations: list[int]) -> np.ndarray | None:
    """Up by the cameras and by how the photos, as they are used, say that they were held; None where none says that it
    was turned."""
    tops = np.array([TOPS[orientation] for orientation in orientations], dtype=np.float64)
    if (tops == (0, 1)).all():
        return None
    return up_from_cameras(np.array([view.pose[:3, :3] for view in views]), tops)


def lens_as_stored(shot: Shot) -> Lens:
    """The shot's lens for the size that its picture is stored at.

    The two sizes may differ by a uniform scale, within the rounding of the smaller of them to whole pixels.
    """
    photo = shot.photo
    stored, stated = (photo.width, photo.height), (shot.width, shot.height)
    ranges = []
    for have, said in zip(stored, stated, strict=True):
        slack = 0.0 if have == said else 1.0
        ranges.append(
            ((have - slack) / said, (have + slack) / said)
            if have <= said
            else (have / (said + slack), have / max(said - slack, 1e-9))
        )
    (low_x, high_x), (low_y, high_y) = ranges
    if max(low_x, low_y) > min(high_x, high_y):
        said = f"{shot.width:g} × {shot.height:g}"
        turned = max(stored) / min(stored) == max(stated) / min(stated)
        hint = "was turned" if turned else "was cropped or belongs to another camera"
        raise SkipView(
            f"The picture {photo.file} is stored at {photo.width} × {photo.height} pixels and its camera is for "
            f"{said}: it {hint} since; put back the original."
        )
    return shot.lens.scaled(photo.width / shot.width, photo.height / shot.height)


def natural(path: str) -> list[tuple[int, int, str]]:
    """Sorting key by which 2.jpg comes before 10.jpg."""
    parts = re.split(r"([0-9]+)", path)
    # At most 4,000 digits: more than Python turns into a number.
    return [(0, int(part[:4000]), part) if index % 2 else (1, 0, part.casefold()) for index, part in enumerate(parts)]


def unique_names(files: list[str]) -> list[str]:
    """A name for each picture: its path less the folders common to all and the extension, safe as a file name."""
    paths = [PurePosixPath(file) for file in files]
    folders = {path.parent for path in paths}
    common = paths[0].parent if len(folders) == 1 else _common_folder(folders) if folders else PurePosixPath()
    taken: set[str] = set()
    names = []
    for path in paths:
        short = path.with_suffix("") if path.suffix.lower() in EXTENSIONS else path
        stem = _safe("-".join(short.relative_to(common).parts))
        name, count = stem, 1
        while name.casefold() in taken:  # file names differing by case alone are one on Windows and macOS
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _common_folder(folders: Iterable[PurePosixPath]) -> PurePosixPath:
    common: list[str] = []
    for parts in zip(*(folder.parts for folder in folders), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return PurePosixPath(*common)


def _safe(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"[^\w.-]+", "_", text).strip("._")[:80]
    text = re.sub(r"(?i)\.mask$", "_mask", text)  # what ends so is the mask of another view
    # Windows keeps some names for devices, with any extension.
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", text):
        text = f"view-{text}"
    return text or "view"
