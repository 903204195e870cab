# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to what runs: pause, go on, another instruction, a view once more, a look."""

import bpy
from bpy.props import StringProperty

from .. import detaching, project, session, talking, wire
from ..scene import cameras
from .base import attempt, idle


def edit_runs(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: an edit of the scene's capture runs, and hears."""
    if talking.edit_heard(context.scene) is None:
        cls.poll_message_set("No edit of this capture is running")
        return False
    return True


def has_view(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: one of the capture's cameras is meant."""
    if project.active_view(context) is None:
        cls.poll_message_set("Make one of the capture's cameras the active object")
        return False
    return True


class INSTRUCT_NERF_OT_pause(bpy.types.Operator):
    """Wait before the next step; the computer is free meanwhile, and the edit stays in memory"""

    bl_idname = "instruct_nerf.pause"
    bl_label = "Pause"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        job = talking.heard(*wire.PAUSABLE)
        if job is None or job.paused:
            cls.poll_message_set("It pauses already" if job else "Nothing is running that can pause")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, session.get().job.panel, lambda: talking.pause(True))


class INSTRUCT_NERF_OT_go_on(bpy.types.Operator):
    """Go on with what was paused"""

    bl_idname = "instruct_nerf.go_on"
    bl_label = "Go On"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        job = talking.heard(*wire.PAUSABLE)
        if job is None or not job.paused:
            cls.poll_message_set("Nothing is paused")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, session.get().job.panel, lambda: talking.pause(False))


class INSTRUCT_NERF_OT_change_edit(bpy.types.Operator):
    """Tell the running edit what the panel says by now: another instruction, other values of its knobs"""

    bl_idname = "instruct_nerf.change_edit"
    bl_label = "Change Instruction"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not edit_runs(cls, context):
            return False
        if not talking.changes(context.scene):
            cls.poll_message_set("Type another instruction, or turn a knob, first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "edit", lambda: talking.change(context.scene))


class INSTRUCT_NERF_OT_change_region(bpy.types.Operator):
    """Have the running edit keep to the region as it is now, or, where Edit Only Inside is off, to none any more"""

    bl_idname = "instruct_nerf.change_region"
    bl_label = "Change Region"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not edit_runs(cls, context):
            return False
        if not talking.has_region(context.scene):
            cls.poll_message_set("Turn on Edit Only Inside, and add a box, first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "edit", lambda: talking.change_region(context.scene))


class INSTRUCT_NERF_OT_edit_again(bpy.types.Operator):
    """Edit the active camera's picture once more, from what the NeRF shows of it now"""

    bl_idname = "instruct_nerf.edit_again"
    bl_label = "Edit View Again"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return edit_runs(cls, context) and has_view(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = project.active_view(context)[cameras.VIEW]
        return attempt(self, "edit", lambda: talking.edit_again(context.scene, view))


class INSTRUCT_NERF_OT_leave_view(bpy.types.Operator):
    """Put the active camera's own picture back, and edit it no more, until Edit View Again asks for it"""

    bl_idname = "instruct_nerf.leave_view"
    bl_label = "Leave View as Captured"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return edit_runs(cls, context) and has_view(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = project.active_view(context)[cameras.VIEW]
        return attempt(self, "edit", lambda: talking.edit_again(context.scene, view, captured=True))


class INSTRUCT_NERF_OT_look(bpy.types.Operator):
    """Render what the NeRF shows of the active camera now"""

    bl_idname = "instruct_nerf.look"
    bl_label = "Render View Now"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return edit_runs(cls, context) and has_view(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = project.active_view(context)[cameras.VIEW]
        return attempt(self, "edit", lambda: talking.look(context.scene, view))


class INSTRUCT_NERF_OT_detach(bpy.types.Operator):
    """Let what runs go on by itself, also without Blender; this or a later Blender can attach to it again"""

    bl_idname = "instruct_nerf.detach"
    bl_label = "Detach"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if talking.heard(*wire.DETACHABLE) is None:
            cls.poll_message_set("Nothing is running that can go on by itself")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, session.get().job.panel, lambda: detaching.detach(context.scene))


class INSTRUCT_NERF_OT_attach(bpy.types.Operator):
    """Follow a job that goes on by itself to its end, as if it had been started here"""

    bl_idname = "instruct_nerf.attach"
    bl_label = "Attach"
    bl_options = {"REGISTER"}

    job: StringProperty(name="Job", description="Empty: the newest", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not detaching.jobs_of(context.scene):
            cls.poll_message_set("No job of this project goes on by itself")
            return False
        return idle(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "capture", lambda: detaching.attach(context.scene, self.job))


class INSTRUCT_NERF_OT_look_at_jobs(bpy.types.Operator):
    """Ask how far the jobs are that go on by themselves"""

    bl_idname = "instruct_nerf.look_at_jobs"
    bl_label = "Look Again"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session.get().state != "ready":
            cls.poll_message_set("The engine does not run")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "capture", lambda: detaching.look_again(context.scene))


CLASSES = (
    INSTRUCT_NERF_OT_look_at_jobs,
    INSTRUCT_NERF_OT_detach,
    INSTRUCT_NERF_OT_attach,
    INSTRUCT_NERF_OT_pause,
    INSTRUCT_NERF_OT_go_on,
    INSTRUCT_NERF_OT_change_edit,
    INSTRUCT_NERF_OT_change_region,
    INSTRUCT_NERF_OT_edit_again,
    INSTRUCT_NERF_OT_leave_view,
    INSTRUCT_NERF_OT_look,
)
