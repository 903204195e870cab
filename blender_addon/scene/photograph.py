# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs a Blender scene: renders it from a dome, along a curve or through its own cameras, and writes pictures
with their exact poses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from .. import conversion, trajectories
from .cameras import VIEW, intrinsics_of

TRANSFORMS = "transforms.json"
_NAME = "Instruct NeRF photographer"


@dataclass(frozen=True)
class Film:
    """What the photographer's own camera takes: lens in mm on a 36 mm sensor, size in pixels; ``reach`` is about how
    far what it photographs is, in world units."""

    lens: float = 35.0
    width: int = 480
    height: int = 360
    reach: float = 1.0


@dataclass(frozen=True)
class Standpoint:
    """One picture to take: by the photographer's camera at a pose in the world, or by a camera of the scene (by its
    name; empty for the scene's active one), at a frame of the animation where one is given."""

    pose: conversion.Matrix | None = None
    camera: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class Dome:
    """Where to photograph from: elevations, and azimuth around the front (``sweep``), in degrees; ``distance`` in
    radii of what is photographed."""

    count: int = 40
    lowest: float = 10.0
    highest: float = 65.0
    distance: float = 2.6
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


def around(dome: Dome, centre: conversion.Vector, radius: float) -> list[Standpoint]:
    """From a dome around a sphere, in world units."""
    poses = trajectories.dome(
        dome.count, centre, dome.distance * radius, dome.lowest, dome.highest, dome.sweep
    )  # fmt: skip
    return [Standpoint(pose) for pose in poses]


def along(curve: bpy.types.Object, count: int, target: conversion.Vector) -> list[Standpoint]:
    """Evenly spaced along a curve, looking at a point of the world. Raises ``ValueError`` for a curve without length,
    and for one that runs through the point."""
    points = trajectories.evenly(_lines_of(curve), count)
    if not points:
        raise ValueError(f"The curve “{curve.name}” has no length to photograph along.")
    try:
        return [Standpoint(trajectories.looking_at(point, target)) for point in points]
    except ValueError:
        raise ValueError(f"The curve “{curve.name}” runs through the middle of what is photographed.") from None


def _lines_of(curve: bpy.types.Object) -> list[tuple[conversion.Vector, conversion.Vector]]:
    """The short straight lines that Blender draws a curve with, in the world, without its bevel."""
    data = curve.data.copy()
    data.dimensions, data.bevel_depth, data.extrude, data.bevel_object = "3D", 0.0, 0.0, None
    bare = bpy.data.objects.new(curve.name, data)
    try:
        mesh = bare.to_mesh()
        places = [curve.matrix_world @ vertex.co for vertex in mesh.vertices]
        return [(tuple(places[a]), tuple(places[b])) for a, b in (edge.vertices for edge in mesh.edges)]
    finally:
        bare.to_mesh_clear()
        bpy.data.batch_remove([bare, data])


def by_own_cameras(scene: bpy.types.Scene) -> list[Standpoint]:
    """Through each camera of the scene that is not a capture's. Raises ``ValueError`` where there is none."""
    names = sorted(item.name for item in scene.objects if item.type == "CAMERA" and VIEW not in item)
    if not names:
        raise ValueError("The scene has no cameras of its own: add some, or photograph from a dome.")
    return [Standpoint(camera=name) for name in names]


def by_animation(scene: bpy.types.Scene, count: int) -> list[Standpoint]:
    """Through the active camera at up to ``count`` frames, evenly over the scene's range. Raises ``ValueError``."""
    if scene.camera is None:
        raise ValueError("The scene has no active camera to follow; choose one and animate it.")
    first, last = scene.frame_start, scene.frame_end
    if last <= first:
        raise ValueError("The scene's frame range is empty.")
    count = min(count, last - first + 1)
    steps = max(1, count - 1)
    return [Standpoint(frame=frame) for frame in sorted({first + i * (last - first) // steps for i in range(count)})]


def photograph(scene_name: str, standpoints: Sequence[Standpoint], film: Film | None, folder: Path) -> Iterator[float]:
    """Render the scene from each standpoint with its own engine and settings, one picture a step; yields the fraction
    done. Without ``film`` the pictures have the scene's own size, and its cameras their own lenses.

    Writes ``folder/images/*.png`` and, last of all, ``folder/transforms.json`` with poses in Blender's world, so that
    a run that was stopped leaves nothing that looks like a capture. Everything in the scene is put back.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    (folder / TRANSFORMS).unlink(missing_ok=True)
    for old in images.glob("*.png"):
        old.unlink()
    frames = []
    kept = _prepare(bpy.data.scenes[scene_name], film)
    try:
        for index, standpoint in enumerate(standpoints):
            scene = bpy.data.scenes[scene_name]
            camera = _stand(scene, standpoint)
            name = f"{index + 1:04d}.png"
            scene.render.filepath = str(images / name)
            intrinsics = intrinsics_of(scene, camera.data)
            pose = conversion.capture_pose_from_world(
                conversion.IDENTITY, conversion.matrix_from_rows(camera.matrix_world)
            )
            bpy.ops.render.render(write_still=True, scene=scene_name)
            if not (images / name).is_file():
                raise ValueError("Blender wrote no picture; see whether a single render of the scene works.")
            frames.append((f"images/{name}", standpoint.pose or pose, intrinsics))
            yield (index + 1) / len(standpoints)
        _write(folder, frames)
    finally:
        _put_back(scene_name, kept)


def _stand(scene: bpy.types.Scene, standpoint: Standpoint) -> bpy.types.Object:
    """Make the camera of a standpoint the scene's, at its frame. Raises ``ValueError`` where it is gone."""
    if standpoint.frame is not None:
        scene.frame_set(standpoint.frame)  # markers may make another camera the active one
    if standpoint.pose is not None:
        scene.camera = bpy.data.objects[_NAME]
        scene.camera.matrix_world = Matrix(standpoint.pose)
    elif standpoint.camera:
        scene.camera = scene.objects.get(standpoint.camera)
    if scene.camera is None:
        raise ValueError("A camera was removed while the scene was photographed.")
    return scene.camera


def _write(folder: Path, frames: Sequence[tuple[str, conversion.Matrix, conversion.Intrinsics]]) -> None:
    def values(k: conversion.Intrinsics) -> dict[str, object]:
        return {"w": k.width, "h": k.height, "fl_x": k.fx, "fl_y": k.fy, "cx": k.cx, "cy": k.cy}

    one = len({k for _, _, k in frames}) == 1
    data = {"camera_model": "PINHOLE", **(values(frames[0][2]) if one else {})}
    data["frames"] = [
        {"file_path": file, "transform_matrix": [list(row) for row in pose], **({} if one else values(k))}
        for file, pose, k in frames
    ]
    temporary = folder / (TRANSFORMS + ".tmp")
    temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
    os.replace(temporary, folder / TRANSFORMS)


_RENDER = (
    "resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x", "pixel_aspect_y", "filepath",
    "use_border", "use_sequencer", "use_file_extension", "film_transparent",
)  # fmt: skip


def _prepare(scene: bpy.types.Scene, film: Film | None) -> dict[str, object]:
    """Set the scene up for photographs, with a camera for ``film``; returns what must be put back."""
    render, settings = scene.render, scene.render.image_settings
    kept: dict[str, object] = {name: getattr(render, name) for name in _RENDER}
    kept["camera"] = scene.camera.name if scene.camera else ""
    kept["frame"] = (scene.frame_current, scene.frame_subframe)
    kept["media_type"] = getattr(settings, "media_type", "")
    kept["image"] = (settings.file_format, settings.color_mode, settings.color_depth)
    render.use_border = render.use_sequencer = False
    render.film_transparent = False  # a NeRF needs the background that it will see
    render.use_file_extension = True
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGB", "8"
    if film is not None:
        render.resolution_x, render.resolution_y, render.resolution_percentage = film.width, film.height, 100
        render.pixel_aspect_x = render.pixel_aspect_y = 1.0
        data = bpy.data.cameras.new(_NAME)
        data.sensor_fit, data.sensor_width, data.lens = "HORIZONTAL", conversion.SENSOR_WIDTH, film.lens
        data.clip_start, data.clip_end = 1e-3 * film.reach, 1e3 * film.reach
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
    frame, subframe = kept["frame"]  # type: ignore[misc]
    if (scene.frame_current, scene.frame_subframe) != (frame, subframe):
        scene.frame_set(frame, subframe=subframe)
    scene.camera = scene.objects.get(str(kept["camera"]))
