# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving the line between before and after with the mouse."""

from __future__ import annotations

import bpy

from ..scene import wipe
from .base import has_capture


def viewport(context: bpy.types.Context) -> bpy.types.SpaceView3D | None:
    """The viewport that an operator is called in."""
    space = context.space_data
    return space if space is not None and space.type == "VIEW_3D" else None


class INSTRUCT_NERF_OT_wipe(bpy.types.Operator):
    """Moves the line"""

    bl_description = (
        "Looking through a view's camera, draw the line between before and after to where the mouse is; click to leave "
        "it there, Escape to put it back"
    )
    bl_idname = "instruct_nerf.wipe"
    bl_label = "Move Line"
    bl_options = {"REGISTER", "UNDO", "BLOCKING"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not has_capture(cls, context):
            return False
        space = viewport(context)
        if space is None or wipe.camera_seen(space) is None:
            cls.poll_message_set("Look through one of the capture's cameras first: press Show View")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        settings = context.scene.instruct_nerf
        self._before = settings.use_wipe, settings.wipe
        settings.use_wipe = True
        self._follow(context, event)
        context.window.cursor_modal_set("MOVE_X")
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type in {"MOUSEMOVE", "INBETWEEN_MOUSEMOVE"}:
            self._follow(context, event)
        elif event.type in {"LEFTMOUSE", "RET", "NUMPAD_ENTER"} and event.value == "PRESS":
            return self._end(context, {"FINISHED"})
        elif event.type in {"RIGHTMOUSE", "ESC"}:
            self.cancel(context)
            return {"CANCELLED"}
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Put the line back where it was."""
        settings = context.scene.instruct_nerf
        settings.use_wipe, settings.wipe = self._before
        self._end(context, {"CANCELLED"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Without a mouse: show the wipe, its line where it is."""
        context.scene.instruct_nerf.use_wipe = True
        return {"FINISHED"}

    def _follow(self, context: bpy.types.Context, event: bpy.types.Event) -> None:
        space = viewport(context)
        camera = wipe.camera_seen(space) if space is not None else None
        region = next((r for r in context.area.regions if r.type == "WINDOW"), None) if camera is not None else None
        frame = wipe.frame_of(context.scene, camera, region, space.region_3d) if region is not None else None
        if frame is not None and frame[2] > frame[0]:
            share = (event.mouse_x - region.x - frame[0]) / (frame[2] - frame[0])
            context.scene.instruct_nerf.wipe = min(1.0, max(0.0, share))
            context.area.tag_redraw()

    def _end(self, context: bpy.types.Context, result: set[str]) -> set[str]:
        context.window.cursor_modal_restore()
        if context.area is not None:
            context.area.tag_redraw()
        return result


CLASSES = (INSTRUCT_NERF_OT_wipe,)
