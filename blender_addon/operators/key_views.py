# SPDX-License-Identifier: GPL-3.0-or-later
"""Approving pictures as key views."""

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty

from .. import key_views, project, tries
from ..scene import cameras
from .base import attempt, has_capture, idle
from .talk import has_view
from .tries import OfTry

PANEL = "edit"


class INSTRUCT_NERF_OT_use_as_key_view(OfTry, bpy.types.Operator):
    """Approve this edit: the whole scene follows it"""

    bl_idname = "instruct_nerf.use_as_key_view"
    bl_label = "Use as Key View"
    bl_options = {"REGISTER", "UNDO"}

    cell: IntProperty(
        name="Picture", description="Which picture of a contact sheet; -1: the one that is meant", default=-1, min=-1,
        options={"SKIP_SAVE"},
    )  # fmt: skip

    def execute(self, context: bpy.types.Context) -> set[str]:
        def approve() -> None:
            tried = tries.wanted(context.scene, self.tried)
            meant = tried == tries.shown(context.scene)
            number = self.cell if self.cell >= 0 else tries.shown_cell(context.scene) if meant else 0
            key_views.approve(context.scene, tried.view, tries.cell_of(tried, number).image)

        return attempt(self, PANEL, approve)


class INSTRUCT_NERF_OT_picture_as_key_view(bpy.types.Operator):
    """Use an image file, painted or made in another program from the active camera's photo, as the edit of that view"""

    bl_idname = "instruct_nerf.picture_as_key_view"
    bl_label = "Use Picture as Key View"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(name="Picture", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_image: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and has_view(cls, context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = project.active_view(context)[cameras.VIEW]
        return attempt(self, PANEL, lambda: key_views.approve(context.scene, view, self.filepath))


class INSTRUCT_NERF_OT_remove_key_view(bpy.types.Operator):
    """Let this view be edited like any other again; its picture stays"""

    bl_idname = "instruct_nerf.remove_key_view"
    bl_label = "Remove Key View"
    bl_options = {"REGISTER", "UNDO"}

    view: StringProperty(name="View", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.scene.instruct_nerf.key_views:
            cls.poll_message_set("There are no key views")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, PANEL, lambda: key_views.remove(context.scene, self.view))


class INSTRUCT_NERF_OT_propose_key_view(bpy.types.Operator):
    """Make the camera active that sees most of what the others see, for a first key view"""

    bl_idname = "instruct_nerf.propose_key_view"
    bl_label = "Propose View"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and idle(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, PANEL, lambda: tries.propose_key_view(context.scene))


CLASSES = (
    INSTRUCT_NERF_OT_use_as_key_view,
    INSTRUCT_NERF_OT_picture_as_key_view,
    INSTRUCT_NERF_OT_remove_key_view,
    INSTRUCT_NERF_OT_propose_key_view,
)
