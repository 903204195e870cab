# SPDX-License-Identifier: GPL-3.0-or-later
"""The compositor's nodes that put a scene and its objects together: in the scene's own tree (to 4.5) and in its node
group (from 5.0 on). An artist's own nodes stay: these take the place of what the scene's render went to."""

from __future__ import annotations

from typing import Any

import bpy

OURS = "instruct_nerf"  # on a node: which of ours it is; on a tree: that it was made, or switched on, for them
RESULT, RENDER = "result", "render"


def build(scene: bpy.types.Scene, partner: bpy.types.Scene, objects: str, shadows: str) -> None:
    """Make the nodes: the ``partner``'s view layer ``objects`` and, where it is named, its layer of ``shadows`` with
    the scene's own first layer. Raises ``ValueError`` where the tree has no use for the scene's render."""
    tree = _tree_of(scene)
    makes = _Maker(tree)
    render = _render_of(scene, tree)
    targets = [link.to_socket for link in render.outputs[0].links]
    if not targets:
        raise ValueError(
            "The compositor makes nothing of this scene's render: connect its Render Layers to the output."
        )
    x, y = render.location
    picture, depth = render.outputs[0], _output(render, "Depth")
    if shadows:
        shadow = makes.layer(partner, shadows, x, y - 800)
        picture = makes.multiply(picture, _output(shadow, "Shadow Catcher"), x + 350, y)
    own = makes.layer(partner, objects, x, y - 400)
    nearer = makes.less(_output(own, "Depth"), depth, x + 350, y - 200)
    before, behind = (
        makes.over(picture, own.outputs[0], x + 600, y),
        makes.over(own.outputs[0], picture, x + 600, y - 200),
    )
    result = makes.mixed(makes.smooth(nearer, x + 600, y - 400), behind, before, x + 850, y)
    result.node[OURS] = RESULT
    for target in targets:
        tree.links.new(result, target)


def remove(scene: bpy.types.Scene) -> None:
    """Take the nodes away, and connect again what was."""
    tree = _existing(scene)
    if tree is None:
        return
    ours = [node for node in tree.nodes if OURS in node]
    result = next((node for node in ours if node[OURS] == RESULT), None)
    if result is not None:
        render = _render_of(scene, tree)
        picture = next(socket for socket in result.outputs if socket.enabled)
        for target in [link.to_socket for link in picture.links]:
            tree.links.new(render.outputs[0], target)
    for node in ours:
        if node[OURS] != RENDER:
            tree.nodes.remove(node)
    if OURS in tree:
        del tree[OURS]
        clear(scene)


def clear(scene: bpy.types.Scene) -> None:
    """Have a scene rendered without its compositor."""
    if hasattr(scene, "compositing_node_group"):
        group, scene.compositing_node_group = scene.compositing_node_group, None
        if group is not None and group.users == 0:
            bpy.data.node_groups.remove(group)
    else:
        scene.use_nodes = False


def _existing(scene: bpy.types.Scene) -> bpy.types.NodeTree | None:
    if hasattr(scene, "compositing_node_group"):
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def _tree_of(scene: bpy.types.Scene) -> bpy.types.NodeTree:
    """The scene's compositor, made where there is none."""
    tree = _existing(scene)
    if tree is not None:
        return tree
    if not hasattr(scene, "compositing_node_group"):
        scene.use_nodes = True
        tree = scene.node_tree
        tree[OURS] = True
        if not any(node.bl_idname == "CompositorNodeComposite" for node in tree.nodes):
            tree.nodes.new("CompositorNodeComposite").location = (1100, 300)
        return tree
    tree = scene.compositing_node_group = bpy.data.node_groups.new(scene.name, "CompositorNodeTree")
    tree[OURS] = True
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    tree.nodes.new("NodeGroupOutput").location = (1100, 300)
    return tree


def _render_of(scene: bpy.types.Scene, tree: bpy.types.NodeTree) -> bpy.types.Node:
    """The node of the scene's own render; made, and connected to an output that nothing is connected to, where there is
    none."""
    for node in tree.nodes:
        if (
            node.bl_idname == "CompositorNodeRLayers"
            and node.scene in (scene, None)
            and node.get(OURS, RENDER) == RENDER
        ):
            if node.outputs[0].is_linked or OURS in node or not _open_end(tree):
                return node
            tree.links.new(node.outputs[0], _open_end(tree))
            return node
    node = tree.nodes.new("CompositorNodeRLayers")
    node.scene, node[OURS] = scene, RENDER
    if (target := _open_end(tree)) is not None:
        tree.links.new(node.outputs[0], target)
    return node


def _open_end(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket | None:
    """The input of the output node, where nothing is connected to it."""
    ends = [node for node in tree.nodes if node.bl_idname in ("CompositorNodeComposite", "NodeGroupOutput")]
    return next((end.inputs[0] for end in ends if end.inputs and not end.inputs[0].is_linked), None)


def _output(node: bpy.types.Node, name: str) -> bpy.types.NodeSocket:
    return next(socket for socket in node.outputs if socket.name == name and socket.enabled)


class _Maker:
    """Makes nodes by what they do: their names, and the order of their sockets, are other ones from 5.0 on."""

    def __init__(self, tree: bpy.types.NodeTree) -> None:
        self.tree = tree

    def _new(self, x: float, y: float, *kinds: str) -> bpy.types.Node:
        for kind in kinds:
            try:
                node = self.tree.nodes.new(kind)
            except RuntimeError:
                continue
            node.location, node[OURS] = (x, y), "part"
            return node
        raise ValueError(f"This Blender has no node {kinds[0]}.")

    def layer(self, scene: bpy.types.Scene, layer: str, x: float, y: float) -> bpy.types.Node:
        """A view layer of a scene."""
        node = self._new(x, y, "CompositorNodeRLayers")
        node.scene, node.layer, node.label = scene, layer, f"Instruct NeRF {layer}"
        return node

    def over(self, back: Any, front: Any, x: float, y: float) -> bpy.types.NodeSocket:
        """One picture over another."""
        node = self._new(x, y, "CompositorNodeAlphaOver")
        pictures = [socket for socket in node.inputs if socket.type == "RGBA"]
        self.tree.links.new(back, pictures[0])
        self.tree.links.new(front, pictures[1])
        return node.outputs[0]

    def less(self, one: Any, other: Any, x: float, y: float) -> bpy.types.NodeSocket:
        """1 where one value is less than another."""
        node = self._new(x, y, "CompositorNodeMath", "ShaderNodeMath")
        node.operation, node.label = "LESS_THAN", "Nearer"
        self.tree.links.new(one, node.inputs[0])
        self.tree.links.new(other, node.inputs[1])
        return node.outputs[0]

    def smooth(self, mask: Any, x: float, y: float) -> bpy.types.NodeSocket:
        """A mask without steps at its edges."""
        node = self._new(x, y, "CompositorNodeAntiAliasing")
        self.tree.links.new(mask, node.inputs[0])
        return node.outputs[0]

    def multiply(self, picture: Any, factor: Any, x: float, y: float) -> bpy.types.NodeSocket:
        """A picture, darker where a second one is."""
        return self._mix("MULTIPLY", None, picture, factor, x, y)

    def mixed(self, share: Any, one: Any, other: Any, x: float, y: float) -> bpy.types.NodeSocket:
        """One picture where a share is 0, another where it is 1."""
        return self._mix("MIX", share, one, other, x, y)

    def _mix(self, way: str, share: Any, one: Any, other: Any, x: float, y: float) -> bpy.types.NodeSocket:
        node = self._new(x, y, "CompositorNodeMixRGB", "ShaderNodeMix")
        if hasattr(node, "data_type"):
            node.data_type = "RGBA"
        node.blend_type = way
        factor = next(socket for socket in node.inputs if socket.type == "VALUE" and socket.enabled)
        pictures = [socket for socket in node.inputs if socket.type == "RGBA"]
        factor.default_value = 1.0
        if share is not None:
            self.tree.links.new(share, factor)
        self.tree.links.new(one, pictures[0])
        self.tree.links.new(other, pictures[1])
        return next(socket for socket in node.outputs if socket.type == "RGBA")
