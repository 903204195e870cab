# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files that nobody vouches for, in whatever encoding: bounded, regular files only, never a pipe or a device."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from engine.capture.types import CaptureError
from engine.files import NotAFile, open_file

LARGEST_FILE = 64 * 2**20  # bytes
_MOST_BRACKETS = 2_000_000  # an empty list takes two bytes of text and thirty times that of memory
_MOST_ELEMENTS = 1_000_000
_MOST_LINES = 10_000_000
_LONGEST_LINE = 64 * 2**20  # characters; of a COLMAP model, a picture's keypoints are one line

# What names are written in by programs that know no Unicode: the code pages of Windows, and the oldest Macs'.
CODE_PAGES = ("gb18030", "cp932", "cp1252", "cp949", "big5hkscs", "cp1251", "cp1250", "cp1253", "cp1254", "cp850",
              "mac_roman", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "cp437", "cp852", "cp866", "koi8_r",
              "johab", "mac_cyrillic")  # fmt: skip
_KEPT = "capture-kept"
_FIRST_KEPT = 0xF700  # in Unicode's area for private use


def _keep(problem: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8 become characters of private use, so that every text can be shown, sent and parsed."""
    if not isinstance(problem, UnicodeDecodeError):
        raise problem
    lost = problem.object[problem.start : problem.end]
    return "".join(chr(_FIRST_KEPT + byte) for byte in lost), problem.end


codecs.register_error(_KEPT, _keep)


def decoded(data: bytes) -> str:
    """UTF-8 as text; bytes that are none are kept for `readings_of`."""
    return data.decode("utf-8", _KEPT)


def is_kept(text: str) -> bool:
    """Whether a text holds bytes that are no UTF-8."""
    return re.search(r"[\uf780-\uf7ff]", text) is not None


def readings_of(text: str) -> list[str]:
    """What a text may say: itself, or where it was no UTF-8 what it says in each code page."""
    if not is_kept(text):
        return [text]
    data = b"".join(
        bytes([ord(c) - _FIRST_KEPT]) if 0x80 <= ord(c) - _FIRST_KEPT <= 0xFF else c.encode("utf-8", "replace")
        for c in text
    )
    found = []
    for page in CODE_PAGES:
        try:
            found.append(data.decode(page))
        except ValueError:
            continue
    return found or [text]


def shown(text: str) -> str:
    """A text for a sentence: what cannot be read in it is marked so."""
    text = re.sub(r"[\uf780-\uf7ff]", "\ufffd", text)
    return text.encode("utf-8", "replace").decode("utf-8")


def open_regular(path: Path, limit: int | None = None) -> BinaryIO:
    """A file opened for reading. Raises CaptureError for what is none, a pipe or a device, or larger than `limit`."""
    try:
        return open_file(path, limit)
    except OSError as problem:
        why = problem.strerror if isinstance(problem, NotAFile) else f"it cannot be read ({problem.strerror})"
        raise CaptureError(f"{path.name} is not a capture's file: {why}.", file=path) from None


def read_bytes(path: Path, limit: int = LARGEST_FILE) -> bytes:
    """The content of a regular file of reasonable size. Raises CaptureError."""
    with open_regular(path, limit) as stream:
        try:
            return stream.read(limit)
        except OSError as problem:
            raise CaptureError(f"{path.name} cannot be read: {problem.strerror or problem}.", file=path) from None


def read_start(path: Path, length: int = 4096) -> str:
    """The beginning of a text file, empty where it cannot be read."""
    try:
        with open_regular(path) as stream:
            data = stream.read(length)
    except (CaptureError, OSError):
        return ""
    return data.decode(_encoding_of(data), "ignore")


def _encoding_of(start: bytes) -> str:
    """By the byte order mark, or by where zeros stand; else UTF-8."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"),
                       (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
                       (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if start.startswith(mark):
            return name
    some = start[:64]
    if len(some) >= 4 and not any(some[1::2]) and all(some[::2]):
        return "utf-16-le"
    if len(some) >= 4 and not any(some[::2]) and all(some[1::2]):
        return "utf-16-be"
    return "utf-8"


def text_of(data: bytes) -> str:
    """A file's text in UTF-8, UTF-16 or UTF-32; bytes that are none of them are kept for `readings_of`."""
    encoding = _encoding_of(data)
    return data.decode(encoding, _KEPT if encoding.startswith("utf-8") else "replace")


def read_text(path: Path) -> str:
    """Raises CaptureError."""
    return text_of(read_bytes(path))


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text of any length, stripped. Raises CaptureError for a line that no program writes."""
    with open_regular(path) as stream:
        encoding = _encoding_of(stream.read(64))
        stream.seek(0)
        errors = _KEPT if encoding.startswith("utf-8") else "replace"
        text = io.TextIOWrapper(stream, encoding, errors, newline=None)
        number = 0
        while line := text.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise CaptureError(f"{path.name} has a line {number} without an end; copy it again.", file=path)
            if number > _MOST_LINES:
                raise CaptureError(
                    f"{path.name} has more than {_MOST_LINES:,} lines; it is not a capture's.", file=path
                )
            yield number, line.strip()


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises CaptureError."""
    data = read_bytes(path)
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise CaptureError(f"{path.name} lists millions of things; it is not a capture's.", file=path)
    text = text_of(data)
    try:
        if is_kept(text):
            # The second byte of a Chinese or Japanese character may look like a backslash.
            try:
                return json.loads(_HALF.sub(_doubled, text))
            except json.JSONDecodeError:
                pass  # it was one
        try:
            return json.loads(text)
        except json.JSONDecodeError as problem:
            if "escape" in problem.msg:  # a path of Windows, written by hand
                return json.loads(re.sub(r'(\\\\|\\")|\\', lambda found: found[1] or "\\\\", text))
            if text.count("/*") < 1000 and (plain := _without_comments(text)) != text:
                return json.loads(plain)
            raise
    except json.JSONDecodeError as problem:
        raise CaptureError(
            f"{path.name} is not valid JSON ({problem.msg}, line {problem.lineno}); it may be cut off, copy it again.",
            file=path,
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; nested without end
        raise CaptureError(f"{path.name} is not a JSON text; it may be damaged, copy it again.", file=path) from None


# An odd number of bytes that are no UTF-8, and an odd number of backslashes.
_HALF = re.compile(r"(?<![\uf780-\uf7ff])([\uf780-\uf7ff](?:[\uf780-\uf7ff]{2})*\\(?:\\\\)*)(?!\\)")


def _doubled(found: re.Match[str]) -> str:
    return found[1] + "\\"


_COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=\s*[\]}])', re.DOTALL)


def _without_comments(text: str) -> str:
    """A JSON text as people edit it by hand, without what the standard does not know: comments and last commas."""
    for _ in range(2):  # a comma may be the last for a comment after it
        text = _COMMENTS.sub(lambda found: found[1] or "", text)
    return text


def read_xml(path: Path) -> Element:
    """A file's root element; document types and entities are refused, and so is a file of endless elements.

    Raises CaptureError.
    """
    data = read_bytes(path)
    if data.count(b"<") > 2 * _MOST_ELEMENTS:
        raise CaptureError(f"{path.name} lists millions of things; it is not a capture's.", file=path)
    stated = re.match(rb"""\s*<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""", data[:200])
    try:
        if stated and _encoding_of(data) == "utf-8" and stated[1].lower() not in (b"utf-8", b"utf8"):
            text = data.decode(stated[1].decode(), "replace")
        else:
            text = text_of(data)
        return ElementTree.fromstring(text, forbid_dtd=True)
    except DefusedXmlException:
        raise CaptureError(
            f"{path.name} defines entities of its own, which no capture's file does; export it again.", file=path
        ) from None
    except (ParseError, ValueError, LookupError, RecursionError) as problem:
        raise CaptureError(
            f"{path.name} is not valid XML ({str(problem)[:100]}); it may be cut off, export it again.", file=path
        ) from None
