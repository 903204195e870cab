# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens whatever the artist chose: finds the format, reads it, makes a Capture."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import get_args

from engine.capture.contents import nothing_known
from engine.capture.formats import (
    blender_synthetic,
    colmap,
    gaussian_splatting,
    llff,
    meshroom,
    metashape,
    opensfm,
    polycam,
    reality_capture,
    reality_capture_xmp,
    record3d,
    transforms_json,
)
from engine.capture.lookup import pictures_in, walk
from engine.capture.masks import Masks
from engine.capture.photos import checking
from engine.capture.reading import Reading, make_capture
from engine.capture.texts import read_json, read_start, shown
from engine.capture.types import Capture, CaptureError


def open_capture(
    source: Path,
    long_side: int,
    held_out_every: int = 8,
    all_pixels: bool = False,
    background: tuple[int, int, int] = (255, 255, 255),
    masks: Masks = "auto",
    check: Callable[[], None] = lambda: None,
) -> Capture:
    """Opens a capture's folder or file without decoding a pixel.

    Views get pinhole cameras whose longer side is at most `long_side` pixels, never more than the picture as stored;
    every `held_out_every`-th view is held out of training (0 or 1: none), unless the source itself says which are.
    A picture undistorted is the largest without empty pixels; with `all_pixels` it keeps every pixel of the photo (up
    to the angle where flat pictures end) and gets a mask of those that are empty. `background` (sRGB, 0-255) is put
    behind transparent pixels. `masks` says what masks and transparency hide (`engine.capture.masks`).
    `check` is called before each picture is looked at and may raise Cancelled. Raises CaptureError.
    """
    if not all(0 <= channel <= 255 for channel in background):
        raise CaptureError("The background is not a colour of three numbers from 0 to 255.", field="background")
    if masks not in get_args(Masks):
        raise CaptureError(f"masks is {masks!r}; say one of {', '.join(get_args(Masks))}.", field="masks")
    if long_side < 16:
        raise CaptureError(f"A working size of {long_side} pixels is too small; choose 16 or more.", field="long_side")
    try:
        source = Path(source).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, links in a circle
        raise CaptureError(f"{str(source)[:200]!r} is not a path of a capture.", file=source) from None
    if shown(str(source)) != str(source):
        raise CaptureError(
            f"The path {shown(str(source))[-200:]} holds what is no Unicode text (UTF-8); rename that folder.",
            file=shown(str(source)),
        )
    try:
        with checking(check):
            reading = _read(source, check)
            capture = make_capture(source, reading, long_side, held_out_every, all_pixels)
    except OSError as problem:
        raise CaptureError(f"{source} cannot be read: {problem.strerror or problem}.", file=source) from None
    return replace(capture, background=background, masks=masks)


@dataclass(frozen=True)
class Format:
    """A way in which captures are kept. `find` looks for it in a folder by names (and a file's first bytes where its
    name says nothing) and gives the path that `read` takes, None where it is not there; `suffixes` are those of single
    files that `read` takes too."""

    name: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path], Reading]
    suffixes: tuple[str, ...] = ()


def _named(name: str) -> Callable[[Path], Path | None]:
    def find(folder: Path) -> Path | None:
        if (folder / name).is_file():
            return folder / name
        return next((path for path in _files_in(folder, Path(name).suffix) if path.name.lower() == name), None)

    return find


def _files_in(folder: Path, suffix: str) -> list[Path]:
    """The files in a folder that end so, whatever the case."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() == suffix and not path.name.startswith(".")]
        return sorted(path for path in found if path.is_file())[:_MOST_FOLDERS]
    except OSError:
        return []


_OF_CAMERAS = re.compile(
    r'\s*\{.*"frames"\s*:.*"(file_path|transform_matrix)"|\s*\[.*("img_name"|"projection_type")|\s*\{.*"poses"\s*:.*"K"\s*:'
    r'|\s*\{.*"K"\s*:.*"poses"\s*:',
    re.DOTALL,
)


def _listed_elsewhere(folder: Path) -> Path | None:
    """The folder, where JSON files of names that no program gives them begin as those of cameras do: copies such as
    `transforms (1).json`."""
    return folder if any(_OF_CAMERAS.match(read_start(path)) for path in _files_in(folder, ".json")) else None


def _read_elsewhere(folder: Path) -> Reading:
    """As its program's reader. Raises CaptureError for several such files, which only the artist can choose from."""
    found = [path for path in _files_in(folder, ".json") if _OF_CAMERAS.match(read_start(path))]
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise CaptureError(f"The folder {folder.name} holds several files of cameras ({names}); choose one of them.",
                           file=folder)  # fmt: skip
    return _reader_of_json(found[0])(found[0])


# The first that is found is taken: what says more about the cameras stands first.
FORMATS: tuple[Format, ...] = (
    Format("transforms.json", _named(transforms_json.NAME), transforms_json.read, (".json",)),
    Format("Blender-synthetic", blender_synthetic.find, blender_synthetic.read),
    Format(colmap.FORMAT, colmap.find, colmap.read, (".bin", ".txt")),
    Format("Metashape", metashape.find, metashape.read, (".xml",)),
    Format("RealityCapture", reality_capture.find, reality_capture.read, (".csv",)),
    Format(reality_capture_xmp.FORMAT, reality_capture_xmp.find, reality_capture_xmp.read, (".xmp",)),
    Format("Meshroom", meshroom.find, meshroom.read, (".sfm",)),
    Format("OpenSfM", opensfm.find, opensfm.read),
    Format("Polycam", polycam.find, polycam.read),
    Format("Record3D", record3d.find, record3d.read),
    Format("3D Gaussian Splatting", gaussian_splatting.find, gaussian_splatting.read),
    Format("LLFF", _named(llff.NAME), llff.read, (".npy",)),
    Format("JSON", _listed_elsewhere, _read_elsewhere),
)


_FEWEST = 3  # photos
_MOST_FOLDERS = 1000  # looked into below the chosen one
_DEEPEST = 4


def _read(source: Path, check: Callable[[], None]) -> Reading:
    if source.is_dir():
        reading = _read_here(source) or _read_below(source) or _read_above(source)
        if reading is not None:
            return reading
        raise nothing_known(source, check)
    if not source.exists():
        raise CaptureError(f"{source} does not exist.", file=source)
    if source.is_file():
        for kind in FORMATS:  # by its name first: many formats are JSON
            if kind.find(source.parent) == source:
                return kind.read(source)
        if source.suffix.lower() == ".mg" and (found := meshroom.find(source.parent)) is not None:
            return meshroom.read(found)
        if source.suffix.lower() == ".json":
            return _reader_of_json(source)(source)
        for kind in FORMATS:
            if source.suffix.lower() in kind.suffixes:
                return kind.read(source)
    raise nothing_known(source, check)


def _read_here(folder: Path) -> Reading | None:
    """The capture that lies in a folder itself, in the first format in which it can be read; None where there is none.

    Raises CaptureError, the first format's, where it can be read in none.
    """
    problems: list[CaptureError] = []
    empty: Reading | None = None
    for kind in FORMATS:
        found = kind.find(folder)
        if found is None:
            continue
        try:
            reading = kind.read(found)
        except CaptureError as problem:
            problems.append(problem)
            continue
        if reading.shots:
            reading.notes += [f"It was opened as {kind.name}, for: {problem.message}" for problem in problems]
            return reading
        empty = empty or reading
    if problems and empty is None:
        raise problems[0]
    return empty


def _read_below(source: Path) -> Reading | None:
    """The capture in the nearest folders below `source`; None where there is none. Raises CaptureError for several."""
    level, seen = [source], 0
    for _ in range(_DEEPEST):
        level = [folder for above in level for folder in _folders_of(above)]
        level = level[: max(0, _MOST_FOLDERS - seen)]
        seen += len(level)
        found = []
        for folder in level:
            first = next(((kind, path) for kind in FORMATS if (path := kind.find(folder)) is not None), None)
            if first is not None:
                found.append(first)
        if len(found) == 1:
            kind, path = found[0]
            return colmap.read_models(colmap.models_in(path), source) if kind.name == colmap.FORMAT else kind.read(path)
        models = bool(found) and all(kind.name == colmap.FORMAT for kind, _ in found)
        with_photos = (path for _, path in found if walk(path))  # captures of their own
        if models and len(list(islice(with_photos, 2))) < 2:
            return colmap.read_models([model for _, path in found for model in colmap.models_in(path)], source)
        if found:
            names = ", ".join(path.relative_to(source).as_posix() for _, path in found[:5])
            raise CaptureError(
                f"The folder {source.name} holds several captures ({names}{', …' if len(found) > 5 else ''}); choose "
                "one of them.",
                file=source,
            )
    return None


def _read_above(source: Path) -> Reading | None:
    """The capture that a folder of photos is part of, where nearly all of its pictures, and most of those here, are the
    other's: somebody chose `images` in place of the folder around it. None where there is none."""
    here = len(pictures_in(source))
    if here < _FEWEST:
        return None
    for above in list(source.parents)[:2]:
        try:
            reading = _read_here(above)
        except CaptureError:
            continue
        if reading is None:
            continue
        listed = len(reading.shots) + len(reading.left_out)
        ours = [shot for shot in reading.shots if (reading.root / shot.photo.file).parent == source]
        if len(ours) >= max(_FEWEST, 0.9 * listed, 0.5 * here):
            reading.notes.append(
                f"The folder {source.name} holds the photos alone; their cameras are those in {above.name} "
                f"({reading.format})."
            )
            return reading
    return None


def _folders_of(folder: Path) -> list[Path]:
    """The folders in a folder that may hold a capture: none of hidden ones, and of projects of this program."""
    try:
        inner = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:
        return []
    return [path for path in inner if not (path / "capture" / "capture.json").is_file()][:_MOST_FOLDERS]


def _reader_of_json(path: Path) -> Callable[[Path], Reading]:
    """The reader of a JSON file of another name than its program gives it, by what it holds."""
    content = read_json(path)
    first = content[0] if isinstance(content, list) and content else content
    keys = first.keys() if isinstance(first, dict) else ()
    if "sfm_data_version" in keys:
        raise CaptureError(
            f"{path.name} is an openMVG scene; convert it to COLMAP (openMVG_main_openMVG2Colmap) and choose the "
            "folder that comes out.",
            file=path,
        )
    if isinstance(content, list):
        return opensfm.read if "shots" in keys else gaussian_splatting.read
    if "views" in keys and "frames" not in keys:
        return meshroom.read
    return record3d.read if "poses" in keys and "frames" not in keys else transforms_json.read
