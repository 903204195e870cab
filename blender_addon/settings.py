# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist sets: properties of a scene, saved in the .blend file, and the add-on's preferences."""

from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import chores, knobs, lineage, project, rows, session, tree, wire
from .key_views import RELATIVE, InstructNerfKeyView
from .sheet_settings import InstructNerfAxis
from .words import held, in_our_context, t

Items = list[tuple[str, str, str, int]]

SHOWN = (
    (wire.VIEW_IMAGE, "Photo", "The captured photo"),
    (wire.VIEW_BEFORE, "Before", "The NeRF that the edit stands on, seen from this camera"),
    (wire.VIEW_EDITED, "2D Edit", "The photo as the image editor last edited it, which the NeRF learns from"),
    (wire.VIEW_AFTER, "After", "The edited NeRF, seen from this camera"),
)


def _presets(_self: object, _context: object) -> Items:
    info = session.get().info
    presets = info.presets if info else ()
    return _items([(p.name, t(p.label or p.name), t(p.description)) for p in presets])


def _devices(_self: object, _context: object) -> Items:
    info = session.get().info
    found = [("", t("Best Found"), t("The engine takes the fastest device"))]
    for device in info.devices if info else ():
        label = device.label or device.name
        if device.free_bytes:
            label = t("{device}, {free} GB free").format(device=label, free=f"{device.free_bytes / 2**30:.0f}")
        found.append((device.name, label, device.name))
    return _items(found)


def _editors(_self: object, _context: object) -> Items:
    info = session.get().info
    found = []
    for editor in info.editors if info else ():
        label = editor.label or editor.name
        if not editor.available:
            label = t("{editor} (not available)").format(editor=label)
        found.append((editor.name, label, editor.reason or editor.name))
    return _items(found)


def _parents(self: Any, _context: object) -> Items:
    found = [("", t("Captured Scene"), t("The photos are edited"))]
    finished = [(edit, depth) for edit, depth in lineage.in_order(project.edits_of(self.id_data)) if edit.finished]
    for edit, depth in finished:
        words = t("The pictures of “{edit}” are edited further").format(edit=edit.said)
        found.append((edit.id, f"{'   ' * depth}{edit.title}", words))
    return _items(found)


def _items(found: list[tuple[str, str, str]]) -> Items:
    # Blender has trouble with an empty identifier among others, so "" is spelled out.
    spelled = [(name or "AUTO", label, words) for name, label, words in found]
    return held(spelled or [("AUTO", t("Engine's Choice"), t("Known once the engine runs"))])


def _getter(name: str, items: Callable[[object, object], Items]) -> Callable[[Any], int]:
    """The index among the items that the engine offers now of the name that the scene holds."""

    def get(self: Any) -> int:
        scene = self.id_data
        wanted = {"preset": lambda: project.preset_name(scene), "editor": lambda: _editor_name(scene)}.get(
            name, lambda: getattr(self, name)
        )()
        return next((i[3] for i in items(self, None) if i[0] == wanted), 0)

    return get


def _editor_name(scene: bpy.types.Scene) -> str:
    editor = project.editor_of(scene)
    return editor.name if editor else ""


def _setter(name: str, items: Callable[[object, object], Items]) -> Callable[[Any, int], None]:
    def put(self: Any, index: int) -> None:
        chosen = next((i[0] for i in items(self, None) if i[3] == index), "AUTO")
        setattr(self, name, "" if chosen == "AUTO" else chosen)

    return put


def _refused(change: Callable[[], object]) -> None:
    """Do what a property that was set asks for; where that cannot be, the panel says why."""
    try:
        change()
    except (ValueError, RuntimeError, OSError) as error:
        session.notice("tree", str(error))


class InstructNerfRow(bpy.types.PropertyGroup):
    """A row of the list of edits, as the engine told of it; ``name`` is what is shown, and searched for."""

    edit: StringProperty(options={"HIDDEN"})  # its id; "/": the unedited scene
    depth: IntProperty(options={"HIDDEN"})
    muted: BoolProperty(options={"HIDDEN"})
    title: StringProperty(
        name="Name",
        description="What to call this edit; empty: by its instruction",
        get=lambda self: self.name,
        set=lambda self, name: _refused(lambda: tree.rename(self.id_data, self.edit, name)),
    )


def _choose_row(self: Any, index: int) -> None:
    if 0 <= index < len(self.rows):
        _refused(lambda: tree.choose(self.id_data, self.rows[index].edit))


def _pictures_changed(self: Any, _context: object) -> None:
    project.apply_pictures(self.id_data)


def _looks_changed(self: Any, _context: object) -> None:
    project.dress_pictures(self.id_data)


def _surfels_shown(_self: Any, _context: object) -> None:
    chores.redraw("WINDOW")


def _own_editor_named(_self: Any, _context: object) -> None:
    session.describe_own()


class InstructNerfSettings(bpy.types.PropertyGroup):
    """Settings of one scene. Names of presets and the like are kept as texts: what the engine offers may change
    between two sessions, and an enumeration's numbers would then point at something else."""

    source: StringProperty(name="Capture", description="The folder or file that was opened")
    workspace: StringProperty(
        name="Workspace",
        description="Folder of this project: pictures, NeRF, edits and results",
        subtype="DIR_PATH",
        options=RELATIVE,
    )
    # As the last opening left them: where the artist has named another folder since, that is meant.
    opened_workspace: StringProperty(options={"HIDDEN"})
    opened_size: IntProperty(options={"HIDDEN"}, min=0)
    opened_upright: BoolProperty(options={"HIDDEN"}, default=True)
    long_side: IntProperty(
        name="Picture Size",
        description="Long side of the pictures that are worked on, in pixels; 0: what the preset says",
        min=0, max=8192, subtype="PIXEL",
    )  # fmt: skip
    all_pixels: BoolProperty(
        name="Keep All Pixels",
        description="Of a distorted photo keep every pixel and mask what is empty; else the largest picture without "
        "empty pixels is cut out",
    )
    compare_photos: BoolProperty(
        name="Compare Photos",
        description="Before a scene is trained, see from photos beside each other how far away things are: surfaces "
        "become cleaner. Takes one to two seconds a photo on a CPU",
        default=True,
    )
    flat_surfaces: BoolProperty(
        name="Flat Surfaces",
        description="Before a scene is trained, find floors and walls, also plain ones, where photos beside each other "
        "have nothing to compare: they become flat. Takes about half a second more a photo on a CPU",
        default=True,
    )
    masks: EnumProperty(
        name="Masks",
        description="What the pixels are that the capture's masks hide",
        items=(
            ("auto", "Automatic", "Told apart by what the masks hide"),
            ("object", "Cut Out", "The masks cut an object out: what they hide is empty"),
            ("unknown", "Hide", "The masks hide what moves: what lies behind it is learned from other views"),
            ("ignore", "Not Used", "The pictures are used as if they had no masks"),
        ),
    )  # fmt: skip
    background: FloatVectorProperty(
        name="Background", description="The colour behind transparent pixels", subtype="COLOR_GAMMA", size=3,
        default=(1.0, 1.0, 1.0), min=0.0, max=1.0,
    )  # fmt: skip
    instruction: StringProperty(
        name="Instruction", description="What the scene shall become, such as “turn him into Albert Einstein”"
    )
    # Of versions up to 0.1; knobs.py makes an editor's knobs of them.
    use_guidance: BoolProperty(options={"HIDDEN"})
    text_guidance: FloatProperty(options={"HIDDEN"}, default=7.5)
    image_guidance: FloatProperty(options={"HIDDEN"}, default=1.5)
    keep_background: EnumProperty(
        options={"HIDDEN"}, items=(("AUTO", "Automatic", ""), ("KEEP", "Is Kept", ""), ("CHANGE", "May Change", ""))
    )
    seed: IntProperty(name="Seed", description="The same seed and settings make the same edit", min=0, default=0)
    steps: IntProperty(
        name="Steps", description="Training steps of the edit; 0: what the preset says", min=0, max=1_000_000
    )
    preset: StringProperty(options={"HIDDEN"})
    preset_choice: EnumProperty(
        name="Preset", description="How long and how finely to work", items=_presets,
        get=_getter("preset", _presets), set=_setter("preset", _presets),
    )  # fmt: skip
    device: StringProperty(options={"HIDDEN"})
    device_choice: EnumProperty(
        name="Device", description="What computes", items=_devices,
        get=_getter("device", _devices), set=_setter("device", _devices),
    )  # fmt: skip
    editor: StringProperty(options={"HIDDEN"})
    editor_choice: EnumProperty(
        name="Editor", description="The model that edits pictures", items=_editors,
        get=_getter("editor", _editors), set=_setter("editor", _editors),
    )  # fmt: skip
    editor_model: StringProperty(
        name="Model",
        description="An editor of your own: a folder with a model, or an image file; empty: the editor above",
        subtype="DIR_PATH",
        update=_own_editor_named,
        options=RELATIVE,
    )
    schedule: EnumProperty(
        name="Schedule",
        description="In which order pictures are edited and the scene learns from them",
        items=(
            ("AUTO", "Automatic", "Key Views, Projected where there are key views; else as the preset has it"),
            ("paper", "Iterative Dataset Update", "One picture after the other, again and again, as in the paper"),
            ("projected", "Key Views, Projected",
             "Key views first, then all others, each beginning with what is known of it from those before; then short "
             "rounds at falling noise until it settles"),
        ),
    )  # fmt: skip
    key_views: CollectionProperty(
        name="Key Views", description="Views whose edits were approved, which the whole scene follows",
        type=InstructNerfKeyView,
    )  # fmt: skip
    tried: StringProperty(options={"HIDDEN"})  # the id of the try that is shown; empty: the newest
    tried_cell: IntProperty(options={"HIDDEN"}, min=0)
    gallery_page: IntProperty(name="Page", description="Which tries are shown, the newest first", min=1, default=1)
    sheet_across: PointerProperty(type=InstructNerfAxis)
    sheet_down: PointerProperty(type=InstructNerfAxis)
    # What Blender's presets keep of the editor's knobs; waiting until the engine has said what they are.
    knobs_text: StringProperty(options={"HIDDEN"}, get=knobs.as_text, set=knobs.from_text)
    knobs_waiting: StringProperty(options={"HIDDEN"})
    use_region: BoolProperty(
        name="Edit Only Inside", description="Edit only what lies in the region; the rest stays as it was captured"
    )
    region: PointerProperty(
        name="Region",
        description="A collection whose closed meshes, all together, are the region",
        type=bpy.types.Collection,
    )
    region_softness: FloatProperty(
        name="Softness", description="Width over which the edit blends into what is kept", default=0.0, min=0.0,
        soft_max=10.0, subtype="DISTANCE", unit="LENGTH",
    )  # fmt: skip
    region_invert: BoolProperty(name="Invert", description="Edit only what lies outside of the region instead")
    edit: StringProperty(name="Edit", description="The edit that results are taken from", options={"HIDDEN"})
    rows: CollectionProperty(type=InstructNerfRow, options={"HIDDEN"})
    row: IntProperty(
        name="Edit", description="The edit that is seen, and that results are taken from",
        get=lambda self: rows.index_of(self.id_data), set=_choose_row,
    )  # fmt: skip
    parent: StringProperty(options={"HIDDEN"})  # the id of the edit that the next one is to stand on
    parent_choice: EnumProperty(
        name="Stands On", description="What the next edit changes: the captured scene, or a finished edit further",
        items=_parents, get=_getter("parent", _parents), set=_setter("parent", _parents),
    )  # fmt: skip
    use_wipe: BoolProperty(
        name="Wipe", description="Show what was before at the left of a line, looking through a view's camera"
    )
    wipe: FloatProperty(
        name="Line", description="Where the line stands, from the left of the picture to its right", default=0.5,
        min=0.0, max=1.0, subtype="FACTOR",
    )  # fmt: skip
    wipe_before: EnumProperty(
        name="Before",
        description="What is shown at the left of the line",
        items=(
            ("PARENT", "Before", "The NeRF that the edit stands on"),
            ("CAPTURE", "Photo", "The captured photo"),
        ),
    )
    shown: EnumProperty(
        name="Shown", description="The picture behind each camera", items=SHOWN, update=_pictures_changed
    )
    opacity: FloatProperty(
        name="Opacity", description="Opacity of the pictures behind the cameras", default=1.0, min=0.0, max=1.0,
        subtype="FACTOR", update=_looks_changed,
    )  # fmt: skip
    in_front: BoolProperty(
        name="In Front", description="Draw the pictures over the mesh and everything else", default=True,
        update=_looks_changed,
    )  # fmt: skip
    show_surfels: BoolProperty(
        name="Show in 3D", description="Draw the scene in the viewport, as its splats are, under the capture's root",
        update=_surfels_shown,
    )  # fmt: skip
    render_live: BoolProperty(
        name="Follow Running Edit",
        description="While an edit runs, render what it has made of the scene so far, in the viewport and with F12",
        default=True,
    )
    objects_scene: PointerProperty(type=bpy.types.Scene, options={"HIDDEN"})  # that of objects composited with this one
    film: EnumProperty(
        name="Film",
        description="What the film shows",
        items=(
            ("EDITED", "Edited", "The edited scene alone; the original lies below it, hidden"),
            ("WIPE", "Wipe", "The edit is drawn over the original from left to right"),
            ("SPLIT", "Split", "The original at the left, the edit at the right"),
        ),
    )
    film_title: BoolProperty(
        name="Title", description="Write what the edit is called, or its instruction, at the bottom of the film"
    )


class InstructNerfPreferences(bpy.types.AddonPreferences):
    """Settings of this Blender."""

    bl_idname = __package__

    engine_python: StringProperty(
        name="Engine Elsewhere",
        description="An environment that has the engine, its Python, or a command that runs the engine, such as: "
        "ssh box python -m engine. Empty: the one that Install Engine makes",
        subtype="FILE_PATH",
    )
    folder_there: StringProperty(
        name="Folder There",
        description="Where the machine that such a command leads to keeps what it is sent, from its home folder on, "
        "such as: instruct-nerf. Captures are sent, and what is made of them comes back. Empty: that machine sees the "
        "same files under the same paths",
    )
    base_python: StringProperty(
        name="Python to Install With",
        description="A Python 3.12 to make the engine's environment with; empty: one is looked for, or downloaded",
        subtype="FILE_PATH",
    )
    package_index: StringProperty(
        name="Package Index",
        description="Address of a package index that mirrors PyPI; empty: PyPI itself",
    )
    wheels_folder: StringProperty(
        name="Folder of Wheels",
        description="Installs from the wheels in this folder and uses no network; empty: packages are downloaded",
        subtype="DIR_PATH",
    )
    workspaces: StringProperty(
        name="Projects of Unsaved Files",
        description="Folder for the workspaces of files that are not saved yet; empty: the extension's own folder",
        subtype="DIR_PATH",
    )

    def draw(self, _context: bpy.types.Context) -> None:
        """Draw the preferences."""
        layout = self.layout
        layout.use_property_split = True
        for name in ("engine_python", "folder_there", "base_python", "package_index", "wheels_folder", "workspaces"):
            layout.prop(self, name)


CLASSES = (InstructNerfRow, InstructNerfKeyView, InstructNerfAxis, InstructNerfSettings, InstructNerfPreferences)


def register() -> None:
    """Register the properties."""
    for cls in CLASSES:
        bpy.utils.register_class(in_our_context(cls))
    bpy.types.Scene.instruct_nerf = PointerProperty(type=InstructNerfSettings)


def unregister() -> None:
    """Take the properties away; what scenes hold stays in their files."""
    del bpy.types.Scene.instruct_nerf
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
