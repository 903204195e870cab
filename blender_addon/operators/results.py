# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing results into the scene."""

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty

from .. import estimates, frames, project, results
from .base import AsksAgain, attempt, has_capture, has_edit, has_learned, idle, say


def _usable(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """What the engine would refuse cannot be chosen."""
    for name, (least, _) in (("resolution", results.MESH_RESOLUTION), ("faces", results.MESH_FACES)):
        if 0 < getattr(operator, name) < least:
            setattr(operator, name, least)


def _has_frames(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: there is a camera, and a NeRF that it can look at."""
    if context.scene.camera is None:
        cls.poll_message_set("The scene has no camera: make a Camera Path")
        return False
    trained = project.is_trained(context.scene) or has_edit(cls, context)
    return has_capture(cls, context) and trained and idle(cls)


class INSTRUCT_NERF_OT_import_mesh(bpy.types.Operator):
    """Make a mesh of the edited NeRF and import it under the capture's root, exactly aligned"""

    bl_idname = "instruct_nerf.import_mesh"
    bl_label = "Import Mesh"
    bl_options = {"REGISTER"}

    resolution: IntProperty(
        name="Resolution",
        description=(
            f"Cells along the longest side, {results.MESH_RESOLUTION[0]} to {results.MESH_RESOLUTION[1]}; "
            "0: as fine as the pictures"
        ),
        min=0,
        max=results.MESH_RESOLUTION[1],
        update=_usable,
    )
    faces: IntProperty(
        name="Faces",
        description="Decimate to about so many, fewest where it is flat; 0: all",
        min=0,
        max=results.MESH_FACES[1],
        update=_usable,
    )
    fill_holes: BoolProperty(name="Fill Holes", description="Close holes, but for where the capture ends")
    ask: BoolProperty(name="Ask", description="Ask for how it is made first", options={"SKIP_SAVE", "HIDDEN"})
    original: BoolProperty(name="Original", description="The mesh of the unedited scene", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and has_learned(cls, context) and idle(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self) if self.ask else self.execute(context)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        for name in ("resolution", "faces", "fill_holes"):
            layout.prop(self, name)
        say(layout, estimates.mesh(context.scene, self.faces))

    def execute(self, context: bpy.types.Context) -> set[str]:
        edit = None if self.original else project.edit_of(context.scene)
        if context.space_data is not None and context.space_data.type == "VIEW_3D":
            # So that solid view shows the colours as they are; they hold the scene's own light.
            context.space_data.shading.color_type, context.space_data.shading.light = "VERTEX", "FLAT"
        choices = self.resolution, self.faces, self.fill_holes
        return attempt(self, "results", lambda: results.import_mesh(context.scene, edit.id if edit else "", *choices))


class INSTRUCT_NERF_OT_make_splats(bpy.types.Operator):
    """Makes splats"""

    bl_description = (
        "Make 3D Gaussian splats of the edited NeRF, a file for viewers and other programs, and show the scene in the "
        "viewport in 3D"
    )
    bl_idname = "instruct_nerf.make_splats"
    bl_label = "Make Splats"
    bl_options = {"REGISTER"}

    count: IntProperty(
        name="At Most", description="Splats at most", default=500_000, min=results.SPLATS[0], max=results.SPLATS[1]
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and has_learned(cls, context) and idle(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "results", lambda: results.make_splats(context.scene, self.count))


class INSTRUCT_NERF_OT_render_to_sequencer(bpy.types.Operator):
    """Renders frames into the sequencer"""

    bl_description = (
        "Render the scene camera's animation from the NeRF before and after the edit into the sequencer, "
        "and set the scene so that Render Animation writes the film"
    )
    bl_idname = "instruct_nerf.render_to_sequencer"
    bl_label = "Render to Sequencer"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _has_frames(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "results", lambda: results.render_to_sequencer(context.scene))


class INSTRUCT_NERF_OT_render_frames(bpy.types.Operator):
    """Renders frames for compositing"""

    bl_description = (
        "Render the scene camera's animation from the NeRF, after and before the edit, as files with alpha, depth and "
        "normals to composite with. Any camera: perspective, orthographic, panoramic"
    )
    bl_idname = "instruct_nerf.render_frames"
    bl_label = "Render Frames"
    bl_options = {"REGISTER"}

    kind: EnumProperty(
        name="Format",
        items=(
            ("exr", "Multilayer EXR", "Color, alpha, depth in Blender's units and normals, as Blender's own renders"),
            ("png", "PNG", "Finished pictures"),
        ),
    )
    overwrite: BoolProperty(name="Overwrite", description="Render also the frames that are there already")
    moments: IntProperty(
        name="Motion Blur",
        description="Moments of a frame, over the time that the scene's shutter is open; 1: no blur",
        default=1, min=1, max=256, soft_max=16,
    )  # fmt: skip

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _has_frames(cls, context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        for name in ("kind", "overwrite", "moments"):
            layout.prop(self, name)
        say(layout, estimates.frames(context.scene, self.kind, self.moments, context.scene.frame_step))

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(
            self, "results", lambda: frames.render_frames(context.scene, self.kind, self.overwrite, self.moments)
        )


class INSTRUCT_NERF_OT_report(AsksAgain, bpy.types.Operator):
    """Makes the report card"""

    bl_description = (
        "Run the paper's other methods on this capture and instruction and compare them with this edit, "
        "on a page in the web browser. Takes several times as long as the edit"
    )
    bl_idname = "instruct_nerf.report"
    bl_label = "Report Card"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        edit = project.edit_of(context.scene)
        if edit is not None and not edit.finished:
            cls.poll_message_set("The edit is not finished: resume it first")
            return False
        return has_capture(cls, context) and has_edit(cls, context) and idle(cls)

    def too_slow(self, context: bpy.types.Context) -> str:
        edit = project.edit_of(context.scene)
        return project.too_slow(context.scene, edit.id if edit is not None else "")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "results", lambda: results.make_report(context.scene, self.even_on_cpu))


CLASSES = (
    INSTRUCT_NERF_OT_import_mesh,
    INSTRUCT_NERF_OT_make_splats,
    INSTRUCT_NERF_OT_render_to_sequencer,
    INSTRUCT_NERF_OT_render_frames,
    INSTRUCT_NERF_OT_report,
)
