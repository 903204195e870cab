# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects photographed by Blender from all around: on transparent film, or turning before a wall, with masks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

SIZE, LENS = 128, 160.0  # pixels, and the focal length in them
FAR = 4.5


def monkey() -> bpy.types.Object:
    """Suzanne, with a colour for each direction that her surface looks in."""
    bpy.ops.mesh.primitive_monkey_add(size=2.0)
    thing = bpy.context.object
    thing.data.materials.append(_colored())
    return thing


def wires() -> bpy.types.Object:
    """Three thin rings in one another: nearly all of their pictures is empty."""
    rings = []
    for axis in ("X", "Y", "Z"):
        bpy.ops.mesh.primitive_torus_add(major_radius=1.2, minor_radius=0.05, major_segments=64)
        rings.append(bpy.context.object)
        rings[-1].matrix_world = Matrix.Rotation(math.pi / 2.5, 4, axis)
        rings[-1].data.materials.append(_colored())
    with bpy.context.temp_override(active_object=rings[0], selected_editable_objects=rings):
        bpy.ops.object.join()
    return rings[0]


def _colored() -> bpy.types.Material:
    material = bpy.data.materials.new("colors")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    place, waves = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeTexWave")
    waves.inputs["Scale"].default_value = 0.5
    ramp = nodes.new("ShaderNodeMixRGB")
    ramp.inputs["Color1"].default_value, ramp.inputs["Color2"].default_value = (0.7, 0.1, 0.05, 1), (0.05, 0.3, 0.6, 1)
    shine, output = nodes.new("ShaderNodeBsdfDiffuse"), nodes.new("ShaderNodeOutputMaterial")
    links.new(place.outputs["Object"], waves.inputs["Vector"])
    links.new(waves.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], shine.inputs["Color"])
    links.new(shine.outputs["BSDF"], output.inputs["Surface"])
    return material


def photographed(folder: Path, thing: bpy.types.Object, views: int, wall: bool = False) -> Path:
    """Writes a capture of ``thing``, as transforms.json: RGBA pictures on transparent film; with ``wall``, opaque ones
    from a camera that stands still before a thing that turns, with masks that cut the thing out."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", 16
    scene.cycles.use_denoising, scene.cycles.max_bounces = False, 2
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.render.resolution_percentage, scene.render.film_transparent = 100, True
    scene.view_settings.view_transform = "Standard"
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    world = bpy.data.worlds.new("grey")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.8, 0.8, 0.8, 1)
    scene.world = world
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_fit, camera.data.sensor_width, camera.data.lens = "HORIZONTAL", SIZE, LENS
    scene.collection.objects.link(camera)
    scene.camera = camera
    frames = []
    (folder / "images").mkdir(parents=True)
    for k in range(views):
        angle, height = 2 * math.pi * k / views, 0.9 * math.sin(2.4 * k)
        eye = Vector((FAR * math.cos(angle), FAR * math.sin(angle), 1.2 + height))
        pose = Matrix.Translation(eye) @ eye.to_track_quat("Z", "Y").to_matrix().to_4x4()
        camera.matrix_world = pose
        file = folder / f"images/{k:03}.png"
        scene.render.filepath = str(file)
        bpy.ops.render.render(write_still=True)
        frame = {"file_path": f"images/{k:03}.png", "transform_matrix": [list(row) for row in pose]}
        if wall:
            frame["mask_path"] = f"masks/{k:03}.png"
            _before_a_wall(file, folder / f"masks/{k:03}.png", k)
        frames.append(frame)
    meta = {"w": SIZE, "h": SIZE, "fl_x": LENS, "fl_y": LENS, "cx": SIZE / 2, "cy": SIZE / 2, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def _before_a_wall(file: Path, mask: Path, k: int) -> None:
    """Puts what stands still before a camera that stands still behind the object: the same wall in all pictures."""
    from PIL import Image

    rgba = np.asarray(Image.open(file).convert("RGBA"), np.float64) / 255
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    wall = np.stack([0.5 + 0.3 * np.sin(9 * x + c) * np.cos(7 * y - c) for c in range(3)], axis=-1)
    mixed = rgba[..., 3:] * rgba[..., :3] + (1 - rgba[..., 3:]) * wall
    Image.fromarray(np.round(mixed * 255).astype(np.uint8)).save(file)
    mask.parent.mkdir(exist_ok=True)
    Image.fromarray((rgba[..., 3] > 0.5).astype(np.uint8) * 255).save(mask)
