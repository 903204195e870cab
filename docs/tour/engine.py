# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine: the edited scene in a Rendered viewport, and a cube that stands half behind it."""

from __future__ import annotations

import bpy

from . import hand
from .window import Window

F12 = "96"  # its number: by its name xdotool presses Alt, too, and Blender then renders the sequencer's scene
PATIENCE = 300.0  # seconds of a picture


def rendered(w: Window) -> hand.Program:
    """Choose the engine, see the scene in the viewport, and render a picture with a cube in it."""
    yield from hand.press("instruct_nerf.use_engine")
    scene, view = w.scene, hand.area().spaces.active
    assert scene.render.engine == "INSTRUCT_NERF", scene.render.engine
    found = w.mesh()
    yield from w.in_front_of(w.middle(), found)
    hidden = [item for item in w.views() if not item.hide_get()]
    for item in hidden:
        item.hide_set(True)
    bpy.ops.mesh.primitive_cube_add(size=0.25 * max(found.dimensions), location=found.matrix_world @ middle(found))
    cube = bpy.context.object
    cube.rotation_euler = (0.3, 0.2, 0.6)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    scene.collection.objects.link(sun)
    sun.data.energy, sun.matrix_world = 4.0, w.middle().matrix_world  # from where the picture is taken
    view.shading.type = "RENDERED"
    yield from w.into_viewport(0.15)
    yield 10.0
    yield from hand.wait(w.quiet, PATIENCE)
    w.look("rendered")
    yield from hand.press("instruct_nerf.composite(", hand.LAST)
    bpy.context.preferences.view.render_display_type = "AREA"
    yield from w.into_viewport()
    view.region_3d.view_perspective = "CAMERA"
    done: list[str] = []

    def written(*_: object) -> None:
        done.append("rendered")

    bpy.app.handlers.render_complete.append(written)
    bpy.app.handlers.render_cancel.append(lambda *_: done.append("cancelled"))
    yield from hand.keys(F12)
    yield from hand.wait(lambda: done, PATIENCE)
    assert done == ["rendered"], done
    yield 1.0
    yield from hand.keys("shift+Home")  # as large as the area is
    yield 1.0
    w.look("composited")
    picture = w.folder / "composited.png"
    bpy.data.images["Render Result"].save_render(str(picture))
    assert picture.stat().st_size > 2000
    yield from hand.keys("Escape")
    yield 1.0
    view.shading.type = "SOLID"
    yield from hand.press("instruct_nerf.composite_end", hand.LAST)
    bpy.data.batch_remove([cube, sun])
    for item in hidden:
        item.hide_set(False)


def middle(item: bpy.types.Object) -> object:
    """The middle of an object's box, in its own coordinates."""
    from mathutils import Vector

    return sum((Vector(corner) for corner in item.bound_box), Vector()) / 8
