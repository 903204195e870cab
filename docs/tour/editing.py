# SPDX-License-Identifier: GPL-3.0-or-later
"""Editing: an edit that is told something else half way, before and after, and an edit of it inside a region."""

from __future__ import annotations

import time

import bpy

from . import hand
from .window import Window

SHOWN = ("image", "before", "edited", "after")


def edit(w: Window) -> hand.Program:
    """Edit the scene; on the way pause, say something else, look at a view, and go on."""
    job = yield from w.begun(hand.press("instruct_nerf.start_edit"), "edit")
    began = time.monotonic()
    seen: set[str] = set()
    live: set[str] = set()
    yield from hand.find("instruct_nerf.pause", hand.THIRD)
    gap, last, talked = 0.0, time.monotonic(), False  # from here on: looking for a button is no pause of Blender's
    while not w.quiet():
        now = time.monotonic()
        gap, last = max(gap, now - last), now
        if job.kind in ("edited", "first") and job.image:
            live.add(job.image)
        if job.stage == "train" and job.step > 2 and "train" not in seen:
            yield from hand.show("instruct_nerf.cancel", hand.LAST, share=0.3)
            yield from w.into_viewport(0.15)
            w.look("training")
            seen.add("train")
            last = time.monotonic()
        if job.stage == "edit" and job.step >= 0.4 * job.of and not talked:
            talked = True
            yield from talk(w, job)
            last = time.monotonic()
        yield 0.2
    w.fine("edit")
    assert job.status == "done" and talked, job
    made = w.edits[-1]
    assert made.finished and any(c.instruction == w.settings["change"] for c in made.changes), made.changes
    assert any(change.view for change in made.changes), made.changes
    w.result |= {"seconds of the edit": time.monotonic() - began, "longest pause of the interface": gap}
    w.result["live views"] = len(live)


def talk(w: Window, job: object) -> hand.Program:
    """What a running edit is told: wait, another instruction, leave a view as captured, look, go on."""
    yield from hand.press("instruct_nerf.pause", hand.THIRD)
    yield from hand.wait(lambda: job.paused, 60)
    yield from hand.show("instruct_nerf.go_on", hand.THIRD, share=0.3)
    yield from w.into_viewport(0.15)
    w.look("editing")
    yield from w.write_into("instruct_nerf.instruction", w.settings["change"])
    yield from hand.press("instruct_nerf.change_edit")
    yield from hand.wait(lambda: w.settings["change"] in w.state.news.get("edit", ""), 60)
    approved = {key.view for key in w.panel.key_views}
    other = next(view for view in w.chosen() if view["instruct_nerf_view"] not in approved)
    w.active(other)
    yield 0.4
    yield from hand.press("instruct_nerf.leave_view")
    yield from hand.wait(lambda: "is as captured" in w.state.news.get("edit", ""), 60)
    w.active(w.middle())
    yield 0.4
    yield from hand.press("instruct_nerf.look(", (0.75, 0.9))
    yield from hand.wait(lambda: job.kind == "now", 60)
    yield from hand.show("instruct_nerf.go_on", hand.THIRD, share=0.3)
    yield from w.into_viewport(0.15)
    yield 0.4
    w.look("changed")
    yield from hand.press("instruct_nerf.go_on", hand.THIRD)
    yield from hand.wait(lambda: not job.paused, 60)


def compare(w: Window) -> hand.Program:
    """Before and after behind the camera, then both with a line between them that follows the mouse."""
    project = w.addon("project")
    yield from hand.show("instruct_nerf.shown", share=0.2)
    view = project.active_view(bpy.context)
    for shown, name in (("before", "before"), ("after", "after")):
        side = hand.region("UI")
        _, y = yield from hand.find("instruct_nerf.shown")
        yield from hand.click(side.x + 14 + (SHOWN.index(shown) + 0.5) / 4 * (side.width - 50), y)
        yield from hand.wait(lambda shown=shown: w.panel.shown == shown, 10)
        yield from hand.wait(w.quiet, 30)
        image = view.data.background_images[0].image
        assert project.picture(w.scene, shown, view["instruct_nerf_view"]) == bpy.path.abspath(image.filepath)
        yield from w.into_viewport(0.15)
        yield 1.0
        w.look(name)
    yield from hand.press("instruct_nerf.use_wipe")
    assert w.panel.use_wipe
    yield from hand.press("instruct_nerf.wipe", hand.LAST)
    left, bottom, right, top = w.addon("scene.wipe").frame_of(
        w.scene, view, hand.region("WINDOW"), hand.area().spaces.active.region_3d
    )
    window = hand.region("WINDOW")
    for share in (0.8, 0.6, 0.45):
        hand.move(window.x + left + share * (right - left), window.y + (bottom + top) / 2)
        yield 0.4
    yield from hand.click(window.x + left + 0.45 * (right - left), window.y + (bottom + top) / 2)
    assert abs(w.panel.wipe - 0.45) < 0.02, w.panel.wipe
    yield 1.0
    w.look("wipe")
    yield from hand.press("instruct_nerf.use_wipe")
    assert not w.panel.use_wipe


def branch(w: Window) -> hand.Program:
    """An edit of the edit, inside a box alone."""
    parent = w.edits[-1]
    yield from hand.press("instruct_nerf.stand_on", hand.LAST)
    assert w.panel.parent == parent.id, w.panel.parent
    while w.panel.key_views:
        yield from hand.press("instruct_nerf.remove_key_view", hand.LAST)
    yield from w.write_into("instruct_nerf.instruction", w.settings["further"])
    yield from region(w)
    w.panel.steps = w.settings["more"]
    job = yield from w.begun(hand.press("instruct_nerf.start_edit"), "edit")
    yield from hand.wait(w.quiet, 1200)
    w.fine("edit")
    assert job.status == "done", job
    made = w.edits[-1]
    assert made.finished and made.parent == parent.id and len(w.edits) == 2, made
    assert w.addon("project").chosen_edit(w.scene).id == made.id
    yield from look_at(w, w.middle())
    yield from hand.show("instruct_nerf.row", share=0.35)
    yield from w.into_viewport(0.15)
    w.look("branch")


def region(w: Window) -> hand.Program:
    """A box that the edit is confined to."""
    mesh = w.mesh()
    mesh.hide_set(False)
    yield from w.in_front_of(w.middle(), mesh)
    # Shift and the right button put the 3D cursor on what lies under the mouse; a box is added there.
    window = hand.region("WINDOW")
    hand.move(window.x + window.width / 2, window.y + window.height / 2)
    yield 0.4
    for words in (("keydown", "shift"), ("click", 3), ("keyup", "shift")):
        hand.xdo(*words)
        yield 0.5  # a busy Blender takes them together, and opens its menu
    x, y = yield from hand.find("instruct_nerf.use_region", hand.BOX)
    yield from hand.click(x - 18, y)  # the arrow before it opens the panel
    yield from hand.press("instruct_nerf.region_box", (0.3,))
    assert w.panel.use_region
    (box,) = w.addon("scene.region").objects_of(w.panel.region)
    assert (box.location - w.scene.cursor.location).length < 1e-4
    yield from w.in_front_of(w.middle(), box)
    yield from hand.keys("KP_Subtract", "KP_Subtract", "KP_Subtract")
    yield from hand.show("instruct_nerf.region_invert", (0.75,), share=0.6)
    yield from w.into_viewport(0.15)
    yield 0.5
    w.look("region")
    box.hide_set(True)
    mesh.hide_set(True)
    w.active(w.middle())


def look_at(w: Window, view: bpy.types.Object) -> hand.Program:
    """Look through a view's camera at what is shown of it."""
    w.active(view)
    yield 0.3
    yield from hand.press("instruct_nerf.look_through")
    yield from w.home()
