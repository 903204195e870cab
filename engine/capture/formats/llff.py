# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of LLFF's `poses_bounds.npy`.

An array (N, 17): a row holds a 3 × 5 matrix, row by row, and two depths. Its columns are the camera's axes *down*,
*right* and *back* in the world, its position, and (height, width, focal length) in pixels. Rows belong to the pictures
of `images` in the order of their names' characters, which is how LLFF's own program wrote them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from engine.capture.formats.source_files import (
    LARGEST_FILE,
    BadField,
    as_number,
    check_count,
    checked_lens,
    pictures_in,
    size_of,
)
from engine.capture.photos import SkipView, find_photo
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut

NAME = "poses_bounds.npy"


def read(path: Path) -> Reading:
    """All shots of a poses file. Raises CaptureError for the file, and lists single bad rows as left out."""
    rows = _rows(path)
    reading = Reading(path.parent, "LLFF poses_bounds.npy")
    for file, row in zip(_pictures(path, len(rows)), rows, strict=True):
        listed = file.relative_to(path.parent).as_posix()
        try:
            photo = find_photo(path.parent, listed)
            matrix = row[:15].reshape(3, 5)
            pose = np.eye(4)
            pose[:3] = np.stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]], axis=1)
            exact = rigid_pose(pose, f"The pose of {listed[:120]}")
            try:
                width, height = size_of({"height": float(matrix[0, 4]), "width": float(matrix[1, 4])})
                focal = as_number(float(matrix[2, 4]), "focal length")
                lens = checked_lens("PINHOLE", (focal, focal), (width / 2, height / 2), (), (width, height))
            except BadField as problem:
                raise SkipView(f"Of {listed[:120]}, {problem}.") from None
            reading.shots.append(Shot(listed, photo, exact, lens, width, height))
        except SkipView as problem:
            reading.left_out.append(LeftOut(listed[:300], str(problem)))
    return reading


def _rows(path: Path) -> np.ndarray:
    """(N, 17) float64."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CaptureError(f"{path.name} is larger than {LARGEST_FILE >> 20} MB; it is not a capture's.", file=path)
        # Mapped, so that a header that promises more than the file holds allocates nothing; pickles are refused.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that other versions wrote
            mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.ndim != 2 or mapped.shape[1] != 17 or mapped.dtype.kind not in "fiu":
            raise CaptureError(
                f"{path.name} holds an array of {str(mapped.shape)[:80]}, not rows of 17 numbers; it is not LLFF's.",
                file=path,
            )
        check_count(len(mapped), path, "cameras")
        with np.errstate(all="ignore"):
            return np.array(mapped, dtype=np.float64)
    except CaptureError:
        raise
    except OSError as problem:
        raise CaptureError(f"{path.name} cannot be read: {problem.strerror or problem}.", file=path) from None
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
