# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture's pictures on disk: found inside its folder only, and measured without decoding a pixel."""

from __future__ import annotations

import errno
import os
import posixpath
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from engine.errors import cannot_read
from engine.files import NotAFile, open_file, require_file
from engine.pictures import UNREADABLE

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "HEIF")  # read by Pillow; OpenEXR besides, by OpenCV
EXR = b"v/1\x01"  # how such a file begins
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".heic", ".heif", ".hif", ".avif",
            ".jfif", ".jpe", ".mpo")  # fmt: skip
EXTENSIONS = (*_ENDINGS, *(ending.upper() for ending in _ENDINGS), *(f".{ending[1:].title()}" for ending in _ENDINGS))
RAW = frozenset(
    (".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".pef", ".srw",
     ".x3f", ".3fr", ".fff", ".iiq", ".erf", ".kdc", ".dcr", ".gpr", ".raw", ".rwl", ".mrw")
)  # fmt: skip
LONGEST = 30_000  # pixels a side; OpenCV's remap ends at 32,767
LARGEST = 178_956_970  # pixels; where Pillow suspects a decompression bomb
LARGEST_FILE = 4 * 2**30  # bytes
_WIDTH, _HEIGHT, _COMPRESSION, _ORIENTATION, _SAMPLE_FORMAT = (
    0x0100,
    0x0101,
    0x0103,
    0x0112,
    0x0153,
)  # of TIFF, and of EXIF
_FLOATING, _LOG_LUV = 3, (34676, 34677)  # the latter is what OpenCV makes of floating point
_DNG_VERSION = 0xC612
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}

_check: ContextVar[Callable[[], None]] = ContextVar("check", default=lambda: None)


class SkipView(Exception):
    """A single view cannot be used; the message completes the list of what was left out, as a sentence."""


@dataclass(frozen=True)
class Photo:
    """A picture of a capture. `file` is relative to the capture's root, with forward slashes; size as stored.

    `orientation` is EXIF's, 1–8: how the stored picture is to be turned to stand as it was seen.
    """

    file: str
    width: int
    height: int
    file_bytes: int
    modified_ns: int
    orientation: int = 1


@dataclass(frozen=True)
class Header:
    """What a picture's header says: its size as stored, in pixels, and EXIF's orientation, 1–8."""

    width: int
    height: int
    orientation: int = 1


@contextmanager
def checking(check: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `check` (which may raise Cancelled) is called before each picture's header is read."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def is_picture_name(name: str) -> bool:
    """Whether a file is a picture of a kind that is read, by the ending of its name, whatever its case."""
    return name.lower().endswith(_ENDINGS)


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
                raise SkipView(_no_file(inside(root, listed), listed))
        status = path.stat()
    except (OSError, ValueError):
        raise SkipView(f"The picture {_short(listed)} cannot be read.") from None
    header = read_header(path)
    relative = path.relative_to(root).as_posix()
    return Photo(relative, header.width, header.height, status.st_size, status.st_mtime_ns, header.orientation)


def _no_file(path: Path, listed: str) -> str:
    """Why there is no picture of that name."""
    try:
        require_file(path)
    except NotAFile as problem:
        return f"{path.name} is no picture: {problem.strerror}."
    except OSError:
        pass
    if not os.path.islink(path):
        return f"The picture {_short(listed)} does not exist."
    if "annex/objects" in os.readlink(path).replace("\\", "/"):
        return f"{path.name} is kept by git-annex and is not here itself; run “git annex get .” in its folder."
    return f"{path.name} is a link to a file that does not exist; copy the picture itself there."


def find_mask(root: Path, names: Iterable[str], photo: Photo) -> str | None:
    """The first of the masks named that exists, relative to the root; None where none does.

    Raises SkipView where it is no picture, or of the shape of neither the photo nor the photo turned by its EXIF.
    """
    for name in names:
        path = inside(root, name)
        try:
            if not path.is_file():
                continue
        except (OSError, ValueError):
            continue
        width, height = stored_size(path)
        shapes = [(photo.width, photo.height), (photo.height, photo.width)][: 2 if photo.orientation >= 5 else 1]
        if not any(same_shape((width, height), shape) for shape in shapes):
            raise SkipView(
                f"The mask {_short(name)} has {width} × {height} pixels and its picture {photo.width} × "
                f"{photo.height}; make them the same shape."
            )
        return path.relative_to(root).as_posix()
    return None


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes in pixels differ by a scale alone, but for the rounding to whole pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels as stored, from the header; an EXIF rotation is not applied. Raises SkipView."""
    header = read_header(path)
    return header.width, header.height


def read_header(path: Path) -> Header:
    """A picture's size as stored and its EXIF orientation, without decoding a pixel. Raises SkipView, and whatever the
    `check` of `checking` raises."""
    _check.get()()
    if path.suffix.lower() in RAW:
        raise SkipView(_raw(path))
    try:
        with open_file(path, LARGEST_FILE) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LARGEST below is the limit; what is wrong with its EXIF is no matter
            found = _exr_size(stream, path) or _floating_tiff_size(stream)
            if found is None:
                with open_picture(stream, path) as picture:
                    found = _header(picture)
    except Image.DecompressionBombError:
        size = LARGEST // 1_000_000
        raise SkipView(f"The picture {path.name} has more than {size} megapixels; make it smaller.") from None
    except UNREADABLE as problem:
        raise SkipView(why_unreadable(path, problem)) from None
    if min(found.width, found.height) < 8:
        raise SkipView(f"The picture {path.name} is only {found.width} × {found.height} pixels.")
    if max(found.width, found.height) > LONGEST or found.width * found.height > LARGEST:
        raise SkipView(f"The picture {path.name} is too large, {found.width} × {found.height} pixels; make it smaller.")
    return found


@contextmanager
def open_picture(stream: BinaryIO, path: Path) -> Iterator[Image.Image]:
    """The picture in an open file, by Pillow: its header is read. Raises SkipView and what `UNREADABLE` lists."""
    head = stream.read(12)
    stream.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and not _heif_is_known():
        raise SkipView(f"{path.name} is a HEIC picture, which this engine's environment lacks a reader for (the "
                       "package pillow-heif): install the engine again, or export JPEG.")  # fmt: skip
    with Image.open(stream, formats=_known_formats(head[4:8] == b"ftyp")) as picture:
        if picture.format == "TIFF" and _DNG_VERSION in picture.tag_v2:
            raise SkipView(_raw(path))  # its first picture is a thumbnail
        yield picture


def orientation_of(picture: Image.Image) -> int:
    """EXIF's orientation of an opened picture, 1–8; 1 where it says none or nonsense."""
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except (*UNREADABLE, KeyError, AttributeError):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def why_unreadable(path: Path, problem: BaseException, what: str = "picture") -> str:
    """The sentence for a picture that could not be opened or decoded."""
    if isinstance(problem, NotAFile):
        return f"{path.name} is no {what}: {problem.strerror}."
    if isinstance(problem, FileNotFoundError):
        return f"The {what} {path.name} does not exist any more."
    if isinstance(problem, OSError) and problem.errno is not None:  # the system's, not a decoder's
        if problem.errno in (errno.EACCES, errno.EPERM):
            return f"You have no permission to read the {what} {path.name}; change the permissions of the file."
        return cannot_read(path, problem).message
    return (
        f"{path.name} cannot be read as a {what} ({', '.join(FORMATS)}, EXR); it may be damaged or of another kind, "
        "save it again."
    )


def _raw(path: Path) -> str:
    kind = path.suffix[1:].upper() or "DNG"
    return (
        f"{path.name} is a raw photo ({kind}), which has no finished colors; export JPEG or TIFF from your raw "
        "developer, under the same names."
    )


@lru_cache(maxsize=1)
def _heif_is_known() -> bool:
    """Pillow reads HEIF from here on, where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


@lru_cache(maxsize=2)
def _known_formats(with_heif: bool) -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads: it may have been built without AVIF."""
    if with_heif:
        _heif_is_known()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _header(picture: Image.Image) -> Header:
    orientation = orientation_of(picture)
    width, height = picture.size
    if picture.format == "TIFF" and orientation >= 5:  # Pillow turns these by itself
        width, height = height, width
    return Header(width, height, orientation)


def _exr_size(stream: BinaryIO, path: Path) -> Header | None:
    """The size of an OpenEXR picture, None for any other file, which then is at its beginning again. Raises OSError,
    ValueError and SkipView."""
    if stream.read(4) != EXR:
        stream.seek(0)
        return None
    windows: dict[bytes, tuple[int, ...]] = {}
    for name, kind, value in exr_fields(stream.read(64 * 1024)):
        if kind == b"box2i":
            windows[name] = struct.unpack_from("<4i", value)
    filled, shown = windows.get(b"dataWindow"), windows.get(b"displayWindow")
    if filled is None or shown is None:
        raise ValueError
    if filled != shown:
        raise SkipView(f"The pixels of {path.name} fill only a part of its frame (its data window); save it whole.")
    return Header(filled[2] - filled[0] + 1, filled[3] - filled[1] + 1)


def is_floating_tiff(stream: BinaryIO) -> bool:
    """Whether an open file is a TIFF of floating-point values, of which Pillow knows gray ones only. The file is at its
    beginning again afterwards. Raises what `UNREADABLE` lists."""
    return _floating_tiff_size(stream) is not None


def _floating_tiff_size(stream: BinaryIO) -> Header | None:
    head = stream.read(8)
    fields = None
    if head[:4] in (b"II*\0", b"MM\0*"):
        fields = TiffImagePlugin.ImageFileDirectory_v2(head)
        stream.seek(fields.next)
        fields.load(stream)
    stream.seek(0)
    if fields is None:
        return None
    if _FLOATING not in _all_of(fields.get(_SAMPLE_FORMAT)) and fields.get(_COMPRESSION) not in _LOG_LUV:
        return None
    width, height, orientation = (fields.get(tag, 1) for tag in (_WIDTH, _HEIGHT, _ORIENTATION))
    if not all(isinstance(value, int) and value > 0 for value in (width, height, orientation)):
        raise ValueError
    return Header(width, height, orientation if orientation <= 8 else 1)


def _all_of(value: object) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def exr_fields(header: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(name, type, value) of each field of an OpenEXR header, which begins with its version. Raises ValueError."""
    at = 4  # after the version
    while header[at : at + 1] not in (b"", b"\0"):
        end = header.index(b"\0", at)
        kind = header.index(b"\0", end + 1)
        if len(header) < kind + 5:
            raise ValueError
        (size,) = struct.unpack_from("<i", header, kind + 1)
        if size < 0:
            raise ValueError
        yield header[at:end], header[end + 1 : kind], header[kind + 5 : kind + 5 + size]
        at = kind + 5 + size


def _short(listed: str) -> str:
    return listed if len(listed) <= 120 else listed[:117] + "..."
