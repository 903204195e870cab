# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender materials of the benchmark's scenes, and those that an instruction turns a subject into."""

from __future__ import annotations

import bpy

Colour = tuple[float, float, float]

TEXTURES = {
    "checks": "ShaderNodeTexChecker", "waves": "ShaderNodeTexWave", "cells": "ShaderNodeTexVoronoi",
    "noise": "ShaderNodeTexNoise", "bricks": "ShaderNodeTexBrick",
}  # fmt: skip


def pattern(
    name: str, texture: str, dark: Colour, light: Colour, scale: float, roughness: float = 0.6, metallic: float = 0.0
) -> bpy.types.Material:
    """A texture between two linear colours over object coordinates, uneven by noise: a NeRF holds on to it."""
    material, shader = _principled(name, roughness, metallic)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    place = nodes.new("ShaderNodeTexCoord").outputs["Object"]
    node = nodes.new(TEXTURES[texture])
    node.inputs["Scale"].default_value = scale
    links.new(place, node.inputs["Vector"])
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 2.3 * scale
    links.new(place, noise.inputs["Vector"])
    factor = nodes.new("ShaderNodeMath")
    factor.operation = "MULTIPLY_ADD"
    links.new(_value(noise), factor.inputs[0])
    factor.inputs[1].default_value = 0.5
    halved = nodes.new("ShaderNodeMath")
    halved.operation = "MULTIPLY"
    halved.inputs[1].default_value = 0.7
    links.new(_value(node), halved.inputs[0])
    links.new(halved.outputs[0], factor.inputs[2])
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*dark, 1.0)
    ramp.color_ramp.elements[1].color = (*light, 1.0)
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.2, 0.8
    links.new(factor.outputs[0], ramp.inputs["Fac" if "Fac" in ramp.inputs else "Factor"])
    links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    return material


SUBJECTS: dict[str, tuple[Colour, float, float]] = {
    # what a word makes of a subject: linear base colour, roughness, metallic
    "gold": ((1.0, 0.60, 0.11), 0.32, 1.0),
    "bronze": ((0.42, 0.20, 0.07), 0.42, 1.0),
    "marble": ((0.86, 0.84, 0.80), 0.30, 0.0),
    "red": ((0.60, 0.02, 0.02), 0.50, 0.0),
    "blue": ((0.02, 0.07, 0.60), 0.50, 0.0),
    "green": ((0.02, 0.34, 0.05), 0.50, 0.0),
}


def subject(key: str) -> bpy.types.Material:
    """The material that the instruction ``key`` names."""
    colour, roughness, metallic = SUBJECTS[key]
    material, shader = _principled(key, roughness, metallic)
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    return material


def under_snow(material: bpy.types.Material) -> None:
    """Lay snow on what of a material faces the sky."""
    tree = material.node_tree
    nodes, links = tree.nodes, tree.links
    output = next(node for node in nodes if node.bl_idname == "ShaderNodeOutputMaterial")
    below = output.inputs["Surface"].links[0].from_socket
    snow = nodes.new("ShaderNodeBsdfPrincipled")
    snow.inputs["Base Color"].default_value = (0.88, 0.91, 0.95, 1.0)
    snow.inputs["Roughness"].default_value = 0.9
    axes = nodes.new("ShaderNodeSeparateXYZ")
    links.new(nodes.new("ShaderNodeNewGeometry").outputs["Normal"], axes.inputs[0])
    cover = nodes.new("ShaderNodeMapRange")
    cover.inputs["From Min"].default_value, cover.inputs["From Max"].default_value = 0.25, 0.7
    links.new(axes.outputs["Z"], cover.inputs["Value"])
    mixed = nodes.new("ShaderNodeMixShader")
    links.new(cover.outputs[0], mixed.inputs[0])
    links.new(below, mixed.inputs[1])
    links.new(snow.outputs[0], mixed.inputs[2])
    links.new(mixed.outputs[0], output.inputs["Surface"])


def _principled(name: str, roughness: float, metallic: float):  # type: ignore[no-untyped-def]
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Metallic"].default_value = metallic
    return material, shader


def _value(node: bpy.types.Node) -> bpy.types.NodeSocket:
    return next(o for o in node.outputs if o.name in {"Fac", "Factor", "Distance"})
