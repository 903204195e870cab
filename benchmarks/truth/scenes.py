# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender scenes of differing kind, made of curves, skins, modifiers and primitives: none of them, and none of
their shapes, is used in training the small editor.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import bpy
from mathutils import Vector

from benchmarks.truth.materials import pattern


@dataclass
class Stage:
    """What was built: the subject's objects, and where the cameras stand about it (metres, degrees). ``sweep`` is the
    arc that they cover, round ``front``."""

    subject: list[bpy.types.Object]
    target: Vector
    distance: float
    lowest: float = 12.0
    highest: float = 55.0
    front: float = -90.0
    sweep: float = 200.0
    lens: float = 40.0  # mm on a sensor of 36


def _object(name: str, material: bpy.types.Material, smooth: bool = True) -> bpy.types.Object:
    item = bpy.context.object
    item.name = name
    if item.type == "MESH":
        item.data.polygons.foreach_set("use_smooth", [smooth] * len(item.data.polygons))
    item.data.materials.clear()
    item.data.materials.append(material)
    return item


def _floor(material: bpy.types.Material, size: float = 40.0) -> bpy.types.Object:
    bpy.ops.mesh.primitive_plane_add(size=size)
    return _object("Floor", material, smooth=False)


def _sky(colour: tuple[float, float, float], strength: float, sun: float, elevation: float, azimuth: float) -> None:
    world = bpy.data.worlds.new("World")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (*colour, 1.0)
    background.inputs["Strength"].default_value = strength
    bpy.context.scene.world = world
    bpy.ops.object.light_add(type="SUN", rotation=(math.radians(90 - elevation), 0.0, math.radians(azimuth)))
    lamp = bpy.context.object
    lamp.name = "Sun"
    lamp.data.energy, lamp.data.angle, lamp.data.color = sun, math.radians(4.0), (1.0, 0.94, 0.85)


def _curve(name: str, points: list[tuple[float, float, float]], radius: float, material: bpy.types.Material, closed: bool = False) -> bpy.types.Object:  # noqa: E501  # fmt: skip
    data = bpy.data.curves.new(name, "CURVE")
    data.dimensions, data.bevel_depth, data.bevel_resolution, data.resolution_u = "3D", radius, 4, 8
    spline = data.splines.new("NURBS")
    spline.points.add(len(points) - 1)
    for point, place in zip(spline.points, points, strict=True):
        point.co = (*place, 1.0)
    spline.use_cyclic_u, spline.use_endpoint_u, spline.order_u = closed, not closed, 4
    item = bpy.data.objects.new(name, data)
    data.materials.append(material)
    bpy.context.scene.collection.objects.link(item)
    return item


def _lathe(name: str, profile: list[tuple[float, float]], material: bpy.types.Material) -> bpy.types.Object:
    """A body of revolution: (radius, height) from below."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(r, 0.0, z) for r, z in profile], [(i, i + 1) for i in range(len(profile) - 1)], [])
    item = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(item)
    screw = item.modifiers.new("Screw", "SCREW")
    screw.steps = screw.render_steps = 64
    screw.use_smooth_shade, screw.use_merge_vertices, screw.use_normal_calculate = True, True, True
    item.modifiers.new("Smooth", "SUBSURF").render_levels = 2
    mesh.materials.append(material)
    return item


def still_life() -> Stage:
    """A watering pot on a table, beside a plate and a ball."""
    _sky((0.60, 0.72, 0.95), 0.6, 3.0, 50, 30)
    _floor(pattern("Boards", "waves", (0.16, 0.08, 0.04), (0.42, 0.26, 0.14), 0.8))
    cloth = pattern("Cloth", "checks", (0.55, 0.52, 0.46), (0.28, 0.36, 0.42), 3.0)
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0, 0, 0.35))
    bpy.context.object.scale = (2.4, 1.8, 0.7)
    _object("Table", cloth, smooth=False)
    glaze = pattern("Glaze", "cells", (0.10, 0.28, 0.30), (0.62, 0.70, 0.62), 4.0, roughness=0.35)
    body = [(0.0, 0.72), (0.26, 0.72), (0.40, 0.85), (0.42, 1.05), (0.30, 1.22), (0.22, 1.32), (0.27, 1.40), (0.24, 1.40), (0.2, 1.3)]  # noqa: E501  # fmt: skip
    pot = _lathe("Pot", body, glaze)
    spout = _curve("Spout", [(0.36, 0, 0.95), (0.55, 0, 1.0), (0.62, 0, 1.25), (0.78, 0, 1.34)], 0.055, glaze)
    handle = _curve("Handle", [(-0.24, 0, 1.32), (-0.6, 0, 1.34), (-0.62, 0, 0.95), (-0.38, 0, 0.9)], 0.045, glaze)
    plate = pattern("Plate", "waves", (0.70, 0.66, 0.58), (0.36, 0.20, 0.14), 6.0)
    _lathe("Plate", [(0.0, 0.71), (0.2, 0.71), (0.36, 0.78), (0.34, 0.80), (0.19, 0.73), (0.0, 0.73)], plate).location = (0.75, -0.5, 0)  # noqa: E501  # fmt: skip
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.14, location=(-0.75, -0.5, 0.84), segments=32, ring_count=16)
    _object("Ball", pattern("Orange", "noise", (0.80, 0.28, 0.04), (0.90, 0.50, 0.12), 9.0))
    return Stage([pot, spout, handle], Vector((0.05, 0, 1.0)), 3.0)


def figure() -> Stage:
    """A standing figure grown by Blender's skin modifier, one arm raised."""
    _sky((0.75, 0.78, 0.85), 0.7, 2.6, 42, -35)
    _floor(pattern("Tiles", "bricks", (0.30, 0.27, 0.25), (0.58, 0.54, 0.48), 1.3))
    joints = [(0, 0, 1.0), (0, 0, 1.3), (0, 0, 1.62), (0, 0, 1.74), (0, -0.02, 1.98),
              (0.16, 0, 0.92), (0.2, 0.02, 0.5), (0.2, 0, 0.06), (0.22, -0.16, 0.03),
              (-0.16, 0, 0.92), (-0.2, 0.02, 0.5), (-0.2, 0, 0.06), (-0.22, -0.16, 0.03),
              (0.24, 0, 1.6), (0.5, -0.05, 1.75), (0.62, -0.1, 2.1),
              (-0.24, 0, 1.6), (-0.42, 0.04, 1.3), (-0.36, -0.16, 1.02)]  # fmt: skip
    bones = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (0, 9), (9, 10), (10, 11), (11, 12),
             (2, 13), (13, 14), (14, 15), (2, 16), (16, 17), (17, 18)]  # fmt: skip
    radii = [0.17, 0.18, 0.17, 0.07, 0.15, 0.12, 0.09, 0.06, 0.05, 0.12, 0.09, 0.06, 0.05, 0.09, 0.065, 0.06, 0.09, 0.065, 0.06]  # noqa: E501  # fmt: skip
    mesh = bpy.data.meshes.new("Figure")
    mesh.from_pydata(joints, bones, [])
    body = bpy.data.objects.new("Figure", mesh)
    bpy.context.scene.collection.objects.link(body)
    bpy.context.view_layer.objects.active = body
    skin = body.modifiers.new("Skin", "SKIN")
    skin.use_smooth_shade = True
    for vertex, radius in zip(mesh.skin_vertices[0].data, radii, strict=True):
        vertex.radius = (radius, radius)
    mesh.skin_vertices[0].data[0].use_root = True
    smooth = body.modifiers.new("Smooth", "SUBSURF")
    smooth.levels = smooth.render_levels = 2
    mesh.materials.append(pattern("Suit", "cells", (0.20, 0.22, 0.30), (0.62, 0.50, 0.36), 5.0))
    wall = pattern("Wall", "noise", (0.42, 0.46, 0.40), (0.62, 0.62, 0.52), 1.6)
    for x, y, h in ((-2.4, 2.6, 1.4), (1.9, 2.9, 2.2), (3.2, 1.0, 0.9)):
        bpy.ops.mesh.primitive_cube_add(size=1.0, location=(x, y, h / 2))
        bpy.context.object.scale = (1.2, 1.0, h)
        _object("Block", wall, smooth=False)
    return Stage([body], Vector((0, 0, 1.1)), 3.5, lowest=5, highest=40)


def group() -> Stage:
    """Three spools and a twisted ring, all of them the subject."""
    _sky((0.66, 0.74, 0.90), 0.6, 3.0, 55, 10)
    _floor(pattern("Stone", "cells", (0.26, 0.25, 0.24), (0.52, 0.50, 0.46), 1.1))
    subject = []
    looks = [("waves", (0.30, 0.14, 0.06), (0.62, 0.42, 0.22)), ("checks", (0.16, 0.20, 0.28), (0.56, 0.58, 0.60)),
             ("noise", (0.34, 0.30, 0.12), (0.70, 0.64, 0.34))]  # fmt: skip
    for k, (texture, dark, light) in enumerate(looks):
        profile = [(0.0, 0.0), (0.34, 0.0), (0.36, 0.08), (0.16, 0.16), (0.13, 0.4), (0.16, 0.62), (0.34, 0.7), (0.3, 0.8), (0.0, 0.8)]  # noqa: E501  # fmt: skip
        spool = _lathe(f"Spool {k}", profile, pattern(f"Spool {k}", texture, dark, light, 5.0))
        angle = 2 * math.pi * k / 3 + 0.3
        spool.location = (0.62 * math.cos(angle), 0.62 * math.sin(angle), 0.0)
        spool.scale = (1.0, 1.0, 0.8 + 0.35 * k)
        subject.append(spool)
    ring = [((0.5 + 0.16 * math.cos(3 * a)) * math.cos(2 * a), (0.5 + 0.16 * math.cos(3 * a)) * math.sin(2 * a), 1.5 + 0.16 * math.sin(3 * a)) for a in [2 * math.pi * i / 60 for i in range(60)]]  # noqa: E501  # fmt: skip
    subject.append(_curve("Knot", ring, 0.07, pattern("Rope", "waves", (0.36, 0.10, 0.10), (0.66, 0.40, 0.30), 8.0), closed=True))  # noqa: E501  # fmt: skip
    return Stage(subject, Vector((0, 0, 0.75)), 3.6)


def room() -> Stage:
    """The corner of a room: an armchair by a window wall, a lamp, a rug, a picture."""
    _sky((0.80, 0.84, 0.92), 0.9, 2.2, 35, -20)
    _floor(pattern("Parquet", "bricks", (0.22, 0.12, 0.06), (0.46, 0.28, 0.15), 2.0))
    paper = pattern("Paper", "waves", (0.44, 0.48, 0.42), (0.60, 0.62, 0.54), 1.2)
    for location, scale in (((0, 2.0, 1.3), (5.0, 0.1, 2.6)), ((-2.45, 0, 1.3), (0.1, 4.0, 2.6))):
        bpy.ops.mesh.primitive_cube_add(size=1.0, location=location)
        bpy.context.object.scale = scale
        _object("Wall", paper, smooth=False)
    rug = pattern("Rug", "checks", (0.40, 0.12, 0.10), (0.56, 0.46, 0.32), 2.6)
    bpy.ops.mesh.primitive_cylinder_add(vertices=64, radius=1.3, depth=0.04, location=(0, 0.4, 0.02))
    _object("Rug", rug, smooth=False)
    fabric = pattern("Fabric", "noise", (0.24, 0.30, 0.26), (0.48, 0.54, 0.40), 6.0, roughness=0.9)
    chair = []
    for location, scale in (
        ((0, 0.4, 0.32), (0.9, 0.85, 0.34)),
        ((0, 0.78, 0.72), (0.9, 0.22, 0.85)),
        ((-0.5, 0.4, 0.5), (0.2, 0.85, 0.5)),
        ((0.5, 0.4, 0.5), (0.2, 0.85, 0.5)),
    ):
        bpy.ops.mesh.primitive_cube_add(size=1.0, location=location)
        item = bpy.context.object
        item.scale = scale
        bpy.ops.object.transform_apply(location=False, rotation=False)
        rounding = item.modifiers.new("Round", "BEVEL")
        rounding.width, rounding.segments = 0.09, 4
        chair.append(_object("Cushion", fabric))
    brass = pattern("Brass", "noise", (0.32, 0.24, 0.10), (0.52, 0.42, 0.20), 3.0, roughness=0.4)
    _lathe("Lamp", [(0.0, 0.0), (0.22, 0.0), (0.2, 0.05), (0.03, 0.07), (0.03, 1.4), (0.0, 1.4)], brass).location = (-1.5, 1.2, 0)  # noqa: E501  # fmt: skip
    shade = pattern("Shade", "waves", (0.62, 0.56, 0.42), (0.76, 0.70, 0.58), 4.0)
    _lathe("Shade", [(0.16, 1.75), (0.32, 1.4)], shade).location = (-1.5, 1.2, 0)
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0.9, 1.93, 1.55))
    bpy.context.object.scale = (0.9, 0.05, 0.65)
    _object("Picture", pattern("Picture", "cells", (0.16, 0.26, 0.40), (0.70, 0.52, 0.24), 3.0), smooth=False)
    return Stage(chair, Vector((-0.1, 0.5, 0.7)), 3.1, lowest=8, highest=40, front=-65, sweep=110)


def cabin() -> Stage:
    """The inside of a cabin whose walls and ceiling are painted plain: a cupboard, a stool with a jug, a window."""
    _sky((0.72, 0.80, 0.94), 1.6, 3.0, 34, -60)
    _floor(pattern("Planks", "waves", (0.20, 0.11, 0.05), (0.42, 0.27, 0.15), 0.9))
    paint = pattern("Paint", "noise", (0.56, 0.54, 0.48), (0.60, 0.58, 0.53), 1.3)
    wash = pattern("Wash", "waves", (0.36, 0.42, 0.46), (0.56, 0.60, 0.62), 1.2)
    back, left, ceiling = ((0, 1.9, 1.3), (4.5, 0.1, 2.6)), (-1.8, 0.1), ((0, 0.45, 2.65), (4.5, 3.0, 0.1))
    openings = (((left[0], 0.45, 0.5), (left[1], 3.0, 1.0)), ((left[0], 0.45, 2.3), (left[1], 3.0, 0.6)),
                ((left[0], 1.5, 1.5), (left[1], 0.9, 1.0)), ((left[0], -0.6, 1.5), (left[1], 0.9, 1.0)))  # fmt: skip
    for (location, scale), material in (
        (back, wash), (ceiling, paint), (((2.1, 0.45, 1.3), (0.1, 3.0, 2.6)), paint),
        *((box, paint) for box in openings),
    ):  # fmt: skip
        _box(location, scale, "Wall", material)
    oak = pattern("Oak", "waves", (0.28, 0.16, 0.08), (0.52, 0.34, 0.19), 3.0)
    _box((1.35, 1.5, 0.7), (0.9, 0.6, 1.4), "Cupboard", oak)
    for height in (0.4, 1.0):
        _box((1.35, 1.19, height), (0.76, 0.03, 0.5), "Door", pattern("Door", "checks", (0.20, 0.26, 0.22), (0.40, 0.44, 0.34), 2.0))  # noqa: E501  # fmt: skip
    weave = pattern("Weave", "checks", (0.44, 0.18, 0.12), (0.62, 0.50, 0.36), 5.0)
    bpy.ops.mesh.primitive_cylinder_add(vertices=48, radius=0.42, depth=0.5, location=(-0.1, 0.3, 0.25))
    stool = _object("Stool", weave, smooth=False)
    clay = pattern("Clay", "cells", (0.34, 0.18, 0.11), (0.64, 0.42, 0.28), 4.0, roughness=0.8)
    profile = [(0.0, 0.5), (0.16, 0.5), (0.27, 0.68), (0.24, 0.88), (0.11, 1.02), (0.15, 1.12), (0.13, 1.12), (0.09, 1.02)]  # noqa: E501  # fmt: skip
    jug = _lathe("Jug", profile, clay)
    jug.location = (-0.1, 0.3, 0)
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.24, location=(-1.0, 0.7, 0.24), segments=48, ring_count=24)
    _object("Ball", pattern("Rubber", "noise", (0.55, 0.50, 0.20), (0.60, 0.55, 0.24), 2.0))
    _box((0.25, 1.83, 1.65), (0.7, 0.04, 0.5), "Print", pattern("Print", "cells", (0.20, 0.20, 0.34), (0.70, 0.56, 0.30), 3.0))  # noqa: E501  # fmt: skip
    return Stage([stool, jug], Vector((0.0, 0.4, 0.85)), 3.0, lowest=4, highest=26, sweep=90, lens=30.0)


def _box(location: tuple[float, float, float], size: tuple[float, float, float], name: str, material: bpy.types.Material) -> bpy.types.Object:  # noqa: E501  # fmt: skip
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=location)
    bpy.context.object.scale = size
    return _object(name, material, smooth=False)


def outdoor() -> Stage:
    """A boulder with a bent tree on uneven ground, under a sky."""
    _sky((0.36, 0.56, 0.95), 0.8, 3.4, 40, 40)
    ground = pattern("Grass", "noise", (0.06, 0.14, 0.03), (0.30, 0.34, 0.10), 2.0, roughness=0.95)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=120, y_subdivisions=120, size=40)
    _object("Ground", ground)
    _displace(bpy.context.object, 1.6, 0.5)
    bark = pattern("Bark", "waves", (0.10, 0.06, 0.04), (0.32, 0.22, 0.14), 4.0, roughness=0.9)
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=5, radius=0.9, location=(0, 0, 0.5))
    boulder = _object("Boulder", pattern("Rock", "cells", (0.24, 0.22, 0.20), (0.56, 0.50, 0.42), 2.4, roughness=0.9))
    boulder.scale = (1.2, 0.9, 0.8)
    _displace(boulder, 0.7, 0.35)
    _curve("Trunk", [(1.5, 0.9, -0.2), (1.45, 0.9, 0.8), (1.1, 0.8, 1.6), (1.2, 0.7, 2.3)], 0.11, bark)
    leaves = pattern("Leaves", "cells", (0.05, 0.16, 0.04), (0.34, 0.46, 0.12), 7.0, roughness=0.9)
    place = random.Random(5)
    for _ in range(9):
        at = Vector((1.15 + place.uniform(-0.6, 0.6), 0.75 + place.uniform(-0.5, 0.5), 2.3 + place.uniform(-0.25, 0.5)))
        bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=4, radius=place.uniform(0.22, 0.38), location=at)
        _displace(_object("Leaves", leaves), 0.15, 0.15)
    return Stage([boulder], Vector((0.4, 0.2, 0.9)), 4.6, lowest=8, highest=40)


def wire() -> Stage:
    """Something thin and glossy: a penny-farthing bent from tubes."""
    _sky((0.70, 0.76, 0.88), 0.7, 2.8, 48, -20)
    _floor(pattern("Gravel", "cells", (0.30, 0.28, 0.26), (0.60, 0.56, 0.50), 2.2))
    chrome = pattern("Lacquer", "noise", (0.12, 0.14, 0.16), (0.36, 0.38, 0.42), 3.0, roughness=0.25)
    parts = []
    for name, x, radius in (("Big wheel", -0.4, 0.8), ("Small wheel", 0.85, 0.35)):
        circle = [(x + radius * math.cos(a), 0.0, radius + 0.04 + radius * math.sin(a)) for a in [2 * math.pi * i / 24 for i in range(24)]]  # noqa: E501  # fmt: skip
        parts.append(_curve(name, circle, 0.035, chrome, closed=True))
        for k in range(8):
            a = math.pi * 2 * k / 8
            end = (x + radius * math.cos(a), 0.0, radius + 0.04 + radius * math.sin(a))
            parts.append(_curve("Spoke", [(x, 0, radius + 0.04)] * 2 + [end] * 2, 0.012, chrome))
    parts.append(_curve("Frame", [(-0.4, 0.12, 0.84), (-0.4, 0.1, 1.75), (0.1, 0, 1.8), (0.7, 0, 1.1), (0.85, 0.1, 0.39)], 0.04, chrome))  # noqa: E501  # fmt: skip
    parts.append(_curve("Bars", [(-0.55, -0.4, 1.6), (-0.4, -0.2, 1.85), (-0.4, 0.2, 1.85), (-0.55, 0.4, 1.6)], 0.03, chrome))  # noqa: E501  # fmt: skip
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.16, location=(0.0, 0, 1.88))
    bpy.context.object.scale = (1.3, 0.7, 0.45)
    parts.append(_object("Saddle", chrome))
    wall = pattern("Hedge", "noise", (0.08, 0.16, 0.06), (0.32, 0.38, 0.16), 2.4, roughness=0.9)
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0, 2.4, 0.6))
    bpy.context.object.scale = (7.0, 0.8, 1.2)
    _object("Hedge", wall, smooth=False)
    return Stage(parts, Vector((0.1, 0, 0.9)), 3.6, lowest=6, highest=38, sweep=150)


def _displace(item: bpy.types.Object, size: float, strength: float) -> None:
    texture = bpy.data.textures.new("Uneven", "CLOUDS")
    texture.noise_scale = size
    change = item.modifiers.new("Uneven", "DISPLACE")
    change.texture, change.strength, change.mid_level, change.texture_coords = texture, strength, 0.5, "GLOBAL"


BUILDERS: dict[str, Callable[[], Stage]] = {
    "still life": still_life,
    "group": group,
    "outdoor": outdoor,
    "figure": figure,
    "room": room,
    "wire": wire,
    "cabin": cabin,
}
