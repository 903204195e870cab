# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene camera's animation as poses, and a simple camera animation along chosen views."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import bpy
from mathutils import Matrix

from .. import conversion, trajectories
from ..conversion import Camera
from .cameras import ASPECT, SIZE, collection_of, depsgraph_of, pose_of, projection_of, root_of, scene_by_uid

PATH = "instruct_nerf_path"


def sample(
    scene_name: str, workspace: str, frames: Sequence[int], into: list[Camera], moments: Sequence[float] = (0.0,)
) -> Iterator[float]:
    """Append the scene camera of each frame to ``into``: pose in the capture frame, as rendered; of each frame as many
    as there are ``moments``, in frames from it.

    A generator that moves the scene to one frame a step (markers that switch cameras are honoured, at whole frames, as
    Blender does it) and yields the fraction done; frame and camera are put back at the end, however it ends. Raises
    ``ValueError`` with a sentence.
    """
    start = bpy.data.scenes.get(scene_name)
    if start is None:
        raise ValueError(f"The scene “{scene_name}” is gone.")
    uid = start.session_uid  # it may be renamed meanwhile
    frame_then, subframe_then = start.frame_current, start.frame_subframe
    camera_then = start.camera.name if start.camera else ""
    try:
        for count, frame in enumerate(frames, 1):
            scene = scene_by_uid(uid)
            if scene is None:
                raise ValueError(f"The scene “{scene_name}” is gone.")
            scene.frame_set(frame)
            item = scene.camera
            for moment in moments:
                if moment:
                    whole = math.floor(frame + moment)
                    scene.frame_set(whole, subframe=frame + moment - whole)
                into.append(_camera_now(scene, item, workspace))
            yield count / len(frames)
    finally:
        scene = scene_by_uid(uid)
        if scene is not None:
            scene.frame_set(frame_then, subframe=subframe_then)
            if camera_then in scene.objects:
                scene.camera = scene.objects[camera_then]


def moments_of(scene: bpy.types.Scene, count: int) -> list[float]:
    """So many moments, in frames from a frame, spread evenly over the time that the scene's shutter is open."""
    shutter = scene.render.motion_blur_shutter
    # Cycles kept the position to itself before 4.2.
    position = getattr(scene.render, "motion_blur_position", "CENTER")
    begin = {"START": 0.0, "END": -shutter}.get(position, -shutter / 2)
    return [begin + shutter * (index + 0.5) / count for index in range(count)]


def _camera_now(scene: bpy.types.Scene, item: bpy.types.Object | None, workspace: str) -> Camera:
    root = root_of(scene, workspace)
    if root is None:
        raise ValueError("The capture is not in this scene; open it again.")
    if item is None or item.type != "CAMERA":
        raise ValueError("The scene has no camera; set one, or make a Camera Path.")
    graph = depsgraph_of(scene)
    camera, base = item.evaluated_get(graph), root.evaluated_get(graph)
    world = conversion.matrix_from_rows(base.matrix_world)
    pose = conversion.capture_pose_from_world(world, conversion.matrix_from_rows(camera.matrix_world))
    projection, intrinsics = projection_of(scene, camera.data, conversion.scale_of_similarity(world))
    return Camera(pose, intrinsics, projection, world)


def check_path(views: int, first: int, last: int) -> None:
    """Raises ``ValueError`` for fewer than two views or too few frames."""
    if views < 2:
        raise ValueError("A camera path needs at least two chosen views.")
    if last - first + 1 < views:
        raise ValueError(f"{views} views need at least {views} frames; make the path longer.")


def flying_through(
    scene: bpy.types.Scene, root: bpy.types.Object, cameras: Sequence[bpy.types.Object], first: int, last: int
) -> Iterator[float]:
    """Animate a new camera under the root through the given views, nearest neighbour by nearest neighbour, and make
    it the scene's, in small steps; an older path goes. Raises ``ValueError`` as :func:`check_path` does."""
    check_path(len(cameras), first, last)
    poses = []
    for camera in cameras:
        poses.append(pose_of(camera))
        if len(poses) % 16 == 0:
            yield 0.0
    order = yield from trajectories.ordering_path([conversion.column(pose, 3) for pose in poses])
    times = trajectories.times_of_path([conversion.column(poses[i], 3) for i in order], first, last)
    for old in [item for item in root.children if PATH in item]:
        data = old.data
        bpy.data.batch_remove([old, data])
    item = _path_camera(scene, cameras[order[0]])
    collection_of(root, scene).objects.link(item)
    item.parent = root
    previous = None
    for index, frame in zip(order, times, strict=True):
        position, turn, _scale = Matrix(poses[index]).decompose()
        if previous is not None:
            turn.make_compatible(previous)  # the short way round
        previous = turn
        item.location, item.rotation_quaternion = position, turn
        item.keyframe_insert("location", frame=frame)
        item.keyframe_insert("rotation_quaternion", frame=frame)
        yield 0.5 + 0.5 * (frame - first) / max(1, last - first)
    scene.frame_start, scene.frame_end = first, last
    scene.camera = item


def _path_camera(scene: bpy.types.Scene, like: bpy.types.Object) -> bpy.types.Object:
    """A camera with a view's lens but a centred principal point, and the scene at that view's size."""
    data = bpy.data.cameras.new("Camera Path")
    for name in ("lens", "sensor_fit", "sensor_width", "sensor_height", "clip_start", "clip_end", "display_size"):
        setattr(data, name, getattr(like.data, name))
    item = bpy.data.objects.new("Camera Path", data)
    item[PATH] = True
    item.rotation_mode = "QUATERNION"
    render = scene.render
    render.resolution_x, render.resolution_y = (int(v) for v in like[SIZE])
    render.resolution_percentage = 100
    render.pixel_aspect_x, render.pixel_aspect_y = (float(v) for v in like[ASPECT])
    return item
