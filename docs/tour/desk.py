# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's own workspace, and the panels in other languages."""

from __future__ import annotations

import bpy

from . import hand
from .window import Window

LANGUAGES = {"de_DE": "german", "ja_JP": "japanese", "zh_HANS": "chinese"}


def workspace(w: Window) -> hand.Program:
    """Open the workspace of our own, and go back."""
    before = bpy.context.window_manager.windows[0].workspace.name
    bpy.ops.instruct_nerf.open_workspace()
    yield from hand.wait(lambda: bpy.context.window_manager.windows[0].workspace.get("instruct_nerf"), 60)
    yield 2.0
    kinds = {area.type for area in bpy.context.window_manager.windows[0].screen.areas}
    assert {"VIEW_3D", "IMAGE_EDITOR", "SEQUENCE_EDITOR"} <= kinds, kinds
    yield from w.home()
    image = next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "IMAGE_EDITOR")
    hand.move(image.x + image.width / 2, image.y + image.height / 2)
    yield from hand.keys("Home")
    yield 2.5  # until no tooltip stands there
    w.look("workspace")
    bpy.context.window_manager.windows[0].workspace = bpy.data.workspaces[before]
    yield 1.5


def languages(w: Window) -> hand.Program:
    """The sidebar in other languages."""
    view = bpy.context.preferences.view
    was = view.language, view.use_translate_interface
    for language, name in LANGUAGES.items():
        view.language, view.use_translate_interface = language, True
        yield from hand.scroll(-150)
        yield from w.into_viewport(0.15)
        yield 1.0
        w.look(name) if name == "german" else w.look_aside(name)
        for page in range(1, 9):  # all of it, for labels that are cut
            before = hand.scrolled()
            yield from hand.scroll(18)
            if abs(hand.scrolled() - before) < 1:
                break
            w.look_aside(f"{name}-{page}")
    yield from hand.scroll(-150)
    view.language, view.use_translate_interface = was
    yield 1.0
