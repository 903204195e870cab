# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of the XMP files that RealityCapture (RealityScan) writes beside photos ("Metadata (XMP)"), one for each photo
that it aligned and called like it.

By Epic's reference of camera geometry: `Rotation` is world to camera, row by row, the camera's axes x right, y down,
z ahead; `Position` is the camera's centre; the focal length is that of 36 mm across the longer side, the principal
point is from the middle in units of the longer side; `DistortionCoeficients` are k1 k2 k3 k4 t1 t2, of which the last
two stand the other way round than OpenCV's p1 and p2. Any of them may be an attribute or an element.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from engine.capture.fields import PANORAMA, BadField, checked_lens, number, numbers, opengl_pose, rigid_pose
from engine.capture.formats.reality_capture import check_metric, up_of_map
from engine.capture.lens import Lens
from engine.capture.lookup import Photos
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_start, read_xml
from engine.capture.types import CaptureError

FORMAT = "RealityCapture XMP"
_SPACE = "capturingreality.com/ns/xcr"
_EARTH = (6.2e6, 6.6e6)  # metres from its middle, of what is on or a little above it
_BROWN = ("brown3", "brown3t2", "brown4", "brown4t2")
_FLAT = ("", "none", "perspective")


def find(folder: Path) -> Path | None:
    """The first of the files with poses in a folder."""
    return next(iter(_files(folder)), None)


def read(path: Path) -> Reading:
    """All shots of the XMP files in a file's folder; those that cannot be used are listed as left out.

    Raises CaptureError where none has a pose, or their positions are degrees.
    """
    folder = path.parent
    files = _files(folder)
    check_count(len(files), path, "poses")
    reading = Reading(folder, FORMAT)
    told: list[tuple[str, dict[str, str]]] = []
    for file in files:
        with reading.leaving_out(file.name):
            told.append((file.stem, _values(file)))
    told = _of_one_piece(told, reading)
    photos = Photos.near(folder, [name for name, _ in told])
    reading.root = photos.root
    for name, values in told:
        with reading.leaving_out(name):
            _check_flat(name, values)
            photo = photos.find(name)
            size = float(photo.width), float(photo.height)
            rotation = numbers(values.get("Rotation", "").split(), 9, f"The Rotation of {name[-120:]}").reshape(3, 3)
            position = numbers(values.get("Position", "").split(), 3, f"The Position of {name[-120:]}")
            pose = rigid_pose(opengl_pose(rotation.T, position), f"The Rotation of {name[-120:]}")
            reading.shots.append(Shot(name, photo, pose, _lens(values, size), *size))
    if reading.shots:
        positions = np.array([shot.pose[:3, 3] for shot in reading.shots])
        check_metric(path, positions)
        middle = np.median(positions, axis=0)
        on_earth = _EARTH[0] < np.linalg.norm(middle) < _EARTH[1]  # coordinates from the Earth's middle
        reading.up = middle / np.linalg.norm(middle) if on_earth else up_of_map(reading.shots)
    return reading


def _files(folder: Path) -> list[Path]:
    """The XMP files in a folder that hold a pose; those of other programs (raw developers') hold none."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".xmp" and path.name[:1] != ".")
    except OSError:
        return []
    starts = ((path, read_start(path)) for path in found)
    return [path for path, start in starts if _SPACE in start and "Rotation" in start and "Position" in start]


def _values(path: Path) -> dict[str, str]:
    """What RealityCapture says in a file, by its own names. Raises SkipView."""
    try:
        root = read_xml(path)
    except CaptureError as problem:
        raise SkipView(problem.message) from None
    found: dict[str, str] = {}
    for element in root.iter():
        for name, text in [(element.tag, element.text), *element.attrib.items()]:
            if isinstance(name, str) and _SPACE in name:
                found[name.rpartition("}")[2]] = (text or "").strip()
    return found


def _of_one_piece(told: list[tuple[str, dict[str, str]]], reading: Reading) -> list[tuple[str, dict[str, str]]]:
    """Those of the largest component, where each has coordinates of its own; the others are left out."""

    def piece(values: dict[str, str]) -> str:
        own = values.get("Coordinates") in ("relative", "rigid")
        return values.get("ComponentId", "") if own else ""

    counted = Counter(piece(values) for _, values in told)
    if len(counted) < 2:
        return told
    most = max(counted, key=lambda key: (counted[key], key))
    for name, values in told:
        if piece(values) != most:
            with reading.leaving_out(name):
                raise SkipView(f"{name} is of another component, with coordinates of its own; export one component.")
    return [(name, values) for name, values in told if piece(values) == most]


def _check_flat(name: str, values: dict[str, str]) -> None:
    """Raises SkipView for what no lens here can say."""
    if values.get("ProjectionModel", "").lower() in ("equirectangular", "spherical"):
        raise SkipView(f"{name} is {PANORAMA}.")
    if abs(number(values, "Skew", 0.0)) > 1e-6:
        raise BadField("Skew", "is not zero, which no camera model here has; align with square pixels")


def _lens(values: dict[str, str], size: tuple[float, float]) -> Lens:
    longer = max(size)
    focal = number(values, "FocalLength35mm") / 36.0 * longer
    centre = tuple(
        number(values, f"PrincipalPoint{axis}", 0.0) * longer + side / 2 for axis, side in zip("UV", size, strict=True)
    )
    model = values.get("DistortionModel", "").lower()
    told = values.get("DistortionCoeficients") or values.get("DistortionCoefficients") or "0 0 0 0 0 0"
    k1, k2, k3, k4, t1, t2 = numbers(told.split(), 6, "DistortionCoeficients").tolist()
    if model in _FLAT:
        name, params = "PINHOLE", ()
    elif model == "division":  # which divides by the undistorted radius
        name, params = "OPENCV", (0.0, 0.0, 0.0, 0.0, 0.0, k1, 0.0, 0.0)
    elif model in _BROWN:
        name, params = "BROWN", (k1, k2, k3, k4, t2, t1)
    else:
        raise BadField("DistortionModel", f"is {model[:40]}, which is not known; align with Brown 3")
    lens = Lens(name, focal, focal * number(values, "AspectRatio", 1.0), *centre, params)
    return checked_lens(lens, size, ("FocalLength35mm", "AspectRatio", "PrincipalPointU", "PrincipalPointV"))
