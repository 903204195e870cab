# SPDX-License-Identifier: GPL-3.0-or-later
"""The first minutes: what an empty tab says, and an example that needs no photos."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest
from in_blender import settle
from test_panels import drawn

from blender_addon import project, results, session
from blender_addon.scene import cameras, example, mesh, photograph


def test_an_empty_tab_says_what_this_is_and_what_a_click_costs(addon: object) -> None:
    shown = drawn()
    for words in ("1. Open a capture", "3. Press Start", "instruct_nerf.open_example", "32 small renders"):
        assert words in shown
    project.preferences().engine_python = ""
    assert "Install Engine" in drawn() and "GB are downloaded; on the disk" in drawn()
    with pytest.raises(RuntimeError, match="Set up the engine first"):
        bpy.ops.instruct_nerf.open_example()


def test_an_example_opens_in_a_scene_of_its_own_and_leaves_the_artists_alone(
    addon: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = bpy.context.scene
    bpy.ops.mesh.primitive_cube_add()
    engine = mine.render.engine
    dome = photograph.Dome(8, 18.0, 48.0, 2.2, 150.0)  # fewer pictures, and smaller ones
    monkeypatch.setattr(results, "EXAMPLE", dome)
    monkeypatch.setattr(photograph, "Film", lambda lens, *_size, film=photograph.Film: film(lens, 32, 24))
    assert bpy.ops.instruct_nerf.open_example() == {"FINISHED"}
    settle(120.0)
    assert not session.get().notices
    scene = bpy.context.scene
    assert scene != mine and [o.type for o in mine.objects] == ["MESH"] and mine.render.engine == engine
    views = cameras.cameras_of(project.root_of(scene))
    assert len(views) == 8 and all(len(v.data.background_images) == 1 for v in views)
    assert scene.instruct_nerf.instruction and "Open a capture" not in drawn()
    assert sorted(Path(project.workspace_of(scene), "source").glob("**/*.png"))
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert project.edit_of(scene).finished
    # The mesh lies where the things do: they would be seen in patches.
    things = [item for item in scene.objects if example.THING in item]
    assert len(things) == 7 and not any(item.hide_get() for item in things)
    bpy.ops.instruct_nerf.import_mesh()
    settle()
    (made,) = (item for item in scene.objects if mesh.MESH in item)
    assert all(item.hide_get() and not item.hide_render for item in things) and not made.hide_get()
    assert "things are hidden" in drawn()


def test_an_unsaved_file_is_answered_with_the_button_that_saves_it(addon: object, tmp_path: Path) -> None:
    assert "Save File" in drawn()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    assert "Save File" not in drawn()


def test_what_start_takes_is_said_before_it(opened: bpy.types.Scene) -> None:
    shown = drawn()
    # 200 s, and 12 views rendered in a second each
    assert "About 4 min to learn the scene" in shown and "to edit 10 views" in shown and "164 MB" in shown
    for view in cameras.cameras_of(project.root_of(opened))[:6]:
        view[cameras.CHOSEN] = True
    assert "to edit 6 views" in drawn()
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    assert "to edit 6 views" not in drawn()  # its bar says how long it takes now
    settle()
    shown = drawn()
    assert "to learn the scene" not in shown and "to edit 6 views. 82 MB" in shown
