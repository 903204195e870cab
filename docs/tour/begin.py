# SPDX-License-Identifier: GPL-3.0-or-later
"""The tour's beginning: from the zip to a capture of which some cameras are chosen."""

from __future__ import annotations

import sys

import bpy

from . import hand
from .window import EXTENSION, TAB, Window


def install(w: Window) -> None:
    """Install the zip."""
    preferences = bpy.context.preferences
    preferences.view.show_splash = False
    preferences.view.filebrowser_display_type = "SCREEN"
    preferences.view.smooth_view = 0
    preferences.system.use_online_access = True
    bpy.ops.extensions.package_install_files(filepath=w.settings["zip"], repo="user_default", enable_on_install=True)
    assert EXTENSION in preferences.addons, "the extension could not be enabled"
    whole = sys.modules[EXTENSION]
    whole.unregister()  # callbacks are watched from the moment at which Blender gets them
    w.recorder.watch(w.addon)
    # Which panels are closed is the region's, and no script's; nor does Blender tell where a closed one's header lies.
    w.addon("panels").tries.INSTRUCT_NERF_PT_sheet.bl_options = set()
    whole.register()
    if w.settings["fake"]:
        w.addon("jobs").ENGINE_ARGUMENTS = [w.settings["fake"], "tick=0.2"]


def open_tab(w: Window) -> hand.Program:
    """One viewport in the whole window, and the add-on's tab in it."""
    yield 1.0
    yield from w.into_viewport()
    yield from hand.keys("Escape")
    yield from w.alone()
    yield from w.into_viewport()
    yield from hand.keys("n")
    yield 0.7
    hand.region("UI").active_panel_category = TAB
    hand.area().spaces.active.show_region_hud = False  # or the last operator's name stands in every picture
    yield 0.7


def prepare(w: Window) -> hand.Program:
    """Install the zip, and open the tab."""
    install(w)
    bpy.data.batch_remove([item for item in bpy.data.objects])
    yield from open_tab(w)
    yield from hand.find("instruct_nerf.install_engine")
    yield from w.into_viewport()
    w.look("sidebar")  # as one sees it who has just installed the extension
    bpy.context.preferences.addons[EXTENSION].preferences.engine_python = w.settings["python"]
    bpy.ops.wm.save_as_mainfile(filepath=str(w.folder / "shot.blend"))
    yield 0.7


def again(w: Window) -> hand.Program:
    """As at the end of the part before: the file that was saved, and its project read."""
    install(w)
    bpy.context.preferences.addons[EXTENSION].preferences.engine_python = w.settings["python"]
    yield 0.7
    bpy.ops.wm.open_mainfile(filepath=str(w.folder / "shot.blend"), load_ui=False)
    yield 1.0
    yield from open_tab(w)
    if w.addon("project").workspace_of(w.scene):
        yield from hand.press("instruct_nerf.reconnect")
        yield from hand.wait(lambda: w.addon("project").project_of(w.scene) is not None, 120)
        yield from hand.wait(w.quiet, 120)
        w.fine("capture")
        view = hand.area().spaces.active
        view.region_3d.view_perspective = "CAMERA" if w.scene.camera else "PERSP"
        view.shading.color_type, view.shading.light = "VERTEX", "FLAT"  # as an imported mesh is shown
        yield from w.home()


def example(w: Window) -> hand.Program:
    """Open the example, and try an instruction on one of its pictures."""
    yield from hand.press("instruct_nerf.open_example")
    yield from hand.wait(lambda: w.scene.name == "Example", 10)
    yield from hand.wait(lambda: w.addon("project").project_of(w.scene) is not None, 900)
    yield from hand.wait(w.quiet, 300)
    w.fine("capture")
    assert len(w.views()) == 32, len(w.views())
    w.active(w.views()[1])
    yield from w.write_into("instruct_nerf.instruction", "make it night")  # as the guide says
    yield from w.job(hand.press("instruct_nerf.try_edit"), "Trying", "instruction", 300)
    yield from w.into_viewport(0.15)
    yield 0.8
    assert len(w.addon("tries").tries_of(w.scene)) == 1
    w.look("example")
    bpy.context.window_manager.windows[0].scene = bpy.data.scenes["Scene"]
    yield 0.7


def open_capture(w: Window) -> hand.Program:
    """Open the capture through the file browser."""
    w.panel.long_side = w.settings["long_side"]
    yield from hand.scroll(-150)
    yield from hand.press("instruct_nerf.open_capture")
    yield 1.5
    browser = next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "FILE_BROWSER")
    browser.spaces.active.params.directory = w.settings["capture"].encode()
    yield 1.5
    w.look("open")
    hand.move(browser.x + browser.width * 0.6, browser.y + browser.height * 0.5)
    yield 0.3
    yield from hand.keys("Return")
    yield from hand.wait(lambda: w.addon("project").project_of(w.scene) is not None, 60)
    yield from hand.wait(w.quiet, 300)
    w.fine("capture")
    w.result["views"] = len(w.views())
    yield from w.home()
    w.look("capture")


def choose(w: Window) -> hand.Program:
    """Choose cameras with a box in the viewport; undo it, and do it again."""
    from bpy_extras.view3d_utils import location_3d_to_region_2d

    yield from w.into_viewport()
    yield from hand.keys("KP_7")
    yield from hand.keys("Home")
    yield 0.7
    window = hand.region("WINDOW")
    view = hand.area().spaces.active.region_3d
    places = sorted(
        (tuple(location_3d_to_region_2d(window, view, c.matrix_world.translation)) for c in w.views()), reverse=True
    )
    xs, ys = zip(*places[: w.settings["dozen"]], strict=True)  # the ones at the right
    left = (xs[-1] + places[len(xs)][0]) / 2 if len(places) > len(xs) else xs[-1] - 20
    yield from hand.drag(window.x + xs[0] + 60, window.y + max(ys) + 60, window.x + left, window.y + min(ys) - 60)
    w.result["selected"] = sum("instruct_nerf_view" in o for o in bpy.context.selected_objects)
    yield from hand.press("instruct_nerf.use_selected", (0.3,))
    w.result["chosen"] = len(w.addon("scene.cameras").chosen_views(w.root))
    assert w.result["chosen"] == w.result["selected"] > 1, w.result
    yield from w.into_viewport(0.15)
    w.look("choose")
    root = w.root.name
    for key, expected in (("ctrl+z", 0), ("ctrl+shift+z", w.result["chosen"])):
        yield from hand.keys(key)
        yield 0.7
        now = w.addon("scene.cameras").chosen_views(bpy.data.objects[root])
        assert len(now) == expected, f"{key}: {len(now)} chosen instead of {expected}"


def look_through(w: Window) -> hand.Program:
    """Look through a chosen camera at its photo."""
    view = w.middle()
    bpy.ops.object.select_all(action="DESELECT")
    view.select_set(True)
    w.active(view)
    yield from w.into_viewport()
    yield from hand.keys("shift+h")  # all others are hidden, so that their outlines do not cross the picture
    yield from hand.press("instruct_nerf.look_through")
    yield 0.7
    assert hand.area().spaces.active.region_3d.view_perspective == "CAMERA"
    yield from w.home()
    w.look("look-through")
