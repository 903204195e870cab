# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of Metashape's exported cameras (XML, by "Export Cameras").

`sensors` hold a size and a calibration: f, cx, cy (pixels, the centre from the picture's middle), k1 … k4 over even
powers of the radius, p1 … p4, of which the first two are in the opposite order to OpenCV's; b1 is what fx has more than
fy, and b2 shears. PhotoScan wrote fx and fy before 1.2, and the centre from the corner. `cameras` hold a camera-to-
chunk matrix, row by row, axes x right, y down, z forward. The capture frame is the chunk's. The transform of a
component leads from there to the world, and tells which way is up: z, or away from the earth's centre where the world
is the whole earth.

Of a rig of cameras, only the master has a transform; a slave's is the master's times its sensor's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from engine.capture.fields import PANORAMA, BadField, as_number, checked_lens, rigid_pose, size_of
from engine.capture.lens import Lens
from engine.capture.lookup import Photos
from engine.capture.photos import SkipView
from engine.capture.reading import Reading, Shot, check_count
from engine.capture.texts import read_start, read_xml
from engine.capture.types import CaptureError

NAME = "Metashape XML"
_EARTH = 6_378_137.0, 6_356_752.3142  # metres: half axes of the ellipsoid of WGS 84
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # between the axes y down, z forward and ours
_LENSES = {  # a sensor's type: (with what only Metashape has, without)
    "frame": ("METASHAPE", "OPENCV"),
    "fisheye": ("METASHAPE_FISHEYE", "OPENCV_FISHEYE"),
    "equidistant_fisheye": ("METASHAPE_FISHEYE", "OPENCV_FISHEYE"),
    "equisolid_fisheye": ("METASHAPE_EQUISOLID", ""),
}


def find(folder: Path) -> Path | None:
    """The first XML file in the folder that begins as Metashape's do."""
    for path in sorted(folder.glob("*.[xX][mM][lL]")):
        start = read_start(path)
        if "<document" in start and "<chunk" in start:
            return path
    return None


def read(path: Path) -> Reading:
    """All shots of the chunk with most of them. Raises CaptureError for the file; single bad cameras are left out."""
    root = read_xml(path)
    chunks = [root] if root.tag == "chunk" else root.findall("chunk")
    if not any(chunk.find("cameras") is not None for chunk in chunks):
        raise CaptureError(
            f"{path.name} holds no cameras; use Export Cameras in Metashape.", file=path, field="cameras"
        )
    counts = [sum(_usable(camera) for camera, _ in _cameras(chunk)) for chunk in chunks]
    # One that is disabled only where there is no other; of equals the first.
    main = max(range(len(chunks)), key=lambda index: (counts[index] > 0, _is_on(chunks[index]), counts[index]))
    reading = Reading(path.parent, NAME)
    if len(chunks) > 1:
        others = ", ".join(
            f"{chunk.get('label') or index} ({counts[index]})" for index, chunk in enumerate(chunks) if index != main
        )
        reading.notes.append(
            f"Of the {len(chunks)} chunks in {path.name} the one with most aligned cameras was opened, "
            f"{chunks[main].get('label') or main} ({counts[main]}); not opened: {others[:300]}."
        )
    _read_chunk(chunks[main], path, reading)
    return reading


def _is_on(element: Element) -> bool:
    return (element.get("enabled") or "true").lower() not in ("false", "0")


def _cameras(chunk: Element) -> Iterator[tuple[Element, str]]:
    """Each camera, and the label of the group that it lies in."""
    for listed in chunk.findall("cameras"):
        grouped = {id(camera): group.get("label") or "" for group in listed.iter("group") for camera in group}
        for camera in listed.iter("camera"):
            yield camera, grouped.get(id(camera), "")


def _usable(camera: Element) -> bool:
    return _is_on(camera) and (camera.find("transform") is not None or camera.get("master_id") is not None)


def _read_chunk(chunk: Element, path: Path, reading: Reading) -> None:
    cameras = list(_cameras(chunk))
    check_count(len(cameras), path, "cameras", "cameras")
    sensors = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    by_id = {camera.get("id"): camera for camera, _ in cameras}
    worlds = {part.get("id"): _similarity(part.find("transform")) for part in chunk.iterfind("components/component")}
    if not worlds:
        worlds = {None: _similarity(chunk.find("transform"))}
    photos = Photos.near(path.parent, [camera.get("label") or "" for camera, _ in cameras])
    reading.root = photos.root
    counts = Counter(camera.get("component_id") for camera, _ in cameras if camera.find("transform") is not None)
    main = counts.most_common(1)[0][0] if counts else None
    main = next(iter(worlds)) if main not in worlds and len(worlds) == 1 else main
    for camera, group in cameras:
        label = camera.get("label") or f"camera {camera.get('id')}"
        with reading.leaving_out(label):
            if not _is_on(camera):
                raise SkipView(f"{label[:120]} is disabled in Metashape.")
            sensor = sensors.get(camera.get("sensor_id"))
            pose = _pose(camera, sensor, by_id, sensors, label[:120])
            pose = _into_main(pose, camera.get("component_id"), main, worlds, label)
            if sensor is None:
                raise BadField("sensor_id", "is not one of the file's sensors")
            resolution = sensor.find("resolution")
            size = size_of(resolution.attrib if resolution is not None else {})
            photo = photos.find(f"{group}/{label}" if group and "/" not in label else label, size)
            reading.shots.append(Shot(f"{group}/{label}" if group else label, photo, pose, _lens(sensor, size), *size))
    reading.up = _up(worlds.get(main)) if _is_turned(chunk, main) else None


def _pose(
    camera: Element,
    sensor: Element | None,
    by_id: dict[str | None, Element],
    sensors: dict[str | None, Element],
    label: str,
) -> np.ndarray:
    """(4, 4) camera to chunk, OpenGL axes. Raises SkipView."""
    if camera.find("transform") is not None:
        rows = _matrix(camera.find("transform"), 4, f"The transform of {label}")
        return rigid_pose(rows @ _FLIP, f"The transform of {label}")
    master = by_id.get(camera.get("master_id")) if camera.get("master_id") is not None else None
    if master is None or master is camera or master.find("transform") is None:
        raise SkipView(f"Metashape did not align {label}.")
    if sensor is None or (sensor.find("rotation") is None and sensor.get("master_id") is None):
        raise SkipView(f"Where {label} sits in its rig, Metashape does not say; export the cameras again.")
    base = _pose(master, sensors.get(master.get("sensor_id")), {}, sensors, label) @ _FLIP
    # A master whose sensor is no master itself has its own place in the rig.
    rows = base @ np.linalg.inv(_in_rig(sensors.get(master.get("sensor_id")), label)) @ _in_rig(sensor, label)
    return rigid_pose(rows @ _FLIP, f"The transform of {label}")


def _in_rig(sensor: Element | None, label: str) -> np.ndarray:
    """(4, 4): a slave's sensor to its master's; nothing for the master."""
    rows = np.eye(4)
    if sensor is None:
        return rows
    if sensor.find("rotation") is not None:
        rows[:3, :3] = _matrix(sensor.find("rotation"), 3, f"The rotation of {label} in its rig")
    if sensor.find("translation") is not None:
        shift = (sensor.findtext("translation") or "").split()[:4]
        if len(shift) != 3:
            raise SkipView(f"The translation of {label} in its rig is not 3 numbers.")
        rows[:3, 3] = [as_number(text, "translation") for text in shift]
    return rigid_pose(rows, f"The place of {label} in its rig")


def _matrix(element: Element | None, side: int, what: str) -> np.ndarray:
    """(side, side) float64."""
    try:
        values = np.array([float(text) for text in ((element.text if element is not None else "") or "").split()[:99]])
    except ValueError:
        raise SkipView(f"{what} is not a matrix of numbers.") from None
    if not np.isfinite(values).all():
        raise SkipView(f"{what} holds values that are not numbers (NaN or infinity).")
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
    except SkipView:
        return None
    if shift.shape != (3,) or not 1e-9 < scale < 1e9:
        return None
    exact[:3, :3] *= scale
    exact[:3, 3] = shift
    return exact


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


def _is_turned(chunk: Element, main: str | None) -> bool:
    """Whether a component was turned to stand in its world; scale bars alone only give it a size."""
    parts = [part for part in chunk.iterfind("components/component") if part.get("id") == main] or [chunk]
    return parts[0].find("transform/rotation") is not None


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
    kind = (sensor.get("type") or "frame").lower().replace(" ", "_")
    if kind in ("spherical", "cylindrical"):
        raise BadField("sensor type", f"is {kind}: its picture is {PANORAMA}")
    if kind not in _LENSES:
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
    across = value("fx", f + value("b1"))
    k1, k2, k3, k4, p1, p2, p3, p4 = (value(key) for key in ("k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4"))
    shear = value("b2", value("skew"))
    whole, plain = _LENSES[kind]
    if shear or ((p1 or p2) and (p3 or p4 or kind != "frame")) or not plain or (k4 and plain == "OPENCV"):
        model, params = whole, (k1, k2, k3, k4, p1, p2, p3, p4, shear / across if across else 0.0)
    elif plain == "OPENCV":
        model, params = plain, (k1, k2, p2, p1, k3, 0.0, 0.0, 0.0)
    else:
        model, params = plain, (k1, k2, k3, k4)
    centre = value("cx"), value("cy")
    # Before PhotoScan 1.2, which had fx and fy, from the upper left corner.
    if calibration.find("fx") is None or not all(0.25 < c / side < 0.75 for c, side in zip(centre, size, strict=True)):
        centre = size[0] / 2 + centre[0], size[1] / 2 + centre[1]
    return checked_lens(Lens(model, across, f, *centre, params), size, ("f", "f", "cx", "cy"))
