# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives a real Blender window through a contact sheet: made, shown in an image editor, and a picture of it clicked.

Run by Blender (`--python`), with the settings of tests/window/test_sheet_window.py in SHEET_WINDOW. Ends with exit code
0 and a file ``result.json`` in the folder only if the settings of the clicked pictures were taken.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import bpy

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
from tour import hand  # noqa: E402

settings = json.loads(os.environ["SHEET_WINDOW"])
folder = Path(settings["folder"])
ask = bpy.ops.instruct_nerf


def program() -> hand.Program:
    import blender_addon
    from blender_addon import jobs, knobs, panels, project, session, tries
    from blender_addon.scene import cameras, sheet_view

    preferences = bpy.context.preferences
    preferences.view.show_splash = False
    panels.tries.INSTRUCT_NERF_PT_sheet.bl_options = set()  # open, to be seen
    blender_addon.register()
    entry = preferences.addons.new()
    entry.module = "blender_addon"
    entry.preferences.engine_python, entry.preferences.workspaces = settings["python"], str(folder / "projects")
    jobs.ENGINE_ARGUMENTS, jobs.user_folder = [settings["engine"]], lambda: folder / "user"
    bpy.data.batch_remove([item for item in bpy.data.objects])
    yield 0.5
    yield from hand.keys("Escape")
    window = bpy.context.window_manager.windows[0]
    viewport = hand.area()
    region = next(region for region in viewport.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=viewport, region=region):
        bpy.ops.screen.area_split(direction="VERTICAL", factor=0.5)
    yield 0.5
    halves = [area for area in window.screen.areas if area.type == "VIEW_3D"]
    image_area = max(halves, key=lambda area: area.x)
    image_area.type = "IMAGE_EDITOR"
    hand.area().spaces.active.show_region_ui = image_area.spaces.active.show_region_ui = True
    yield 0.7
    hand.region("UI").active_panel_category = "Instruct NeRF"

    def over() -> bool:
        return session.get().settled

    ask.open_capture(filepath=settings["capture"])
    yield from hand.wait(over, 60)
    scene = bpy.context.scene
    bpy.context.view_layer.objects.active = cameras.cameras_of(project.root_of(scene))[4]
    scene.instruct_nerf.instruction = "make it night"
    ask.make_sheet()
    yield from hand.wait(over, 60)
    yield 1.0
    sheet = tries.shown(scene)
    assert sheet is not None and len(sheet.cells) == 9, session.get().notices
    assert sheet_view.tried_of(image_area.spaces.active) == sheet.id, "the sheet is not in the image editor"
    next(region for region in image_area.regions if region.type == "UI").active_panel_category = "Instruct NeRF"
    yield 0.7
    hand.look(folder / "pictures" / "sheet.png")
    image, inside = image_area.spaces.active.image, next(r for r in image_area.regions if r.type == "WINDOW")
    group = knobs.group_of(scene, project.editor_of(scene))
    for number in (0, 4, 7):
        x, y, width, height = sheet.cells[number].box
        u, v = (x + width / 2) / image.size[0], 1 - (y + height / 2) / image.size[1]
        at = inside.view2d.view_to_region(u, v, clip=False)
        ask.pick_cell("INVOKE_DEFAULT")
        yield 0.5
        yield from hand.click(inside.x + at[0], inside.y + at[1])
        yield 0.5
        assert scene.instruct_nerf.tried_cell == number, (number, scene.instruct_nerf.tried_cell, at)
        assert abs(group.text_guidance - sheet.cells[number].options["text_guidance"]) < 1e-5
    ask.pick_cell("INVOKE_DEFAULT")
    yield 0.5
    yield from hand.keys("Escape")
    yield from hand.click(inside.x + at[0], inside.y + 5)
    assert scene.instruct_nerf.tried_cell == 7  # it had stopped
    ask.use_as_key_view()
    assert [key.view for key in scene.instruct_nerf.key_views] == [sheet.view]
    scene.instruct_nerf.seed = 3
    ask.try_edit()
    yield from hand.wait(over, 60)
    for clicks, name in ((9, "tries"), (14, "key-views")):
        yield from hand.scroll(clicks)
        yield 1.0
        hand.look(folder / "pictures" / f"{name}.png")
    image_area.type = "VIEW_3D"  # none is open any more: a window is opened for it
    yield 0.5
    ask.show_try(tried=sheet.id)
    yield 1.0
    assert len(bpy.context.window_manager.windows) == 2 and len(sheet_view.editors()) == 1
    hand.look(folder / "pictures" / "window.png")
    (folder / "result.json").write_text(json.dumps({"blender": bpy.app.version_string}))
    blender_addon.unregister()


hand.run(program, settings["limit"])
