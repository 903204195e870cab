# SPDX-License-Identifier: GPL-3.0-or-later
"""Key views and the schedule that follows them; Blender's own menu of presets."""

from __future__ import annotations

import bpy
from bl_ui.utils import PresetPanel

from .. import key_views, previews, project
from ..drawing import field, sentences, share_of_labels
from ..scene import cameras
from ..words import t
from .base import Base

EMPTY = (
    "Try on one view until you like it and press Use as Key View: the whole scene then follows that picture. Up to "
    "four, from different sides."
)


class INSTRUCT_NERF_PT_presets(PresetPanel, bpy.types.Panel):
    """Settings of edits, kept by name"""

    bl_label = "Edit Presets"
    preset_subdir = "instruct_nerf/edit"
    preset_operator = "script.execute_preset"
    preset_add_operator = "instruct_nerf.preset_add"


class INSTRUCT_NERF_PT_key_views(Base, bpy.types.Panel):
    """Approved pictures that the whole scene follows"""

    bl_label = "Key Views"
    bl_parent_id = "INSTRUCT_NERF_PT_edit"

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings = scene.instruct_nerf
        field(layout, settings, "schedule", share_of_labels(context, ["Schedule"]))
        if not settings.key_views:
            sentences(layout, context, EMPTY)
        elif not key_views.are_followed(scene):
            sentences(layout, context, "Iterative Dataset Update does not use key views.", "INFO")
        column = layout.column(align=True)
        for number, key in enumerate(settings.key_views):
            row = column.row(align=True)
            path = key_views.path_of(scene, key)
            if icon := previews.icon(path, f"key {number}"):
                row.template_icon(icon_value=icon, scale=3.0)
            row.label(text=key.view, icon="NONE" if icon else "ERROR")
            row.operator("instruct_nerf.remove_key_view", text="", icon="X").view = key.view
        column = layout.column(align=True)  # beside each other they would be cut off
        column.operator("instruct_nerf.use_as_key_view", text="Add Try", icon="ADD")
        view = project.active_view(context)
        text = t("Picture of {view}").format(view=view[cameras.VIEW]) if view is not None else "Add Picture"
        column.operator("instruct_nerf.picture_as_key_view", text=text, icon="FILE_IMAGE")
        if not settings.key_views:
            layout.operator("instruct_nerf.propose_key_view", icon="CAMERA_DATA")


CLASSES = (INSTRUCT_NERF_PT_presets, INSTRUCT_NERF_PT_key_views)
