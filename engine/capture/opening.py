# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens whatever the artist chose: finds the format, reads it, makes a Capture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

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
    record3d,
    transforms_json,
)
from engine.capture.masks import Masks
from engine.capture.reading import Reading, make_capture
from engine.capture.registration import find_photos, is_video
from engine.capture.types import Capture, CaptureError


def open_capture(
    source: Path,
    long_side: int,
    held_out_every: int = 8,
    all_pixels: bool = False,
    background: tuple[int, int, int] = (255, 255, 255),
    masks: Masks = "auto",
) -> Capture:
    """Opens a capture's folder or file without decoding a pixel.

    Views get pinhole cameras whose longer side is at most `long_side` pixels, never more than the picture as stored;
    every `held_out_every`-th view is held out of training (0 or 1: none), unless the source itself says which are.
    A picture undistorted is the largest without empty pixels; with `all_pixels` it keeps every pixel of the photo (up
    to the angle where flat pictures end) and gets a mask of those that are empty. `background` (sRGB, 0-255) is put
    behind transparent pixels. `masks` says what masks and transparency hide (`engine.capture.masks`). Raises
    CaptureError.
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
    try:
        reading = _read(source)
    except OSError as problem:
        raise CaptureError(f"{source} cannot be read: {problem.strerror or problem}.", file=source) from None
    capture = make_capture(source, reading, long_side, held_out_every, all_pixels)
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
    return lambda folder: folder / name if (folder / name).is_file() else None


# The first that is found is taken: what says more about the cameras stands first.
FORMATS: tuple[Format, ...] = (
    Format("transforms.json", _named(transforms_json.NAME), transforms_json.read, (".json",)),
    Format("Blender-synthetic", blender_synthetic.find, blender_synthetic.read),
    Format(colmap.FORMAT, colmap.find, colmap.read, (".bin", ".txt")),
    Format("Metashape", metashape.find, metashape.read, (".xml",)),
    Format("RealityCapture", reality_capture.find, reality_capture.read, (".csv",)),
    Format("Meshroom", meshroom.find, meshroom.read, (".sfm",)),
    Format("OpenSfM", _named(opensfm.NAME), opensfm.read),
    Format("Polycam", polycam.find, polycam.read),
    Format("Record3D", record3d.find, record3d.read),
    Format("3D Gaussian Splatting", _named(gaussian_splatting.NAME), gaussian_splatting.read),
    Format("LLFF", _named(llff.NAME), llff.read, (".npy",)),
)


def _read(source: Path) -> Reading:
    if source.is_dir():
        for kind in FORMATS:
            found = kind.find(source)
            if found is not None:
                return kind.read(found)
        photos = len(find_photos(source))
        if photos:
            raise CaptureError(
                f"The folder {source.name} holds {photos} photos and no cameras; find their cameras first.",
                file=source,
                field="photos",
            )
        known = ", ".join(kind.name for kind in FORMATS)
        raise CaptureError(
            f"The folder {source.name} holds no capture ({known}); choose the folder that a capture program wrote.",
            file=source,
        )
    if not source.exists():
        raise CaptureError(f"{source} does not exist.", file=source)
    if is_video(source):
        raise CaptureError(
            f"{source.name} is a video, without cameras; find its cameras first.", file=source, field="photos"
        )
    if source.is_file():
        for kind in FORMATS:  # by its name first: many formats are JSON
            if kind.find(source.parent) == source:
                return kind.read(source)
        for kind in FORMATS:
            if source.suffix.lower() in kind.suffixes:
                return kind.read(source)
    known = ", ".join(kind.name for kind in FORMATS)
    raise CaptureError(f"{source.name} is not a capture ({known}); choose its folder.", file=source)
