# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that another process, or another person, has written: looked at before Blender reads them. Free of bpy.

A project may come from anyone. A pipe in the place of a picture would hang Blender, and a count in a header that the
file does not hold would take all memory, so both are refused here.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MOST_HEADER_LINES = 200
MOST_MESH_BYTES = 4 * 2**30
_SCALARS = {
    "char": "b", "int8": "b", "uchar": "B", "uint8": "B", "short": "h", "int16": "h", "ushort": "H", "uint16": "H",
    "int": "i", "int32": "i", "uint": "I", "uint32": "I", "float": "f", "float32": "f", "double": "d", "float64": "d",
}  # fmt: skip


def regular(path: str | Path) -> os.stat_result | None:
    """What the system knows of a regular file; None for anything else, a pipe or device among them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading. Raises ``OSError`` for anything else; never waits for a pipe's other end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file.")
    return os.fdopen(descriptor, "rb")


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    kinds: tuple[tuple[str, str], ...]  # (type, "") for a number, (type of the count, type of the entries) for a list

    @property
    def least(self) -> int:
        """Bytes that one takes at the least."""
        return sum(struct.calcsize("<" + _SCALARS[first]) for first, _ in self.kinds)


def check_mesh(path: str | Path) -> None:
    """Check that a PLY holds what its header claims, and that its faces name vertices that are there.

    Raises ``ValueError`` with a sentence.
    """
    name = Path(path).name
    if regular(path) is None:
        raise ValueError(f"There is no mesh at {path}.")
    try:
        with open_regular(path) as stream:
            binary, elements = _header(stream)
            size = os.fstat(stream.fileno()).st_size - stream.tell()
            if size > MOST_MESH_BYTES:
                raise ValueError
            # Of text, two bytes a number at the least; of the rest, what the types take.
            least = sum(e.count * (e.least if binary else 2 * len(e.kinds)) for e in elements)
            if least > size + 1:
                raise ValueError
            vertices = next(e.count for e in elements if e.name == "vertex")
            body = stream.read(size)
            (_check_binary if binary else _check_text)(body, elements, vertices)
    except (OSError, ValueError, KeyError, StopIteration, struct.error, IndexError):
        raise ValueError(f"{name} is damaged or holds no mesh; make the mesh again.") from None


def _header(stream: BinaryIO) -> tuple[bool, list[_Element]]:
    lines = []
    for _ in range(MOST_HEADER_LINES):
        line = stream.readline(1000).decode("ascii").strip()
        if line == "end_header":
            break
        lines.append(line.split())
    else:
        raise ValueError
    if lines[0] != ["ply"] or lines[1][:1] != ["format"] or lines[1][1] not in {"ascii", "binary_little_endian"}:
        raise ValueError
    elements: list[_Element] = []
    for words in lines[2:]:
        if words[:1] == ["element"]:
            count = int(words[2])
            if count < 0:
                raise ValueError
            elements.append(_Element(words[1], count, ()))
        elif words[:2] == ["property", "list"]:
            last = elements.pop()
            elements.append(_Element(last.name, last.count, (*last.kinds, (words[2], words[3]))))
        elif words[:1] == ["property"]:
            last = elements.pop()
            elements.append(_Element(last.name, last.count, (*last.kinds, (words[1], ""))))
    if any(kind not in _SCALARS for e in elements for pair in e.kinds for kind in pair if kind):
        raise ValueError
    return lines[1][1] != "ascii", elements


def _check_binary(body: bytes, elements: list[_Element], vertices: int) -> None:
    offset = 0
    for element in elements:
        if all(not entries for _, entries in element.kinds):
            offset += element.count * element.least
        elif len(element.kinds) == 1:
            offset = _check_lists(body, offset, element, vertices)
        else:
            raise ValueError
    if offset > len(body):
        raise ValueError


def _check_lists(body: bytes, offset: int, element: _Element, vertices: int) -> int:
    """Go through an element of one list each; the offset behind it."""
    count_kind, kind = (_SCALARS[k] for k in element.kinds[0])
    triangle = struct.Struct(f"<{count_kind}3{kind}")
    end = offset + element.count * triangle.size
    try:
        if end > len(body):
            raise ValueError
        faces = triangle.iter_unpack(memoryview(body)[offset:end])
        if all(n == 3 and min(a, b, c) >= 0 and max(a, b, c) < vertices for n, a, b, c in faces):
            return end
    except (ValueError, struct.error):
        pass
    head, sizes = struct.Struct("<" + count_kind), struct.calcsize("<" + kind)
    for _ in range(element.count):
        (count,) = head.unpack_from(body, offset)
        offset += head.size
        if count < 0 or offset + count * sizes > len(body):
            raise ValueError
        corners = struct.unpack_from(f"<{count}{kind}", body, offset)
        if element.name == "face" and any(not 0 <= corner < vertices for corner in corners):
            raise ValueError
        offset += count * sizes
    return offset


def _check_text(body: bytes, elements: list[_Element], vertices: int) -> None:
    lines = _lines(body)
    for element in elements:
        for _ in range(element.count):
            words = next(lines)
            if element.name == "face":
                corners = [int(w) for w in words[1 : 1 + int(words[0])]]
                if len(corners) != int(words[0]) or any(not 0 <= c < vertices for c in corners):
                    raise ValueError
            elif len(words) < len(element.kinds):
                raise ValueError


def _lines(body: bytes) -> Iterator[list[bytes]]:
    yield from (line.split() for line in body.splitlines() if line.strip())
