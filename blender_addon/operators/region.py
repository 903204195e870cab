# SPDX-License-Identifier: GPL-3.0-or-later
"""Saying where alone the scene is to change."""

import bpy

from .. import project
from ..scene import region
from .base import OfCapture


class INSTRUCT_NERF_OT_region_box(OfCapture, bpy.types.Operator):
    """Put a box at the 3D cursor; only what lies in it, and in the region's other objects, is edited"""

    bl_idname = "instruct_nerf.region_box"
    bl_label = "Add Box"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        settings = scene.instruct_nerf
        item = region.add_box(scene, settings.region, project.root_of(scene))
        settings.region, settings.use_region = settings.region or item.users_collection[0], True
        context.view_layer.update()  # or a new object is not in it yet
        here = set(context.view_layer.objects)
        for other in context.selected_objects:
            other.select_set(False)
        if item in here:
            item.select_set(True)
            context.view_layer.objects.active = item
        return {"FINISHED"}


class INSTRUCT_NERF_OT_region_selected(OfCapture, bpy.types.Operator):
    """Put the selected objects into the region: only what lies in one of them is edited"""

    bl_idname = "instruct_nerf.region_selected"
    bl_label = "Use Selected"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings, root = context.scene.instruct_nerf, project.root_of(context.scene)
        items = [i for i in context.selected_objects if i.type in region.SOLID and i.parent != root]
        if not items:
            self.report({"ERROR"}, "Select closed meshes that the region is to consist of first.")
            return {"CANCELLED"}
        settings.region = region.ensured(context.scene, settings.region)
        settings.use_region = True
        there = set(region.objects_of(settings.region))
        for item in items:
            if item not in there:
                settings.region.objects.link(item)
        names = ", ".join(item.name for item in region.objects_of(settings.region))
        self.report({"INFO"}, f"The region consists of {names}")
        return {"FINISHED"}


CLASSES = (INSTRUCT_NERF_OT_region_box, INSTRUCT_NERF_OT_region_selected)
