# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting and resuming edits."""

import bpy
from bpy.props import StringProperty

from .. import downloads, editing, knobs, project
from ..words import t
from .base import AsksAgain, attempt, has_capture, idle


class INSTRUCT_NERF_OT_use_instruction(bpy.types.Operator):
    """Take this instruction"""

    bl_idname = "instruct_nerf.use_instruction"
    bl_label = "Use Instruction"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    instruction: StringProperty(name="Instruction")

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.instruct_nerf.instruction = self.instruction
        return {"FINISHED"}


class INSTRUCT_NERF_OT_reset_knob(bpy.types.Operator):
    """Leave this to the editor again"""

    bl_idname = "instruct_nerf.reset_knob"
    bl_label = "Reset to the Editor's Own"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    knob: StringProperty(name="Knob", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        editor = project.editor_of(context.scene)
        group = knobs.group_of(context.scene, editor) if editor is not None else None
        if group is None or not hasattr(group, self.knob):
            return {"CANCELLED"}
        group.property_unset(self.knob)
        return {"FINISHED"}


class INSTRUCT_NERF_OT_download(bpy.types.Operator):
    """Download this model, after its size and licence were shown; what was cancelled goes on where it was"""

    bl_idname = "instruct_nerf.download"
    bl_label = "Download Editor"
    bl_options = {"REGISTER"}

    model: StringProperty(name="Model", description="Empty: the chosen editor", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if downloads.missing_editor(context.scene) is None and not downloads.missing_models():
            cls.poll_message_set("What can be downloaded is on this computer already")
            return False
        if not bpy.app.online_access:
            cls.poll_message_set(downloads.OFFLINE)
            return False
        return idle(cls)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=440, confirm_text="Agree and Download")

    def draw(self, context: bpy.types.Context) -> None:
        model = downloads.missing(context.scene, self.model)
        if model is None:
            return
        offer, layout = model.offer, self.layout
        layout.label(text=f"{model.label} ({model.name}), {downloads.size(offer.bytes)}", icon="IMPORT")
        for line in downloads.terms(model):
            layout.label(text=line, icon="ERROR" if line == t("Not for commercial use") else "BLANK1")
        layout.label(text=t("Into {folder}").format(folder=offer.folder), icon="FILE_FOLDER")
        if offer.gated:
            layout.label(text="Its terms must be accepted on its page first, signed in", icon="INFO")
        row = layout.row()
        row.operator("wm.url_open", text="Licence", icon="URL").url = offer.licence_url or offer.page
        row.operator("wm.url_open", text="The Model's Page", icon="URL").url = offer.page

    def execute(self, context: bpy.types.Context) -> set[str]:
        panel = "results" if self.model else "edit"
        model = downloads.missing(context.scene, self.model)
        return attempt(self, panel, lambda: model and downloads.download(model, panel))


class INSTRUCT_NERF_OT_start(AsksAgain, bpy.types.Operator):
    """Edit the scene: the NeRF is trained first where that was not done yet"""

    bl_idname = "instruct_nerf.start_edit"
    bl_label = "Start"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and idle(cls)

    def too_slow(self, context: bpy.types.Context) -> str:
        return project.too_slow(context.scene)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "edit", lambda: editing.start_edit(context.scene, self.even_on_cpu))


class INSTRUCT_NERF_OT_resume(AsksAgain, bpy.types.Operator):
    """Go on with this edit where it was stopped"""

    bl_idname = "instruct_nerf.resume_edit"
    bl_label = "Resume"
    bl_options = {"REGISTER"}

    edit: StringProperty(name="Edit", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and idle(cls)

    def too_slow(self, context: bpy.types.Context) -> str:
        return project.too_slow(context.scene, self.edit)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "edit", lambda: editing.resume_edit(context.scene, self.edit, self.even_on_cpu))


CLASSES = (
    INSTRUCT_NERF_OT_use_instruction,
    INSTRUCT_NERF_OT_reset_knob,
    INSTRUCT_NERF_OT_download,
    INSTRUCT_NERF_OT_start,
    INSTRUCT_NERF_OT_resume,
)
