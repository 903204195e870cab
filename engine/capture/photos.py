# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture's pictures on disk: found inside its folder only, and measured without decoding a pixel."""

from __future__ import annotations

import os
import posixpath
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")  # read by Pillow; OpenEXR besides, by OpenCV
EXR = b"v/1\x01"  # how such a file begins
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr")
EXTENSIONS = (*_ENDINGS, *(ending.upper() for ending in _ENDINGS))
LONGEST = 30_000  # pixels a side; OpenCV's remap ends at 32,767
LARGEST = 178_956_970  # pixels; where Pillow suspects a decompression bomb

# What Pillow's readers raise on files that are not what they seem.
UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, IndexError, EOFError, OverflowError, struct.error,
              Image.DecompressionBombError)  # fmt: skip


class SkipView(Exception):
    """A single view cannot be used; the message completes the list of what was left out, as a sentence."""


@dataclass(frozen=True)
class Photo:
    """A picture of a capture. `file` is relative to the capture's root, with forward slashes; size as stored."""

    file: str
    width: int
    height: int
    file_bytes: int
    modified_ns: int


def inside(root: Path, listed: str) -> Path:
    """The path that `listed` names below `root`. Raises SkipView where its text leads outside.

    Links in the folder are followed wherever they lead: whoever keeps the folder made them.
    """
    text = listed.replace("\\", "/")  # written on Windows
    try:
        usable = "\0" not in text and all(len(os.fsencode(part)) <= 255 for part in text.split("/"))
    except ValueError:  # half of a character
        usable = False
    if not usable:
        raise SkipView(f"{_short(listed)} is not a path that a picture can have.")
    plain = posixpath.normpath(text)
    # On Windows, merely looking at //host/… would ask another machine.
    if plain.startswith("/") or plain.split("/")[0] == ".." or PureWindowsPath(plain).drive:
        raise SkipView(
            f"{_short(listed)} lies outside the capture's folder; copy the pictures into the folder and list them "
            "relative to it."
        )
    return root / plain


def find_photo(root: Path, listed: str) -> Photo:
    """The picture that a capture lists, with or without its extension. Raises SkipView."""
    path = inside(root, listed)
    try:
        if not path.is_file():
            named = [path.with_name(path.name + extension) for extension in EXTENSIONS] if path != root else []
            path = next((p for p in named if p.is_file()), None)
            if path is None:
                raise SkipView(f"The picture {_short(listed)} does not exist.")
        status = path.stat()
    except (OSError, ValueError):
        raise SkipView(f"The picture {_short(listed)} cannot be read.") from None
    width, height = stored_size(path)
    relative = path.relative_to(root).as_posix()
    return Photo(relative, width, height, status.st_size, status.st_mtime_ns)


def find_mask(root: Path, names: Iterable[str], photo: Photo) -> str | None:
    """The first of the masks named that exists, relative to the root; None where none does.

    Raises SkipView where it is no picture, or not of the photo's shape.
    """
    for name in names:
        path = inside(root, name)
        try:
            if not path.is_file():
                continue
        except (OSError, ValueError):
            continue
        width, height = stored_size(path)
        if abs(width * photo.height - height * photo.width) > max(width, height, photo.width, photo.height):
            raise SkipView(
                f"The mask {_short(name)} has {width} × {height} pixels and its picture {photo.width} × "
                f"{photo.height}; make them the same shape."
            )
        return path.relative_to(root).as_posix()
    return None


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels as stored, from the header; an EXIF rotation is not applied. Raises SkipView."""
    try:
        exr = _exr_size(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # LARGEST below is the limit
            if exr is None:
                with Image.open(path, formats=FORMATS) as picture:
                    width, height = picture.size
            else:
                width, height = exr
    except Image.DecompressionBombError:
        size = LARGEST // 1_000_000
        raise SkipView(f"The picture {path.name} has more than {size} megapixels; make it smaller.") from None
    except UNREADABLE:
        raise SkipView(
            f"{path.name} cannot be read as a picture ({', '.join(FORMATS)}, EXR); it may be damaged, save it again."
        ) from None
    if min(width, height) < 8:
        raise SkipView(f"The picture {path.name} is only {width} × {height} pixels.")
    if max(width, height) > LONGEST or width * height > LARGEST:
        raise SkipView(f"The picture {path.name} is too large, {width} × {height} pixels; make it smaller.")
    return width, height


def _exr_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of an OpenEXR picture, None for any other file. Raises OSError, ValueError and SkipView."""
    with path.open("rb") as stream:
        if stream.read(4) != EXR:
            return None
        header = stream.read(64 * 1024)
    windows: dict[bytes, tuple[int, ...]] = {}
    at = 4  # after the version
    while header[at : at + 1] not in (b"", b"\0"):
        end = header.index(b"\0", at)
        kind = header.index(b"\0", end + 1)
        (size,) = struct.unpack_from("<i", header, kind + 1)
        if size < 0:
            raise ValueError
        if header[end + 1 : kind] == b"box2i":
            windows[header[at:end]] = struct.unpack_from("<4i", header, kind + 5)
        at = kind + 5 + size
    filled, shown = windows.get(b"dataWindow"), windows.get(b"displayWindow")
    if filled is None or shown is None:
        raise ValueError
    if filled != shown:
        raise SkipView(f"The pixels of {path.name} fill only a part of its frame (its data window); save it whole.")
    return filled[2] - filled[0] + 1, filled[3] - filled[1] + 1


def _short(listed: str) -> str:
    return listed if len(listed) <= 120 else listed[:117] + "..."
