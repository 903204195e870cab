# SPDX-License-Identifier: GPL-3.0-or-later
"""Point clouds as PLY files: the sparse points of a capture, and those that a capture lists."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine.capture.types import MOST_POINTS, CaptureError, SparsePoints
from engine.files import open_file, replacing

_LONGEST_HEADER = 64 * 1024  # bytes
_MOST_BYTES = 256 * 2**20  # of a file's points
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_STORED = np.dtype([("xyz", "<f8", 3), ("rgb", "u1", 3)])
_WITH_ERRORS = np.dtype([*_STORED.descr, ("error", "<f4")])


def write_points(points: SparsePoints, path: Path) -> None:
    """Writes binary little-endian PLY, `double` positions, `uchar` colours and, where there are any, `float` errors,
    whole or not at all. Raises BadInput."""
    records = np.zeros(len(points), dtype=_STORED if points.errors is None else _WITH_ERRORS)
    records["xyz"] = points.positions
    records["rgb"] = 255 if points.colours is None else points.colours
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property double {axis}" for axis in "xyz"]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    if points.errors is not None:
        records["error"] = points.errors
        header.append("property float error")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join([*header, "end_header", ""]).encode())
        stream.write(records.tobytes())


def read_points(path: Path) -> SparsePoints | None:
    """The vertices of an ASCII or binary PLY, with their colours where it has them; None where there are none.

    Nothing in the file is trusted. Raises CaptureError.
    """
    try:
        with open_file(path) as stream:
            return _read(path, stream)
    except OSError as problem:
        raise CaptureError(f"{path.name} cannot be read: {problem.strerror or problem}.", file=path) from None


def _bad(path: Path, why: str) -> CaptureError:
    return CaptureError(f"{path.name} is no PLY of points ({why}); it may be damaged, copy it again.", file=path)


def _read(path: Path, stream: BinaryIO) -> SparsePoints | None:
    kind, count, layout = _header(path, stream)
    left = path.stat().st_size - stream.tell()
    each = 2 * len(layout.names or ()) if kind == "ascii" else layout.itemsize
    if count * each > left + (kind == "ascii"):  # the last line may end without a line break
        raise _bad(path, f"it says that it holds {count:,} points and has no room for them")
    if not count:
        return None
    if left > _MOST_BYTES:
        raise _bad(path, f"it is larger than {_MOST_BYTES >> 20} MB")
    if kind == "ascii":
        count = min(count, MOST_POINTS)  # parsing takes a second for a million
        columns = len(layout.names or ())
        lines = islice((line for line in stream if line.strip()), count)
        try:
            rows = np.loadtxt(lines, dtype=np.float64, usecols=range(columns), ndmin=2, comments=None)
        except (ValueError, UnicodeDecodeError):
            raise _bad(path, "its lines are not numbers") from None
        if len(rows) < count:
            raise _bad(path, "it ends early")
        vertices = {name: rows[:, index] for index, name in enumerate(layout.names or ())}
    else:
        every = -(-count // MOST_POINTS)
        records = np.frombuffer(stream.read(count * layout.itemsize), dtype=layout)[::every]
        vertices = {name: records[name] for name in layout.names or ()}
    positions = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    channels = ("red", "green", "blue")
    colours = None
    if all(name in vertices for name in channels):
        values = np.stack([vertices[name] for name in channels], axis=1)
        whole = kind == "ascii" or values.dtype.kind != "f"
        with np.errstate(invalid="ignore"):
            scaled = np.nan_to_num(values.astype(np.float64) * (1 if whole else 255))
        colours = np.clip(scaled + 0.5 * (not whole), 0, 255).astype(np.uint8)
    return SparsePoints.usable(positions, colours, vertices.get("error"))


def _header(path: Path, stream: BinaryIO) -> tuple[str, int, np.dtype]:
    """(format, number of vertices, layout of one); the stream stands at the first of them afterwards."""
    if stream.readline(16).strip() != b"ply":
        raise _bad(path, "it does not begin so")
    kind, element, count = "", "", -1
    fields: list[tuple[str, str]] = []
    while True:
        line = stream.readline(1024)
        words = line.decode("latin-1").split()
        if not line or stream.tell() > _LONGEST_HEADER:
            raise _bad(path, "its header has no end")
        if words[:1] == ["end_header"]:
            break
        if words[:1] == ["format"] and len(words) > 1:
            kind = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            element = words[1]
            if count < 0 and element != "vertex":
                raise _bad(path, "its first element is not vertex")
            if element == "vertex":
                if not words[2].isdigit() or len(words[2]) > 18 or count >= 0:
                    raise _bad(path, "its number of points is none")
                count = int(words[2])
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _TYPES or words[2] in dict(fields) or len(fields) >= 1000:
                raise _bad(path, f"its property {' '.join(words[1:])[:40]} cannot be read")
            fields.append((words[2], _TYPES[words[1]]))
    order = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}.get(kind)
    if order is None or count < 0 or not {"x", "y", "z"} <= dict(fields).keys():
        raise _bad(path, "it has no vertices with x, y and z")
    return kind, count, np.dtype([(name, order + code) for name, code in fields])
