# SPDX-License-Identifier: GPL-3.0-or-later
"""The colour of the choice: chosen cameras are drawn over in it, in every viewport that shows them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import bpy
from mathutils import Vector

from . import chores, project
from .scene import cameras

COLOUR = (0.15, 0.85, 0.65, 1.0)  # unlike Blender's for what is selected, active or the scene's camera
AROUND = 1.04  # times as large as the camera itself

_handle: Any = None
Layer = tuple[int, str]  # a scene, and one of its view layers
_lines: dict[Layer, tuple[object, Any]] = {}  # what they were made of, and the lines, under the root


def frustum(camera: bpy.types.Object, size: float) -> list[tuple[float, float, float]]:
    """The ends of the lines of a drawn camera, in its own axes, where Blender draws it ``size`` wide."""
    data, (width, height), (x, y) = camera.data, camera[cameras.SIZE], camera[cameras.ASPECT]
    half = size / 2.0
    tall, depth = half * (height * y) / (width * x), size * data.lens / data.sensor_width
    left, low = size * data.shift_x, size * data.shift_y
    corners = [(left + a * half, low + b * tall, -depth) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    apex = (0.0, 0.0, 0.0)
    return [end for i in range(4) for end in (corners[i], corners[i - 1], apex, corners[i])]


def drawn(root: bpy.types.Object, layer: bpy.types.ViewLayer) -> list[bpy.types.Object]:
    """The chosen cameras that are not hidden."""
    return [c for c in cameras.cameras_of(root) if c.get(cameras.CHOSEN) and c.visible_get(view_layer=layer)]


def _making(layer: Layer, key: object, names: frozenset[str]) -> Iterator[float]:
    scene = cameras.scene_by_uid(layer[0])
    root = project.root_of(scene) if scene is not None else None
    if root is None:
        return
    scale = sum(map(abs, root.matrix_world.to_scale())) / 3.0 or 1.0
    ends = []
    for count, camera in enumerate([c for c in cameras.cameras_of(root) if c.name in names], 1):
        own = camera.matrix_basis
        ends += [own @ Vector(e) for e in frustum(camera, AROUND * camera.data.display_size / scale)]
        if count % 32 == 0:
            yield 0.5
    import gpu
    from gpu_extras.batch import batch_for_shader

    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    _lines[layer] = key, batch_for_shader(shader, "LINES", {"pos": [tuple(e) for e in ends]}) if ends else None
    yield 1.0


def _draw() -> None:
    try:
        _draw_lines()
    except Exception:  # or Blender calls it again at each redraw, with the same end
        traceback.print_exc()
        unregister()


def _draw_lines() -> None:
    context = bpy.context
    scene, space = context.scene, context.space_data
    root = project.root_of(scene) if space is not None and space.overlay.show_overlays else None
    if root is None or not root.visible_get():
        return
    shown = drawn(root, context.view_layer)
    layer, size = (scene.session_uid, context.view_layer.name), round(shown[0].data.display_size, 6) if shown else 0.0
    names = frozenset(c.name for c in shown)
    key = (root.name, names, size)
    if layer not in _lines or _lines[layer][0] != key:
        chores.do(("highlight", *layer), lambda: _making(layer, key, names), "capture")
    if layer not in _lines or _lines[layer][1] is None:
        return
    import gpu

    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    with gpu.matrix.push_pop():
        gpu.matrix.multiply_matrix(root.matrix_world)
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.blend_set("ALPHA")
        shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
        shader.uniform_float("lineWidth", 1.6 * context.preferences.system.ui_scale)
        shader.uniform_float("color", COLOUR)
        _lines[layer][1].draw(shader)
        gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("NONE")


def register() -> None:
    """Begin to draw."""
    global _handle
    if not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    """Draw no longer."""
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = None
    _lines.clear()
