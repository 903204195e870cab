# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of this project that go on by themselves."""

from __future__ import annotations

import bpy

from .. import detaching
from ..drawing import sentences
from .base import Base


class INSTRUCT_NERF_PT_detached(Base, bpy.types.Panel):
    """Jobs that go on by themselves, also without Blender"""

    bl_label = "Detached Jobs"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(detaching.jobs_of(context.scene))

    def draw(self, context: bpy.types.Context) -> None:
        for job in detaching.jobs_of(context.scene):
            row = self.layout.row(align=True)
            runs = job.state == "running"
            state = f"{100 * job.fraction:.0f} %" if runs else job.state
            row.label(text=f"{detaching.title_of(job)}: {state}", icon="LINKED" if runs else "CHECKMARK")
            row.operator("instruct_nerf.attach", text="Attach" if runs else "Collect").job = job.id
            if job.message:
                sentences(self.layout, context, job.message, "ERROR")
        self.layout.operator("instruct_nerf.look_at_jobs", icon="FILE_REFRESH")


CLASSES = (INSTRUCT_NERF_PT_detached,)
