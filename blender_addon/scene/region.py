# SPDX-License-Identifier: GPL-3.0-or-later
"""The region that alone is edited: the objects of a collection, as closed surfaces in Blender's world."""

from __future__ import annotations

from array import array

import bpy

from .cameras import RADIUS, depsgraph_of

SOLID = {"MESH", "CURVE", "SURFACE", "META", "FONT"}
MOST_TRIANGLES = 20_000  # of all objects together: what is sent and looked through without anybody waiting for it
NAME = "Edit Region"

Solid = tuple[str, list[float], list[int]]  # name, three numbers a vertex, three vertices a triangle


def objects_of(collection: bpy.types.Collection | None) -> list[bpy.types.Object]:
    """The objects that make up a region."""
    return [item for item in collection.all_objects if item.type in SOLID] if collection is not None else []


def solids(scene: bpy.types.Scene, collection: bpy.types.Collection | None) -> list[Solid]:
    """A region's objects as they are seen, modifiers and all, in Blender's world. Raises ``ValueError`` where there are
    none, or where they are too fine."""
    items = objects_of(collection)
    if not items:
        raise ValueError("The region has no object: add a box, or put closed meshes into its collection.")
    graph, found, count = depsgraph_of(scene), [], 0
    for item in items:
        evaluated = item.evaluated_get(graph)
        mesh = evaluated.to_mesh()
        try:
            if mesh is None or not len(mesh.polygons):
                raise ValueError(f"“{item.name}” has no faces, so it is no region: use a closed mesh, or a box.")
            mesh.transform(evaluated.matrix_world)
            mesh.calc_loop_triangles()
            count += len(mesh.loop_triangles)
            if count > MOST_TRIANGLES:
                raise ValueError(
                    f"The region has more than {MOST_TRIANGLES:,} triangles with “{item.name}”: use simpler meshes, or "
                    "boxes."
                )
            vertices, triangles = (
                array("f", bytes(12 * len(mesh.vertices))),
                array("i", bytes(12 * len(mesh.loop_triangles))),
            )
            mesh.vertices.foreach_get("co", vertices)
            mesh.loop_triangles.foreach_get("vertices", triangles)
            found.append((item.name, vertices.tolist(), triangles.tolist()))
        finally:
            evaluated.to_mesh_clear()
    return found


def add_box(
    scene: bpy.types.Scene, collection: bpy.types.Collection | None, root: bpy.types.Object
) -> bpy.types.Object:
    """A box at the 3D cursor, a part of the capture's size; drawn as wires and never rendered. It goes into the
    collection, a new one where there is none."""
    half = 0.2 * float(root.get(RADIUS, 4.0)) * sum(map(abs, root.matrix_world.to_scale())) / 3.0
    mesh = bpy.data.meshes.new("Region Box")
    corners = [(x * half, y * half, z * half) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    mesh.from_pydata(corners, [], faces)
    item = bpy.data.objects.new("Region Box", mesh)
    item.location = scene.cursor.location
    item.display_type, item.hide_render = "WIRE", True
    ensured(scene, collection).objects.link(item)
    return item


def ensured(scene: bpy.types.Scene, collection: bpy.types.Collection | None) -> bpy.types.Collection:
    """The collection, or a new one in the scene where there is none."""
    if collection is None:
        collection = bpy.data.collections.new(NAME)
        scene.collection.children.link(collection)
    return collection
