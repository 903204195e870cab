# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying: one picture, a contact sheet, the gallery, and a picture that the whole scene is to follow."""

from __future__ import annotations

import bpy

from . import hand
from .window import TAB, Window


def instruct(w: Window) -> hand.Program:
    """Type the instruction."""
    w.panel.editor_model, w.panel.steps = w.settings["editor"], w.settings["steps"]
    yield from w.write_into("instruct_nerf.instruction", w.settings["instruction"])
    assert w.panel.instruction == w.settings["instruction"]


def knobs(w: Window) -> hand.Program:
    """Turn one of the editor's knobs, and give it back."""
    group = w.addon("knobs").group_of(w.scene, w.addon("project").editor_of(w.scene))
    x, y = yield from hand.find(".text_guidance", (0.75,))
    hand.move(x, y)
    yield from hand.keys("Return", "ctrl+a")
    yield from hand.write("2.5")
    yield from hand.keys("Return")
    assert group.is_property_set("text_guidance") and group.text_guidance == 2.5
    yield from hand.click(*(yield from hand.beside(x, y, "instruct_nerf.reset_knob")))
    assert not group.is_property_set("text_guidance")


def try_it(w: Window) -> hand.Program:
    """Try the instruction on the camera's photo."""
    yield from w.job(hand.press("instruct_nerf.try_edit"), "Trying", "instruction", 300)
    yield from w.into_viewport(0.15)
    yield from hand.keys("Home")
    yield 1.0
    assert len(w.addon("tries").tries_of(w.scene)) == 1
    yield from hand.show("instruct_nerf.use_as_key_view", share=0.75)
    yield from w.into_viewport(0.15)
    yield 0.5
    w.look("try")


def sheet(w: Window) -> hand.Program:
    """Make a contact sheet beside the viewport, and click one of its pictures."""
    window, viewport = bpy.context.window_manager.windows[0], hand.area()
    region = next(region for region in viewport.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=viewport, region=region):
        bpy.ops.screen.area_split(direction="VERTICAL", factor=0.5)
    yield 0.5
    image_area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.x)
    image_area.type = "IMAGE_EDITOR"
    image_area.spaces.active.show_region_ui = True
    yield 0.7
    yield from w.home()
    hand.region("UI").active_panel_category = TAB
    yield from w.job(hand.press("instruct_nerf.make_sheet"), "Contact sheet", "instruction", 900)
    yield 0.5
    made, tries = w.addon("tries").shown(w.scene), w.addon("tries")
    assert made is not None and len(made.cells) > 3, made
    assert w.addon("scene.sheet_view").tried_of(image_area.spaces.active) == made.id, "the sheet is in no image editor"
    next(region for region in image_area.regions if region.type == "UI").active_panel_category = TAB
    yield from w.into_viewport(0.15)
    yield from hand.keys("Home")
    yield from hand.press("instruct_nerf.pick_cell")
    number = len(made.cells) // 2 + 1
    x, y, width, height = made.cells[number].box
    image = image_area.spaces.active.image
    inside = next(region for region in image_area.regions if region.type == "WINDOW")
    u, v = (x + width / 2) / image.size[0], 1 - (y + height / 2) / image.size[1]
    at = inside.view2d.view_to_region(u, v, clip=False)
    yield from hand.click(inside.x + at[0], inside.y + at[1])
    yield 0.7
    assert w.panel.tried_cell == number, (w.panel.tried_cell, number)
    group = w.addon("knobs").group_of(w.scene, w.addon("project").editor_of(w.scene))
    for name, value in made.cells[number].options.items():
        here = getattr(group, name)
        assert here == value or abs(here - value) < 1e-5, (name, here, value)
    assert tries.shown_cell(w.scene) == number
    w.look("sheet")


def gallery(w: Window) -> hand.Program:
    """Go back to the first try, then to the sheet, which its image editor shows; a picture of it becomes a key view."""
    tries = w.addon("tries")
    newest = tries.tries_of(w.scene)
    columns = min(len(newest), w.addon("panels").tries.COLUMNS)
    # Where in a line their buttons are, left of the small one that deletes.
    column = {tried.id: ((place % columns + 0.35) / columns,) for place, tried in enumerate(newest)}
    first, made = sorted(newest, key=lambda tried: len(tried.cells))
    yield from hand.press(f'take_try(tried="{first.id}"', column[first.id])
    assert w.panel.tried == first.id
    yield from hand.show(f'take_try(tried="{first.id}"', share=0.6)
    yield from w.into_viewport(0.15)
    w.look("gallery")
    yield from hand.press(f'show_try(tried="{made.id}"', column[made.id])
    assert tries.shown(w.scene).id == made.id
    number = len(made.cells) // 2  # the middle, which is what the editor recommends
    middle = (number % made.columns + 0.5) / made.columns
    yield from hand.press(f'take_try(tried="{made.id}", cell={number})', (middle,))
    assert w.panel.tried_cell == number
    yield from hand.press("instruct_nerf.use_as_key_view")
    assert [key.view for key in w.panel.key_views] == [made.view]
    yield from hand.show("instruct_nerf.remove_key_view", hand.LAST, share=0.4)
    yield from w.into_viewport(0.15)
    w.look("key-view")
    yield from w.alone()
    yield from w.home()
