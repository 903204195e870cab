# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs a Blender scene: renders it from a dome, along a curve or through its own cameras, and writes pictures
with their exact poses."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from .. import conversion, trajectories
from .borrowed import Change, borrowed, literal, plain_output
from .cameras import VIEW, depsgraph_of, intrinsics_of, scene_by_uid

TRANSFORMS = "transforms.json"


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
    """Render the scene from each standpoint with its own engine and look, one picture a step; yields the fraction
    done. Without ``film`` the pictures have the scene's own size, and its cameras their own lenses.

    Each picture is the whole frame of a pinhole camera at rest, in focus everywhere. Writes ``folder/images/*.png``
    and, last of all, ``folder/transforms.json`` with poses in Blender's world, so that a run that was stopped leaves
    nothing that looks like a capture. Between two pictures the scene is as it was but for its frame, so it may be
    edited, undone and saved meanwhile; the frame is put back at the end.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    (folder / TRANSFORMS).unlink(missing_ok=True)
    for old in images.glob("*.png"):
        old.unlink()
    frames = []
    start = bpy.data.scenes[scene_name]
    uid = start.session_uid  # it may be renamed meanwhile
    frame_then, camera_then = (start.frame_current, start.frame_subframe), start.camera.name if start.camera else ""
    try:
        for index, standpoint in enumerate(standpoints):
            name = f"{index + 1:04d}.png"
            pose, intrinsics = _take(_scene(uid), standpoint, film, images / name)
            frames.append((f"images/{name}", pose, intrinsics))
            yield (index + 1) / len(standpoints)
        _write(folder, frames)
    finally:
        scene = scene_by_uid(uid)
        if scene is not None and (scene.frame_current, scene.frame_subframe) != frame_then:
            scene.frame_set(frame_then[0], subframe=frame_then[1])
            if camera_then in scene.objects:  # markers may have made another one active on the way
                scene.camera = scene.objects[camera_then]


def _scene(uid: int) -> bpy.types.Scene:
    scene = scene_by_uid(uid)
    if scene is None:
        raise ValueError("The scene that was photographed is gone.")
    return scene


def _take(
    scene: bpy.types.Scene, standpoint: Standpoint, film: Film | None, path: Path
) -> tuple[conversion.Matrix, conversion.Intrinsics]:
    """Take one picture; its pose in the world and its intrinsics. Raises ``ValueError``."""
    if standpoint.frame is not None:
        scene.frame_set(standpoint.frame)  # markers may make another camera the active one
    with contextlib.ExitStack() as stack:
        if standpoint.pose is not None:
            assert film is not None
            camera = stack.enter_context(_photographer(scene, standpoint.pose, film))
        else:
            camera = scene.objects.get(standpoint.camera) if standpoint.camera else scene.camera
        if camera is None or camera.type != "CAMERA":
            raise ValueError("A camera was removed while the scene was photographed.")
        stack.enter_context(borrowed(_settings(scene, camera, film, path)))
        bpy.context.view_layer.update()
        intrinsics = intrinsics_of(scene, camera.data)
        seen = camera.evaluated_get(depsgraph_of(scene)) if standpoint.pose is None else camera
        pose = standpoint.pose or conversion.capture_pose_from_world(
            conversion.IDENTITY, conversion.matrix_from_rows(seen.matrix_world)
        )
        bpy.ops.render.render(write_still=True, scene=scene.name)
        if not path.is_file():
            raise ValueError("Blender wrote no picture; see whether a single render of the scene works.")
    return pose, intrinsics


def _settings(scene: bpy.types.Scene, camera: bpy.types.Object, film: Film | None, path: Path) -> list[Change]:
    """What is changed for one picture."""
    render, image = scene.render, scene.render.image_settings
    changes = plain_output(scene)
    # A render looks for the camera in the timeline's markers before it takes the scene's.
    changes += [(marker, "camera", None) for marker in scene.timeline_markers if marker.camera is not None]
    changes += [
        (scene, "camera", camera),
        (camera.data.dof, "use_dof", False),
        (render, "use_motion_blur", False),
        (render, "film_transparent", False),  # a NeRF needs the background that it will see
        (render, "filepath", literal(path)),
        (image, "media_type", "IMAGE"),
        (image, "file_format", "PNG"),
        (image, "color_mode", "RGB"),
        (image, "color_depth", "8"),
    ]
    if film is not None:
        sizes = {"resolution_x": film.width, "resolution_y": film.height, "resolution_percentage": 100}
        changes += [(render, name, value) for name, value in sizes.items()]
        changes += [(render, "pixel_aspect_x", 1.0), (render, "pixel_aspect_y", 1.0)]
    return changes


@contextlib.contextmanager
def _photographer(scene: bpy.types.Scene, pose: conversion.Matrix, film: Film) -> Iterator[bpy.types.Object]:
    """The photographer's own camera, for as long as one picture takes."""
    data = bpy.data.cameras.new("Photographer")
    data.sensor_fit, data.sensor_width, data.lens = "HORIZONTAL", conversion.SENSOR_WIDTH, film.lens
    data.clip_start, data.clip_end = 1e-3 * film.reach, 1e3 * film.reach
    camera = bpy.data.objects.new("Photographer", data)
    camera.matrix_world = Matrix(pose)
    scene.collection.objects.link(camera)
    try:
        yield camera
    finally:
        bpy.data.batch_remove([camera, data])


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
