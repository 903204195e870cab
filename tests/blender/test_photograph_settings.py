# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs are the same whatever the scene has turned on, and the scene is left with it turned on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from in_blender import settle
from scenes_with_everything_on import PHOTOGRAPHS

from blender_addon import project, session


def pictures(scene: bpy.types.Scene, **options: object) -> list[np.ndarray]:
    """What is photographed, 0-255."""
    bpy.ops.instruct_nerf.photograph(count=8, **options)
    settle(60)
    assert not session.get().notices
    folder = Path(project.workspace_of(scene)) / "source" / "images"
    assert len(list(folder.iterdir())) == 8  # and no second eye's, no placeholders
    found = []
    for path in sorted(folder.glob("*.png")):
        image = bpy.data.images.load(str(path), check_existing=False)
        found.append(255 * np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[..., :3])
        bpy.data.images.remove(image)
    return found


def settings_of(scene: bpy.types.Scene) -> dict[str, Any]:
    """Every plain setting of a scene that a render could depend on."""
    owners = {
        "scene": scene, "render": scene.render, "image": scene.render.image_settings, "film": scene.render.ffmpeg,
        "view": scene.view_settings, "display": scene.display_settings,
        "override": scene.render.image_settings.view_settings,
    }  # fmt: skip
    found = {}
    for name, owner in owners.items():
        for prop in owner.bl_rna.properties:
            if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"} and not prop.is_readonly:
                value = getattr(owner, prop.identifier)
                found[f"{name}.{prop.identifier}"] = value[:] if getattr(prop, "is_array", False) else value
    found["camera"] = scene.camera
    found["markers"] = [(m.name, m.camera) for m in scene.timeline_markers]
    return found


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_what_a_scene_has_on_does_not_reach_its_photographs(
    ball: bpy.types.Scene,
    tmp_path: Path,
    name: str,
) -> None:
    plain = pictures(ball, width=48, height=36)
    assert np.mean([p.max() for p in plain]) > 20
    PHOTOGRAPHS[name](ball, tmp_path)
    before = settings_of(ball)
    again = pictures(ball, width=48, height=36)
    after = settings_of(ball)
    assert {k: (before[k], after[k]) for k in before if before[k] != after[k]} == {}
    for one, other in zip(plain, again, strict=True):
        assert one.shape == other.shape and np.abs(one.round() - other.round()).max() <= 4, name  # levels of noise


def test_every_camera_of_the_scene_takes_its_own_picture_though_a_marker_names_one(
    ball: bpy.types.Scene,
    tmp_path: Path,
) -> None:
    ball.render.resolution_x, ball.render.resolution_y = 100, 60
    ball.render.resolution_percentage = 29  # of 100 are 29; by floats 28
    for x in np.linspace(-3, 3, 8):
        item = bpy.data.objects.new("mine", bpy.data.cameras.new("mine"))
        item.location = (x, -3.0, 2.0)
        item.data.dof.use_dof, item.data.dof.focus_distance, item.data.dof.aperture_fstop = True, 100.0, 0.01
        ball.collection.objects.link(item)
        item.constraints.new("TRACK_TO").target = bpy.context.object
    plain = pictures(ball, way="CAMERAS")
    assert plain[0].shape == (17, 29, 3)
    lit = [np.argwhere(p[..., 0] > 128) for p in plain]
    assert all(0 < len(spots) < 40 for spots in lit)  # in focus, though the lens is wide open
    marked = bpy.data.objects["mine"]
    ball.timeline_markers.new("cut", frame=1).camera = marked
    again = pictures(ball, way="CAMERAS")
    assert ball.timeline_markers[0].camera == marked and marked.data.dof.use_dof
    for one, other in zip(plain, again, strict=True):
        assert np.abs(one - other).max() <= 2


def test_between_two_photographs_the_scene_is_as_it_was(ball: bpy.types.Scene, tmp_path: Path) -> None:
    """So that a file saved meanwhile, or an undo, holds nothing of the photographer's."""
    for change in PHOTOGRAPHS.values():
        change(ball, tmp_path)
    before = settings_of(ball)
    bpy.ops.instruct_nerf.photograph(count=12, width=32, height=32)
    assert session.wait(lambda: session.get().task.fraction > 0.2, 30.0) and session.get().task is not None
    assert settings_of(ball) == before and [c.name for c in bpy.data.cameras] == ["away"]
    bpy.ops.instruct_nerf.cancel()
    settle()


def test_folders_with_braces_and_marks_get_the_photographs(ball: bpy.types.Scene, tmp_path: Path) -> None:
    project.preferences().workspaces = str(tmp_path / "take {camera_name} #3 100% größe 夜")
    assert len(pictures(ball, width=32, height=32)) == 8
