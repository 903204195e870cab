# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine's own settings, among Blender's; and Blender's panels that every engine uses."""

from __future__ import annotations

import bpy

from ..drawing import sentences
from ..project import edit_of, root_of
from ..render import composite
from ..session import OWN_ENGINE
from ..words import t

# Panels that would show what other engines' layers have, lights and materials among them.
_LEFT_OUT = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes"}


class OfEngine:
    """A panel of the properties editor, while a scene renders with Instruct NeRF."""

    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene.render.engine == OWN_ENGINE


class INSTRUCT_NERF_PT_render(OfEngine, bpy.types.Panel):
    """What is rendered"""

    bl_context = "render"
    bl_label = "Instruct NeRF"

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        layout.use_property_split = True
        layout.use_property_decorate = False
        if root_of(scene) is None:
            sentences(
                layout, context, "This scene shows no capture: open one in the sidebar's tab Instruct NeRF.", "INFO"
            )
            return
        edit = edit_of(scene)
        layout.label(text=edit.title if edit is not None else t("Captured Scene"), icon="SCENE_DATA", translate=False)
        layout.prop(scene.instruct_nerf, "render_live")
        layout.prop(scene.render, "film_transparent", text="Transparent")
        layout.prop(scene.render, "preview_pixel_size", text="Viewport Pixels")
        if composite.partner_of(scene) is None:
            layout.operator("instruct_nerf.composite", icon="NODE_COMPOSITING")
        else:
            row = layout.row(align=True)
            row.label(text=composite.partner_of(scene).name, icon="NODE_COMPOSITING", translate=False)
            row.operator("instruct_nerf.composite_end", text="", icon="X")


class INSTRUCT_NERF_PT_passes(OfEngine, bpy.types.Panel):
    """What is rendered beside the color"""

    bl_context = "view_layer"
    bl_label = "Passes"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(heading="Include", align=True)
        column.prop(context.view_layer, "use_pass_z", text="Depth")
        column.prop(context.view_layer, "use_pass_normal", text="Normal")


CLASSES = (INSTRUCT_NERF_PT_render, INSTRUCT_NERF_PT_passes)


def shared() -> list[type]:
    """Blender's own panels that engines share."""
    every = [cls for cls in bpy.types.Panel.__subclasses__() if "BLENDER_RENDER" in getattr(cls, "COMPAT_ENGINES", ())]
    return [cls for cls in every if cls.__name__ not in _LEFT_OUT]


def join() -> None:
    """Show Blender's panels with our engine, too."""
    for cls in shared():
        cls.COMPAT_ENGINES.add(OWN_ENGINE)


def part() -> None:
    """And no longer."""
    for cls in bpy.types.Panel.__subclasses__():
        getattr(cls, "COMPAT_ENGINES", set()).discard(OWN_ENGINE)
