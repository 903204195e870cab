# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying on one view, contact sheets, and going back to what was tried."""

import bpy
from bpy.props import IntProperty, StringProperty

from .. import project, tries
from ..scene import cameras, sheet_view
from .base import OfCapture, attempt, has_capture, idle
from .talk import has_view


class OnActiveView:
    """An operator that begins a job on the capture's camera that is meant."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and has_view(cls, context) and idle(cls)


class OfTry:
    """An operator on what was tried."""

    tried: StringProperty(name="Try", description="The try's id; empty: the one that is shown", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not has_capture(cls, context):
            return False
        if tries.shown(context.scene) is None:
            cls.poll_message_set("Nothing was tried yet")
            return False
        return True


class INSTRUCT_NERF_OT_try(OnActiveView, bpy.types.Operator):
    """Edit the active camera's photo alone, to tune the instruction and guidance before the scene is touched"""

    bl_idname = "instruct_nerf.try_edit"
    bl_label = "Try on Active Camera"
    bl_options = {"REGISTER"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = project.active_view(context)[cameras.VIEW]
        return attempt(self, tries.PANEL, lambda: tries.try_edit(context.scene, view))


class INSTRUCT_NERF_OT_make_sheet(OnActiveView, bpy.types.Operator):
    """Edit the active camera's photo once for every value of what is chosen here, and show the edits side by side"""

    bl_idname = "instruct_nerf.make_sheet"
    bl_label = "Make Contact Sheet"
    bl_options = {"REGISTER"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = project.active_view(context)[cameras.VIEW]
        return attempt(self, tries.PANEL, lambda: tries.make_sheet(context.scene, view))


class INSTRUCT_NERF_OT_take_try(OfTry, bpy.types.Operator):
    """Set the instruction, seed, editor and its knobs to what made this edit"""

    bl_idname = "instruct_nerf.take_try"
    bl_label = "Use Settings of Try"
    bl_options = {"REGISTER", "UNDO"}

    cell: IntProperty(name="Picture", description="Which picture of a contact sheet", min=0, options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        def taken() -> None:
            if left := tries.take(context.scene, self.tried, self.cell):
                self.report({"WARNING"}, left)

        return attempt(self, tries.PANEL, taken)


class INSTRUCT_NERF_OT_show_try(OfTry, bpy.types.Operator):
    """Show what was tried: in the panel, and a contact sheet in an image editor, which is opened where there is none"""

    bl_idname = "instruct_nerf.show_try"
    bl_label = "Show Try"
    bl_options = {"REGISTER"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        def shown() -> None:
            found = tries.wanted(context.scene, self.tried)
            if len(found.cells) > 1 and not bpy.app.background and not sheet_view.editors():
                sheet_view.open_editor()
            tries.show(context.scene, found.id)

        return attempt(self, tries.PANEL, shown)


class INSTRUCT_NERF_OT_delete_try(OfTry, bpy.types.Operator):
    """Delete what was tried, with its pictures, from the project's folder"""

    bl_idname = "instruct_nerf.delete_try"
    bl_label = "Delete Try"
    bl_options = {"REGISTER"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event, title="Delete Try", confirm_text="Delete")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, tries.PANEL, lambda: tries.delete(context.scene, self.tried))


class INSTRUCT_NERF_OT_gallery_page(OfCapture, bpy.types.Operator):
    """Show older or newer tries"""

    bl_idname = "instruct_nerf.gallery_page"
    bl_label = "Older or Newer Tries"
    bl_options = {"INTERNAL"}

    page: IntProperty(name="Page", min=1, options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.instruct_nerf.gallery_page = self.page
        return {"FINISHED"}


class INSTRUCT_NERF_OT_pick_cell(bpy.types.Operator):
    """Click a picture of the contact sheet to use its settings; Escape or the right button stops"""

    bl_idname = "instruct_nerf.pick_cell"
    bl_label = "Pick From Contact Sheet"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not has_capture(cls, context):
            return False
        if not any(sheet_view.tried_of(area.spaces.active) for _, area in sheet_view.editors()):
            cls.poll_message_set("Show a contact sheet in an image editor first")
            return False
        return True

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        # Where the sheet stands in another window, that one's mouse is meant.
        found = [(w, a) for w, a in sheet_view.editors() if sheet_view.tried_of(a.spaces.active)]
        window, area = next(((w, a) for w, a in found if w == context.window), found[0])
        if window != context.window:
            region = next(region for region in area.regions if region.type == "WINDOW")
            with context.temp_override(window=window, area=area, region=region):
                bpy.ops.instruct_nerf.pick_cell("INVOKE_DEFAULT")
            return {"FINISHED"}
        context.window_manager.modal_handler_add(self)
        context.window.cursor_modal_set("EYEDROPPER")
        if context.workspace is not None:
            context.workspace.status_text_set("Click a picture of the contact sheet; Escape stops")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type in {"ESC", "RIGHTMOUSE"}:
            return self.over(context, {"CANCELLED"})
        if event.type != "LEFTMOUSE" or event.value != "PRESS":
            return {"PASS_THROUGH"}  # zooming and panning
        area = area_at(context.window, event.mouse_x, event.mouse_y)
        if area is None or not sheet_view.tried_of(area.spaces.active):
            return {"PASS_THROUGH"}
        region = next(region for region in area.regions if region.type == "WINDOW")
        u, v = region.view2d.region_to_view(event.mouse_x - region.x, event.mouse_y - region.y)
        return self.picked(context, area.spaces.active, u, v)

    def picked(self, context: bpy.types.Context, space: object, u: float, v: float) -> set[str]:
        """Use the settings of what lies at a point of an image editor's picture."""
        tried = next((t for t in tries.tries_of(context.scene) if t.id == sheet_view.tried_of(space)), None)
        if tried is None:
            self.report({"ERROR"}, "This contact sheet is of another project, or was deleted.")
            return self.over(context, {"CANCELLED"})
        number = sheet_view.cell_at([cell.box for cell in tried.cells], space.image.size, u, v)
        if number is None:
            return {"RUNNING_MODAL"}  # beside the pictures
        if left := tries.take(context.scene, tried.id, number):
            self.report({"WARNING"}, left)
        return self.over(context, {"FINISHED"})

    def over(self, context: bpy.types.Context, result: set[str]) -> set[str]:
        """End, and leave mouse and status bar as they were."""
        if context.window is not None:
            context.window.cursor_modal_restore()
        if context.workspace is not None:
            context.workspace.status_text_set(None)
        for window in context.window_manager.windows:
            for area in window.screen.areas:
                area.tag_redraw()
        return result


def area_at(window: bpy.types.Window, x: int, y: int) -> bpy.types.Area | None:
    """The area of a window that holds a point, where its sidebar and header do not."""
    for area in window.screen.areas:
        if area.x <= x < area.x + area.width and area.y <= y < area.y + area.height:
            others = (region for region in area.regions if region.type in {"UI", "HEADER", "TOOLS", "TOOL_HEADER"})
            covered = any(r.x <= x < r.x + r.width and r.y <= y < r.y + r.height for r in others)
            return None if covered else area
    return None


CLASSES = (
    INSTRUCT_NERF_OT_try,
    INSTRUCT_NERF_OT_make_sheet,
    INSTRUCT_NERF_OT_take_try,
    INSTRUCT_NERF_OT_show_try,
    INSTRUCT_NERF_OT_delete_try,
    INSTRUCT_NERF_OT_gallery_page,
    INSTRUCT_NERF_OT_pick_cell,
)
