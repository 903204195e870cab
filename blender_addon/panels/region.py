# SPDX-License-Identifier: GPL-3.0-or-later
"""Where alone the scene is to change."""

from __future__ import annotations

import bpy

from ..drawing import sentences
from ..scene import region
from ..words import t
from .base import Base


class INSTRUCT_NERF_PT_region(Base, bpy.types.Panel):
    """Where alone the scene is to change"""

    bl_label = "Edit Only Inside"
    bl_parent_id = "INSTRUCT_NERF_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.prop(context.scene.instruct_nerf, "use_region", text="")

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.instruct_nerf
        row = layout.row(align=True)
        row.operator("instruct_nerf.region_box", icon="CUBE")
        row.operator("instruct_nerf.region_selected")
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.enabled = settings.use_region
        column.prop(settings, "region")
        column.prop(settings, "region_softness")
        column.prop(settings, "region_invert")
        items = region.objects_of(settings.region)
        if items:
            names = ", ".join(item.name for item in items[:3])
            if len(items) > 3:
                names = t("{names} and {count} more").format(names=names, count=len(items) - 3)
            inside = t("Inside {names} the scene changes; the rest stays as captured.")
            outside = t("Outside of {names} the scene changes; the rest stays as captured.")
            if settings.use_region:
                sentences(layout, context, (outside if settings.region_invert else inside).format(names=names))
        elif settings.use_region:
            sentences(
                layout.box(), context, "The region has no object yet: add a box, or use selected meshes.", "ERROR"
            )


CLASSES = (INSTRUCT_NERF_PT_region,)
