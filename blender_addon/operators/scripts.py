# SPDX-License-Identifier: GPL-3.0-or-later
"""For scripts: waiting for what was asked for (docs/scripting.md)."""

import bpy
from bpy.props import FloatProperty

from .. import session


class INSTRUCT_NERF_OT_wait(bpy.types.Operator):
    """Waits"""

    bl_description = (
        "For scripts that run without a window: wait until what was asked for is done. Fails with the panel's sentence "
        "where it went wrong"
    )
    bl_idname = "instruct_nerf.wait"
    bl_label = "Wait Until Done"
    bl_options = {"INTERNAL"}

    timeout: FloatProperty(name="Timeout", description="Seconds to wait at most; 0: as long as it takes", min=0.0)

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if not bpy.app.background:
            cls.poll_message_set("With a window nothing waits: ask again when the panel says it is done")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        if not session.wait(lambda: session.get().settled, self.timeout or float("inf")):
            self.report({"ERROR"}, f"It was not done after {self.timeout:g} seconds; it goes on.")
            return {"CANCELLED"}
        if wrong := next(iter(session.get().notices.values()), ""):
            self.report({"ERROR"}, wrong)
            return {"CANCELLED"}
        return {"FINISHED"}


CLASSES = (INSTRUCT_NERF_OT_wait,)
