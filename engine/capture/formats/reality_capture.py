# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of RealityCapture's (RealityScan's) CSV of registered cameras ("Internal/External camera parameters").

A row a picture: name, x, y, alt, heading, pitch, roll (degrees), f (millimetres on a sensor whose longer side is 36),
px, py (principal point from the middle, in units of the longer side), k1 … k4 (over even powers of the radius), t1, t2
(tangential, the other way round than OpenCV's p1, p2: Epic's reference of camera geometry, 4). The world is a map's:
x east, y north, z up; a camera of heading, pitch and roll zero looks straight down with north at the top of its
picture. The size is the picture's own: the file does not say it.
Without positions of the photos or a ground plane the world lies as it likes; the file does not say that either.

Spreadsheets that saved the file again may have put semicolons or tabs between the fields, and commas into numbers.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from pathlib import Path

import numpy as np

from engine.capture.exif import TOPS
from engine.capture.fields import checked_lens, number, rigid_pose
from engine.capture.lens import Lens
from engine.capture.lookup import Photos
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_start, read_text
from engine.capture.types import CaptureError
from engine.capture.upright import up_from_cameras

NAME = "RealityCapture CSV"
_A_MAPS = 10_000.0  # metres from the origin
_HELD = 15.0  # degrees between up by the cameras and the world's z
_LESS = re.compile(r"(#\s*cameras[^\n]*\n)?#\s*name[,;\t ]+(x|lon|lat)[a-z]*\b")  # the beginning of its other exports
_NEEDED = ("name", "x", "y", "alt", "heading", "pitch", "roll", "f")


def find(folder: Path) -> Path | None:
    """The first CSV file in the folder whose beginning names RealityCapture's columns, else one of its exports that
    says less."""
    starts = {path: read_start(path).lower() for path in sorted(folder.glob("*.[cC][sS][vV]"))}
    for path, start in starts.items():
        if "name" in start and "heading" in start and "pitch" in start:
            return path
    return next((path for path, start in starts.items() if _LESS.match(start)), None)


def read(path: Path) -> Reading:
    """All shots of a CSV file. Raises CaptureError for the file, and lists single bad rows as left out."""
    lines = read_text(path).splitlines()
    columns, lines, separator = _columns(path, lines)
    check_count(len(lines), path, "cameras")
    reading = Reading(path.parent, "RealityCapture")
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator))
    except csv.Error as problem:  # a field without end
        raise CaptureError(f"{path.name} is not a CSV text ({problem}); export it again.", file=path) from None
    cameras = [_values(columns, row, separator) for row in rows]
    photos = Photos.near(path.parent, [values["name"] for values in cameras])
    reading.root = photos.root
    with contextlib.suppress(SkipView):  # a single bad row, of which is said below
        check_metric(path, np.array([[number(values, key) for key in ("x", "y", "alt")] for values in cameras]))
    for values in cameras:
        listed = values["name"]
        with reading.leaving_out(listed):
            photo = photos.find(listed)
            size = float(photo.width), float(photo.height)
            angles = [math.radians(number(values, key)) for key in ("heading", "pitch", "roll")]
            k1, k2, k3, k4, t1, t2 = (number(values, key, 0.0) for key in ("k1", "k2", "k3", "k4", "t1", "t2"))
            longer = max(size)
            focal = number(values, "f") / 36.0 * longer
            centre = (
                number(values, "px", 0.0) * longer + size[0] / 2,
                number(values, "py", 0.0) * longer + size[1] / 2,
            )
            lens = Lens("BROWN", focal, focal, *centre, (k1, k2, k3, k4, t2, t1))
            lens = checked_lens(lens, size, ("f", "f", "px", "py"))
            pose = np.eye(4)
            pose[:3, :3] = rotation_from_angles(*angles)
            pose[:3, 3] = [number(values, key) for key in ("x", "y", "alt")]
            reading.shots.append(Shot(listed, photo, rigid_pose(pose, f"The pose of {listed[-120:]}"), lens, *size))
    reading.up = up_of_map(reading.shots)
    return reading


def up_of_map(shots: list[Shot]) -> np.ndarray | None:
    """z, where it is up: in coordinates of a map, or where the cameras were held as if it were; else None."""
    if not shots:
        return None
    up = np.array([0.0, 0.0, 1.0])
    if np.linalg.norm(np.median([shot.pose[:2, 3] for shot in shots], axis=0)) > _A_MAPS:
        return up
    tops = np.array([TOPS[shot.photo.orientation] for shot in shots], dtype=np.float64)
    held = up_from_cameras(np.array([shot.pose[:3, :3] for shot in shots]), tops)
    return up if held @ up > math.cos(math.radians(_HELD)) else None


def check_metric(path: Path, positions: np.ndarray) -> None:
    """Raises CaptureError where positions (N, 3) are longitudes and latitudes: degrees across, and metres up."""
    x, y, up = positions.T
    across = max(np.ptp(x), np.ptp(y))
    degrees = np.abs(x).max() <= 180 and np.abs(y).max() <= 90 and max(np.abs(x).min(), np.abs(y).min()) > 1
    far = max(np.abs(x).min(), np.abs(y).min()) > 100 * across  # a capture of centimetres lies near its origin
    if degrees and 0 < across < 0.05 and (far or np.ptp(up) > 50 * across):
        raise CaptureError(
            f"The positions in {path.name} are longitudes and latitudes; export it in coordinates of metres (local, "
            "or UTM).",
            file=path,
            field="x",
        )


def _columns(path: Path, lines: list[str]) -> tuple[list[str], list[str], str]:
    """(names of the columns, the lines with cameras, what stands between fields). Raises CaptureError."""
    for index, line in enumerate(lines[:20]):
        for separator in (",", ";", "\t"):
            columns = [column.strip(" \"'#").lower() for column in line.split(separator)]
            if all(column in columns for column in _NEEDED):
                rest = [row for row in lines[index + 1 :] if row.strip()]
                rest = [row for row in rest if not row.startswith("#") or row.count(separator) >= len(_NEEDED) - 1]
                return columns, rest, separator
    raise CaptureError(
        f"{path.name} has no line “#name,x,y,alt,heading,pitch,roll,f,…”; export “Internal/External camera "
        "parameters” from RealityCapture.",
        file=path,
    )


def _values(columns: list[str], row: list[str], separator: str) -> dict[str, str]:
    """The fields of a row by their column. A name that holds the separator itself takes more than one field."""
    while len(row) > len(columns) and not row[-1].strip():
        row = row[:-1]
    at, more = columns.index("name"), len(row) - len(columns)
    if more > 0:
        row = [*row[:at], separator.join(row[at : at + more + 1]), *row[at + more + 1 :]]
    values = {key: value.strip() for key, value in zip(columns, row, strict=False)}
    if separator != ",":
        values = {key: value if key == "name" else value.replace(",", ".") for key, value in values.items()}
    return {"name": ""} | values


def rotation_from_angles(heading: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) camera to world, OpenGL's camera axes: first roll about y, then pitch about x, then heading, clockwise
    seen from above, about z. Angles in radians."""
    ch, sh, cp, sp, cr, sr = (f(a) for a in (heading, pitch, roll) for f in (math.cos, math.sin))
    about_z = np.array([[ch, sh, 0], [-sh, ch, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return about_z @ about_x @ about_y
