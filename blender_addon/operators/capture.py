# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening captures, and photographing a Blender scene as one."""

from functools import partial
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .. import asking, opening, project, results, session
from ..scene.photograph import Dome, Film
from .base import attempt, idle

# What a capture's own file may be, and every video that frames can be taken from (engine/capture).
VIDEOS = ("mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg", "mts", "m2ts", "3gp")
FILES = tuple(f"*.{ending}" for ending in ("json", "txt", "bin", "npy", "xml", "xmp", "csv", "sfm", "mg", *VIDEOS))

WAYS = (
    ("DOME", "Dome", "From all around the selected objects (all, where none is selected)"),
    ("PATH", "Curve", "Along the selected curve, looking at the other selected objects (all, where none is)"),
    ("CAMERAS", "Scene's Cameras", "Through each camera of the scene, at the scene's own size"),
    ("ANIMATION", "Camera's Animation", "Through the active camera, over the scene's frames, at the scene's own size"),
)


def has_project(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: the scene has had a capture, wherever its project is now."""
    if not context.scene.instruct_nerf.workspace:
        cls.poll_message_set("This scene has no capture yet")
        return False
    return True


def without_lines(context: bpy.types.Context) -> None:
    """No dashed line from every camera to the root in the viewport where a button was pressed: they hide the scene."""
    if context.space_data is not None and context.space_data.type == "VIEW_3D":
        context.space_data.overlay.show_relationship_lines = False


class INSTRUCT_NERF_OT_open_capture(bpy.types.Operator):
    """Opens captured photos"""

    bl_description = (
        "Open captured photos: a folder, or a file in it such as transforms.json, or a video. For those without camera "
        "poses, Find Cameras appears"
    )
    bl_idname = "instruct_nerf.open_capture"
    bl_label = "Open Capture"
    bl_options = {"REGISTER"}  # what it does arrives later, with an undo step of its own

    filepath: StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    filter_glob: StringProperty(default=";".join(FILES), options={"HIDDEN"})
    stand_upright: BoolProperty(
        name="Stand Upright",
        description="Turn the capture so that up is up and its middle lies at the world's origin",
        default=True,
    )
    find_cameras: BoolProperty(
        name="Find Cameras at Once",
        description="Where photos, or a video, have no camera poses, begin to find them without asking; takes minutes",
    )

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        # The file browser puts the .blend file's name into an empty name field; then the folder shown is meant.
        chosen = Path(bpy.path.abspath(self.filepath))
        path = self.directory if self.directory and not chosen.is_file() else self.filepath
        without_lines(context)
        opened = partial(
            opening.open_capture,
            context.scene,
            path,
            stand_upright=self.stand_upright,
            find_cameras=self.find_cameras,
        )
        return attempt(self, "capture", opened)


class INSTRUCT_NERF_OT_find_cameras(bpy.types.Operator):
    """Finds cameras of photos"""

    bl_description = (
        "Compare the photos with each other to find where each was taken from and how its lens sees; then open them. "
        "Works best with many photos that overlap. Computed on this computer; nothing is uploaded"
    )
    bl_idname = "instruct_nerf.find_cameras"
    bl_label = "Find Cameras"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene.session_uid not in session.get().unplaced:
            cls.poll_message_set("Open a folder of photos without camera poses, or a video, first")
            return False
        return idle(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "capture", lambda: opening.find_cameras(context.scene))


class INSTRUCT_NERF_OT_reconnect(bpy.types.Operator):
    """Start the engine and read this file's workspace again"""

    bl_idname = "instruct_nerf.reconnect"
    bl_label = "Read Workspace"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_project(cls, context) and idle(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "capture", lambda: opening.reconnect(context.scene))


class INSTRUCT_NERF_OT_find_project(bpy.types.Operator):
    """Choose where this file's project is now, after it was moved"""

    bl_idname = "instruct_nerf.find_project"
    bl_label = "Find Project"
    bl_options = {"REGISTER"}

    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_project(cls, context) and idle(cls)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = bpy.path.abspath(self.directory)
        return attempt(self, "capture", lambda: opening.find_project(context.scene, folder))


class INSTRUCT_NERF_OT_photograph(bpy.types.Operator):
    """Photographs objects of the scene"""

    bl_description = (
        "Render the scene from a dome around the selected objects, along a curve or through its own cameras, "
        "with its own engine and settings, and open the pictures as a capture"
    )
    bl_idname = "instruct_nerf.photograph"
    bl_label = "Photograph Scene"
    bl_options = {"REGISTER"}

    way: EnumProperty(name="From", items=WAYS, default="DOME")
    count: IntProperty(name="Pictures", default=40, min=8, max=1000)
    width: IntProperty(name="Width", default=480, min=32, max=4096, subtype="PIXEL")
    height: IntProperty(name="Height", default=360, min=32, max=4096, subtype="PIXEL")
    lens: FloatProperty(name="Focal Length", description="In mm on a 36 mm sensor", default=35.0, min=8.0, max=200.0)
    distance: FloatProperty(
        name="Distance",
        description="From the middle, in radii of what is photographed",
        default=2.6,
        min=1.05,
        max=20.0,
    )
    lowest: FloatProperty(name="Lowest", description="Elevation in degrees", default=10.0, min=-80.0, max=89.0)
    highest: FloatProperty(name="Highest", description="Elevation in degrees", default=65.0, min=-79.0, max=90.0)

    sweep: FloatProperty(
        name="Sweep", description="Degrees around the front (-Y); less: closer views of one side", default=360.0,
        min=20.0, max=360.0,
    )  # fmt: skip

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        shown = {
            "DOME": ("count", "width", "height", "lens", "distance", "lowest", "highest", "sweep"),
            "PATH": ("count", "width", "height", "lens"),
            "CAMERAS": (),
            "ANIMATION": ("count",),
        }
        for name in ("way", *shown[self.way]):
            self.layout.prop(self, name)

    def execute(self, context: bpy.types.Context) -> set[str]:
        if self.way == "DOME" and self.highest <= self.lowest:
            self.report({"ERROR"}, "The highest elevation must lie above the lowest.")
            return {"CANCELLED"}
        dome = Dome(self.count, self.lowest, self.highest, self.distance, self.sweep)
        film = Film(self.lens, self.width, self.height)
        chosen = [item for item in context.selected_objects if item.type not in {"CAMERA", "LIGHT", "EMPTY"}]
        without_lines(context)
        photograph = partial(results.photograph_scene, context.scene, chosen, self.way, self.count, dome, film)
        return attempt(self, "capture", photograph)


class INSTRUCT_NERF_OT_open_example(bpy.types.Operator):
    """Opens an example"""

    bl_description = (
        "Put a few things into a new scene, render them from 32 sides, and open the renders as a capture, so that the "
        "first edit needs no photos. Nothing is downloaded"
    )
    bl_idname = "instruct_nerf.open_example"
    bl_label = "Open an Example"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if project.engine_command(("",)) is None:
            cls.poll_message_set("Set up the engine first")
            return False
        return idle(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        without_lines(context)
        scene = bpy.data.scenes.new("Example")
        (context.window or context.window_manager.windows[0]).scene = scene
        return attempt(self, "capture", lambda: results.open_example(scene))


class INSTRUCT_NERF_OT_cancel(bpy.types.Operator):
    """Stop what is running; what was made so far is kept"""

    bl_idname = "instruct_nerf.cancel"
    bl_label = "Cancel"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if not session.get().busy:
            cls.poll_message_set("Nothing is running")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        job = session.get().job
        return attempt(self, job.panel if job else "capture", asking.cancel)


class INSTRUCT_NERF_OT_open_folder(bpy.types.Operator):
    """Show the project's folder in the file manager"""

    bl_idname = "instruct_nerf.open_folder"
    bl_label = "Open Folder"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(context.scene.instruct_nerf.workspace)

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = project.workspace_of(context.scene)
        return attempt(self, "results", lambda: bpy.ops.wm.path_open(filepath=folder))


CLASSES = (
    INSTRUCT_NERF_OT_open_capture,
    INSTRUCT_NERF_OT_find_cameras,
    INSTRUCT_NERF_OT_reconnect,
    INSTRUCT_NERF_OT_find_project,
    INSTRUCT_NERF_OT_photograph,
    INSTRUCT_NERF_OT_open_example,
    INSTRUCT_NERF_OT_cancel,
    INSTRUCT_NERF_OT_open_folder,
)
