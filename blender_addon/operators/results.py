# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing results into the scene."""

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty

from .. import estimates, frames, meshes, project, results
from .base import AsksAgain, attempt, has_capture, has_edit, has_learned, idle, say


def _usable(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """What the engine would refuse cannot be chosen."""
    for name, (least, _) in (("resolution", meshes.RESOLUTION), ("faces", meshes.FACES)):
        if 0 < getattr(operator, name) < least:
            setattr(operator, name, least)


def _as_many_as_it_takes(operator: bpy.types.Operator, context: bpy.types.Context) -> None:
    """A texture shows what fewer faces do not; a number that was typed stays."""
    usual = (meshes.HEAVY, meshes.TEXTURED)
    if operator.faces in usual:
        operator.faces = usual[operator.colors != "0"]


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
            f"Cells along the longest side, {meshes.RESOLUTION[0]} to {meshes.RESOLUTION[1]}; "
            "0: as fine as the pictures"
        ),
        min=0,
        max=meshes.RESOLUTION[1],
        update=_usable,
    )
    faces: IntProperty(
        name="Faces",
        description=(
            f"Decimate to about so many, fewest where it is flat; {meshes.TEXTURED:,} show with a texture what takes "
            f"{meshes.HEAVY:,} without; 0: all, which can be too heavy for Blender"
        ),
        default=meshes.HEAVY,
        min=0,
        max=meshes.FACES[1],
        update=_usable,
    )
    fill_holes: BoolProperty(name="Fill Holes", description="Close holes, but for where the capture ends")
    flat_floor: BoolProperty(
        name="Flat Floor",
        description="Put what lies on the floor but for noise onto a plane, where there is a floor",
        default=True,
    )
    part: EnumProperty(
        name="Part",
        items=(
            ("ALL", "Everything", "The whole scene"),
            ("SUBJECT", "Subject", "The edit's region or, without one, what its instruction is about"),
        ),
    )
    colors: EnumProperty(
        name="Colors",
        items=(
            ("0", "Vertices", "A color a vertex: quick"),
            ("1024", "Texture, 1K", "A texture of 1024 × 1024 texels, baked from the views"),
            ("2048", "Texture, 2K", "A texture of 2048 × 2048 texels, baked from the views"),
            ("4096", "Texture, 4K", "A texture of 4096 × 4096 texels, baked from the views"),
        ),
        update=_as_many_as_it_takes,
    )
    material: EnumProperty(
        name="Material",
        items=(
            ("UNLIT", "As Captured", "It glows in its colors, which hold the light that they were seen in"),
            ("LIT", "To Relight", "A surface of these colors, on which lamps shine"),
        ),
    )
    formats: EnumProperty(
        name="Also Write",
        description="Files for other programs, in the edit's folder, as the mesh lies in Blender's world",
        items=(
            ("glb", "GLB", "glTF, one file with its texture"),
            ("obj", "OBJ", "Wavefront OBJ, with its material and texture"),
            ("usd", "USD", "By Blender's own exporter"),
        ),
        options={"ENUM_FLAG"},
    )
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
        for name in ("colors", "material", "part", "faces", "resolution", "fill_holes", "flat_floor"):
            layout.prop(self, name)
        layout.row().prop(self, "formats")
        say(layout, estimates.mesh(context.scene, self.faces, int(self.colors)))

    def execute(self, context: bpy.types.Context) -> set[str]:
        edit = None if self.original else project.edit_of(context.scene)
        if context.space_data is not None and context.space_data.type == "VIEW_3D":
            # So that solid view shows the colors as they are; they hold the scene's own light.
            shading = context.space_data.shading
            shading.color_type, shading.light = "TEXTURE" if self.colors != "0" else "VERTEX", "FLAT"
        choices = meshes.Choices(
            self.resolution, self.faces, self.fill_holes, self.flat_floor, int(self.colors), self.material == "LIT",
            self.part == "SUBJECT", frozenset(self.formats),
        )  # fmt: skip
        return attempt(self, "results", lambda: meshes.import_mesh(context.scene, edit.id if edit else "", choices))


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
