# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing views in the viewport, and looking through them."""

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from .. import project, results
from ..scene import cameras, choice
from .base import OfCapture, attempt


def take(operator: bpy.types.Operator, root: bpy.types.Object, names: list[str]) -> set[str]:
    """Choose these views and no others, and say how many they are."""
    operator.report({"INFO"}, f"{cameras.choose(root, names)} views chosen")
    return {"FINISHED"}


class INSTRUCT_NERF_OT_use_selected(OfCapture, bpy.types.Operator):
    """Edit only the views whose cameras are selected"""

    bl_idname = "instruct_nerf.use_selected"
    bl_label = "Use Selected"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        names = [
            item[cameras.VIEW] for item in context.selected_objects if cameras.is_view(item) and item.parent == root
        ]
        if not names:
            self.report({"ERROR"}, "Select some of the capture's cameras in the viewport first.")
            return {"CANCELLED"}
        return take(self, root, names)


class INSTRUCT_NERF_OT_use_all(OfCapture, bpy.types.Operator):
    """Edit all views of the capture"""

    bl_idname = "instruct_nerf.use_all"
    bl_label = "Use All"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        cameras.choose(project.root_of(context.scene), ())
        return {"FINISHED"}


class INSTRUCT_NERF_OT_choose_seeing(OfCapture, bpy.types.Operator):
    """Choose the views in whose picture something lies, whatever stands before it"""

    bl_idname = "instruct_nerf.choose_seeing"
    bl_label = "Choose Views That See"
    bl_options = {"REGISTER", "UNDO"}

    what: EnumProperty(
        name="See",
        items=(
            ("OBJECTS", "Selected Objects", "Something of the boxes around the selected objects, but for cameras"),
            ("CURSOR", "3D Cursor", "The place of the 3D cursor"),
        ),
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        if self.what == "CURSOR":
            points = [context.scene.cursor.location]
        else:
            meant = [item for item in context.selected_objects if item.type != "CAMERA" and item != root]
            points = choice.points_of(meant)
        if not points:
            self.report({"ERROR"}, "Select the object that the views are to see first.")
            return {"CANCELLED"}
        names = choice.seeing(cameras.cameras_of(root), points)
        if not names:
            self.report({"ERROR"}, "No view sees that; the choice stays as it is.")
            return {"CANCELLED"}
        return take(self, root, names)


class INSTRUCT_NERF_OT_choose_every(OfCapture, bpy.types.Operator):
    """Choose every so many-th view, in the order of their names"""

    bl_idname = "instruct_nerf.choose_every"
    bl_label = "Choose Every Nth"
    bl_options = {"REGISTER", "UNDO"}

    nth: IntProperty(name="Every", description="1: all of them", default=2, min=1, max=10_000)
    first: IntProperty(name="First", description="The first that is chosen", default=1, min=1, max=10_000)

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        names = [item[cameras.VIEW] for item in cameras.cameras_of(root)][self.first - 1 :: self.nth]
        if not names:
            self.report({"ERROR"}, f"There are fewer than {self.first} views.")
            return {"CANCELLED"}
        return take(self, root, names)


class INSTRUCT_NERF_OT_choose_others(OfCapture, bpy.types.Operator):
    """Choose the views that are not chosen, and no others"""

    bl_idname = "instruct_nerf.choose_others"
    bl_label = "Invert"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        views = cameras.cameras_of(root)
        names = [item[cameras.VIEW] for item in views if not item.get(cameras.CHOSEN)]
        if len(names) in (0, len(views)):
            self.report({"ERROR"}, "All views are chosen, so no other is left.")
            return {"CANCELLED"}
        return take(self, root, names)


class INSTRUCT_NERF_OT_choose_more(OfCapture, bpy.types.Operator):
    """Choose the nearest neighbours of the chosen views as well"""

    bl_idname = "instruct_nerf.choose_more"
    bl_label = "Grow"
    bl_options = {"REGISTER"}  # with many views it arrives later, with an undo step of its own

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not cameras.chosen_views(project.root_of(context.scene)):
            self.report({"ERROR"}, "All views are chosen already.")
            return {"CANCELLED"}
        return attempt(self, "capture", lambda: results.grow_choice(context.scene))


class INSTRUCT_NERF_OT_hide_others(OfCapture, bpy.types.Operator):
    """Hide the cameras of all views but the chosen ones; once more shows all again"""

    bl_idname = "instruct_nerf.hide_others"
    bl_label = "Hide All but the Chosen"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        here = set(context.view_layer.objects)
        views = [item for item in cameras.cameras_of(project.root_of(context.scene)) if item in here]
        hide = not any(item.hide_get() for item in views)
        if hide and not any(item.get(cameras.CHOSEN) for item in views):
            self.report({"ERROR"}, "All views are chosen, so there is none to hide.")
            return {"CANCELLED"}
        for item in views:
            item.hide_set(hide and not item.get(cameras.CHOSEN))
        return {"FINISHED"}


class INSTRUCT_NERF_OT_select_chosen(OfCapture, bpy.types.Operator):
    """Select the cameras of the chosen views"""

    bl_idname = "instruct_nerf.select_chosen"
    bl_label = "Select Chosen"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        layer, views = context.view_layer, cameras.cameras_of(project.root_of(context.scene))
        for item in list(layer.objects.selected):
            item.select_set(False)
        there = set(layer.objects.keys())
        for item in [item for item in views if item.get(cameras.CHOSEN)] or views:
            if item.name in there:
                item.select_set(True)
        return {"FINISHED"}


class INSTRUCT_NERF_OT_look_through(OfCapture, bpy.types.Operator):
    """Look through a capture's camera, with the scene at the size of its picture"""

    bl_idname = "instruct_nerf.look_through"
    bl_label = "Look Through"
    bl_options = {"REGISTER", "UNDO"}

    view: StringProperty(name="View", description="Name of the view; empty: the active camera's")

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        camera = cameras.camera_of(root, self.view) if self.view else project.active_view(context)
        if camera is None:
            self.report({"ERROR"}, "Make one of the capture's cameras the active object first.")
            return {"CANCELLED"}
        cameras.look_through(context.scene, camera)
        space = context.space_data
        if space is not None and space.type == "VIEW_3D":
            space.region_3d.view_perspective = "CAMERA"
        return {"FINISHED"}


class INSTRUCT_NERF_OT_camera_path(OfCapture, bpy.types.Operator):
    """Animate a camera through the chosen views, neighbour by neighbour, over the scene's frames"""

    bl_idname = "instruct_nerf.camera_path"
    bl_label = "Camera Path from Chosen Views"
    bl_options = {"REGISTER"}  # long paths arrive later, with an undo step of their own

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        return attempt(self, "results", lambda: results.fly_through(scene, scene.frame_start, scene.frame_end))


CLASSES = (
    INSTRUCT_NERF_OT_use_selected,
    INSTRUCT_NERF_OT_use_all,
    INSTRUCT_NERF_OT_choose_seeing,
    INSTRUCT_NERF_OT_choose_every,
    INSTRUCT_NERF_OT_choose_others,
    INSTRUCT_NERF_OT_choose_more,
    INSTRUCT_NERF_OT_hide_others,
    INSTRUCT_NERF_OT_select_chosen,
    INSTRUCT_NERF_OT_look_through,
    INSTRUCT_NERF_OT_camera_path,
)
