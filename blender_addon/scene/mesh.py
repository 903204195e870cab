# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a NeRF under the capture's root, showing its texture or its vertex colours."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import bpy
from mathutils import Matrix

from .. import ply
from ..files import regular
from .cameras import collection_of, part_of

MESH = "instruct_nerf_mesh"  # on the object: the edit's id, "" for the unedited scene
MATERIAL = "Instruct NeRF colours"
TEXTURE = "instruct_nerf_texture"  # on a material and an image: they are of one mesh alone, and go with it
COLOURS, UV = "Col", "UVMap"


def importing(
    root: bpy.types.Object, path: str, name: str, edit: str, lit: bool = False
) -> Generator[float, None, bpy.types.Object]:
    """Bring a PLY in the capture frame under a capture's root, in small steps; an older mesh of the same edit goes.
    ``lit``: lamps shine on it, instead of its glowing in its colors.

    Raises ``ValueError`` where the file holds no mesh, or less than it claims, or its texture is not beside it.
    """
    read = yield from ply.reading(path)
    picture = Path(path).with_name(read.texture) if read.texture else None
    if picture is not None and regular(picture) is None:
        raise ValueError(f"The texture {picture.name} is not beside {Path(path).name}; make the mesh again.")
    data = bpy.data.meshes.new(name)
    try:
        yield from _fill(data, read)
    except BaseException:
        bpy.data.meshes.remove(data)
        raise
    for old in [item for item in root.children if item.get(MESH) == edit]:
        _remove(old)
        yield 1.0
    item = bpy.data.objects.new(name, data)
    part_of(collection_of(root), "Meshes").objects.link(item)
    item.parent = root
    item.matrix_parent_inverse = Matrix()
    item[MESH] = edit
    data.name = name
    _colour(data, picture, lit)
    return item


def _remove(item: bpy.types.Object) -> None:
    """An imported mesh and what is its alone."""
    data = item.data
    bpy.data.objects.remove(item)
    if data.users:
        return
    own = [material for material in data.materials if material is not None and TEXTURE in material]
    bpy.data.meshes.remove(data)
    for material in own:
        if material.users:
            continue
        pictures = [n.image for n in material.node_tree.nodes if n.type == "TEX_IMAGE" and n.image is not None]
        bpy.data.materials.remove(material)
        for picture in pictures:
            if TEXTURE in picture and not picture.users:
                bpy.data.images.remove(picture)


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
    if read.flat:
        data.attributes.new(UV, "FLOAT2", "CORNER").data.foreach_set("vector", read.flat)
        yield 1.0
    data.update()
    yield 1.0


def _colour(mesh: bpy.types.Mesh, picture: Path | None, lit: bool) -> None:
    colours = mesh.color_attributes
    if len(colours):
        colours.active_color_index = colours.render_color_index = 0
    if picture is not None:
        material = _textured(mesh.name, picture, lit)
    elif len(colours):
        material = _of_vertices(colours[0].name, lit)
    else:
        return
    mesh.materials.clear()
    mesh.materials.append(material)


def _of_vertices(attribute: str, lit: bool) -> bpy.types.Material:
    """The one material of all meshes that show their vertex colours."""
    name = f"{MATERIAL}{' to relight' if lit else ''}{'' if attribute == COLOURS else f' ({attribute})'}"
    material = bpy.data.materials.get(name)
    if material is not None:
        return material
    material = bpy.data.materials.new(name)
    colour = _surface(material, "ShaderNodeVertexColor", lit)
    colour.layer_name = attribute
    return material


def _textured(name: str, picture: Path, lit: bool) -> bpy.types.Material:
    """A material that shows a picture."""
    material = bpy.data.materials.new(name)
    material[TEXTURE] = True
    image = bpy.data.images.load(str(picture))
    image.name, image[TEXTURE] = name, True
    _surface(material, "ShaderNodeTexImage", lit).image = image
    return material


def _surface(material: bpy.types.Material, kind: str, lit: bool) -> bpy.types.Node:
    """Give a material a node of some ``kind`` whose colour it shows, and return that. It glows in the colour, since a
    NeRF's colours already hold the light they were seen in and Blender's lamps must not light them a second time; or,
    ``lit``, it is a dull surface of that colour. A Principled BSDF in both cases, which is what Blender's exporters
    understand."""
    if not material.use_nodes:  # always on from 5.0, where setting it is deprecated
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    colour, shader = nodes.new(kind), nodes.new("ShaderNodeBsdfPrincipled")
    output = nodes.new("ShaderNodeOutputMaterial")
    colour.location, shader.location, output.location = (-400, 0), (-50, 0), (300, 0)
    shader.inputs["Roughness"].default_value = 1.0
    shader.inputs["Specular IOR Level"].default_value = 0.0  # nothing is mirrored
    if not lit:
        shader.inputs["Base Color"].default_value = (0.0, 0.0, 0.0, 1.0)
        shader.inputs["Emission Strength"].default_value = 1.0
    links.new(colour.outputs["Color"], shader.inputs["Base Color" if lit else "Emission Color"])
    links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    return colour
