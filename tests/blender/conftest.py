# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on inside the bpy module, with the stand-in engine of tests/addon as its engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "addon"), str(ROOT / "tests" / "blender")]

bpy = pytest.importorskip("bpy", reason="the bpy module is not installed")
FAKE_ENGINE = str(ROOT / "tests" / "addon" / "fake_engine.py")


@pytest.fixture
def empty() -> None:
    """An empty Blender file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)


@pytest.fixture
def addon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The add-on registered, enabled in the preferences, with workspaces under the test's own folder."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    import blender_addon
    from blender_addon import jobs, session

    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [FAKE_ENGINE])
    monkeypatch.setattr(jobs, "user_folder", lambda: tmp_path / "user")
    blender_addon.register()
    entry = bpy.context.preferences.addons.new()
    entry.module = "blender_addon"
    entry.preferences.engine_python = sys.executable
    entry.preferences.workspaces = str(tmp_path / "workspaces")
    yield blender_addon
    blender_addon.unregister()
    bpy.context.preferences.addons.remove(entry)
    assert session.get().client is None


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A ring of a dozen views, two more left out."""
    from addon_captures import ring

    return ring(tmp_path / "ring")


@pytest.fixture
def opened(addon: object, capture: Path) -> bpy.types.Scene:
    """A scene with that capture open and its pictures written."""
    from in_blender import settle

    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    settle()
    return bpy.context.scene


@pytest.fixture
def ball(addon: object) -> bpy.types.Scene:
    """A small glowing ball off the middle of a dark cube-sized nothing."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 4
    scene.world = bpy.data.worlds.new("dark")
    scene.world.color = (0, 0, 0)
    if scene.world.use_nodes:  # always from 5.0 on
        scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0, 0, 0, 1)
    bpy.ops.mesh.primitive_cube_add(size=2.0)
    bpy.context.object.display_type = "WIRE"
    bpy.context.object.visible_camera = False
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.15, location=(0.4, -0.3, 0.5))
    material = bpy.data.materials.new("glow")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Emission Color"].default_value = (1, 1, 1, 1)
    shader.inputs["Emission Strength"].default_value = 5.0
    bpy.context.object.data.materials.append(material)
    return scene
