# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own objects in the rendered scene: a scene of their own, which Cycles renders, and nodes that put both
together by depth, with the objects' shadows on the imported mesh.

The scene of the objects shares its collections with the artist's, so that what is added there is in it; what does not
come that way (objects beside all collections, camera, world, markers) follows.
"""

from __future__ import annotations

from typing import Any

import bpy

from ..scene import cameras
from ..scene.mesh import MESH
from ..session import OWN_ENGINE
from . import nodes
from .source import workspace_of

OBJECTS, SHADOWS = "Objects", "Shadows"  # view layers
MESHES = "Meshes"  # the part of a capture's collection that imported meshes lie in
CATCHER = "instruct_nerf_catcher"  # on a copy of the mesh that catches shadows, and on its collection
CATCHING = "Instruct NeRF shadow catcher"  # a material
UNTOUCHED, ENOUGH = 4096, 64  # Cycles' own number of samples, and the one that takes its place


def partner_of(scene: bpy.types.Scene) -> bpy.types.Scene | None:
    """The scene of a scene's objects, where these are composited."""
    return scene.instruct_nerf.objects_scene


def begin(scene: bpy.types.Scene) -> None:
    """Composite a scene's objects with what the engine renders of it. Raises ``ValueError`` with a sentence."""
    if cameras.root_of(scene, workspace_of(scene)) is None:
        raise ValueError("The capture is not in this scene; open it again.")
    if not hasattr(scene, "cycles"):
        raise ValueError("Cycles renders the objects: enable its add-on in the preferences.")
    end(scene)
    partner = _new_partner(scene)
    scene.render.engine = OWN_ENGINE
    scene.view_layers[0].use_pass_z = True
    scene.render.use_compositing = True
    scene.instruct_nerf.objects_scene = partner
    follow(scene)
    try:
        nodes.build(scene, partner, OBJECTS, SHADOWS if _catchers(partner) else "")
    except ValueError:
        end(scene)
        raise


def end(scene: bpy.types.Scene) -> None:
    """Composite them no longer."""
    nodes.remove(scene)
    partner = partner_of(scene)
    scene.instruct_nerf.objects_scene = None
    if partner is not None:
        own = [child for child in partner.collection.children if CATCHER in child]
        bpy.data.batch_remove([*(item for child in own for item in child.objects), *own])
        bpy.data.scenes.remove(partner)


def _new_partner(scene: bpy.types.Scene) -> bpy.types.Scene:
    partner = scene.copy()
    partner.name = f"{scene.name} Objects"
    partner.instruct_nerf.workspace = ""  # it shows no capture: it renders beside one
    partner.instruct_nerf.objects_scene = None
    nodes.clear(partner)
    if partner.sequence_editor is not None:
        partner.sequence_editor_clear()
    render = partner.render
    render.engine, render.film_transparent = "CYCLES", True
    render.use_compositing = render.use_sequencer = False
    if partner.cycles.samples == UNTOUCHED:
        partner.cycles.samples = ENOUGH
    first, *others = partner.view_layers
    for layer in others:
        partner.view_layers.remove(layer)
    first.name, first.use, first.use_pass_z, first.material_override = OBJECTS, True, True, None
    return partner


def follow(scene: bpy.types.Scene) -> None:
    """See to it that the scene of the objects has what the scene has. Called often: only what differs is changed."""
    partner = partner_of(scene)
    if partner is None:
        return
    for name in ("camera", "world"):
        if getattr(partner, name) != getattr(scene, name):
            setattr(partner, name, getattr(scene, name))
    if _markers(partner) != _markers(scene):
        partner.timeline_markers.clear()
        for marker in scene.timeline_markers:
            partner.timeline_markers.new(marker.name, frame=marker.frame).camera = marker.camera
    _follow_collection(scene.collection.objects, partner.collection.objects)
    _follow_collection(scene.collection.children, partner.collection.children)
    _follow_mesh(scene, partner)


def _markers(scene: bpy.types.Scene) -> list[tuple[str, int, Any]]:
    return [(marker.name, marker.frame, marker.camera) for marker in scene.timeline_markers]


def _follow_collection(wanted: Any, there: Any) -> None:
    for item in set(wanted) - set(there):
        there.link(item)
    for item in set(there) - set(wanted):
        if CATCHER not in item:
            there.unlink(item)


def _follow_mesh(scene: bpy.types.Scene, partner: bpy.types.Scene) -> None:
    """The mesh that is shown catches shadows, as a copy that no other layer shows; the meshes themselves are not
    rendered beside the objects."""
    root = cameras.root_of(scene, workspace_of(scene))
    meshes = [item for item in root.children if item.type == "MESH" and MESH in item] if root is not None else []
    shown = next((item for item in meshes if not item.hide_render), None)
    own = cameras.collection_of(root, scene) if meshes else None
    if own is not None:
        part = cameras.part_of(own, MESHES)
        for item in meshes:
            if part not in item.users_collection:
                part.objects.link(item)
            if own in item.users_collection:
                own.objects.unlink(item)
    _follow_catcher(partner, shown)
    for layer in partner.view_layers:
        for child in _children_of(layer.layer_collection):
            hidden = child.collection.get(cameras.PART) == MESHES or (
                CATCHER in child.collection and layer.name == OBJECTS
            )
            if hidden and not child.exclude:
                child.exclude = True


def _follow_catcher(partner: bpy.types.Scene, shown: bpy.types.Object | None) -> None:
    catchers = _catchers(partner)
    if shown is None:
        return
    if not catchers:
        collection = bpy.data.collections.new(f"{partner.name} Shadow Catcher")
        catcher = bpy.data.objects.new(f"{shown.name} Shadow Catcher", shown.data)
        collection[CATCHER] = catcher[CATCHER] = True
        catcher.is_shadow_catcher = True
        collection.objects.link(catcher)
        partner.collection.children.link(collection)
        layer = partner.view_layers.new(SHADOWS)
        layer.cycles.use_pass_shadow_catcher = True
        layer.material_override = _catching()
        catchers = [catcher]
    for catcher in catchers:
        if catcher.data != shown.data:
            former, catcher.data = catcher.data, shown.data
            if former is not None and former.users == 0:
                bpy.data.meshes.remove(former)
        if catcher.parent != shown.parent:
            catcher.parent = shown.parent
        if catcher.matrix_parent_inverse != shown.matrix_parent_inverse:
            catcher.matrix_parent_inverse = shown.matrix_parent_inverse
        if catcher.matrix_basis != shown.matrix_basis:
            catcher.matrix_basis = shown.matrix_basis


def _catchers(partner: bpy.types.Scene) -> list[bpy.types.Object]:
    return [item for child in partner.collection.children if CATCHER in child for item in child.objects]


def _children_of(layer: bpy.types.LayerCollection) -> list[bpy.types.LayerCollection]:
    return [found for child in layer.children for found in (child, *_children_of(child))]


def _catching() -> bpy.types.Material:
    """A material that light falls on: the mesh's own glows, and what glows has no shadows."""
    material = bpy.data.materials.get(CATCHING)
    if material is None:
        material = bpy.data.materials.new(CATCHING)
        if not material.use_nodes:  # always on from 5.0, where setting it is deprecated
            material.use_nodes = True
        tree = material.node_tree
        tree.nodes.clear()
        diffuse, output = tree.nodes.new("ShaderNodeBsdfDiffuse"), tree.nodes.new("ShaderNodeOutputMaterial")
        tree.links.new(diffuse.outputs[0], output.inputs[0])
    return material


@bpy.app.handlers.persistent
def _after_update(scene: bpy.types.Scene, _graph: bpy.types.Depsgraph) -> None:
    if scene.library is None and scene.instruct_nerf.objects_scene is not None and scene.instruct_nerf.workspace:
        follow(scene)


def register() -> None:
    """Begin to follow."""
    bpy.app.handlers.depsgraph_update_post.append(_after_update)


def unregister() -> None:
    """Follow no longer."""
    handlers = bpy.app.handlers.depsgraph_update_post
    if _after_update in handlers:
        handlers.remove(_after_update)
