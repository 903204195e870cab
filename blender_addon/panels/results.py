# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeing and using what came of an edit."""

from __future__ import annotations

import bpy

from .. import downloads, estimates, meshes, previews, project, wire
from ..drawing import cost, notice, running, sentences
from ..render import composite
from ..scene import cameras
from ..session import OWN_ENGINE
from ..words import t
from .base import Base

EMPTY = "Mesh, splats and film are made of what the engine has learned: type an instruction and press Start first."


class INSTRUCT_NERF_PT_results(Base, bpy.types.Panel):
    """Seeing and using what came of it"""

    bl_label = "Results"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return project.root_of(context.scene) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings = scene.instruct_nerf
        layout.row(align=True).prop(settings, "shown", expand=True)
        view = project.active_view(context)
        if view is not None:
            name = str(view[cameras.VIEW])
            if settings.shown != wire.VIEW_IMAGE and not project.picture(scene, settings.shown, name):
                said = t("{view} has no such picture yet; its photo is shown.").format(view=name)
                sentences(layout, context, said, "INFO")
            elif icon := previews.icon(project.picture(scene, settings.shown, name), "view"):
                layout.template_icon(icon_value=icon, scale=7.0)
        row = layout.row(align=True)
        row.prop(settings, "opacity", slider=True)
        row.prop(settings, "in_front", text="", icon="XRAY")
        layout.operator("instruct_nerf.look_through", text="Show View", icon="VIEW_CAMERA")
        column = layout.column(align=True)
        row = column.row(align=True)
        row.prop(settings, "use_wipe", toggle=True, icon="MOD_MIRROR")
        row.operator("instruct_nerf.wipe", text="", icon="ARROW_LEFTRIGHT")
        if settings.use_wipe:
            column.prop(settings, "wipe", slider=True)
            column.row(align=True).prop(settings, "wipe_before", expand=True)
        layout.separator()
        notice(layout, context, "results")
        if running(layout, context, "results"):
            return
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("instruct_nerf.import_mesh", icon="MESH_DATA")
        row.operator("instruct_nerf.import_mesh", text="", icon="OPTIONS").ask = True
        cost(column, context, estimates.mesh(scene, meshes.HEAVY))
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("instruct_nerf.make_splats", icon="POINTCLOUD_DATA")
        row.prop(settings, "show_surfels", toggle=True, icon="HIDE_OFF")
        cost(column, context, estimates.splats(scene))
        column = layout.column(align=True)
        column.operator("instruct_nerf.camera_path", icon="CURVE_PATH")
        row = column.row(align=True)
        row.prop(scene, "frame_start", text="Start")
        row.prop(scene, "frame_end", text="End")
        column = layout.column(align=True)
        column.row(align=True).prop(settings, "film", expand=True)
        column.prop(settings, "film_title")
        column.operator("instruct_nerf.render_to_sequencer", icon="SEQUENCE")
        cost(column, context, estimates.frames(scene))
        if scene.sequence_editor is not None and scene.render.image_settings.file_format == "FFMPEG":
            column.operator("render.render", text=t("Render Film"), icon="RENDER_ANIMATION").animation = True
        layout.operator("instruct_nerf.render_frames", icon="RENDER_RESULT")
        if not project.is_trained(scene):
            sentences(layout, context, EMPTY, "INFO")
        row = layout.row(align=True)
        row.operator("instruct_nerf.use_engine", icon="SCENE", depress=scene.render.engine == OWN_ENGINE)
        if composite.partner_of(scene) is None:
            row.operator("instruct_nerf.composite", text="", icon="NODE_COMPOSITING")
        else:
            row.operator("instruct_nerf.composite_end", text="", icon="X")
        row = layout.row(align=True)
        row.operator("instruct_nerf.report", icon="SPREADSHEET")
        row.operator("instruct_nerf.open_folder", text="", icon="FOLDER_REDIRECT")
        for model in downloads.missing_models() if bpy.app.online_access else ():
            text = t("Download {model}, {size}").format(model=model.label, size=downloads.size(model.offer.bytes))
            layout.operator("instruct_nerf.download", text=text, icon="IMPORT").model = model.name
            sentences(layout, context, f"{model.use}.")


CLASSES = (INSTRUCT_NERF_PT_results,)
