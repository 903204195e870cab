# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders one scene of the benchmark, before and after each of its edits, from all its cameras. Runs in a process of
its own, for the bpy module holds one scene at a time:

    python -m benchmarks.truth.render "still life" 128 FOLDER
    python -m benchmarks.truth.render "still life" 128 FOLDER --unedited

Writes ``FOLDER/before/0000.png …``, ``FOLDER/<edit>/0000.png …``, ``FOLDER/depth.npy`` (N, H, W) float32, the distance
along each pixel's ray, ``FOLDER/subject.npy`` (N, H, W) bool, and last of all ``FOLDER/cameras.json``. With
``--unedited``, pictures before any edit alone, and in the place of depth ``FOLDER/geometry.npz``, the scene's triangles
as they are rendered: ``vertices`` (V, 3) float64 in metres, ``faces`` (F, 3) int32, ``subject`` (F,) bool; last of all
``FOLDER/unedited.json``. What stands there is not rendered again.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector
from PIL import Image

from benchmarks.truth import materials
from benchmarks.truth.edits import EDITS, PICTURES, SCENES
from benchmarks.truth.scenes import BUILDERS, Stage

TRAINING, HELD_OUT = 40, 12
SAMPLES = 24
FAR = 100.0  # metres; the depth where a ray meets nothing


def poses_of(stage: Stage) -> list[np.ndarray]:
    """Camera to world (4, 4), OpenGL axes: the training cameras on rising rows of an arc, then the held-out ones along
    a path between them, so that neighbours in it see nearly the same."""
    places = []
    for k in range(TRAINING):
        row = k % 4
        along = (k // 4 + 0.25 * row) / (TRAINING // 4 - 0.25)
        places.append((along, row / 3))
    for k in range(HELD_OUT):
        places.append((0.1 + 0.8 * k / (HELD_OUT - 1), 0.5 + 0.4 * math.sin(2 * math.pi * k / HELD_OUT)))
    poses = []
    for along, height in places:
        azimuth = math.radians(stage.front + (along - 0.5) * stage.sweep)
        elevation = math.radians(stage.lowest + (stage.highest - stage.lowest) * height)
        back = Vector(
            (math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation))
        )
        right = Vector((0, 0, 1)).cross(back).normalized()
        up = back.cross(right)
        at = stage.target + stage.distance * back
        poses.append(np.array([[right[i], up[i], back[i], at[i]] for i in range(3)] + [[0, 0, 0, 1]]))
    return poses


def settings(size: int, stage: Stage) -> bpy.types.Object:
    """Set the renderer up and give the camera."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.seed = "CPU", SAMPLES, 1
    scene.cycles.use_adaptive_sampling, scene.cycles.max_bounces = False, 4
    scene.cycles.use_denoising = bpy.app.build_options.openimagedenoise if hasattr(bpy.app.build_options, "openimagedenoise") else True  # noqa: E501  # fmt: skip
    scene.render.use_persistent_data = True
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
    scene.view_settings.view_transform = "Standard"
    data = bpy.data.cameras.new("Camera")
    data.lens, data.sensor_width = stage.lens, 36.0
    camera = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def photograph(camera: bpy.types.Object, poses: list[np.ndarray], folder: Path) -> None:
    """A picture from each pose; those that are there are left."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pose in enumerate(poses):
        path = folder / f"{number:04d}.png"
        if path.exists():
            continue
        camera.matrix_world = Matrix(pose.tolist())
        part = folder / "part.png"
        bpy.context.scene.render.filepath = str(part)
        bpy.ops.render.render(write_still=True)
        os.replace(part, path)


def surfaces(poses: list[np.ndarray], size: int, stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """(depth (N, H, W), subject (N, H, W)) through each pixel's centre, by casting rays in Blender."""
    graph = bpy.context.evaluated_depsgraph_get()
    names = {item.name for item in stage.subject}
    focal = stage.lens / 36.0 * size
    depth = np.full((len(poses), size, size), FAR, np.float32)
    subject = np.zeros((len(poses), size, size), bool)
    offsets = (np.arange(size) + 0.5 - size / 2) / focal
    for number, pose in enumerate(poses):
        origin = Vector(pose[:3, 3])
        rays = np.stack([*np.meshgrid(offsets, -offsets), -np.ones((size, size))], axis=-1) @ pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        for y in range(size):
            for x in range(size):
                hit, at, _, _, item, _ = bpy.context.scene.ray_cast(graph, origin, Vector(rays[y, x]), distance=FAR)
                if hit:
                    depth[number, y, x] = (at - origin).length
                    subject[number, y, x] = item.name in names
    return depth, subject


def triangles(stage: Stage) -> dict[str, np.ndarray]:
    """The scene's surfaces as Cycles renders them, as arrays of ``geometry.npz``."""
    for item in bpy.context.scene.objects:
        for modifier in item.modifiers:
            if modifier.type == "SUBSURF":
                modifier.levels = modifier.render_levels
    graph = bpy.context.evaluated_depsgraph_get()
    names = {item.name for item in stage.subject}
    vertices, faces, subject, count = [], [], [], 0
    for item in bpy.context.scene.objects:
        if item.type not in {"MESH", "CURVE"}:
            continue
        evaluated = item.evaluated_get(graph)
        mesh = evaluated.to_mesh()
        mesh.calc_loop_triangles()
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", points)
        corners = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("vertices", corners)
        world = np.array(item.matrix_world)
        vertices.append(points.reshape(-1, 3).astype(np.float64) @ world[:3, :3].T + world[:3, 3])
        faces.append(corners.reshape(-1, 3) + count)
        subject.append(np.full(len(faces[-1]), item.name in names))
        count += len(vertices[-1])
        evaluated.to_mesh_clear()
    return {
        "vertices": np.concatenate(vertices),
        "faces": np.concatenate(faces).astype(np.int32),
        "subject": np.concatenate(subject),
    }


def change(key: str, stage: Stage) -> None:
    """Make the edit in the scene."""
    kind = EDITS[key].made
    world = bpy.context.scene.world.node_tree.nodes["Background"].inputs
    lamp = bpy.data.objects["Sun"].data
    if kind == "subject":
        material = materials.subject(key)
        for item in stage.subject:
            item.data.materials.clear()
            item.data.materials.append(material)
    elif kind == "snow":
        for material in [m for m in bpy.data.materials if m.node_tree and m.users]:
            materials.under_snow(material)
        world["Color"].default_value = (0.72, 0.80, 0.92, 1.0)
        lamp.energy *= 0.55
    elif key == "night":
        world["Color"].default_value = (0.05, 0.09, 0.22, 1.0)
        world["Strength"].default_value *= 0.5
        lamp.energy, lamp.color = 0.10 * lamp.energy, (0.45, 0.62, 1.0)
    elif key == "sunset":
        world["Color"].default_value = (0.78, 0.40, 0.30, 1.0)
        world["Strength"].default_value *= 0.8
        lamp.energy, lamp.color = 0.9 * lamp.energy, (1.0, 0.45, 0.14)


def main() -> None:
    """The command line."""
    name, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    unedited = sys.argv[4:] == ["--unedited"]
    folder.mkdir(parents=True, exist_ok=True)
    edits = () if unedited else SCENES[name][1]

    def built() -> tuple[Stage, bpy.types.Object]:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        stage = BUILDERS[name]()
        return stage, settings(size, stage)

    stage, camera = built()
    poses = poses_of(stage)
    photograph(camera, poses, folder / "before")
    if unedited:
        _save(folder / "geometry.npz", lambda part: np.savez(part, **triangles(stage)))
    elif not (folder / "subject.npy").exists():
        depth, subject = surfaces(poses, size, stage)
        for file, array in (("depth.npy", depth), ("subject.npy", subject)):
            _save(folder / file, lambda part, array=array: np.save(part, array))
    for key in edits:
        if EDITS[key].made == "picture":
            (folder / key).mkdir(exist_ok=True)
            for number in range(len(poses)):
                before = np.asarray(Image.open(folder / "before" / f"{number:04d}.png").convert("RGB"))
                after = PICTURES[key](before.astype(np.float32) / 255)
                Image.fromarray((after * 255).round().astype(np.uint8)).save(folder / key / f"{number:04d}.png")
            continue
        stage, camera = built()
        change(key, stage)
        photograph(camera, poses, folder / key)
    focal = stage.lens / 36.0 * size
    data = {
        "size": size, "focal": focal, "training": TRAINING, "centre": list(stage.target),
        "poses": [pose.tolist() for pose in poses], "edits": list(edits),
    }  # fmt: skip
    _save(folder / ("unedited.json" if unedited else "cameras.json"), lambda part: part.write_text(json.dumps(data)))


def _save(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file, whole or not at all."""
    part = path.with_name(f"part-{path.name}")
    write(part)
    os.replace(part, path)


if __name__ == "__main__":
    main()
