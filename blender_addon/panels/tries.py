# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried, contact sheets, and instructions of before."""

from __future__ import annotations

import bpy

from .. import messages, previews, project, sheet_settings, tries
from ..drawing import field, sentences, share_of_labels
from ..scene import cameras, sheet_view
from ..words import t
from .base import CATEGORY, Base

PAGE = 6  # tries that are shown at once
COLUMNS = 3
SHORT = 26  # letters of an instruction on a button


class INSTRUCT_NERF_MT_recent(bpy.types.Menu):
    """Instructions that were tried, or edited with"""

    bl_label = "Recent Instructions"

    def draw(self, context: bpy.types.Context) -> None:
        for instruction in tries.recent(context.scene):
            self.layout.operator("instruct_nerf.use_instruction", text=instruction).instruction = instruction


def draw_try(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The try that is shown: its view before and after, and what can be done with it."""
    scene = context.scene
    tried = tries.shown(scene)
    if tried is None:
        return
    number = tries.shown_cell(scene)
    after = tried.cells[number].image
    icons = previews.icon(tried.before, "before"), previews.icon(after, "after")
    if all(icons):
        row = layout.row(align=True)
        for icon, label in zip(icons, (tried.view, t("Edited")), strict=True):
            column = row.column(align=True)
            column.template_icon(icon_value=icon, scale=6.0)
            column.label(text=label)
    if len(tried.cells) > 1:
        draw_cells(layout, tried, number)
    row = layout.row(align=True)
    approve = row.operator("instruct_nerf.use_as_key_view", icon="CHECKMARK")
    approve.tried, approve.cell = tried.id, number


def draw_cells(layout: bpy.types.UILayout, tried: messages.Tried, current: int) -> None:
    """A contact sheet as buttons: each takes the settings of the picture at its place."""
    column = layout.column(align=True)
    differing = sheet_names(tried)
    for start in range(0, len(tried.cells), tried.columns):
        row = column.row(align=True)
        for number, cell in enumerate(tried.cells[start : start + tried.columns], start):
            text = ", ".join(short(value_of(cell, name), 14) for name in differing)
            button = row.operator("instruct_nerf.take_try", text=text, depress=number == current)
            button.tried, button.cell = tried.id, number
    row = layout.row(align=True)
    row.operator("instruct_nerf.pick_cell", icon="EYEDROPPER")
    row.operator("instruct_nerf.show_try", text="", icon="IMAGE_DATA").tried = tried.id


def sheet_names(tried: messages.Tried) -> list[str]:
    """What differs between the cells of a contact sheet: first what does from column to column, then from row to
    row."""
    first = tried.cells[0]
    names = ["instruction", "seed", *first.options]
    across, anywhere = (
        [n for n in names if any(value_of(cell, n) != value_of(first, n) for cell in cells)]
        for cells in (tried.cells[: tried.columns], tried.cells)
    )
    return across + [name for name in anywhere if name not in across]


def value_of(cell: messages.Cell, name: str) -> str:
    """A cell's instruction, seed, or value of a knob, to be read."""
    value = {"instruction": cell.instruction, "seed": cell.seed}.get(name, cell.options.get(name, ""))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(text: str, letters: int = SHORT) -> str:
    """A text that fits a button."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


class INSTRUCT_NERF_PT_gallery(Base, bpy.types.Panel):
    """Everything that was tried, each with its settings, to go back to"""

    bl_label = "Tries"
    bl_parent_id = "INSTRUCT_NERF_PT_instruction"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return len(tries.tries_of(context.scene)) > 1

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        found, current = tries.tries_of(scene), tries.shown(scene)
        pages = -(-len(found) // PAGE)
        page = min(scene.instruct_nerf.gallery_page, pages)
        grid = layout.grid_flow(row_major=True, columns=COLUMNS, even_columns=True, align=True)
        for tried in found[(page - 1) * PAGE : page * PAGE]:
            cell = grid.column(align=True)
            if icon := previews.icon(tried.after, f"tried {tried.id}"):
                cell.template_icon(icon_value=icon, scale=4.0)
            row = cell.row(align=True)
            sheet = len(tried.cells) > 1
            count = t("{count} pictures").format(count=len(tried.cells))
            text = count if sheet else short(tried.cells[0].instruction)
            name = "instruct_nerf.show_try" if sheet else "instruct_nerf.take_try"
            row.operator(name, text=text, depress=tried == current).tried = tried.id
            row.operator("instruct_nerf.delete_try", text="", icon="TRASH").tried = tried.id
        if pages > 1:
            row = layout.row(align=True)
            for text, icon, other in (("", "TRIA_LEFT", page - 1), ("", "TRIA_RIGHT", page + 1)):
                button = row.row(align=True)
                button.enabled = 1 <= other <= pages
                button.operator("instruct_nerf.gallery_page", text=text, icon=icon).page = max(1, other)
            row.label(text=t("{page} of {pages}, newest first").format(page=page, pages=pages))
        if current is not None:
            draw_settings(layout, context, current)


def draw_settings(layout: bpy.types.UILayout, context: bpy.types.Context, tried: messages.Tried) -> None:
    """What made the try that is shown."""
    cell = tried.cells[tries.shown_cell(context.scene)]
    turned = [f"{name.replace('_', ' ')} {value_of(cell, name)}" for name in cell.options]
    on = t("“{instruction}” on {view}").format(instruction=cell.instruction, view=tried.view)
    said = [on, t("seed {seed}").format(seed=cell.seed), *turned, tried.editor]
    sentences(layout, context, ", ".join(said))


class INSTRUCT_NERF_PT_sheet(Base, bpy.types.Panel):
    """Many edits of one photo side by side"""

    bl_label = "Contact Sheet"
    bl_parent_id = "INSTRUCT_NERF_PT_instruction"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.instruct_nerf
        share = share_of_labels(context, ["Columns", "Count"])
        for label, axis in ((t("Columns"), settings.sheet_across), (t("Rows"), settings.sheet_down)):
            draw_axis(layout.column(align=True), label, axis, share)
        try:
            asked = sheet_settings.asked(context.scene)
        except ValueError as problem:
            sentences(layout, context, str(problem), "INFO")
        else:
            edits = 1
            for axis in asked.values():
                edits *= len(axis["values"])
            said = t("{count} edits of one photo.").format(count=edits)
            sentences(layout, context, " ".join(filter(None, (said, tries.cost(context.scene, edits)))))
        view = project.active_view(context)
        text = (
            t("Contact Sheet of {view}").format(view=view[cameras.VIEW]) if view is not None else "Make Contact Sheet"
        )
        layout.operator("instruct_nerf.make_sheet", text=text, icon="MESH_GRID")


def draw_axis(layout: bpy.types.UILayout, label: str, axis: object, share: float) -> None:
    """What differs along one side of a contact sheet, and its values."""
    split = layout.split(factor=share)
    name = split.row()
    name.alignment = "RIGHT"
    name.label(text=label)
    split.row(align=True).prop(axis, "over", text="")
    over, knob = sheet_settings.name_of(axis), sheet_settings.knob_of(axis)
    if over == sheet_settings.INSTRUCTION:
        layout.template_ID(axis, "lines", new="text.new", open="text.open")
    elif knob is not None and knob.kind in ("float", "int"):
        row = layout.row(align=True)
        row.prop(axis, "first")
        row.prop(axis, "last")
        count = row.row(align=True)
        count.scale_x = 0.5
        count.prop(axis, "count", text="")
    elif over == sheet_settings.SEED:
        field(layout, axis, "count", share)


class INSTRUCT_NERF_PT_image(bpy.types.Panel):
    """The contact sheet that an image editor shows"""

    bl_label = "Contact Sheet"
    bl_space_type = "IMAGE_EDITOR"
    bl_region_type = "UI"
    bl_category = CATEGORY

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(sheet_view.tried_of(context.space_data))

    def draw(self, context: bpy.types.Context) -> None:
        wanted = sheet_view.tried_of(context.space_data)
        tried = next((tried for tried in tries.tries_of(context.scene) if tried.id == wanted), None)
        if tried is None:
            sentences(self.layout, context, "This contact sheet is of another project, or was deleted.", "INFO")
            return
        number = tries.shown_cell(context.scene) if tried == tries.shown(context.scene) else -1
        draw_cells(self.layout, tried, number)
        if number >= 0:
            draw_settings(self.layout, context, tried)
            approve = self.layout.operator("instruct_nerf.use_as_key_view", icon="CHECKMARK")
            approve.tried, approve.cell = tried.id, number


CLASSES = (
    INSTRUCT_NERF_MT_recent,
    INSTRUCT_NERF_PT_sheet,
    INSTRUCT_NERF_PT_gallery,
    INSTRUCT_NERF_PT_image,
)
