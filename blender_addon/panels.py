# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar's tab; draws what is known and writes nothing."""

from __future__ import annotations

import bpy

from . import previews, project, session, wire
from .drawing import duration, installing, notice, running, sentences
from .scene import cameras

CATEGORY = "Instruct NeRF"
EDITS_SHOWN = 8


class Base:
    """What all panels of the tab share."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY


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
        if not settings.workspace:
            sentences(layout, context, "Photos with camera poses: a folder, or its transforms.json.")
            return
        capture = found.capture if found else None
        if capture is None:
            if not session.get().busy:
                sentences(layout, context, "This file's capture has not been read since Blender started.", "INFO")
                layout.operator("instruct_nerf.reconnect", icon="FILE_REFRESH")
        else:
            size = capture.views[0].camera.intrinsics if capture.views else None
            column = layout.column(align=True)
            title = cameras.absolute(settings.workspace).replace("\\", "/").rsplit("/", 1)[-1]
            column.label(text=f"{title}: {len(capture.views)} views", icon="CAMERA_DATA")
            if size is not None:
                held = sum(view.held_out for view in capture.views)
                column.label(text=f"{size.width} × {size.height} px, {held} kept for measuring", icon="BLANK1")
            for note in capture.notes:
                sentences(layout, context, note, "INFO")
        if not bpy.data.filepath:
            sentences(layout, context, "Save the .blend file before opening to keep the project beside it.", "INFO")


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
            by_reason.setdefault(reason or "no reason given", []).append(name)
        for reason, names in by_reason.items():
            sentences(self.layout, context, f"{len(names)}: {reason}", "ERROR")
            more = f" and {len(names) - 40} more" if len(names) > 40 else ""
            sentences(self.layout, context, ", ".join(names[:40]) + more)


class INSTRUCT_NERF_PT_workspace(Base, bpy.types.Panel):
    """Where the project lies"""

    bl_label = "Project"
    bl_parent_id = "INSTRUCT_NERF_PT_capture"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.instruct_nerf
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.prop(settings, "workspace")
        layout.prop(settings, "long_side")
        layout.prop(settings, "background")
        layout.prop(settings, "all_pixels")


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
        layout.label(text=f"{chosen} of {len(views)} views chosen" if chosen else f"All {len(views)} views")
        row = layout.row(align=True)
        row.operator("instruct_nerf.use_selected")
        row.operator("instruct_nerf.use_all")
        row.operator("instruct_nerf.select_chosen", text="", icon="RESTRICT_SELECT_OFF")
        for warning in project.warnings_of_choice(scene):
            sentences(layout.box(), context, warning, "ERROR")
        layout.operator("instruct_nerf.look_through", icon="VIEW_CAMERA")


class INSTRUCT_NERF_MT_vocabulary(bpy.types.Menu):
    """Instructions that the chosen editor was trained on"""

    bl_label = "Instructions This Editor Knows"

    def draw(self, context: bpy.types.Context) -> None:
        editor = project.editor_of(context.scene)
        for instruction in (editor.vocabulary if editor else ())[:60]:
            self.layout.operator("instruct_nerf.use_instruction", text=instruction).instruction = instruction


class INSTRUCT_NERF_PT_instruction(Base, bpy.types.Panel):
    """What the scene shall become"""

    bl_label = "Instruction"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return project.root_of(context.scene) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings, editor = scene.instruct_nerf, project.editor_of(scene)
        row = layout.row(align=True)
        row.prop(settings, "instruction", text="", icon="GREASEPENCIL")
        if editor is not None and editor.vocabulary and not settings.editor_model:
            row.menu("INSTRUCT_NERF_MT_vocabulary", text="", icon="DOWNARROW_HLT")
            if settings.instruction and settings.instruction.strip() not in editor.vocabulary:
                sentences(
                    layout, context, "Not in this editor's list: words that it does not know change nothing.", "INFO"
                )
        column = layout.column(align=True)
        column.prop(settings, "use_guidance")
        if settings.use_guidance:
            column.prop(settings, "text_guidance", slider=True)
            column.prop(settings, "image_guidance", slider=True)
        elif editor is not None and not settings.editor_model:
            column.label(text=f"The editor's own: text {editor.text_guidance:g}, photo {editor.image_guidance:g}")
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.prop(settings, "keep_background")
        column.prop(settings, "seed")
        notice(layout, context, "instruction")
        if running(layout, context, "instruction"):
            return
        view = project.active_view(context)
        text = f"Try on {view[cameras.VIEW]}" if view is not None else "Try on Active Camera"
        layout.operator("instruct_nerf.try_edit", text=text, icon="VIEWZOOM")
        before, after = session.get().tried.get(project.workspace_of(scene), ("", ""))
        icons = previews.icon(before), previews.icon(after)
        if all(icons):
            row = layout.row(align=True)
            for icon, label in zip(icons, ("Photo", "Edited"), strict=True):
                column = row.column(align=True)
                column.template_icon(icon_value=icon, scale=6.0)
                column.label(text=label)


class INSTRUCT_NERF_PT_edit(Base, bpy.types.Panel):
    """Starting and watching the edit"""

    bl_label = "Edit"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return project.root_of(context.scene) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings, info = scene.instruct_nerf, session.get().info
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.enabled = info is not None
        column.prop(settings, "preset_choice")
        column.prop(settings, "editor_choice")
        column.prop(settings, "editor_model")
        column.prop(settings, "device_choice")
        column.prop(settings, "steps")
        if (preset := project.preset_of(scene)) is not None and preset.description:
            sentences(layout, context, preset.description)
        editor = project.editor_of(scene)
        if editor is not None and not editor.available and not settings.editor_model:
            sentences(layout.box(), context, editor.reason or "This editor is not available.", "ERROR")
        notice(layout, context, "edit")
        if not running(layout, context, "edit"):
            row = layout.row()
            row.scale_y = 1.5
            row.operator("instruct_nerf.start_edit", icon="PLAY")
        self.edits(context)

    def edits(self, context: bpy.types.Context) -> None:
        """The workspace's edits, newest first."""
        found = project.project_of(context.scene)
        for _, reason in found.damaged if found is not None else ():
            sentences(self.layout.box(), context, reason, "ERROR")
        if found is None or not found.edits:
            return
        current = project.edit_of(context.scene)
        column = self.layout.box().column(align=True)
        for edit in list(reversed(found.edits))[:EDITS_SHOWN]:
            row = column.row(align=True)
            icon = "RADIOBUT_ON" if current is not None and edit.id == current.id else "RADIOBUT_OFF"
            row.operator("instruct_nerf.choose_edit", text="", icon=icon, emboss=False).edit = edit.id
            row.label(text=edit.instruction)
            if edit.finished:
                row.label(text=duration(edit.seconds))
            else:
                share = f" {100 * edit.steps // edit.of} %" if edit.of else ""
                row.operator("instruct_nerf.resume_edit", text=f"Resume{share}", icon="PLAY").edit = edit.id
        if len(found.edits) > EDITS_SHOWN:
            column.label(text=f"and {len(found.edits) - EDITS_SHOWN} older")


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
                sentences(layout, context, f"{name} has no such picture yet; its photo is shown.", "INFO")
            elif icon := previews.icon(project.picture(scene, settings.shown, name)):
                layout.template_icon(icon_value=icon, scale=7.0)
        row = layout.row(align=True)
        row.prop(settings, "opacity", slider=True)
        row.prop(settings, "in_front", text="", icon="XRAY")
        layout.operator("instruct_nerf.look_through", text="Show View", icon="VIEW_CAMERA")
        layout.separator()
        notice(layout, context, "results")
        if running(layout, context, "results"):
            return
        layout.operator("instruct_nerf.import_mesh", icon="MESH_DATA")
        column = layout.column(align=True)
        column.operator("instruct_nerf.camera_path", icon="CURVE_PATH")
        row = column.row(align=True)
        row.prop(scene, "frame_start", text="Start")
        row.prop(scene, "frame_end", text="End")
        column = layout.column(align=True)
        column.row(align=True).prop(settings, "film", expand=True)
        column.operator("instruct_nerf.render_to_sequencer", icon="SEQUENCE")
        if scene.sequence_editor is not None and scene.render.image_settings.file_format == "FFMPEG":
            column.operator("render.render", text="Render Film", icon="RENDER_ANIMATION").animation = True
        row = layout.row(align=True)
        row.operator("instruct_nerf.report", icon="SPREADSHEET")
        row.operator("instruct_nerf.open_folder", text="", icon="FOLDER_REDIRECT")


class INSTRUCT_NERF_PT_engine(Base, bpy.types.Panel):
    """The engine's state"""

    bl_label = "Engine"

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        state = session.get().state
        icon = {"ready": "CHECKMARK", "stopped": "PAUSE"}.get(state, "SORTTIME")
        self.layout.label(text=state.capitalize(), icon=icon)

    def draw(self, context: bpy.types.Context) -> None:
        layout, state = self.layout, session.get()
        notice(layout, context, "engine")
        if state.installer is not None:
            installing(layout, context, state.installer)
        elif project.engine_command(("",)) is None:
            sentences(layout, context, "The engine computes outside Blender and is installed once.", "INFO")
            if (locks := project.locks()) is not None:
                sentences(layout, context, f"Packages: {locks.download / 1e9:.1f} GB to download at most.")
            layout.operator("instruct_nerf.install_engine", text="Install Engine", icon="IMPORT")
            if not bpy.app.online_access and not getattr(project.preferences(), "wheels_folder", ""):
                sentences(layout, context, "Turn on Allow Online Access in Preferences, System, first.", "ERROR")
        elif state.state in {"stopped", "stopping"}:
            layout.operator("instruct_nerf.start_engine", icon="PLAY")
        else:
            layout.operator("instruct_nerf.stop_engine", text="Stop and Free Memory", icon="SNAP_FACE")
        if state.info is not None:
            for device in state.info.devices:
                free = f", {device.free_bytes / 2**30:.1f} GB free" if device.free_bytes else ""
                layout.label(text=f"{device.label or device.name}{free}", icon="MEMORY")


class INSTRUCT_NERF_PT_python(Base, bpy.types.Panel):
    """Where the engine is installed"""

    bl_label = "Installation"
    bl_parent_id = "INSTRUCT_NERF_PT_engine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        chosen = project.preferences()
        if chosen is not None:
            sentences(self.layout, context, "An engine elsewhere: its Python, or a command. Empty: the installed one.")
            self.layout.prop(chosen, "engine_python", text="")
        if said := project.installation():
            sentences(self.layout, context, said)
            row = self.layout.row(align=True)
            row.operator("instruct_nerf.repair_engine", icon="FILE_REFRESH")
            row.operator("instruct_nerf.remove_engine", icon="TRASH")


class INSTRUCT_NERF_PT_log(Base, bpy.types.Panel):
    """The end of the engine's log"""

    bl_label = "Log"
    bl_parent_id = "INSTRUCT_NERF_PT_engine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        state = session.get()
        lines = [*state.last_log, *(state.client.log() if state.client else ())]
        column = self.layout.column(align=True)
        column.scale_y = 0.7
        for line in lines[-14:] or ["(nothing yet)"]:
            column.label(text=line[:120])


CLASSES = (
    INSTRUCT_NERF_PT_capture,
    INSTRUCT_NERF_PT_left_out,
    INSTRUCT_NERF_PT_workspace,
    INSTRUCT_NERF_PT_cameras,
    INSTRUCT_NERF_MT_vocabulary,
    INSTRUCT_NERF_PT_instruction,
    INSTRUCT_NERF_PT_edit,
    INSTRUCT_NERF_PT_results,
    INSTRUCT_NERF_PT_engine,
    INSTRUCT_NERF_PT_python,
    INSTRUCT_NERF_PT_log,
)


def register() -> None:
    """Register the panels."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Unregister the panels."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
