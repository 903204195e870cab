# SPDX-License-Identifier: GPL-3.0-or-later
"""The small Blender scene that *Open an Example*, and the demo, photograph: a table with a few things on it, everything
textured.

A NeRF holds on to texture, so nothing here is of one colour, and the floor reaches past what the cameras see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import bpy

THING = "instruct_nerf_example"  # on what is photographed of the example
AWAY = 2.4  # of that reach: with Blender's own lens all of it is in the viewport


def build(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Fill a scene, the current one, and set up its renderer; returns what is to be photographed (the things on the
    table)."""
    _light(scene)
    floor = _material("Floor", "CHECKER", (0.42, 0.30, 0.19), (0.62, 0.52, 0.38), scale=14.0, roughness=0.8)
    wood = _material("Wood", "WAVE", (0.23, 0.10, 0.04), (0.45, 0.24, 0.10), scale=2.2, roughness=0.5)
    clay = _material("Clay", "VORONOI", (0.85, 0.30, 0.12), (0.95, 0.70, 0.25), scale=7.0, roughness=0.6)
    moss = _material("Moss", "NOISE", (0.05, 0.22, 0.06), (0.45, 0.62, 0.15), scale=9.0, roughness=0.9)
    glaze = _material("Glaze", "CHECKER", (0.06, 0.16, 0.45), (0.85, 0.87, 0.90), scale=9.0, roughness=0.3)
    bpy.ops.mesh.primitive_plane_add(size=40.0, location=(0.0, 0.0, -0.8))
    _dress("Floor", floor)
    bpy.ops.mesh.primitive_cylinder_add(vertices=64, radius=1.15, depth=0.1, location=(0.0, 0.0, -0.05))
    table = _dress("Table", wood)
    bpy.ops.mesh.primitive_cylinder_add(radius=0.16, depth=0.7, location=(0.0, 0.0, -0.45))
    _dress("Table Leg", wood)
    bpy.ops.mesh.primitive_monkey_add(size=1.1, location=(0.0, 0.05, 0.5), rotation=(math.radians(-18), 0.0, 0.4))
    head = _dress("Head", clay, smooth=True)
    smooth = head.modifiers.new("Smooth", "SUBSURF")
    smooth.levels = smooth.render_levels = 2
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.2, location=(0.68, -0.42, 0.2), segments=48, ring_count=24)
    ball = _dress("Ball", moss, smooth=True)
    bpy.ops.mesh.primitive_cube_add(size=0.36, location=(-0.66, -0.42, 0.18), rotation=(0.0, 0.0, 0.5))
    box = _dress("Box", glaze)
    bpy.ops.mesh.primitive_cone_add(radius1=0.2, depth=0.5, vertices=48, location=(0.5, 0.62, 0.25))
    cone = _dress("Cone", glaze, smooth=False)
    return [table, head, ball, box, cone]


def put_away(scene: bpy.types.Scene) -> bool:
    """Hide the example's things from the viewports, for a mesh of them lies where they do and is seen in patches;
    whether any was seen. They are rendered as before."""
    seen = [
        (item, layer)
        for item in scene.objects
        if THING in item
        for layer in scene.view_layers
        if item.name in layer.objects and not item.hide_get(view_layer=layer)
    ]
    for item, layer in seen:
        item.hide_set(True, view_layer=layer)
    return bool(seen)


def look(scene: bpy.types.Scene, centre: Sequence[float], reach: float) -> None:
    """Have the viewports that show the scene look at what lies within ``reach`` of a place: the things and the cameras,
    which are small on the floor."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas if window.scene == scene else ():
            if area.type == "VIEW_3D":
                view = area.spaces.active.region_3d
                view.view_perspective, view.view_location, view.view_distance = "PERSP", centre, AWAY * reach


def _light(scene: bpy.types.Scene) -> None:
    world = bpy.data.worlds.new("Sky")
    if not world.use_nodes:
        world.use_nodes = True
    background = _first(world.node_tree, "BACKGROUND")
    background.inputs["Color"].default_value = (0.62, 0.75, 0.95, 1.0)
    background.inputs["Strength"].default_value = 0.55
    scene.world = world
    lamp = bpy.data.lights.new("Sun", "SUN")
    lamp.energy, lamp.angle, lamp.color = 3.2, math.radians(6.0), (1.0, 0.93, 0.82)
    sun = bpy.data.objects.new("Sun", lamp)
    sun.rotation_euler = (math.radians(38.0), math.radians(14.0), math.radians(35.0))
    scene.collection.objects.link(sun)
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples, scene.cycles.use_adaptive_sampling = 20, False
    scene.cycles.use_denoising = False  # not every build has the denoiser, and the NeRF averages the grain away
    scene.cycles.max_bounces = 2
    scene.view_settings.view_transform = "Standard"
    scene.render.use_persistent_data = True  # the scene is the same from every side


def _dress(name: str, material: bpy.types.Material, smooth: bool = False) -> bpy.types.Object:
    item = bpy.context.object
    item.name = item.data.name = name
    item[THING] = True
    item.data.materials.append(material)
    if smooth:
        item.data.polygons.foreach_set("use_smooth", [True] * len(item.data.polygons))
    return item


def _material(
    name: str,
    pattern: str,
    dark: tuple[float, float, float],
    light: tuple[float, float, float],
    *,
    scale: float,
    roughness: float,
) -> bpy.types.Material:
    """A material with a pattern between two colours, broken up by noise so that no two places look alike."""
    material = bpy.data.materials.new(name)
    if not material.use_nodes:
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = _first(material.node_tree, "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = roughness
    place = nodes.new("ShaderNodeTexCoord")
    texture = nodes.new({"CHECKER": "ShaderNodeTexChecker", "WAVE": "ShaderNodeTexWave",
                         "VORONOI": "ShaderNodeTexVoronoi", "NOISE": "ShaderNodeTexNoise"}[pattern])  # fmt: skip
    texture.inputs["Scale"].default_value = scale if name != "Floor" else 1.6
    if pattern == "WAVE":
        texture.inputs["Distortion"].default_value = 6.0
    links.new(place.outputs["Object"], texture.inputs["Vector"])
    between, uneven = nodes.new("ShaderNodeMix"), nodes.new("ShaderNodeMix")
    between.data_type = uneven.data_type = "RGBA"
    _socket(between.inputs, "A_Color").default_value = (*dark, 1.0)
    _socket(between.inputs, "B_Color").default_value = (*light, 1.0)
    links.new(_output(texture, "Distance", "Fac", "Factor"), _socket(between.inputs, "Factor_Float"))
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = 3.0, 6.0
    links.new(place.outputs["Object"], noise.inputs["Vector"])
    uneven.blend_type = "OVERLAY"
    _socket(uneven.inputs, "Factor_Float").default_value = 0.6
    links.new(_socket(between.outputs, "Result_Color"), _socket(uneven.inputs, "A_Color"))
    links.new(_output(noise, "Color"), _socket(uneven.inputs, "B_Color"))
    links.new(_socket(uneven.outputs, "Result_Color"), shader.inputs["Base Color"])
    return material


def _first(tree: bpy.types.NodeTree, kind: str) -> bpy.types.Node:
    """The node of a kind that Blender has made: its name is in the artist's language."""
    return next(node for node in tree.nodes if node.type == kind)


def _socket(sockets: bpy.types.bpy_prop_collection, identifier: str) -> bpy.types.NodeSocket:
    """A socket of a Mix node, which has several of each name, one for each type of data."""
    return next(socket for socket in sockets if socket.identifier == identifier)


def _output(node: bpy.types.Node, *names: str) -> bpy.types.NodeSocket:
    return next(node.outputs[name] for name in names if name in node.outputs)
