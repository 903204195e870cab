# SPDX-License-Identifier: GPL-3.0-or-later
"""A workspace of our own."""

import bpy

from ..scene import desk
from .base import attempt

TAB = "Instruct NeRF"


class INSTRUCT_NERF_OT_open_workspace(bpy.types.Operator):
    """Opens a workspace"""

    bl_description = (
        "Open a workspace with the viewport beside an image editor, for tries and contact sheets, over the sequencer. "
        "Your other workspaces stay as they are"
    )
    bl_idname = "instruct_nerf.open_workspace"
    bl_label = "Open Workspace"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if bpy.app.background or not len(context.window_manager.windows):
            cls.poll_message_set("There is no window")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        window = context.window or context.window_manager.windows[0]
        return attempt(self, "capture", lambda: desk.open_workspace(window, TAB))


CLASSES = (INSTRUCT_NERF_OT_open_workspace,)
