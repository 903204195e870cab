# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a capture, and choosing the views that are edited."""

from __future__ import annotations

import bpy

from .. import project, session, workspaces
from ..drawing import installing, notice, running, sentences
from ..scene import cameras
from ..words import t
from .base import Base
from .engine import set_up

FIRST = (
    "Open a capture: its photos appear behind cameras in the viewport.",
    "Choose cameras, and type what the scene shall become.",
    "Press Start: the engine learns the scene and edits it; mesh and film come back.",
)


class INSTRUCT_NERF_PT_capture(Base, bpy.types.Panel):
    """Opening a capture"""

    bl_label = "Capture"

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings, found = scene.instruct_nerf, project.project_of(scene)
        row = layout.row(align=True)
        row.scale_y = 1.3
        # The file browser ignores INVOKE's remembered path, so the open folder is what it starts in.
        row.operator("instruct_nerf.open_capture", icon="FILE_FOLDER")
        row.operator_menu_enum("instruct_nerf.photograph", "way", text="", icon="RENDER_STILL")
        notice(layout, context, "capture")
        running(layout, context, "capture")
        unplaced = session.get().unplaced.get(scene.session_uid)
        if unplaced is not None and not session.get().busy:
            box = layout.box()
            sentences(box, context, unplaced.sentence, "INFO")
            box.operator("instruct_nerf.find_cameras", icon="CON_CAMERASOLVER")
        if not settings.workspace:
            self.first(context)
            return
        capture = found.capture if found else None
        if capture is None:
            if not session.get().busy:
                sentences(layout, context, "This file's capture has not been read since Blender started.", "INFO")
                layout.operator("instruct_nerf.reconnect", icon="FILE_REFRESH")
                if workspaces.is_missing(scene):
                    layout.operator("instruct_nerf.find_project", icon="VIEWZOOM")
        else:
            size = capture.views[0].camera.intrinsics if capture.views else None
            column = layout.column(align=True)
            title = cameras.absolute(settings.workspace).replace("\\", "/").rsplit("/", 1)[-1]
            column.label(text=f"{title}: {t('{count} views').format(count=len(capture.views))}", icon="CAMERA_DATA")
            if size is not None:
                held = sum(view.held_out for view in capture.views)
                kept = t("{count} kept for measuring").format(count=held)
                column.label(text=f"{size.width} × {size.height} px, {kept}", icon="BLANK1")
            for note in capture.notes:
                sentences(layout, context, note, "INFO")
        if not bpy.data.filepath:
            sentences(layout, context, "Save the .blend file before opening to keep the project beside it.", "INFO")

    def first(self, context: bpy.types.Context) -> None:
        """What this is, what it needs, and how to begin without a capture."""
        layout, state = self.layout, session.get()
        sentences(layout, context, "A folder of photos, with or without camera poses, or a video.")
        if not bpy.data.filepath:
            sentences(layout, context, "Saved first, this file gets its project beside it.", "INFO")
            layout.operator("wm.save_mainfile", text="Save File", icon="FILE_TICK")
        box = layout.box()
        for number, line in enumerate(FIRST, 1):
            sentences(box, context, f"{number}. {t(line)}")
        if state.installer is not None:
            installing(box, context, state.installer)
        elif project.engine_command(("",)) is None:
            set_up(box, context)
        if not state.busy:
            box.operator("instruct_nerf.open_example", icon="SCENE_DATA")
            sentences(box, context, "32 small renders of a new scene, on this computer; a minute or two.")


class INSTRUCT_NERF_PT_left_out(Base, bpy.types.Panel):
    """Which views could not be opened, and why"""

    bl_label = "Left Out"
    bl_parent_id = "INSTRUCT_NERF_PT_capture"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        found = project.project_of(context.scene)
        return found is not None and found.capture is not None and bool(found.capture.left_out)

    def draw_header(self, context: bpy.types.Context) -> None:
        found = project.project_of(context.scene)
        self.layout.label(text=f"{len(found.capture.left_out)}")

    def draw(self, context: bpy.types.Context) -> None:
        by_reason: dict[str, list[str]] = {}
        for name, reason in project.project_of(context.scene).capture.left_out:
            by_reason.setdefault(reason or t("no reason given"), []).append(name)
        for reason, names in by_reason.items():
            sentences(self.layout, context, f"{len(names)}: {reason}", "ERROR")
            shown = ", ".join(names[:40])
            if len(names) > 40:
                shown = t("{names} and {count} more").format(names=shown, count=len(names) - 40)
            sentences(self.layout, context, shown)


class INSTRUCT_NERF_PT_workspace(Base, bpy.types.Panel):
    """Where the project lies"""

    bl_label = "Project"
    bl_parent_id = "INSTRUCT_NERF_PT_capture"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.instruct_nerf
        layout.use_property_split, layout.use_property_decorate = True, False
        row = layout.row()
        row.enabled = not session.get().busy  # what a job makes goes to the folder that it began with
        row.prop(settings, "workspace")
        layout.prop(settings, "masks")
        layout.prop(settings, "long_side")
        layout.prop(settings, "background")
        layout.prop(settings, "all_pixels")
        column = layout.column()
        column.enabled = not project.is_trained(context.scene)  # what is trained goes on as it was begun
        column.prop(settings, "compare_photos")
        row = column.row()
        row.enabled = settings.compare_photos
        row.prop(settings, "flat_surfaces")
        layout.operator("instruct_nerf.open_workspace", icon="WORKSPACE")


class INSTRUCT_NERF_PT_cameras(Base, bpy.types.Panel):
    """Choosing the views that are edited"""

    bl_label = "Cameras"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return project.root_of(context.scene) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        root = project.root_of(scene)
        views = cameras.cameras_of(root)
        chosen = sum(bool(view.get(cameras.CHOSEN)) for view in views)
        said = t("{count} of {all} views chosen") if chosen else t("All {all} views")
        layout.label(text=said.format(count=chosen, all=len(views)))
        row = layout.row(align=True)
        row.operator("instruct_nerf.use_selected")
        row.operator("instruct_nerf.use_all")
        row.operator("instruct_nerf.select_chosen", text="", icon="RESTRICT_SELECT_OFF")
        hidden = any(view.hide_get() for view in views[:50])
        icon = "HIDE_ON" if hidden else "HIDE_OFF"
        row.operator("instruct_nerf.hide_others", text="", icon=icon, depress=hidden)
        row = layout.row(align=True)
        row.operator("instruct_nerf.choose_seeing", text="See Selected").what = "OBJECTS"
        row.operator("instruct_nerf.choose_seeing", text="See Cursor").what = "CURSOR"
        row = layout.row(align=True)
        row.operator("instruct_nerf.choose_every", text="Every Nth")
        row.operator("instruct_nerf.choose_more")
        row.operator("instruct_nerf.choose_others")
        for warning in project.warnings_of_choice(scene):
            sentences(layout.box(), context, warning, "ERROR")
        layout.operator("instruct_nerf.look_through", icon="VIEW_CAMERA")


CLASSES = (
    INSTRUCT_NERF_PT_capture,
    INSTRUCT_NERF_PT_left_out,
    INSTRUCT_NERF_PT_workspace,
    INSTRUCT_NERF_PT_cameras,
)
