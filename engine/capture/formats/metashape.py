# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Metashape's exported cameras (XML, by "Export Cameras").

`sensors` hold a size and a calibration: f, cx, cy (pixels, the centre from the picture's middle), k1 … k4 over even
powers of the radius, and p1, p2 in the opposite order to OpenCV's; b1 is what fx has more than fy. `cameras` hold a
camera-to-chunk matrix, row by row, axes x right, y down, z forward. The capture frame is the chunk's. The transform of
a component leads from there to the world, and tells which way is up: z, or away from the earth's centre where the
world is the whole earth.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from engine.capture.formats.source_files import (
    BadField,
    PhotosByName,
    as_number,
    check_count,
    checked_lens,
    read_bytes,
    size_of,
)
from engine.capture.lens import MODELS, Lens
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, rigid_pose
from engine.capture.types import CaptureError, LeftOut

NAME = "Metashape XML"
_MOST_ELEMENTS = 1_000_000
_NEGLIGIBLE = 0.05  # pixels, at the picture's corner
_EARTH = 6_378_137.0, 6_356_752.3142  # metres: half axes of the ellipsoid of WGS 84


def find(folder: Path) -> Path | None:
    """The first XML file in the folder that begins as Metashape's do."""
    for path in sorted(folder.glob("*.xml")):
        try:
            with path.open("rb") as file:
                start = file.read(4096)
        except OSError:
            continue
        if b"<document" in start and b"<chunk" in start:
            return path
    return None


def read(path: Path) -> Reading:
    """All shots of the first chunk. Raises CaptureError for the file, and lists single bad cameras as left out."""
    root = _parse(path)
    chunk = root if root.tag == "chunk" else root.find("chunk")
    listed = chunk.find("cameras") if chunk is not None else None
    if chunk is None or listed is None:
        raise CaptureError(
            f"{path.name} holds no cameras; use Export Cameras in Metashape.", file=path, field="cameras"
        )
    cameras = list(listed.iter("camera"))
    check_count(len(cameras), path, "cameras", "cameras")
    sensors = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    worlds = {part.get("id"): _similarity(part.find("transform")) for part in chunk.iterfind("components/component")}
    if not worlds:
        worlds = {None: _similarity(chunk.find("transform"))}
    reading = Reading(path.parent, NAME)
    photos = PhotosByName(path.parent)
    main = _main_component(cameras, worlds)
    for camera in cameras:
        label = camera.get("label") or f"camera {camera.get('id')}"
        try:
            if camera.find("transform") is None:
                raise SkipView(f"Metashape did not align {label[:120]}.")
            rows = _matrix(camera.find("transform"), 4, f"The transform of {label[:120]}")
            pose = rigid_pose((rows * (1, -1, -1, 1)).tolist(), f"The transform of {label[:120]}")
            pose = _into_main(pose, camera.get("component_id"), main, worlds, label)
            photo = photos.find(label)
            try:
                sensor = sensors.get(camera.get("sensor_id"))
                if sensor is None:
                    raise BadField("sensor_id", "is not one of the file's sensors")
                resolution = sensor.find("resolution")
                size = size_of(resolution.attrib if resolution is not None else {})
                lens = _lens(sensor, size)
            except BadField as problem:
                raise SkipView(f"Of {label[:120]}, {problem}.") from None
            reading.shots.append(Shot(label, photo, pose, lens, *size))
        except SkipView as problem:
            reading.left_out.append(LeftOut(label[:300], str(problem)))
    if len(root.findall("chunk")) > 1:
        reading.notes.append(f"{path.name} holds several chunks; the first was opened.")
    reading.up = _up(worlds.get(main))
    return reading


def _parse(path: Path) -> Element:
    """The file's root element; entities and document types are refused, and so is a file of endless elements."""
    data = read_bytes(path)
    if data.count(b"<") > 2 * _MOST_ELEMENTS:
        raise CaptureError(f"{path.name} lists millions of things; it is not a capture's.", file=path)
    try:
        return ElementTree.parse(io.BytesIO(data), forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise CaptureError(
            f"{path.name} defines entities of its own, which no Metashape file does; export it again.", file=path
        ) from None
    except (ParseError, ValueError, LookupError, RecursionError) as problem:
        raise CaptureError(
            f"{path.name} is not valid XML ({str(problem)[:100]}); it may be cut off, export it again.", file=path
        ) from None


def _matrix(element: Element | None, side: int, what: str) -> np.ndarray:
    """(side, side) float64."""
    try:
        values = np.array([float(text) for text in ((element.text if element is not None else "") or "").split()[:99]])
    except ValueError:
        raise SkipView(f"{what} is not a matrix of numbers.") from None
    if values.size != side * side:
        raise SkipView(f"{what} is not {side} × {side} numbers.")
    return values.reshape(side, side)


def _similarity(transform: Element | None) -> np.ndarray | None:
    """(4, 4) chunk to world of a component: rotation, translation, scale. None where it has none or it is unusable."""
    if transform is None:
        return None
    try:
        rotation = np.eye(3)
        if transform.find("rotation") is not None:
            rotation = _matrix(transform.find("rotation"), 3, "")
        scale = as_number((transform.findtext("scale") or "1").strip(), "scale")
        shift = np.array(
            [as_number(text, "translation") for text in (transform.findtext("translation") or "0 0 0").split()]
        )
        exact = rigid_pose(np.column_stack([rotation, np.zeros(3)]), "")
    except (SkipView, BadField):
        return None
    if shift.shape != (3,) or not 1e-9 < scale < 1e9:
        return None
    exact[:3, :3] *= scale
    exact[:3, 3] = shift
    return exact


def _main_component(cameras: list[Element], worlds: dict[str | None, np.ndarray | None]) -> str | None:
    """The component of most cameras: its frame is the capture's."""
    counts: dict[str | None, int] = {}
    for camera in cameras:
        if camera.find("transform") is not None:
            counts[camera.get("component_id")] = counts.get(camera.get("component_id"), 0) + 1
    main = max(counts, key=lambda key: counts[key], default=None)
    return main if main in worlds else next(iter(worlds)) if len(worlds) == 1 else main


def _into_main(
    pose: np.ndarray, component: str | None, main: str | None, worlds: dict[str | None, np.ndarray | None], label: str
) -> np.ndarray:
    """A pose of another component in the main one's frame, by way of the world. Raises SkipView where none leads."""
    if component == main or len(worlds) == 1:
        return pose
    ours, theirs = worlds.get(main), worlds.get(component)
    if ours is None or theirs is None:
        raise SkipView(f"{label[:120]} belongs to a part of the photos that Metashape could not join to the largest.")
    moved = np.linalg.solve(ours, theirs @ pose)
    moved[:3, :3] /= np.cbrt(np.linalg.det(moved[:3, :3]))
    return moved


def _up(world: np.ndarray | None) -> np.ndarray | None:
    """Up in the chunk's frame, None where the chunk was never placed in a world."""
    if world is None:
        return None
    up = np.array([0.0, 0.0, 1.0])
    if np.linalg.norm(world[:3, 3]) > 0.9 * _EARTH[1]:  # coordinates from the earth's centre
        up = world[:3, 3] / np.square([_EARTH[0], _EARTH[0], _EARTH[1]])
    up = world[:3, :3].T @ up
    return up / np.linalg.norm(up)


def _lens(sensor: Element, size: tuple[float, float]) -> Lens:
    kind = sensor.get("type") or "frame"
    if kind not in ("frame", "fisheye"):
        raise BadField("sensor type", f"is {kind[:40]}, which cannot be read yet")
    calibrations = sensor.findall("calibration")
    calibration = next(
        (c for c in calibrations if c.get("class") == "adjusted"), calibrations[0] if calibrations else None
    )
    if calibration is None:
        raise BadField("calibration", "is missing: Metashape did not calibrate this camera")

    def value(key: str, default: float | None = 0.0) -> float:
        text = calibration.findtext(key)
        if text is None:
            if default is None:
                raise BadField(key, "is missing")
            return default
        return as_number(text.strip(), key)

    f = value("f", value("fy", 0.0) or None)
    k1, k2, k3, k4 = (value(key) for key in ("k1", "k2", "k3", "k4"))
    p1, p2 = value("p2"), value("p1")  # OpenCV's names
    corner = math.hypot(*size) / 2 / max(f, 1e-9)  # from the axis, at focal length 1
    off = abs(value("b2", value("skew"))) * corner
    if off > _NEGLIGIBLE:
        raise BadField("b2", f"shears the picture by {off:.2g} pixels, which cannot be read yet; fix b2 at zero")
    off = f * (abs(p1) + abs(p2)) * 3 * corner**2 * (abs(value("p3")) * corner**2 + abs(value("p4")) * corner**4)
    if off > _NEGLIGIBLE:
        raise BadField("p3", "or p4 is in use, which cannot be read yet; align with p1 and p2 alone")
    if kind == "fisheye":
        model, params = "OPENCV_FISHEYE", (k1, k2, k3, k4)
        if p1 or p2:
            model, params = "THIN_PRISM_FISHEYE", (k1, k2, p1, p2, k3, k4, 0.0, 0.0)
    elif k4:
        model, params = "BROWN", (k1, k2, k3, k4, p1, p2)
    else:
        model, params = "OPENCV", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
    if model not in MODELS:
        raise BadField("p1", "of a fisheye is in use, which cannot be read yet")
    focal = value("fx", f + value("b1")), f
    centre = size[0] / 2 + value("cx"), size[1] / 2 + value("cy")
    return checked_lens(model, focal, centre, params, size)
