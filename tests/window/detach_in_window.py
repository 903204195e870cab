# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives a real Blender window through letting a running edit go and closing Blender (part ``first``), and another one
through finding it and following it to its end (``second``).

Run by Blender (`--python`), with the settings of tests/window/test_detach_window.py in DETACH_WINDOW. Ends with exit
code 0 and a file ``PART.json`` in the folder only if every button did what it should.
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

settings = json.loads(os.environ["DETACH_WINDOW"])
folder, part = Path(settings["folder"]), settings["part"]
blend = folder / "scene.blend"
ask = bpy.ops.instruct_nerf


def program() -> hand.Program:
    import blender_addon
    from blender_addon import jobs, project, session

    preferences = bpy.context.preferences
    preferences.view.show_splash = False
    if part == "second":
        bpy.ops.wm.open_mainfile(filepath=str(blend))
    blender_addon.register()
    entry = preferences.addons.new()
    entry.module = "blender_addon"
    entry.preferences.engine_python = settings["python"]
    jobs.ENGINE_ARGUMENTS, jobs.user_folder = [settings["engine"]], lambda: folder / "user"
    yield 0.5
    yield from hand.keys("Escape")
    hand.area().spaces.active.show_region_ui = True
    yield 0.7
    hand.region("UI").active_panel_category = "Instruct NeRF"
    scene = bpy.context.scene
    if part == "first":
        bpy.ops.wm.save_as_mainfile(filepath=str(blend))
        ask.open_capture(filepath=settings["capture"])
        yield from hand.wait(lambda: session.get().settled, 60)
        scene.instruct_nerf.instruction = "make it night"
        ask.start_edit(even_on_cpu=True)
        yield from hand.wait(lambda: session.get().job.step > 2, 60)
        job = session.get().job
        yield from hand.press("instruct_nerf.detach", (-67, -47))
        yield from hand.wait(lambda: job.status == "detached", 20)
        yield from hand.wait(lambda: session.get().settled, 60)
        assert not session.get().notices, session.get().notices
        said = {"step": job.step, "news": session.get().news["edit"]}
        hand.look(folder / "pictures" / "detached.png")
        bpy.ops.wm.save_mainfile()
    else:
        yield from hand.press("instruct_nerf.reconnect")
        yield from hand.wait(lambda: session.get().client is not None and session.get().settled, 60)
        [found] = project.project_of(scene).jobs
        hand.look(folder / "pictures" / "found.png")
        yield from hand.press("instruct_nerf.attach")
        yield from hand.wait(lambda: session.get().job is not None and session.get().job.status == "done", 300)
        yield from hand.wait(lambda: session.get().settled, 60)
        edit = project.edit_of(scene)
        assert edit.finished and edit.instruction == "make it night" and not session.get().notices
        assert project.project_of(scene).jobs == ()
        said = {"found": found.state, "fraction": found.fraction, "edit": edit.id}
        hand.look(folder / "pictures" / "followed.png")
    (folder / f"{part}.json").write_text(json.dumps(said))
    blender_addon.unregister()


hand.run(program, settings["limit"])
