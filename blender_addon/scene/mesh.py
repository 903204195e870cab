# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a NeRF under the capture's root, showing its vertex colours."""

from __future__ import annotations

from pathlib import Path

import bpy
from mathutils import Matrix

from ..files import check_mesh
from .cameras import collection_of

MESH = "instruct_nerf_mesh"  # on the object: the edit's id, "" for the unedited scene
MATERIAL = "Instruct NeRF colours"


def import_ply(root: bpy.types.Object, path: str, name: str, edit: str) -> bpy.types.Object:
    """Import a PLY in the capture frame under a capture's root and return it; an older mesh of the same edit goes.

    Raises ``ValueError`` where the file holds no mesh, or less than it claims.
    """
    check_mesh(path)
    for old in [item for item in root.children if item.get(MESH) == edit]:
        data = old.data
        bpy.data.objects.remove(old)
        if data.users == 0:
            bpy.data.meshes.remove(data)
    before = set(bpy.data.objects)
    # Axes as they are in the file: the importer's own defaults turn Y up. Colours are those of photos, so sRGB.
    bpy.ops.wm.ply_import(
        filepath=path, forward_axis="Y", up_axis="Z", global_scale=1.0, use_scene_unit=False, merge_verts=False,
        import_colors="SRGB",
    )  # fmt: skip
    added = [item for item in bpy.data.objects if item not in before]
    if len(added) != 1 or added[0].type != "MESH" or not added[0].data.vertices:
        bpy.data.batch_remove(added)
        raise ValueError(f"{Path(path).name} holds no mesh.")
    item = added[0]
    item.name = item.data.name = name
    for collection in list(item.users_collection):
        collection.objects.unlink(item)
    collection_of(root).objects.link(item)
    item.parent = root
    item.matrix_parent_inverse = Matrix()
    item.matrix_basis = Matrix()
    item[MESH] = edit
    _colour(item.data)
    return item


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
    name = MATERIAL if attribute == "Col" else f"{MATERIAL} ({attribute})"
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
