# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of RealityCapture's CSV of registered cameras ("Internal/External camera parameters").

A row a picture: name, x, y, alt, heading, pitch, roll (degrees), f (millimetres on a sensor whose longer side is 36),
px, py (principal point from the middle, in units of the longer side), k1 … k4 (over even powers of the radius), t1, t2
(tangential, in OpenCV's order). The world is a map's: x east, y north, z up; a camera of heading, pitch and roll zero
looks straight down with north at the top of its picture. The size is the picture's own: the file does not say it.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from engine.capture.formats.source_files import (
    BadField,
    PhotosByName,
    check_count,
    checked_lens,
    number,
    read_bytes,
)
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut

NAME = "RealityCapture CSV"
_NEEDED = ("x", "y", "alt", "heading", "pitch", "roll", "f")


def find(folder: Path) -> Path | None:
    """The first CSV file in the folder whose beginning names RealityCapture's columns."""
    for path in sorted(folder.glob("*.csv")):
        try:
            with path.open("rb") as file:
                start = file.read(4096)
        except OSError:
            continue
        if b"#name" in start and b"heading" in start:
            return path
    return None


def read(path: Path) -> Reading:
    """All shots of a CSV file. Raises CaptureError for the file, and lists single bad rows as left out."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CaptureError(f"{path.name} is not a text; it may be damaged, export it again.", file=path) from None
    lines = text.splitlines()
    header = next((index for index, line in enumerate(lines[:20]) if line.startswith("#name")), None)
    columns = lines[header].lstrip("#").split(",") if header is not None else []
    columns = [column.strip() for column in columns]
    if header is None or any(column not in columns for column in _NEEDED):
        raise CaptureError(
            f"{path.name} has no line “#name,x,y,alt,heading,pitch,roll,f,…”; export “Internal/External camera "
            "parameters” from RealityCapture.",
            file=path,
        )
    lines = [line for line in lines[header + 1 :] if line.strip()]
    check_count(len(lines), path, "cameras")
    reading = Reading(path.parent, "RealityCapture", up=np.array([0.0, 0.0, 1.0]))
    photos = PhotosByName(path.parent)
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines))))
    except csv.Error as problem:  # a field without end
        raise CaptureError(f"{path.name} is not a CSV text ({problem}); export it again.", file=path) from None
    for row in rows:
        values = dict(zip(columns, row, strict=False))
        listed = values.get("name", "")
        try:
            photo = photos.find(listed)
            size = float(photo.width), float(photo.height)
            try:
                angles = [math.radians(number(values, key)) for key in ("heading", "pitch", "roll")]
                position = [number(values, key) for key in ("x", "y", "alt")]
                k1, k2, k3, k4, t1, t2 = (number(values, key, 0.0) for key in ("k1", "k2", "k3", "k4", "t1", "t2"))
                longer = max(size)
                focal = number(values, "f") / 36.0 * longer
                centre = (
                    number(values, "px", 0.0) * longer + size[0] / 2,
                    number(values, "py", 0.0) * longer + size[1] / 2,
                )
                model, params = ("BROWN", (k1, k2, k3, k4, t1, t2)) if k4 else ("OPENCV", (k1, k2, t1, t2, k3, 0, 0, 0))
                lens = checked_lens(model, (focal, focal), centre, params, size)
            except BadField as problem:
                raise SkipView(f"Of {listed[:120]}, {problem}.") from None
            rows_of_pose = np.eye(4)
            rows_of_pose[:3, :3] = rotation_from_angles(*angles)
            rows_of_pose[:3, 3] = position
            pose = rigid_pose(rows_of_pose, f"The pose of {listed[:120]}")
            reading.shots.append(Shot(listed, photo, pose, lens, *size))
        except SkipView as problem:
            reading.left_out.append(LeftOut(listed[:300], str(problem)))
    _bring_near(reading)
    return reading


def _bring_near(reading: Reading) -> None:
    """A map's coordinates are so large that what works with single precision (Blender, NeRFs) would lose centimetres:
    cameras far from the origin are moved by whole units, which is said."""
    if not reading.shots:
        return
    positions = np.array([shot.pose[:3, 3] for shot in reading.shots])
    middle = positions.mean(axis=0)
    if np.linalg.norm(middle) < 1000 * max(np.linalg.norm(positions - middle, axis=1).mean(), 1e-3):
        return
    moved = np.round(middle)
    for shot in reading.shots:
        shot.pose[:3, 3] -= moved
    x, y, z = (f"{value:.0f}" for value in moved)
    reading.notes.append(f"The cameras lie far from the origin of their map: ({x}, {y}, {z}) was taken off.")


def rotation_from_angles(heading: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) camera to world, OpenGL's camera axes: first roll about y, then pitch about x, then heading, clockwise
    seen from above, about z. Angles in radians."""
    ch, sh, cp, sp, cr, sr = (f(a) for a in (heading, pitch, roll) for f in (math.cos, math.sin))
    about_z = np.array([[ch, sh, 0], [-sh, ch, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return about_z @ about_x @ about_y
