# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of LLFF's `poses_bounds.npy`.

An array (N, 17): a row holds a 3 × 5 matrix, row by row, and two depths. Its columns are the camera's axes *down*,
*right* and *back* in the world, its position, and (height, width, focal length) in pixels. Rows belong to the pictures
of `images` in the order of their names' characters, which is how LLFF's own program wrote them.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from engine.capture.fields import as_number, checked_lens, rigid_pose, size_of
from engine.capture.lens import Lens
from engine.capture.lookup import pictures_in
from engine.capture.photos import find_photo
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_bytes
from engine.capture.types import CaptureError

NAME = "poses_bounds.npy"


def read(path: Path) -> Reading:
    """All shots of a poses file. Raises CaptureError for the file, and lists single bad rows as left out."""
    rows = _rows(path)
    reading = Reading(path.parent, "LLFF poses_bounds.npy")
    for file, row in zip(_pictures(path, len(rows)), rows, strict=True):
        listed = file.relative_to(path.parent).as_posix()
        with reading.leaving_out(listed):
            photo = find_photo(path.parent, listed)
            matrix = row[:15].reshape(3, 5)
            pose = np.eye(4)
            pose[:3] = np.stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]], axis=1)
            exact = rigid_pose(pose, f"The pose of {listed[:120]}")
            size = size_of({"height": float(matrix[0, 4]), "width": float(matrix[1, 4])})
            focal = as_number(float(matrix[2, 4]), "focal length")
            lens = checked_lens(Lens("PINHOLE", focal, focal, size[0] / 2, size[1] / 2), size)
            reading.shots.append(Shot(listed, photo, exact, lens, *size))
    return reading


def _rows(path: Path) -> np.ndarray:
    """(N, 17) float64."""
    data = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that other versions wrote
            stream = io.BytesIO(data)
            version = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
                np.lib.format.read_array_header_2_0
            )  # fmt: skip
            shape, fortran, kind = read_header(stream)
        if kind.kind not in "fiu":
            raise ValueError
        if len(shape) != 2 or shape[1] != 17:
            raise CaptureError(
                f"{path.name} holds an array of {str(shape)[:80]}, not rows of 17 numbers; it is not LLFF's.",
                file=path,
            )
        check_count(shape[0], path, "cameras")
        values = np.frombuffer(data, kind, shape[0] * 17, stream.tell())
        with np.errstate(all="ignore"):
            return values.reshape(shape, order="F" if fortran else "C").astype(np.float64)
    except CaptureError:
        raise
    except Exception:  # numpy evaluates the header as Python's own parser reads it, and raises what that raises
        raise CaptureError(
            f"{path.name} is not a NumPy array of numbers; it may be cut off or damaged, copy it again.", file=path
        ) from None


def _pictures(path: Path, count: int) -> list[Path]:
    """The pictures that the rows belong to: of `images`, else of the first folder with as many as there are rows."""
    folder = path.parent
    others = sorted(entry for entry in folder.glob("images*") if entry.is_dir() and entry.name != "images")
    found = [(place, pictures_in(place)) for place in (folder / "images", *others[:20], folder)]
    for _, pictures in found:
        if len(pictures) == count:
            return pictures
    most, pictures = max(found, key=lambda entry: len(entry[1]))
    if not pictures:
        raise CaptureError(f"Beside {path.name} lie no pictures; copy them into a folder “images” there.", file=path)
    raise CaptureError(
        f"{path.name} has {count} rows and the folder {most.name} {len(pictures)} pictures: which belongs to which "
        "cannot be told; put back the missing pictures, or take away those that LLFF left out.",
        file=path,
        field="images",
    )
