# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a NeRF under the capture's root, showing its vertex colours."""

from __future__ import annotations

from collections.abc import Generator

import bpy
from mathutils import Matrix

from .. import ply
from .cameras import collection_of

MESH = "instruct_nerf_mesh"  # on the object: the edit's id, "" for the unedited scene
MATERIAL = "Instruct NeRF colours"
COLOURS = "Col"


def importing(root: bpy.types.Object, path: str, name: str, edit: str) -> Generator[float, None, bpy.types.Object]:
    """Bring a PLY in the capture frame under a capture's root, in small steps; an older mesh of the same edit goes.

    Raises ``ValueError`` where the file holds no mesh, or less than it claims.
    """
    read = yield from ply.reading(path)
    data = bpy.data.meshes.new(name)
    try:
        yield from _fill(data, read)
    except BaseException:
        bpy.data.meshes.remove(data)
        raise
    for old in [item for item in root.children if item.get(MESH) == edit]:
        former = old.data
        bpy.data.objects.remove(old)
        if former.users == 0:
            bpy.data.meshes.remove(former)
        yield 1.0
    item = bpy.data.objects.new(name, data)
    collection_of(root).objects.link(item)
    item.parent = root
    item.matrix_parent_inverse = Matrix()
    item[MESH] = edit
    _colour(data)
    return item


def show_only(scene: bpy.types.Scene, root: bpy.types.Object, edit: str) -> None:
    """Of the meshes under a capture's root, have the one of an edit seen and rendered, and no other."""
    for item in root.children:
        if item.type != "MESH" or MESH not in item:
            continue
        hidden = item[MESH] != edit
        if item.hide_render != hidden:
            item.hide_render = hidden
        for layer in scene.view_layers:
            if item.name in layer.objects and item.hide_get(view_layer=layer) != hidden:
                item.hide_set(hidden, view_layer=layer)


def _fill(data: bpy.types.Mesh, read: ply.Mesh) -> Generator[float, None, None]:
    """Give an empty mesh all that it consists of, its edges too: each of these calls takes milliseconds for a million
    faces, and that without which Blender would have to work the edges out a tenth of a second."""
    yield 1.0
    data.vertices.add(len(read.places) // 3)
    data.attributes["position"].data.foreach_set("vector", read.places)
    yield 1.0
    data.edges.add(len(read.edges) // 2)
    data.attributes[".edge_verts"].data.foreach_set("value", read.edges)
    yield 1.0
    data.loops.add(len(read.corners))
    yield 1.0
    data.attributes[".corner_vert"].data.foreach_set("value", read.corners)
    data.attributes[".corner_edge"].data.foreach_set("value", read.corner_edges)
    yield 1.0
    data.polygons.add(len(read.starts))
    data.polygons.foreach_set("loop_start", read.starts)
    yield 1.0
    if read.colours:
        data.color_attributes.new(COLOURS, "FLOAT_COLOR", "POINT").data.foreach_set("color", read.colours)
        yield 1.0
    data.update()
    yield 1.0


def _colour(mesh: bpy.types.Mesh) -> None:
    colours = mesh.color_attributes
    if not len(colours):
        return
    colours.active_color_index = colours.render_color_index = 0
    mesh.materials.clear()
    mesh.materials.append(_material(colours[0].name))


def _material(attribute: str) -> bpy.types.Material:
    """A material that glows in the vertex colour: a NeRF's colours already hold the light they were seen in, so
    Blender's lamps must not light them a second time. Works in EEVEE and Cycles."""
    name = MATERIAL if attribute == COLOURS else f"{MATERIAL} ({attribute})"
    material = bpy.data.materials.get(name)
    if material is not None:
        return material
    material = bpy.data.materials.new(name)
    if not material.use_nodes:  # always on from 5.0, where setting it is deprecated
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    colour, glow = nodes.new("ShaderNodeVertexColor"), nodes.new("ShaderNodeEmission")
    output = nodes.new("ShaderNodeOutputMaterial")
    colour.layer_name = attribute
    colour.location, glow.location, output.location = (-400, 0), (-150, 0), (100, 0)
    links.new(colour.outputs["Color"], glow.inputs["Color"])
    links.new(glow.outputs["Emission"], output.inputs["Surface"])
    return material
