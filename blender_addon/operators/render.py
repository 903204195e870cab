# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine: choosing it, and compositing Blender's own objects with what it renders."""

import bpy

from ..render import composite
from ..session import OWN_ENGINE
from .base import OfCapture, attempt


class INSTRUCT_NERF_OT_use_engine(OfCapture, bpy.types.Operator):
    """Chooses the render engine"""

    bl_description = (
        "Render this scene with Instruct NeRF: F12 and Rendered viewports show the captured or edited scene"
    )
    bl_idname = "instruct_nerf.use_engine"
    bl_label = "Render with Instruct NeRF"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.render.engine = OWN_ENGINE
        return {"FINISHED"}


class INSTRUCT_NERF_OT_composite(OfCapture, bpy.types.Operator):
    """Composites objects"""

    bl_description = (
        "Put Blender's own objects into the rendered scene, before and behind what it shows, with their shadows on the "
        "imported mesh: Cycles renders them in a scene of their own, and the compositor puts both together"
    )
    bl_idname = "instruct_nerf.composite"
    bl_label = "Composite Objects"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "results", lambda: composite.begin(context.scene), "F12 composites the objects by depth")


class INSTRUCT_NERF_OT_composite_end(bpy.types.Operator):
    """Composite the objects no longer: the scene that renders them and the compositor's nodes go"""

    bl_idname = "instruct_nerf.composite_end"
    bl_label = "Objects No Longer"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if composite.partner_of(context.scene) is None:
            cls.poll_message_set("No objects are composited")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        composite.end(context.scene)
        return {"FINISHED"}


CLASSES = (INSTRUCT_NERF_OT_use_engine, INSTRUCT_NERF_OT_composite, INSTRUCT_NERF_OT_composite_end)
