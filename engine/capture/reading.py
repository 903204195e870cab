# SPDX-License-Identifier: GPL-3.0-or-later
"""From any format to a Capture. A reader yields shots; sizes, names, order and pinhole cameras are made here."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from engine.capture.exif import TOPS, turns
from engine.capture.fields import BadField
from engine.capture.lens import Lens
from engine.capture.lookup import MaskFinder, agreement, key_of
from engine.capture.photos import Photo, SkipView, is_picture_name
from engine.capture.pinhole import NoPinhole, is_cropped, pinhole_for
from engine.capture.texts import shown
from engine.capture.types import Capture, CaptureError, LeftOut, SourceView, SparsePoints, View
from engine.capture.upright import up_from_cameras

_FAR = 150.0  # times the cameras' spread: there, single precision is a hundred-thousandth of the spread
MOST_VIEWS = 20_000  # of one capture


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

    @contextmanager
    def leaving_out(self, listed: str) -> Iterator[None]:
        """A picture that cannot be used is left out, with the reason, and the rest go on."""
        try:
            yield
        except BadField as problem:
            self.left_out.append(LeftOut(shown(listed)[:300], shown(f"Of {listed[-120:]}, {problem}.")))
        except SkipView as problem:
            self.left_out.append(LeftOut(shown(listed)[:300], shown(str(problem))))


def check_count(count: int, path: Path, things: str, field: str | None = None) -> None:
    """Raises CaptureError where a file lists none of what it is opened for, or too many."""
    if count <= 0:
        raise CaptureError(f"{path.name} lists no {things}.", file=path, field=field)
    if count > MOST_VIEWS:
        raise CaptureError(
            f"{path.name} lists {count:,} {things}; at most {MOST_VIEWS:,} can be opened.", file=path, field=field
        )


def make_capture(
    source: Path, reading: Reading, long_side: int, held_out_every: int, all_pixels: bool = False
) -> Capture:
    """The Capture of what a reader found; arguments as of `open_capture`. Raises CaptureError where no view is left."""
    left_out = list(reading.left_out)
    notes = list(reading.notes)
    masks = MaskFinder(reading.root)
    made: list[tuple[Shot, SourceView]] = []
    shots = sorted(_once_each(reading.shots, left_out), key=lambda shot: natural(shot.photo.file))
    for shot, turned in zip(shots, turns(shots), strict=True):
        try:
            shot = _turned(shot) if turned else shot
            made.append((shot, _as_stored(shot, turned, masks)))
        except SkipView as problem:
            left_out.append(LeftOut(shown(shot.listed)[:300], str(problem)))

    names = unique_names([view.file for _, view in made])
    views: list[View] = []
    sources: list[SourceView] = []
    held: list[int] = []  # EXIF orientations
    cropped = 0
    said = any(shot.held_out for shot, _ in made) and not all(shot.held_out for shot, _ in made)
    origin = _origin_near([shot.pose[:3, 3] for shot, _ in made], notes)
    for (shot, stored), name in zip(made, names, strict=True):
        try:
            intrinsics = pinhole_for(stored.lens, stored.width, stored.height, long_side, all_pixels)
        except NoPinhole as problem:
            left_out.append(
                LeftOut(shown(shot.listed)[:300], f"The picture {stored.file} cannot be undistorted: {problem}.")
            )
            continue
        cropped += is_cropped(stored.lens, stored.width, stored.height, all_pixels)
        masked = stored.mask is not None or (all_pixels and not stored.lens.is_pinhole)
        # Every eighth view, counted from one: fewer than eight views are all trained on.
        held_out = held_out_every > 1 and (len(views) + 1) % held_out_every == 0
        if said and held_out_every > 1:
            held_out = bool(shot.held_out)
        pose = shot.pose.copy()
        pose[:3, 3] -= origin
        views.append(View(name, pose, intrinsics, f"{name}.png", held_out, f"{name}.mask.png" if masked else None))
        sources.append(stored)
        held.append(1 if stored.turned else shot.photo.orientation)
    if not views:
        why = f" The first of {len(left_out)} left out: {left_out[0].reason}" if left_out else " It lists no pictures."
        raise CaptureError(f"None of the capture's views can be used.{why}", file=source, field="frames")
    if cropped:
        notes.append(f"{cropped} of {len(views)} pictures see wider than a flat picture can: their edges were cut off.")
    points = reading.points
    if points is not None and origin.any():
        points = SparsePoints(points.positions - origin, points.colours, points.errors)
    return Capture(
        source,
        reading.root,
        reading.format,
        views,
        sources,
        left_out,
        [shown(note) for note in notes],
        points=points,
        gravity_up=_up_as_held(views, held) if reading.up is None else reading.up,
        origin=tuple(origin.tolist()),
    )


def _once_each(shots: list[Shot], left_out: list[LeftOut]) -> list[Shot]:
    """The shots, each picture once: of several cameras for one picture, that whose path agrees with it longest."""
    by_file: dict[str, list[Shot]] = {}
    for shot in shots:
        by_file.setdefault(shot.photo.file, []).append(shot)
    kept = []
    for file, group in by_file.items():
        if len(group) > 1:
            ranks = [agreement(shot.listed, file) for shot in group]
            best = [shot for shot, rank in zip(group, ranks, strict=True) if rank == max(ranks)]
            unclear = len({key_of(shot.listed) for shot in best}) > 1
            for shot, rank in zip(group, ranks, strict=True):
                if shot is best[0] and not unclear:
                    continue
                if rank < max(ranks):
                    why = f"Its picture does not exist; {file} is that of {shown(best[0].listed)[-120:]}."
                elif unclear:
                    other = best[1] if shot is best[0] else best[0]
                    why = f"{file} may be the picture of this camera or of {shown(other.listed)[-120:]}."
                else:
                    why = f"The picture {file} is listed more than once; its first camera is used."
                left_out.append(LeftOut(shown(shot.listed)[:300], why))
            group = [] if unclear else best[:1]
        kept += group
    return kept


def _turned(shot: Shot) -> Shot:
    """The shot of the photo turned as its EXIF says; a size that is the stored one (the reader's, where the format
    states none) with it."""
    photo = shot.photo
    if photo.orientation < 5:
        return shot
    size = (shot.width, shot.height)
    size = size[::-1] if size == (photo.width, photo.height) else size
    return replace(shot, photo=replace(photo, width=photo.height, height=photo.width), width=size[0], height=size[1])


def _as_stored(shot: Shot, turned: bool, masks: MaskFinder) -> SourceView:
    """A shot's picture, turned as is said, with the lens for its pixels. Raises SkipView."""
    photo = shot.photo
    if not _fits(photo, shot):
        stored, stated = (photo.width, photo.height), (shot.width, shot.height)
        same = max(stored) / min(stored) == max(stated) / min(stated)
        hint = "was turned" if same else "was cropped or belongs to another camera"
        raise SkipView(
            f"The picture {photo.file} is stored at {photo.width} × {photo.height} pixels and its camera is for "
            f"{shot.width:g} × {shot.height:g}: it {hint} since; put back the original."
        )
    _check_undistorted(shot)
    lens = shot.lens.scaled(photo.width / shot.width, photo.height / shot.height)
    mask = masks.of(photo) if shot.mask is None else shot.mask
    return SourceView(photo.file, photo.width, photo.height, lens, photo.file_bytes, photo.modified_ns, mask, turned)


def _check_undistorted(shot: Shot) -> None:
    """Undistorting changes a picture's size by a few percent; nobody reduces one by so little. Raises SkipView for the
    photo before it, with a camera that is for it undistorted."""
    ratios = shot.photo.width / shot.width, shot.photo.height / shot.height
    off = max(abs(shot.photo.width - shot.width), abs(shot.photo.height - shot.height))
    if shot.lens.is_pinhole and off > 2 and all(0.9 < ratio < 1.1 for ratio in ratios):
        raise SkipView(
            f"The picture {shot.photo.file} has {shot.photo.width} × {shot.photo.height} pixels and its camera "
            f"{shot.width:g} × {shot.height:g}, and no distortion: it seems to be the photo before it was undistorted; "
            "put the undistorted pictures in its place, or use the camera from before."
        )


def _fits(photo: Photo, shot: Shot) -> bool:
    """Whether a picture's size is its camera's but for a uniform scale, within the rounding of the smaller of the two
    to whole pixels."""
    ranges = []
    for have, said in ((photo.width, shot.width), (photo.height, shot.height)):
        slack = 0.0 if have == said else 1.0
        ranges.append(
            ((have - slack) / said, (have + slack) / said)
            if have <= said
            else (have / (said + slack), have / max(said - slack, 1e-9))
        )
    (low_x, high_x), (low_y, high_y) = ranges
    return max(low_x, low_y) <= min(high_x, high_y)


def _origin_near(positions: list[np.ndarray], notes: list[str]) -> np.ndarray:
    """(3,) float64: what to take off all coordinates, in round numbers, where cameras lie so far from the origin, as
    in a map's coordinates, that single precision (Blender's, NeRFs') would lose what they show; else zero."""
    if not positions:
        return np.zeros(3)
    middle = np.median(positions, axis=0)
    spread = float(np.median(np.linalg.norm(np.array(positions) - middle, axis=1))) or 1.0
    if np.linalg.norm(middle) < _FAR * spread:
        return np.zeros(3)
    step = 10.0 ** math.floor(math.log10(spread))
    moved = np.round(middle / step) * step
    notes.append(
        f"The cameras lie far from the origin of their coordinates: ({', '.join(f'{value:.12g}' for value in moved)}) "
        "was taken off, and is where the scene's own origin lies there."
    )
    return moved


def _up_as_held(views: list[View], orientations: list[int]) -> np.ndarray | None:
    """Up by the cameras and by how the photos, as they are used, say that they were held; None where none says that it
    was turned."""
    tops = np.array([TOPS[orientation] for orientation in orientations], dtype=np.float64)
    if (tops == (0, 1)).all():
        return None
    return up_from_cameras(np.array([view.pose[:3, :3] for view in views]), tops)


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
    counts: dict[str, int] = {}  # how far each name was counted up
    names = []
    for path in paths:
        short = path.with_suffix("") if is_picture_name(path.name) else path
        stem = _safe("-".join(short.relative_to(common).parts))
        name, count = stem, counts.get(stem.casefold(), 1)
        while name.casefold() in taken:  # file names differing by case alone are one on Windows and macOS
            count += 1
            name = f"{stem}-{count}"
        counts[stem.casefold()] = count
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
