# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes in the files that other programs read, read again without the library that wrote them (and in Blender, by
tests/blender/test_mesh_formats.py)."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual.color import ColorVisuals

from engine.output.mesh_files import Painted, remove_meshes, upright, write_mesh
from engine.output.texture import Texture

UP = np.array([0.0, -1.0, 0.2])  # of a capture frame whose y looks down
CENTER = np.array([0.3, 2.0, -1.0])
WORLD = upright(UP, CENTER)
BACK = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # from y up to z up


def tent() -> trimesh.Trimesh:
    """Two triangles that share an edge, no two corners of one color."""
    vertices = CENTER + np.array([[0, 0, 0], [1, 0, 0.2], [0, 1, 0.4], [1, 1, -0.3]])
    mesh = trimesh.Trimesh(vertices, [[0, 1, 2], [2, 1, 3]], process=False)
    colors = np.array([[200, 20, 3, 255], [8, 120, 60, 255], [0, 0, 255, 255], [1, 2, 90, 255]], np.uint8)
    mesh.visual = ColorVisuals(mesh, vertex_colors=colors)
    return mesh


def textured_tent() -> Painted:
    """Its faces lie apart in the texture: left half red, right half green, lower rows darker."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4, 0], picture[:, 4:, 1] = 250, 250
    picture[4:] //= 2
    corners = np.array([[[0.1, 0.1], [0.4, 0.1], [0.1, 0.9]], [[0.6, 0.9], [0.9, 0.1], [0.9, 0.9]]], np.float32)
    return Painted(tent(), Texture(picture, corners, 1.0))


def glb(path: Path) -> tuple[dict[str, Any], list[np.ndarray], bytes]:
    """The JSON of a GLB, its accessors, and its bytes."""
    data = path.read_bytes()
    magic, version, length, size, kind = struct.unpack("<5I", data[:20])
    assert (magic, version, length, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    tree, body = json.loads(data[20 : 20 + size]), data[28 + size :]
    arrays = []
    for accessor in tree["accessors"]:
        view = tree["bufferViews"][accessor["bufferView"]]
        columns = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        kind = {5121: "<u1", 5125: "<u4", 5126: "<f4"}[accessor["componentType"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        values = np.frombuffer(body, kind, accessor["count"] * columns, start)
        arrays.append(values.reshape(-1, columns) if columns > 1 else values)
    return tree, arrays, body


def in_world(points: np.ndarray) -> np.ndarray:
    return points @ WORLD[:3, :3].T + WORLD[:3, 3]


def test_upright_is_a_turn_about_the_center_that_puts_up_on_z() -> None:
    turn = WORLD[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn @ UP / np.linalg.norm(UP), (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(in_world(CENTER), 0, atol=1e-12)


@pytest.mark.parametrize("relit", [False, True])
@pytest.mark.parametrize("textured", [False, True])
def test_a_glb_has_y_up_linear_colors_and_its_material(tmp_path: Path, textured: bool, relit: bool) -> None:
    painted = textured_tent() if textured else Painted(tent())
    written = write_mesh(painted, tmp_path, {"glb"}, WORLD, relit)
    assert written["glb"] == tmp_path / "mesh.glb"
    tree, arrays, body = glb(tmp_path / "mesh.glb")
    (primitive,) = tree["meshes"][0]["primitives"]
    names = primitive["attributes"]
    points, faces = arrays[names["POSITION"]], arrays[primitive["indices"]].reshape(-1, 3)
    node = next(node for node in tree["nodes"] if "mesh" in node)
    assert "matrix" not in node or np.allclose(node["matrix"], np.eye(4).ravel())
    expected = in_world(painted.mesh.vertices[painted.mesh.faces])
    np.testing.assert_allclose((points @ BACK.T)[faces], expected, atol=1e-5)
    normals = arrays[names["NORMAL"]] @ BACK.T @ WORLD[:3, :3]
    np.testing.assert_allclose(normals[faces], painted.mesh.vertex_normals[painted.mesh.faces], atol=1e-5)
    (material,) = tree["materials"]
    assert ("KHR_materials_unlit" in material.get("extensions", {})) is not relit
    assert (tree.get("extensionsUsed") == ["KHR_materials_unlit"]) is not relit
    surface = material["pbrMetallicRoughness"]
    assert (surface["metallicFactor"], surface["roughnessFactor"]) == (0, 1)
    if not textured:
        srgb = painted.mesh.visual.vertex_colors[:, :3] / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        colors = arrays[names["COLOR_0"]]
        assert colors.dtype == np.float32  # as bytes, what is dark would be black
        np.testing.assert_allclose(colors[faces], linear[painted.mesh.faces], atol=1e-6)
        return
    assert "COLOR_0" not in names and len(points) == 6  # a corner of each face, for they lie apart in the texture
    flat = arrays[names["TEXCOORD_0"]][faces]  # from the upper left
    np.testing.assert_allclose(flat * (1, -1) + (0, 1), painted.texture.corners, atol=1e-6)
    image = tree["images"][tree["textures"][surface["baseColorTexture"]["index"]]["source"]]
    view = tree["bufferViews"][image["bufferView"]]
    start = view.get("byteOffset", 0)
    picture = np.asarray(Image.open(io.BytesIO(body[start : start + view["byteLength"]])))
    np.testing.assert_array_equal(picture, painted.texture.picture)


@pytest.mark.parametrize("relit", [False, True])
@pytest.mark.parametrize("textured", [False, True])
def test_an_obj_has_y_up_and_its_material_beside_it(tmp_path: Path, textured: bool, relit: bool) -> None:
    painted = textured_tent() if textured else Painted(tent())
    write_mesh(painted, tmp_path, {"obj"}, WORLD, relit)
    lines = [line.split() for line in (tmp_path / "mesh.obj").read_text().splitlines() if line.strip()]

    def rows(kind: str) -> np.ndarray:
        return np.array([[float(value) for value in words[1:]] for words in lines if words[0] == kind])

    corners = [[part.split("/") for part in words[1:]] for words in lines if words[0] == "f"]
    vertices = np.array([[int(part[0]) - 1 for part in face] for face in corners])
    points = rows("v")
    np.testing.assert_allclose(
        (points[:, :3] @ BACK.T)[vertices], in_world(painted.mesh.vertices[painted.mesh.faces]), atol=1e-5
    )
    if not textured:
        colors = painted.mesh.visual.vertex_colors[:, :3] / 255
        np.testing.assert_allclose(points[:, 3:][vertices], colors[painted.mesh.faces], atol=1e-3)
        return
    flat = np.array([[int(part[1]) - 1 for part in face] for face in corners])
    np.testing.assert_allclose(rows("vt")[flat], painted.texture.corners, atol=1e-6)
    assert ["mtllib", "mesh.mtl"] in lines and ["usemtl", "mesh"] in lines
    material = (tmp_path / "mesh.mtl").read_text().splitlines()
    assert f"illum {int(relit)}" in material and "newmtl mesh" in material
    (name,) = (line.split()[1] for line in material if line.startswith("map_Kd"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), painted.texture.picture)


def test_a_ply_names_its_own_texture_which_goes_with_the_next(tmp_path: Path) -> None:
    painted = textured_tent()
    write_mesh(painted, tmp_path, (), WORLD, False)
    head, body = (tmp_path / "mesh.ply").read_bytes().split(b"end_header\n")
    (name,) = (line.split()[2] for line in head.decode().splitlines() if line.startswith("comment TextureFile"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), painted.texture.picture)
    assert b"property list uchar float texcoord" in head
    face = np.frombuffer(body[-2 * 38 :], [("n", "u1"), ("v", "<i4", 3), ("m", "u1"), ("uv", "<f4", 6)])
    assert list(face["n"]) == [3, 3] and list(face["m"]) == [6, 6]
    np.testing.assert_array_equal(face["v"], painted.mesh.faces)
    np.testing.assert_array_equal(face["uv"].reshape(-1, 3, 2), painted.texture.corners)
    again = trimesh.load(tmp_path / "mesh.ply", process=False)
    np.testing.assert_allclose(again.triangles, painted.mesh.triangles, atol=1e-6)  # in the capture frame
    np.testing.assert_allclose(again.visual.uv[again.faces], painted.texture.corners)
    (tmp_path / "mesh-of-mine.png").touch()
    other = Texture(255 - painted.texture.picture, painted.texture.corners, 1.0)
    written = write_mesh(Painted(painted.mesh, other), tmp_path, {"glb", "obj"}, WORLD, False)
    assert written["png"].name != name and not (tmp_path / name).exists()
    write_mesh(Painted(painted.mesh), tmp_path, (), WORLD, False)
    kept = {"mesh.ply", "mesh.glb", "mesh.obj", "mesh.mtl", "mesh-obj.png", "mesh-of-mine.png"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    remove_meshes(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mesh-of-mine.png"]
