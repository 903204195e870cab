# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's meshes, read a few thousand faces a step into the arrays that Blender keeps a mesh in. Free of bpy.

Nothing here trusts the file: what it claims and does not hold, and faces that name vertices that are not there, are
refused. Without numpy, which not every build of Blender has: bytes are sorted into arrays by slices with a stride.
"""

from __future__ import annotations

import math
import os
import re
import struct
from array import array
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .files import open_regular, regular

MOST_HEADER_LINES = 200
MOST_BYTES = 4 * 2**30
MOST_SIDES = 32  # of a face: the engine makes triangles, and a step is so many faces
READ = 2**21  # bytes read in one step
VERTICES, FACES, MIXED, EDGES = 8_000, 8_000, 500, 1_500  # handled in one step; MIXED: faces of different sizes
SHARE = 1024  # vertices whose edges are numbered in one dictionary: a large one takes long to grow
_FLAT = ("texcoord", "uchar", "float")  # as MeshLab has it
_PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\.png")
_SCALARS = {
    "char": "b", "int8": "b", "uchar": "B", "uint8": "B", "short": "h", "int16": "h", "ushort": "H", "uint16": "H",
    "int": "i", "int32": "i", "uint": "I", "uint32": "I", "float": "f", "float32": "f", "double": "d", "float64": "d",
}  # fmt: skip

# sRGB as a picture holds it → linear, as Blender keeps colours.
LINEAR = tuple(v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in range(256))


@dataclass
class Mesh:
    """A mesh as Blender keeps it: flat arrays of 32-bit numbers."""

    places: array = field(default_factory=lambda: array("f"))  # three numbers a vertex
    colours: array = field(default_factory=lambda: array("f"))  # linear RGBA a vertex; empty where the file has none
    corners: array = field(default_factory=lambda: array("i"))  # the vertex of each face's each corner
    starts: array = field(default_factory=lambda: array("i"))  # the first corner of each face
    edges: array = field(default_factory=lambda: array("i"))  # two vertices an edge
    corner_edges: array = field(default_factory=lambda: array("i"))  # the edge from each corner to the face's next
    texture: str = ""  # name of the picture beside the file; empty where it has none
    flat: array = field(default_factory=lambda: array("f"))  # two numbers a corner: where it lies in the texture


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    # name, (type, "") for a number, (type of the count, type of the entries) for a list
    properties: tuple[tuple[str, str, str], ...]

    @property
    def least(self) -> int:
        """Bytes that one takes at the least."""
        return sum(struct.calcsize("<" + _SCALARS[kind]) for _, kind, _ in self.properties)

    @property
    def plain(self) -> bool:
        """Whether it has no lists."""
        return all(not entries for _, _, entries in self.properties)


class _DamagedError(ValueError):
    pass


def reading(path: str | Path) -> Generator[float, None, Mesh]:
    """Read a binary PLY of faces, in steps that yield the fraction done.

    Raises ``ValueError`` with a sentence for a file that is none, or holds less than it claims.
    """
    name = Path(path).name
    if regular(path) is None:
        raise ValueError(f"There is no mesh at {path}.")
    try:
        body, elements, texture = yield from _whole(path)
        mesh, offset = Mesh(), 0
        vertices = next(e.count for e in elements if e.name == "vertex")
        for element in elements:
            if element.name == "vertex":
                yield from _read_vertices(mesh, body, offset, element)
            if element.name == "face":
                yield from _read_faces(mesh, body, offset, element, vertices)
                break
            if not element.plain:
                raise _DamagedError
            offset += element.count * element.least
        if not mesh.starts:
            raise _DamagedError
        mesh.texture = texture if mesh.flat else ""
        yield from _number_edges(mesh)
    except (OSError, ValueError, KeyError, StopIteration, struct.error, IndexError, OverflowError):
        raise ValueError(f"{name} is damaged or holds no mesh; make the mesh again.") from None
    return mesh


def _whole(path: str | Path) -> Generator[float, None, tuple[bytearray, list[_Element], str]]:
    """The file behind its header, what that claims is in it, and the texture that it names."""
    with open_regular(path) as stream:
        elements, texture = _header(stream)
        size = os.fstat(stream.fileno()).st_size - stream.tell()
        if size > MOST_BYTES or sum(e.count * e.least for e in elements) > size:
            raise _DamagedError
        body = bytearray()
        while part := stream.read(READ):
            body += part
            yield 0.1 * len(body) / (size or 1)
    return body, elements, texture


def _header(stream: BinaryIO) -> tuple[list[_Element], str]:
    lines = []
    for _ in range(MOST_HEADER_LINES):
        line = stream.readline(1000).decode("ascii").strip()
        if line == "end_header":
            break
        lines.append(line.split())
    else:
        raise _DamagedError
    if lines[0] != ["ply"] or lines[1][:2] != ["format", "binary_little_endian"]:
        raise _DamagedError
    elements: list[_Element] = []
    texture = ""
    for words in lines[2:]:
        if words[:2] == ["comment", "TextureFile"]:
            if len(words) != 3 or not _PICTURE.fullmatch(words[2]):
                raise _DamagedError
            texture = words[2]
        if words[:1] == ["element"]:
            count = int(words[2])
            if not 0 <= count < 2**31:
                raise _DamagedError
            elements.append(_Element(words[1], count, ()))
        elif words[:1] == ["property"]:
            last = elements.pop()
            own = (words[4], words[2], words[3]) if words[1] == "list" else (words[2], words[1], "")
            elements.append(_Element(last.name, last.count, (*last.properties, own)))
    if any(kind not in _SCALARS for e in elements for _, *kinds in e.properties for kind in kinds if kind):
        raise _DamagedError
    return elements, texture


def _read_vertices(mesh: Mesh, body: bytearray, offset: int, element: _Element) -> Generator[float, None, None]:
    if not element.plain:
        raise _DamagedError
    places: dict[str, tuple[int, str]] = {}
    at = 0
    for name, kind, _ in element.properties:
        places[name] = at, _SCALARS[kind]
        at += struct.calcsize("<" + _SCALARS[kind])
    size = element.least
    coloured = all(places.get(c, (0, ""))[1] == "B" for c in ("red", "green", "blue"))
    for first in range(0, element.count, VERTICES):
        count = min(VERTICES, element.count - first)
        part = body[offset + first * size : offset + (first + count) * size]
        if len(part) != count * size:
            raise _DamagedError
        three = array("f", bytes(12 * count))
        for axis, name in enumerate(("x", "y", "z")):
            at, kind = places[name]
            three[axis::3] = array("f", column(part, at, size, kind))
        mesh.places += three
        if coloured:
            four = array("f", (1.0,)) * (4 * count)
            for channel, name in enumerate(("red", "green", "blue")):
                four[channel::4] = array("f", map(LINEAR.__getitem__, part[places[name][0] :: size]))
            mesh.colours += four
        yield 0.1 + 0.2 * first / element.count


def column(part: bytes | bytearray, at: int, stride: int, kind: str) -> array:
    """The numbers of one kind that lie ``at`` so many bytes into each of the records of ``stride`` bytes."""
    width = struct.calcsize("<" + kind)
    sorted_out = bytearray(width * ((len(part) - at - width) // stride + 1 if len(part) >= at + width else 0))
    for byte in range(width):
        sorted_out[byte::width] = part[at + byte :: stride]
    numbers = array(kind)
    numbers.frombytes(bytes(sorted_out))
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        numbers.byteswap()
    return numbers


def _read_faces(
    mesh: Mesh, body: bytearray, offset: int, element: _Element, vertices: int
) -> Generator[float, None, None]:
    """Faces of one list of vertices each and, with a texture, one of two numbers a corner; runs of as many corners are
    read together."""
    own, *others = element.properties
    if element.plain or (others and others != [_FLAT]):
        raise _DamagedError
    head, entry = (_SCALARS[kind] for kind in own[1:])
    if head in "fd" or entry in "fd":
        raise _DamagedError
    wide, each, left = struct.calcsize("<" + head), struct.calcsize("<" + entry), element.count
    while left:
        (sides,) = struct.unpack_from("<" + head, body, offset)
        if not 3 <= sides <= MOST_SIDES:
            raise _DamagedError
        flat = wide + sides * each  # bytes before the place in the texture, of which the first says how many
        stride = flat + (1 + 8 * sides if others else 0)
        heads = (*range(wide), flat) if others else range(wide)
        most = max(1, 4 * FACES // sides)
        for count in (min(left, FACES, most), min(left, MIXED // 10, most), 1):
            part = body[offset : offset + count * stride]
            # Of the same number of corners all of them: their heads are the same bytes.
            if len(part) == count * stride and all(
                part[byte::stride] == part[byte : byte + 1] * count for byte in heads
            ):
                break
        else:
            raise _DamagedError
        corners = array("i", bytes(4 * count * sides))
        for side in range(sides):
            corners[side::sides] = array("i", column(part, wide + side * each, stride, entry))
        if min(corners) < 0 or max(corners) >= vertices:
            raise _DamagedError
        if sides > 3 and any(len(set(corners[i : i + sides])) < sides for i in range(0, len(corners), sides)):
            raise _DamagedError
        if others:
            if part[flat] != 2 * sides:
                raise _DamagedError
            places = array("f", bytes(8 * count * sides))
            for number in range(2 * sides):
                places[number :: 2 * sides] = column(part, flat + 1 + 4 * number, stride, "f")
            if not math.isfinite(sum(places)):
                raise _DamagedError
            mesh.flat += places
        start = len(mesh.corners)
        mesh.corners += corners
        mesh.starts.extend(range(start, start + count * sides, sides))
        offset, left = offset + count * stride, left - count
        yield 0.3 + 0.2 * (1 - left / element.count)


def _number_edges(mesh: Mesh) -> Generator[float, None, None]:
    """Number the edges in the order in which faces name them first. Blender does so, too, but for a million faces at
    once, and nobody could do anything meanwhile."""
    numbers: list[dict[int, int]] = [{} for _ in range(len(mesh.places) // 3 // SHARE + 1)]
    edges, corner_edges, corners, starts = mesh.edges, mesh.corner_edges, mesh.corners, mesh.starts
    count = 0
    for first in range(0, len(starts), EDGES):
        ends = [*starts[first + 1 : first + EDGES + 1]]
        if len(ends) < min(EDGES, len(starts) - first):
            ends.append(len(corners))
        here = starts[first]
        for end in ends:
            face = corners[here:end]
            here, before = end, face[0]
            for corner in (*face[1:], face[0]):
                low, high = (before, corner) if before < corner else (corner, before)
                if low == high:
                    raise _DamagedError
                known = numbers[low // SHARE]
                key = (low % SHARE) << 32 | high
                number = known.get(key)
                if number is None:
                    number = known[key] = count
                    count += 1
                    edges.append(low)
                    edges.append(high)
                corner_edges.append(number)
                before = corner
        yield 0.5 + 0.5 * first / len(starts)
    while numbers:  # to let go of a million numbers takes its time, too
        numbers.pop()
        if len(numbers) % 4 == 0:
            yield 1.0
