# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs a Blender scene: renders it from a dome and writes pictures with their exact poses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from .. import conversion, trajectories
from .cameras import intrinsics_of

TRANSFORMS = "transforms.json"
_NAME = "Instruct NeRF photographer"


@dataclass(frozen=True)
class Dome:
    """Where to photograph from: elevations, and azimuth around the front (``sweep``), in degrees; ``distance`` in
    radii of what is photographed; lens in mm on a 36 mm sensor; size in pixels."""

    count: int = 40
    lowest: float = 10.0
    highest: float = 65.0
    distance: float = 2.6
    lens: float = 35.0
    width: int = 480
    height: int = 360
    sweep: float = 360.0


def bounds(objects: Sequence[bpy.types.Object]) -> tuple[conversion.Vector, float]:
    """Centre and radius of a sphere around objects, in world units. Raises ``ValueError`` for nothing visible."""
    corners = [
        item.matrix_world @ Vector(corner)
        for item in objects
        if item.type in {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "VOLUME"} and not item.hide_render
        for corner in item.bound_box
    ]
    if not corners:
        raise ValueError("There is nothing to photograph: select objects that are visible in renders.")
    low = [min(c[i] for c in corners) for i in range(3)]
    high = [max(c[i] for c in corners) for i in range(3)]
    x, y, z = ((a + b) / 2 for a, b in zip(low, high, strict=True))
    radius = max((c - Vector((x, y, z))).length for c in corners)
    if radius < 1e-6:
        raise ValueError("What is to be photographed has no size.")
    return (x, y, z), radius


def photograph(scene_name: str, centre: conversion.Vector, radius: float, dome: Dome, folder: Path) -> Iterator[float]:
    """Render the scene from the dome with its own engine and settings, one picture a step; yields the fraction done.

    Writes ``folder/images/*.png`` and, last of all, ``folder/transforms.json`` with poses in Blender's world, so that
    a run that was stopped leaves nothing that looks like a capture. Everything in the scene is put back.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    (folder / TRANSFORMS).unlink(missing_ok=True)
    for old in images.glob("*.png"):
        old.unlink()
    frames = []
    kept = _prepare(bpy.data.scenes[scene_name], dome, dome.distance * radius)
    try:
        for index, pose in enumerate(trajectories.dome(
            dome.count, centre, dome.distance * radius, dome.lowest, dome.highest, dome.sweep
        )):  # fmt: skip
            scene = bpy.data.scenes[scene_name]
            camera = bpy.data.objects[_NAME]
            camera.matrix_world = Matrix(pose)
            scene.camera = camera
            name = f"{index + 1:04d}.png"
            scene.render.filepath = str(images / name)
            bpy.ops.render.render(write_still=True, scene=scene_name)
            if not (images / name).is_file():
                raise ValueError("Blender wrote no picture; see whether a single render of the scene works.")
            intrinsics = intrinsics_of(scene, camera.data)
            frames.append({"file_path": f"images/{name}", "transform_matrix": [list(row) for row in pose]})
            yield (index + 1) / dome.count
        _write(folder, intrinsics, frames)
    finally:
        _put_back(scene_name, kept)


def _write(folder: Path, k: conversion.Intrinsics, frames: list[dict[str, object]]) -> None:
    data = {
        "camera_model": "PINHOLE", "w": k.width, "h": k.height,
        "fl_x": k.fx, "fl_y": k.fy, "cx": k.cx, "cy": k.cy, "frames": frames,
    }  # fmt: skip
    temporary = folder / (TRANSFORMS + ".tmp")
    temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
    os.replace(temporary, folder / TRANSFORMS)


_RENDER = (
    "resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x", "pixel_aspect_y", "filepath",
    "use_border", "use_sequencer", "use_file_extension", "film_transparent",
)  # fmt: skip


def _prepare(scene: bpy.types.Scene, dome: Dome, distance: float) -> dict[str, object]:
    """Set the scene up for photographs; returns what must be put back."""
    render, settings = scene.render, scene.render.image_settings
    kept: dict[str, object] = {name: getattr(render, name) for name in _RENDER}
    kept["camera"] = scene.camera.name if scene.camera else ""
    kept["media_type"] = getattr(settings, "media_type", "")
    kept["image"] = (settings.file_format, settings.color_mode, settings.color_depth)
    render.resolution_x, render.resolution_y, render.resolution_percentage = dome.width, dome.height, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    render.use_border = render.use_sequencer = False
    render.film_transparent = False  # a NeRF needs the background that it will see
    render.use_file_extension = True
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGB", "8"
    data = bpy.data.cameras.new(_NAME)
    data.sensor_fit, data.sensor_width, data.lens = "HORIZONTAL", conversion.SENSOR_WIDTH, dome.lens
    data.clip_start, data.clip_end = 0.001 * distance, 1000.0 * distance
    camera = bpy.data.objects.new(_NAME, data)
    camera.name = _NAME
    scene.collection.objects.link(camera)
    return kept


def _put_back(scene_name: str, kept: dict[str, object]) -> None:
    camera = bpy.data.objects.get(_NAME)
    if camera is not None:
        bpy.data.batch_remove([camera, camera.data])
    scene = bpy.data.scenes.get(scene_name)
    if scene is None:
        return
    settings = scene.render.image_settings
    if kept["media_type"]:
        settings.media_type = kept["media_type"]
    settings.file_format, settings.color_mode, settings.color_depth = kept["image"]  # type: ignore[misc]
    for name in _RENDER:
        setattr(scene.render, name, kept[name])
    scene.camera = scene.objects.get(str(kept["camera"]))
