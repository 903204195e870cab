# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: installing, starting and stopping it."""

import bpy

from .. import jobs, session
from .base import attempt, is_stopped


class INSTRUCT_NERF_OT_install(bpy.types.Operator):
    """Install the engine's packages in an environment of their own; Blender's Python is not touched"""

    bl_idname = "instruct_nerf.install_engine"
    bl_label = "Install"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session.get().installer is not None:
            cls.poll_message_set("The engine is being installed")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, "engine", jobs.install_engine)


class INSTRUCT_NERF_OT_repair(bpy.types.Operator):
    """Compare every installed file with what it should be, and install again what differs"""

    bl_idname = "instruct_nerf.repair_engine"
    bl_label = "Repair"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return is_stopped(cls)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, "engine", lambda: jobs.install_engine(repair=True))


class INSTRUCT_NERF_OT_remove(bpy.types.Operator):
    """Delete the installed engine and what was downloaded for it; captures, projects and downloaded editors stay"""

    bl_idname = "instruct_nerf.remove_engine"
    bl_label = "Remove"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return is_stopped(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, "engine", jobs.remove_engine)


class INSTRUCT_NERF_OT_cancel_install(bpy.types.Operator):
    """Stop installing; what is half-made is removed, and what was downloaded kept for the next time"""

    bl_idname = "instruct_nerf.cancel_install"
    bl_label = "Cancel Install"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return session.get().installer is not None

    def execute(self, _context: bpy.types.Context) -> set[str]:
        installer = session.get().installer
        return attempt(self, "engine", lambda: installer and installer.cancel())


class INSTRUCT_NERF_OT_start_engine(bpy.types.Operator):
    """Start the engine; opening a capture does so by itself"""

    bl_idname = "instruct_nerf.start_engine"
    bl_label = "Start Engine"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return session.get().state == "stopped"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, "engine", jobs.start_engine)


class INSTRUCT_NERF_OT_stop_engine(bpy.types.Operator):
    """Stop the engine, which frees its memory; a running edit is saved and can be resumed"""

    bl_idname = "instruct_nerf.stop_engine"
    bl_label = "Stop Engine"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return session.get().state in {"starting", "ready"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, "engine", session.stop)


class INSTRUCT_NERF_OT_free_memory(bpy.types.Operator):
    """Frees the engine's memory"""

    bl_description = (
        "Have the engine let go of the models that it keeps loaded between jobs; it loads them again when needed. A "
        "render of Blender's does so by itself"
    )
    bl_idname = "instruct_nerf.free_memory"
    bl_label = "Free Memory"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session.get().state != "ready":
            cls.poll_message_set("The engine does not run")
            return False
        if session.get().busy:
            cls.poll_message_set("The engine computes: its memory is free when it is done")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return attempt(self, "engine", session.release)


CLASSES = (
    INSTRUCT_NERF_OT_install,
    INSTRUCT_NERF_OT_repair,
    INSTRUCT_NERF_OT_remove,
    INSTRUCT_NERF_OT_cancel_install,
    INSTRUCT_NERF_OT_start_engine,
    INSTRUCT_NERF_OT_stop_engine,
    INSTRUCT_NERF_OT_free_memory,
)
