# SPDX-License-Identifier: GPL-3.0-or-later
"""Before and after in one picture: looking through a view's camera, what was before is drawn at the left of a line."""

from __future__ import annotations

import traceback
from typing import Any

import bpy

from . import chores, project, wire
from .scene import cameras, wipe

LABELS = {"PARENT": "Before", "CAPTURE": "Photo"}
LINE = ((0.0, 0.0, 0.0, 0.6), 3.0), ((1.0, 1.0, 1.0, 0.9), 1.0)  # color, and width in pixels

_handle: Any = None


def before_of(scene: bpy.types.Scene, view: str) -> str:
    """The file of what is shown of a view at the left of the line; empty where there is none."""
    kind = wire.VIEW_IMAGE if scene.instruct_nerf.wipe_before == "CAPTURE" else wire.VIEW_BEFORE
    return project.picture(scene, kind, view)


def _draw() -> None:
    try:
        _draw_before()
    except Exception:  # or Blender calls it again at each redraw, with the same end
        traceback.print_exc()
        unregister()


def _draw_before() -> None:
    context = bpy.context
    scene, space = context.scene, context.space_data
    settings = scene.instruct_nerf
    if not settings.use_wipe or settings.wipe <= 0.0:
        return
    camera = wipe.camera_seen(space)
    path = before_of(scene, str(camera[cameras.VIEW])) if camera is not None else ""
    if not path:
        return
    picture = wipe.loaded(path)
    if picture is None:
        chores.do(("wipe",), lambda: wipe.loading(path), "results")
        return
    frame = wipe.frame_of(scene, camera, context.region, space.region_3d)
    if frame is not None and picture.size[0]:  # one that cannot be read has none
        _draw_picture(picture, frame, settings.wipe, settings.opacity)
        _draw_words(frame, settings)


def _draw_picture(picture: bpy.types.Image, frame: wipe.Frame, share: float, opacity: float) -> None:
    import gpu
    from gpu_extras.batch import batch_for_shader

    left, bottom, right, top = frame
    line = left + share * (right - left)
    places = [(left, bottom), (line, bottom), (line, top), (left, top)]
    shader = gpu.shader.from_builtin("IMAGE_COLOR")
    corners = {"pos": places, "texCoord": [(0.0, 0.0), (share, 0.0), (share, 1.0), (0.0, 1.0)]}
    batch = batch_for_shader(shader, "TRIS", corners, indices=[(0, 1, 2), (0, 2, 3)])
    gpu.state.blend_set("ALPHA")
    shader.uniform_sampler("image", gpu.texture.from_image(picture))
    shader.uniform_float("color", (1.0, 1.0, 1.0, opacity))
    batch.draw(shader)
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    scale = bpy.context.preferences.system.ui_scale
    for color, width in LINE:
        half = 0.5 * width * scale
        strip = [(line - half, bottom), (line + half, bottom), (line + half, top), (line - half, top)]
        batch = batch_for_shader(shader, "TRIS", {"pos": strip}, indices=[(0, 1, 2), (0, 2, 3)])
        shader.uniform_float("color", color)
        batch.draw(shader)
    gpu.state.blend_set("NONE")


def _draw_words(frame: wipe.Frame, settings: Any) -> None:
    import blf

    left, bottom, right, _ = frame
    size = 11.0 * bpy.context.preferences.system.ui_scale
    line = left + settings.wipe * (right - left)
    shown = settings.bl_rna.properties["shown"].enum_items[settings.shown].name
    blf.size(0, size)
    blf.enable(0, blf.SHADOW)
    blf.shadow(0, 5, 0.0, 0.0, 0.0, 0.8)
    blf.color(0, 1.0, 1.0, 1.0, 0.9)
    for text, right_of in ((LABELS[settings.wipe_before], False), (shown, True)):
        width = blf.dimensions(0, text)[0]
        room = right - line if right_of else line - left
        if width + size < room:
            blf.position(0, line + 0.5 * size if right_of else line - 0.5 * size - width, bottom + 0.5 * size, 0.0)
            blf.draw(0, text)
    blf.disable(0, blf.SHADOW)


def register() -> None:
    """Begin to draw."""
    global _handle
    if not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    """Draw no longer."""
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = None
    wipe.forget()
