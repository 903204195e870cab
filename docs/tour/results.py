# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes back: mesh, splats, the film in the sequencer, the render engine; and what else the add-on draws."""

from __future__ import annotations

import bpy

from . import hand
from .window import EXTENSION, TAB, Window


def mesh(w: Window) -> hand.Program:
    """Import the mesh, and look at it among the cameras."""
    yield from w.job(hand.press("instruct_nerf.import_mesh"), "Making the mesh", "results", 900)
    found = w.mesh()
    w.result["vertices"] = len(found.data.vertices)
    w.panel.in_front = False
    yield from w.into_viewport()
    yield from hand.keys("alt+h")  # all cameras again
    yield from w.in_front_of(w.middle(), found)
    yield from hand.scroll(-150)
    yield from w.into_viewport(0.15)
    yield 0.5
    w.look("mesh")
    found.hide_set(True)


def splats(w: Window) -> hand.Program:
    """Make splats, and see them in the viewport."""
    yield from w.job(hand.press("instruct_nerf.make_splats", (0.3,)), "Making splats", "results", 1200)
    if not w.panel.show_surfels:
        yield from hand.press("instruct_nerf.show_surfels")
    assert w.panel.show_surfels
    hidden = [view for view in w.views() if not view.hide_get()]
    for view in hidden:
        view.hide_set(True)
    yield from hand.wait(w.quiet, 60)
    yield 3.0
    w.look("splats")
    for view in hidden:
        view.hide_set(False)
    yield from hand.press("instruct_nerf.show_surfels")
    assert not w.panel.show_surfels  # drawn by software, each redraw of them takes a second


def film(w: Window) -> hand.Program:
    """Fly the camera along the chosen views, and render the first edit's film into the sequencer."""
    yield from hand.press_row("instruct_nerf.row", 1)
    yield from hand.wait(lambda: w.addon("project").chosen_edit(w.scene).id == w.edits[0].id, 20)
    yield from hand.wait(w.quiet, 30)
    scene = w.scene
    frames = max(w.settings["frames"], len(w.chosen()))  # a path has a frame for each view at least
    scene.frame_start, scene.frame_end = 1, frames
    yield from hand.press("instruct_nerf.camera_path")
    yield from hand.wait(w.quiet, 30)
    assert scene.camera.name.startswith("Camera Path")
    w.panel.film = "WIPE"
    scene.render.resolution_percentage = w.settings["percentage"]
    yield from w.job(hand.press("instruct_nerf.render_to_sequencer"), "Rendering frames", "results", 1200)
    strips = {strip.name: strip for strip in w.addon("scene.strips").strips_of(scene)}
    assert len(strips) == 3 and {strip.frame_final_duration for strip in strips.values()} == {frames}
    w.result["strips"] = sorted(strips)
    name, project = str(w.middle()["instruct_nerf_view"]), w.addon("project")
    w.result |= {"project": str(project.workspace_of(scene)), "edited": project.picture(scene, "after", name)}
    # The photo itself where it can be found by its name, or else as it is worked on.
    photos = sorted(w.capture.rglob(f"{name}*")) if w.capture.is_dir() else []
    photos = [photo for photo in photos if photo.suffix.lower() in (".jpg", ".jpeg", ".png")]
    w.result["photo"] = str(photos[0]) if photos else project.picture(scene, "image", name)
    yield from w.into_viewport(0.15)
    area = hand.area()
    area.type = "SEQUENCE_EDITOR"
    area.spaces.active.view_type = "SEQUENCER_PREVIEW"
    area.spaces.active.timeline_overlay.show_strip_source = False
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = scene
    scene.frame_set(frames // 2)
    yield 1.5
    for part in area.regions:
        if part.type in {"WINDOW", "PREVIEW"}:
            hand.move(part.x + part.width / 2, part.y + part.height / 2)
            yield 0.3
            yield from hand.keys("Home")
    yield 2.0
    w.look("sequencer")
    area.type = "VIEW_3D"
    yield 1.0
    hand.region("UI").active_panel_category = TAB
    yield 0.5


def details(w: Window) -> hand.Program:
    """The panels that are closed at first, the dialog of Photograph Scene, and the preferences."""
    area = hand.area()
    shown: set[str] = set()
    for cls in w.addon("panels").CLASSES:
        # A copy that is open, below the others: whether a panel is closed is the region's, and no script's.
        if "DEFAULT_CLOSED" in getattr(cls, "bl_options", ()):
            bpy.utils.register_class(opened(cls, shown))
    yield 1.0
    yield from hand.scroll(200)
    yield 1.0
    w.look_aside("details")
    w.result["drawn"] = sorted(shown)
    window = bpy.context.window_manager.windows[0]
    yield from w.into_viewport()
    with bpy.context.temp_override(window=window, area=area, region=hand.region("WINDOW")):
        bpy.ops.instruct_nerf.photograph("INVOKE_DEFAULT", way="DOME")
    yield 1.5
    w.look_aside("photograph")
    yield from hand.keys("Escape")
    area.type = "PREFERENCES"
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "Instruct"
    bpy.ops.preferences.addon_expand(module=EXTENSION)
    yield 1.5
    w.look_aside("preferences")
    area.type = "VIEW_3D"
    yield 0.5


def opened(cls: type, shown: set[str]) -> type:
    """A copy of a panel that is open, and says when it was drawn."""

    def draw(self: object, context: bpy.types.Context) -> None:
        cls.draw(self, context)  # type: ignore[attr-defined]
        shown.add(cls.bl_label)  # type: ignore[attr-defined]

    own = {name: vars(cls)[name] for name in ("poll", "draw_header", "bl_label") if name in vars(cls)}
    return type(f"{cls.__name__}_opened", cls.__bases__, own | {"draw": draw})
