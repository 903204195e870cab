# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operators share: when they may run, and how a failure reaches the artist."""

from collections.abc import Callable

import bpy
from bpy.props import BoolProperty

from .. import project, session
from ..words import wrapped

WIDTH, LETTERS = 420, 62  # of a dialog, and of its lines


def idle(cls: type[bpy.types.Operator]) -> bool:
    """Poll: nothing else runs."""
    if session.get().busy:
        cls.poll_message_set("Another job is running: wait for it, or cancel it")
        return False
    return True


def has_capture(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: the scene shows a capture."""
    if project.root_of(context.scene) is None:
        cls.poll_message_set("Open a capture first")
        return False
    return True


def has_edit(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: the engine has told of an edit."""
    if project.edit_of(context.scene) is None:
        cls.poll_message_set("There is no edit yet")
        return False
    return True


def has_learned(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: there is a NeRF that something can be made of."""
    if not project.is_trained(context.scene):
        cls.poll_message_set("The scene is not learned yet: press Start, in the panel Edit, first")
        return False
    return True


def is_stopped(cls: type[bpy.types.Operator]) -> bool:
    """Poll: the engine is stopped, and nobody installs it."""
    if session.get().state != "stopped":
        cls.poll_message_set("Stop the engine first")
    return session.get().installer is None and session.get().state == "stopped"


def attempt(operator: bpy.types.Operator, panel: str, action: Callable[[], object], said: str = "") -> set[str]:
    """Run an operator's one action; a refusal becomes a report and the panel's error. ``said`` reports success."""
    try:
        action()
    except (ValueError, RuntimeError, OSError) as error:
        session.notice(panel, str(error))
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    session.notice(panel, "")
    if said:
        operator.report({"INFO"}, said)
    return {"FINISHED"}


def say(layout: bpy.types.UILayout, sentence: str) -> None:
    """A sentence in a dialog, in as many lines as it takes; nothing for an empty one."""
    lines = layout.column(align=True)
    for line in wrapped(sentence, LETTERS):
        lines.label(text=line)


class OfCapture:
    """An operator that needs a capture and nothing else."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)


class AsksAgain:
    """An operator that asks a second time, with an estimate, before it begins what takes days on a CPU."""

    even_on_cpu: BoolProperty(
        name="Compute It on the CPU All the Same", description="Begin although it takes so long", options={"SKIP_SAVE"}
    )

    def too_slow(self, context: bpy.types.Context) -> str:
        """A sentence where it takes so long; else empty."""
        raise NotImplementedError

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        self.even_on_cpu = False
        if self.too_slow(context):
            return context.window_manager.invoke_props_dialog(self, width=WIDTH)
        return self.execute(context)

    def draw(self, context: bpy.types.Context) -> None:
        say(self.layout, self.too_slow(context))
        self.layout.prop(self, "even_on_cpu")
