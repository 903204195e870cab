# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: whether it runs, where it is installed, what it says."""

from __future__ import annotations

import bpy

from .. import project, session
from ..drawing import installing, notice, running, sentences
from ..words import about, size, t
from .base import Base

SPEED = 100e6  # bits a second, of a connection
INSTALLING = 120.0  # seconds that unpacking and compiling took, measured


def set_up(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The button that installs the engine, and before it what that costs."""
    sentences(layout, context, "The engine computes outside Blender and is installed once.", "INFO")
    missing = project.missing_packages()
    if (locks := project.locks()) is not None:
        download = sum(package.download for package in missing)
        if missing:
            said = t("Up to {size} are downloaded; on the disk they take {room}.").format(
                size=size(download), room=size(sum(package.installed for package in missing))
            )
            if locks.platform.startswith("windows") and any(package in locks.torch for package in missing):
                said += " " + t("For an NVIDIA card several GB more.")
            said += " " + t("With 100 Mbit/s about {time}.").format(time=about(download * 8 / SPEED + INSTALLING))
        else:
            said = t("Its packages are on this computer already: nothing is downloaded.")
        sentences(layout, context, said)
    layout.operator("instruct_nerf.install_engine", text="Install Engine", icon="IMPORT")
    if project.offline(missing=missing):
        sentences(layout, context, "Turn on Allow Online Access in Preferences, System, first.", "ERROR")


ALWAYS = ("capture", "engine")  # panels that are there without a capture, too
STATES = {"stopped": "Stopped", "starting": "Starting", "ready": "Ready", "stopping": "Stopping"}


class INSTRUCT_NERF_PT_engine(Base, bpy.types.Panel):
    """The engine's state"""

    bl_label = "Engine"

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        state = session.get().state
        icon = {"ready": "CHECKMARK", "stopped": "PAUSE"}.get(state, "SORTTIME")
        self.layout.label(text=STATES[state], icon=icon)

    def draw(self, context: bpy.types.Context) -> None:
        layout, state = self.layout, session.get()
        notice(layout, context, "engine")
        job = state.job
        if job is not None and job.active and job.panel not in ALWAYS and project.root_of(context.scene) is None:
            running(layout, context, job.panel)  # whose panel is not there: begun in another scene, or undone
        if state.installer is not None:
            installing(layout, context, state.installer)
        elif project.engine_command(("",)) is None:
            set_up(layout, context)
        elif state.state in {"stopped", "stopping"}:
            layout.operator("instruct_nerf.start_engine", icon="PLAY")
        else:
            layout.operator("instruct_nerf.free_memory", icon="TRASH")
            layout.operator("instruct_nerf.stop_engine", text="Stop and Free Memory", icon="SNAP_FACE")
        if state.info is not None:
            if state.info.computing:
                sentences(layout, context, state.info.computing)
            for device in state.info.devices:
                said = device.label or device.name
                if device.free_bytes:
                    free = f"{device.free_bytes / 2**30:.1f}"
                    said = t("{device}, {free} GB free").format(device=said, free=free)
                layout.label(text=said, icon="MEMORY")


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
            if project.engine_outlives():
                self.layout.prop(chosen, "folder_there")
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
        for line in lines[-14:] or [t("(nothing yet)")]:
            column.label(text=line[:120])


CLASSES = (
    INSTRUCT_NERF_PT_engine,
    INSTRUCT_NERF_PT_python,
    INSTRUCT_NERF_PT_log,
)
