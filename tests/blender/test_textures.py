# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes with a texture: brought in, replaced, lit or not, and written for other programs."""

from __future__ import annotations

import struct
from pathlib import Path

import bpy
import numpy as np
import pytest
from fake_engine import cube, png
from in_blender import settle
from test_tree import heard

from blender_addon import ply, project, session
from blender_addon.scene import cameras, mesh
from blender_addon.trajectories import exhausted

nerf = bpy.ops.instruct_nerf


@pytest.fixture
def learned(opened: bpy.types.Scene) -> bpy.types.Scene:
    """A scene whose capture is learned and edited."""
    opened.instruct_nerf.instruction = "make it night"
    nerf.start_edit()
    settle()
    return opened


def imported(scene: bpy.types.Scene, **choices: object) -> bpy.types.Object:
    nerf.import_mesh(**choices)
    settle()
    assert not session.get().notices, session.get().notices
    (item,) = [child for child in project.root_of(scene).children if mesh.MESH in child]
    return item


def surface(item: bpy.types.Object) -> tuple[str, bpy.types.Node]:
    """What of its surface a mesh's material gives a color to, and the node that the color comes from."""
    (material,) = item.data.materials
    (output,) = [node for node in material.node_tree.nodes if node.type == "OUTPUT_MATERIAL"]
    shader = output.inputs["Surface"].links[0].from_node
    (linked,) = [slot for slot in shader.inputs if slot.is_linked]
    return linked.name, linked.links[0].from_node


def counts() -> tuple[int, int, int]:
    return len(bpy.data.meshes), len(bpy.data.materials), len(bpy.data.images)


def test_a_texture_comes_with_its_mesh_and_goes_with_the_next(learned: bpy.types.Scene, tmp_path: Path) -> None:
    before = len(bpy.data.images)
    item = imported(learned, colors="2048")
    assert heard(tmp_path, "output/mesh")[-1]["texture"] == 2048
    shows, source = surface(item)
    assert shows == "Emission Color" and source.type == "TEX_IMAGE"
    assert Path(source.image.filepath_from_user()).name == f"mesh-{2048:012x}.png"
    assert source.image.colorspace_settings.name == "sRGB"
    (layer,) = item.data.uv_layers
    flat = np.array([corner.uv[:] for corner in layer.data]).reshape(-1, 4, 2)
    np.testing.assert_array_equal(flat, [[[0, 0], [1, 0], [1, 1], [0, 1]]] * 6)
    assert counts() == (1, 1, before + 1)
    shows, source = surface(imported(learned, colors="1024", material="LIT"))
    assert (shows, source.type) == ("Base Color", "TEX_IMAGE")
    assert Path(source.image.filepath_from_user()).name == f"mesh-{1024:012x}.png"
    assert heard(tmp_path, "output/mesh")[-1]["material"] == "lit"
    assert counts() == (1, 1, before + 1)  # what was there before is gone, its picture too
    shows, source = surface(imported(learned, colors="0", material="LIT"))
    assert (shows, source.type) == ("Base Color", "VERTEX_COLOR") and counts() == (1, 1, before)


def test_meshes_lie_in_a_collection_of_their_own_named_by_project_and_edit(learned: bpy.types.Scene) -> None:
    item = imported(learned, original=True)
    root = project.root_of(learned)
    (collection,) = item.users_collection
    assert collection.get(cameras.PART) == "Meshes"
    assert collection in cameras.collection_of(root).children.values()
    assert item.name == item.data.name == f"{Path(project.workspace_of(learned)).name}, as captured"
    nerf.import_mesh()
    settle()
    names = {child.name for child in root.children if mesh.MESH in child}
    assert names == {item.name, f"{Path(project.workspace_of(learned)).name}, make it night"}


def test_other_formats_are_written_as_the_mesh_lies_in_the_world(learned: bpy.types.Scene, tmp_path: Path) -> None:
    root = project.root_of(learned)
    root.location, root.rotation_euler, root.scale = (5, 1, 0), (0, 0, 0.5), (2, 2, 2)
    bpy.context.view_layer.update()
    bpy.ops.mesh.primitive_cube_add()
    other = bpy.context.object
    item = imported(learned, colors="1024", formats={"glb", "usd"}, part="SUBJECT")
    asked = heard(tmp_path, "output/mesh")[-1]
    assert asked["formats"] == ["glb"] and asked["part"] == "subject"
    np.testing.assert_allclose(np.reshape(asked["world"], (4, 4)), np.array(root.matrix_world), rtol=1e-6)
    assert other.select_get() and bpy.context.view_layer.objects.active == other and not item.select_get()
    told = session.get().news["results"]
    assert "edit-1.glb" in told and "edit-1.usdc" in told
    bpy.context.view_layer.update()
    places = np.array([item.matrix_world @ vertex.co for vertex in item.data.vertices])
    folder = Path(project.workspace_of(learned)) / "mesh"
    assert {path.name for path in folder.iterdir()} >= {"edit-1.usdc", "edit-1.ply", "edit-1.glb"}
    assert not list(folder.glob("unfinished*"))
    bpy.data.batch_remove(list(bpy.data.objects))
    bpy.ops.wm.usd_import(filepath=str(folder / "edit-1.usdc"))
    bpy.context.view_layer.update()
    (found,) = [item for item in bpy.data.objects if item.type == "MESH"]  # and not the cube
    again = np.array([found.matrix_world @ vertex.co for vertex in found.data.vertices])
    np.testing.assert_allclose(again, places, atol=1e-4)
    assert len(found.data.uv_layers) == 1
    shows, source = surface(found)
    picture = Path(bpy.path.abspath(source.image.filepath))
    assert shows == "Emission Color" and picture.is_file() and picture.parent.name == "textures"


TWO = struct.pack("<9f", *range(9))
HEAD = (
    "ply\nformat binary_little_endian 1.0\ncomment TextureFile {name}\nelement vertex 3\nproperty float x\nproperty "
    "float y\nproperty float z\nelement face 1\nproperty list uchar int vertex_indices\nproperty list {kind} float "
    "{what}\nend_header\n"
)


@pytest.mark.parametrize(
    ("name", "kind", "what", "flat"),
    [
        ("../out.png", "uchar", "texcoord", struct.pack("<B6f", 6, *range(6))),
        ("a b.png", "uchar", "texcoord", struct.pack("<B6f", 6, *range(6))),
        ("run.exe", "uchar", "texcoord", struct.pack("<B6f", 6, *range(6))),
        ("a.png", "int", "texcoord", struct.pack("<i6f", 6, *range(6))),
        ("a.png", "uchar", "else", struct.pack("<B6f", 6, *range(6))),
        ("a.png", "uchar", "texcoord", struct.pack("<B5f", 5, *range(5))),
        ("a.png", "uchar", "texcoord", struct.pack("<B6f", 8, *range(6))),
        ("a.png", "uchar", "texcoord", struct.pack("<B3f", 6, *range(3))),
        ("a.png", "uchar", "texcoord", struct.pack("<B6f", 6, 0, 0, 0, float("nan"), 0, 0)),
        ("a.png", "uchar", "texcoord", struct.pack("<B6f", 6, 0, 0, 0, float("inf"), 0, 0)),
    ],
)
def test_a_texture_that_is_not_what_it_claims_is_refused(
    tmp_path: Path, name: str, kind: str, what: str, flat: bytes
) -> None:
    path = tmp_path / "m.ply"
    path.write_bytes(
        HEAD.format(name=name, kind=kind, what=what).encode() + TWO + struct.pack("<B3i", 3, 0, 1, 2) + flat
    )
    with pytest.raises(ValueError, match=r"m\.ply is damaged or holds no mesh"):
        exhausted(ply.reading(path))


def test_a_mesh_whose_texture_is_gone_leaves_the_old_one(empty: None, tmp_path: Path) -> None:
    root = bpy.data.objects.new("root", None)
    bpy.context.collection.objects.link(root)
    path = cube(tmp_path / "m.ply", "t.png")
    with pytest.raises(ValueError, match=r"The texture t\.png is not beside m\.ply; make the mesh again"):
        exhausted(mesh.importing(root, path, "m", "e"))
    assert not bpy.data.meshes
    png(tmp_path / "t.png", 2, 2, (9, 9, 9))
    old = exhausted(mesh.importing(root, path, "m", "e"))
    (tmp_path / "t.png").unlink()
    with pytest.raises(ValueError, match=r"t\.png"):
        exhausted(mesh.importing(root, path, "m", "e"))
    assert list(root.children) == [old] and list(bpy.data.meshes) == [old.data]


def test_large_textured_meshes_are_read_in_steps_as_small_ones_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cube(tmp_path / "m.ply", "t.png")
    whole = exhausted(ply.reading(path))
    for name in ("VERTICES", "FACES", "MIXED", "EDGES"):
        monkeypatch.setattr(ply, name, 10)
    monkeypatch.setattr(ply, "FACES", 2)
    parts = exhausted(ply.reading(path))
    assert parts == whole and whole.texture == "t.png" and len(whole.flat) == 48


@pytest.mark.parametrize("lit", [False, True])
@pytest.mark.parametrize("textured", [False, True])
def test_unlit_shows_its_color_under_any_lamp_and_lit_takes_its_light(
    empty: None, tmp_path: Path, textured: bool, lit: bool
) -> None:
    """Rendered by Cycles: a face of one color, in the dark and before a lamp."""
    scene = bpy.context.scene
    root = bpy.data.objects.new("root", None)
    scene.collection.objects.link(root)
    png(tmp_path / "t.png", 4, 4, (200, 100, 50))
    item = exhausted(mesh.importing(root, cube(tmp_path / "m.ply", "t.png" if textured else ""), "m", "e", lit))
    camera = bpy.data.objects.new("c", bpy.data.cameras.new("c"))
    camera.location = (0, 0, 9)
    lamp = bpy.data.objects.new("l", bpy.data.lights.new("l", "SUN"))
    for new in (camera, lamp):
        scene.collection.objects.link(new)
    render = scene.render
    render.engine, scene.cycles.samples, scene.camera, scene.world = "CYCLES", 4, camera, None
    render.resolution_x = render.resolution_y = 8
    scene.view_settings.view_transform, scene.view_settings.look, render.dither_intensity = "Standard", "None", 0.0
    scene.cycles.use_denoising = False
    seen = []
    for energy in (0.0, 2.0):
        lamp.data.energy = energy
        render.filepath = str(tmp_path / f"{energy}.png")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(render.filepath)
        seen.append([round(255 * value) for value in image.pixels[4 * 36 : 4 * 36 + 3]])
    assert item.data.materials and (max(seen[0]) < 5 if lit else seen[0] == seen[1])
    if not lit:
        np.testing.assert_allclose(seen[0], (200, 100, 50), atol=1)
    else:
        assert seen[1][0] > seen[1][1] > seen[1][2] > 10
