# SPDX-License-Identifier: GPL-3.0-or-later
"""The instruction, its editor and that editor's knobs, and the edit itself."""

from __future__ import annotations

import bpy

from .. import choices, downloads, knobs, messages, project, session, tries
from ..drawing import cost, field, notice, running, sentences, share_of_labels
from ..scene import cameras
from ..words import t
from .base import Base
from .key_views import INSTRUCT_NERF_PT_presets
from .tries import draw_try


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
        if tries.recent(scene):
            row.menu("INSTRUCT_NERF_MT_recent", text="", icon="TIME")
        if editor is not None and editor.vocabulary:
            row.menu("INSTRUCT_NERF_MT_vocabulary", text="", icon="DOWNARROW_HLT")
            if settings.instruction.strip() and choices.unknown_to(editor, settings.instruction):
                known = t(
                    "{editor} does not know this instruction, and would leave the pictures nearly as they are. "
                    "The list beside it has those that it was trained on."
                )
                sentences(layout.box(), context, known.format(editor=editor.label), "ERROR")
        column = layout.column()
        share = draw_knobs(column, context, advanced=False)
        field(column, settings, "seed", share)
        notice(layout, context, "instruction")
        if running(layout, context, "instruction"):
            return
        view = project.active_view(context)
        text = t("Try on {view}").format(view=view[cameras.VIEW]) if view is not None else "Try on Active Camera"
        column = layout.column(align=True)
        column.operator("instruct_nerf.try_edit", text=text, icon="VIEWZOOM")
        cost(column, context, tries.cost(scene))
        draw_try(layout, context)


def draw_knobs(layout: bpy.types.UILayout, context: bpy.types.Context, *, advanced: bool) -> float:
    """The knobs of the scene's editor, those that most leave alone or the others; beside one that was turned, what
    gives it back to the editor. The share of the width that their labels took."""
    editor = project.editor_of(context.scene)
    group = knobs.group_of(context.scene, editor) if editor is not None else None
    shown = [k for k in knobs.usable(editor) if k.advanced == advanced] if group is not None else []
    share = share_of_labels(context, [knob.label or knob.name for knob in shown])
    for knob in shown:
        row = field(layout, group, knob.name, share)
        if group.is_property_set(knob.name):
            row.operator("instruct_nerf.reset_knob", text="", icon="LOOP_BACK", emboss=False).knob = knob.name
    return share


def draw_offer(layout: bpy.types.UILayout, context: bpy.types.Context, editor: messages.Editor) -> None:
    """What is known of an editor, under where it is chosen: size, licence, and whether it is on this computer."""
    lines = downloads.terms(editor)
    if not editor.offer.missing:
        if lines:
            sentences(layout, context, ". ".join([*lines, t("On this computer")]) + ".")
        return
    box = layout.box()
    missing = t("Not on this computer yet: {size} to download.").format(size=downloads.size(editor.offer.bytes))
    sentences(box, context, ". ".join([*lines, missing]), "INFO")
    if bpy.app.online_access:
        box.operator("instruct_nerf.download", icon="IMPORT")
    else:
        sentences(box, context, downloads.OFFLINE, "ERROR")


def talk(layout: bpy.types.UILayout) -> None:
    """What a running edit may be asked."""
    column = layout.column(align=True)  # beside each other they would be cut off
    column.operator("instruct_nerf.change_edit", icon="FILE_REFRESH")
    column.operator("instruct_nerf.change_region", icon="CUBE")
    column.operator("instruct_nerf.edit_again", icon="BRUSH_DATA")
    column.operator("instruct_nerf.leave_view", icon="LOOP_BACK")
    column.operator("instruct_nerf.look", icon="RENDER_STILL")


class INSTRUCT_NERF_PT_knobs(Base, bpy.types.Panel):
    """What most leave as the editor recommends"""

    bl_label = "Editor's Details"
    bl_parent_id = "INSTRUCT_NERF_PT_instruction"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        editor = project.editor_of(context.scene)
        return editor is not None and any(knob.advanced for knob in knobs.usable(editor))

    def draw(self, context: bpy.types.Context) -> None:
        draw_knobs(self.layout.column(), context, advanced=True)


class INSTRUCT_NERF_PT_edit(Base, bpy.types.Panel):
    """Starting and watching the edit"""

    bl_label = "Edit"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return project.root_of(context.scene) is not None

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        INSTRUCT_NERF_PT_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings, info = scene.instruct_nerf, session.get().info
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.enabled = info is not None
        if project.edits_of(scene):
            column.prop(settings, "parent_choice")
        column.prop(settings, "preset_choice")
        column.prop(settings, "editor_choice")
        editor = project.editor_of(scene)
        column.prop(settings, "editor_model")
        if editor is not None:
            draw_offer(column, context, editor)
        column.prop(settings, "device_choice")
        column.prop(settings, "steps")
        if computing := choices.computing(info, settings.device):
            sentences(layout, context, computing)
        if (preset := project.preset_of(scene)) is not None and preset.description:
            sentences(layout, context, preset.description)
        for sentence in project.warnings_of_settings(scene):
            sentences(layout.box(), context, sentence, "INFO")
        if editor is not None and not (editor.available or editor.offer.missing):
            sentences(layout.box(), context, editor.reason or "This editor is not available.", "ERROR")
        notice(layout, context, "edit")
        if running(layout, context, "edit"):
            talk(layout)
        else:
            if cost := project.cost_of_edit(scene):
                sentences(layout, context, cost)
            row = layout.row()
            row.scale_y = 1.5
            row.operator("instruct_nerf.start_edit", icon="PLAY")


CLASSES = (
    INSTRUCT_NERF_MT_vocabulary,
    INSTRUCT_NERF_PT_instruction,
    INSTRUCT_NERF_PT_knobs,
    INSTRUCT_NERF_PT_edit,
)
