# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's edits as the tree that they are."""

from __future__ import annotations

import time
from typing import Any

import bpy

from .. import lineage, messages, previews, project
from ..drawing import notice, running, sentences
from ..scene import cameras
from ..words import t
from .base import Base

ROWS = (3, 8)  # of the list, before it is made larger
LEVEL = 0.055  # of a row's width, that what stands on another is moved to the right
DEEPEST = 6  # levels that are told apart


class INSTRUCT_NERF_UL_edits(bpy.types.UIList):
    """The project's edits"""

    def draw_item(self, context, layout, _data, item, _icon, _active_data, _active_property, _index=0, _flag=0) -> None:  # type: ignore[no-untyped-def]
        draw_row(layout, context, item)


def draw_row(layout: bpy.types.UILayout, context: bpy.types.Context, item: Any) -> None:
    """A row of the list: how deep it stands, its picture, what it is called, how long it took, and the eye."""
    scene = context.scene
    row = layout.row(align=True)
    if item.depth > 1:
        split = row.split(factor=LEVEL * min(item.depth - 1, DEEPEST))
        split.label(text="")
        row = split.row(align=True)
    edit = lineage.find(project.edits_of(scene), item.edit)
    if edit is None:
        row.label(text=item.name, icon="SCENE_DATA" if item.edit == lineage.ROOT else "ERROR")
        return
    row.active = not edit.muted
    icon = previews.icon(thumbnail(context, edit), f"edit {edit.id}")
    row.prop(item, "title", text="", emboss=False, **({"icon_value": icon} if icon else {"icon": "IMAGE_DATA"}))
    state = row.row(align=True)
    state.alignment = "RIGHT"
    text, icon = state_of(scene, edit)
    state.label(text=text, icon=icon)
    eye = "HIDE_ON" if edit.muted else "HIDE_OFF"
    state.operator("instruct_nerf.mute_edit", text="", icon=eye, emboss=False).edit = edit.id


def thumbnail(context: bpy.types.Context, edit: messages.Edit) -> str:
    """The picture that stands for an edit: of the view that the artist looks at, else of its first."""
    view = project.active_view(context)
    name = str(view[cameras.VIEW]) if view is not None else ""
    for pictures in (edit.views, edit.images):
        if pictures:
            return pictures.get(name) or pictures[next(iter(pictures))]
    return ""


def state_of(scene: bpy.types.Scene, edit: messages.Edit) -> tuple[str, str]:
    """How far an edit is, or how long it took, and an icon."""
    if edit.parent and project.parent_of(scene, edit) is None:
        return "", "ERROR"
    if edit.finished:
        minutes, seconds = divmod(round(edit.seconds), 60)
        return f"{minutes}:{seconds:02d}", "NONE"  # short: the name is to have the room
    return f"{100 * edit.steps // edit.of} %" if edit.of else "", "PAUSE"


class INSTRUCT_NERF_PT_tree(Base, bpy.types.Panel):
    """The edits of this capture: which stands on which, and which is seen"""

    bl_label = "Edits"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        found = project.project_of(context.scene)
        return project.root_of(context.scene) is not None and found is not None and bool(found.edits or found.damaged)

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        settings, found = scene.instruct_nerf, project.project_of(scene)
        notice(layout, context, "tree")
        running(layout, context, "tree")
        for name, reason in found.damaged:
            box = layout.box()
            sentences(box, context, reason, "ERROR")
            if lineage.is_edits(name):
                box.operator("instruct_nerf.delete_edit", text="Delete", icon="TRASH").edit = name
        if not found.edits:
            return
        row = layout.row()
        few, many = ROWS
        row.template_list(
            "INSTRUCT_NERF_UL_edits", "", settings, "rows", settings, "row",
            rows=max(few, min(many, len(found.edits) + 1)),
        )  # fmt: skip
        column = row.column(align=True)
        column.operator("instruct_nerf.stand_on", text="", icon="ADD")
        column.operator("instruct_nerf.duplicate_edit", text="", icon="DUPLICATE")
        column.operator("instruct_nerf.take_settings", text="", icon="COPYDOWN")
        column.separator()
        column.operator("instruct_nerf.delete_edit", text="", icon="TRASH")
        self.chosen(context)

    def chosen(self, context: bpy.types.Context) -> None:
        """What is to be said of the chosen edit, and how to go on with it."""
        layout, scene = self.layout, context.scene
        edit, seen = project.chosen_edit(scene), project.edit_of(scene)
        if edit is None:
            return
        column = layout.column(align=True)
        below = project.parent_of(scene, edit)
        if edit.parent:
            gone = t("What it stands on, {edit}, is gone: bring it back from the trash, or delete this one.")
            on = t("On “{edit}”.").format(edit=below.title) if below is not None else gone.format(edit=edit.parent)
            sentences(column, context, on)
        when = time.strftime("%Y-%m-%d %H:%M, ", time.localtime(edit.created)) if edit.created else ""
        said = t("{steps} steps, {views} views, preset {preset}.")
        said = said.format(steps=edit.steps, views=len(edit.chosen), preset=edit.preset)
        sentences(column, context, f"{when}{said}")
        if edit.name:
            sentences(column, context, f"“{edit.said}”")
        if seen is not edit:
            what = f"“{seen.title}”" if seen is not None else t("the captured scene")
            said = t("Muted, itself or what it stands on: {what} is shown.").format(what=what)
            sentences(column, context, said, "HIDE_ON")
        if edit.finished:
            layout.operator("instruct_nerf.more_steps", icon="FORWARD")
        else:
            share = 100 * edit.steps // edit.of if edit.of else 0
            text = t("Resume {share} %").format(share=share) if edit.of else "Resume"
            layout.operator("instruct_nerf.resume_edit", text=text, icon="PLAY").edit = edit.id


CLASSES = (INSTRUCT_NERF_UL_edits, INSTRUCT_NERF_PT_tree)
