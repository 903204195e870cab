# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing views in the viewport, and looking through them."""

import bpy
from bpy.props import StringProperty

from .. import project, results
from ..scene import cameras
from .base import attempt, has_capture


class INSTRUCT_NERF_OT_use_selected(bpy.types.Operator):
    """Edit only the views whose cameras are selected"""

    bl_idname = "instruct_nerf.use_selected"
    bl_label = "Use Selected"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        names = [
            item[cameras.VIEW] for item in context.selected_objects if cameras.is_view(item) and item.parent == root
        ]
        if not names:
            self.report({"ERROR"}, "Select some of the capture's cameras in the viewport first.")
            return {"CANCELLED"}
        self.report({"INFO"}, f"{cameras.choose(root, names)} views chosen")
        return {"FINISHED"}


class INSTRUCT_NERF_OT_use_all(bpy.types.Operator):
    """Edit all views of the capture"""

    bl_idname = "instruct_nerf.use_all"
    bl_label = "Use All"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        cameras.choose(project.root_of(context.scene), ())
        return {"FINISHED"}


class INSTRUCT_NERF_OT_select_chosen(bpy.types.Operator):
    """Select the cameras of the chosen views"""

    bl_idname = "instruct_nerf.select_chosen"
    bl_label = "Select Chosen"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        root = project.root_of(context.scene)
        chosen = set(cameras.chosen_views(root))
        for item in context.view_layer.objects:
            wanted = cameras.is_view(item) and item.parent == root and (not chosen or item[cameras.VIEW] in chosen)
            item.select_set(wanted)
        return {"FINISHED"}


class INSTRUCT_NERF_OT_look_through(bpy.types.Operator):
    """Look through a capture's camera, with the scene at the size of its picture"""

    bl_idname = "instruct_nerf.look_through"
    bl_label = "Look Through"
    bl_options = {"REGISTER", "UNDO"}

    view: StringProperty(name="View", description="Name of the view; empty: the active camera's")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)

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


class INSTRUCT_NERF_OT_camera_path(bpy.types.Operator):
    """Animate a camera through the chosen views, neighbour by neighbour, over the scene's frames"""

    bl_idname = "instruct_nerf.camera_path"
    bl_label = "Camera Path from Chosen Views"
    bl_options = {"REGISTER"}  # long paths arrive later, with an undo step of their own

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        return attempt(self, "results", lambda: results.fly_through(scene, scene.frame_start, scene.frame_end))


CLASSES = (
    INSTRUCT_NERF_OT_use_selected,
    INSTRUCT_NERF_OT_use_all,
    INSTRUCT_NERF_OT_select_chosen,
    INSTRUCT_NERF_OT_look_through,
    INSTRUCT_NERF_OT_camera_path,
)
