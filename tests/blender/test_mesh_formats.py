# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's GLB and OBJ as Blender's own importers read them: upright, where they are to be, in their colors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("empty")]

# The engine's libraries in a process of their own: PyTorch and Blender in one hang at its end.
WRITE = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1] + "/tests/unit")
from test_mesh_files import WORLD, Painted, in_world, tent, textured_tent, write_mesh
for textured in (False, True):
    for relit in (False, True):
        painted = textured_tent() if textured else Painted(tent())
        write_mesh(painted, Path(sys.argv[2]) / f"{textured}-{relit}", {"glb", "obj"}, WORLD, relit)
np.savetxt(Path(sys.argv[2]) / "places.txt", in_world(tent().triangles.reshape(-1, 3)))
np.savetxt(Path(sys.argv[2]) / "flat.txt", textured_tent().texture.corners.reshape(-1, 2))
np.savetxt(Path(sys.argv[2]) / "colors.txt", tent().visual.vertex_colors[tent().faces].reshape(-1, 4)[:, :3] / 255)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meshes")
    ran = subprocess.run(
        [sys.executable, "-c", WRITE, str(ROOT), str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    if ran.returncode and "ModuleNotFoundError" in ran.stderr:
        pytest.skip("the engine's packages are not installed")
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize("relit", [False, True])
@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_blender_reads_what_the_engine_wrote(files: Path, kind: str, textured: bool, relit: bool) -> None:
    path = files / f"{textured}-{relit}" / f"mesh.{kind}"
    if kind == "glb":
        bpy.ops.import_scene.gltf(filepath=str(path))
    else:
        bpy.ops.wm.obj_import(filepath=str(path))
    bpy.context.view_layer.update()
    (item,) = [item for item in bpy.data.objects if item.type == "MESH"]
    data = item.data
    corners = [index for face in data.polygons for index in face.loop_indices]
    vertices = [data.loops[index].vertex_index for index in corners]
    places = np.array([item.matrix_world @ data.vertices[index].co for index in vertices])
    np.testing.assert_allclose(places, np.loadtxt(files / "places.txt"), atol=1e-5)
    (material,) = [slot for slot in data.materials if slot is not None] or [None]
    if not textured:
        (attribute,) = data.color_attributes
        which = vertices if attribute.domain == "POINT" else corners
        colors = np.array([attribute.data[index].color_srgb[:3] for index in which])
        np.testing.assert_allclose(colors, np.loadtxt(files / "colors.txt"), atol=0.005)
    else:
        flat = np.array([data.uv_layers[0].data[index].uv[:] for index in corners])
        np.testing.assert_allclose(flat, np.loadtxt(files / "flat.txt"), atol=1e-5)
        (picture,) = [node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE"]
        assert picture.size[:] == (8, 8) and picture.colorspace_settings.name == "sRGB"
    if kind == "glb":
        kinds = {node.type for node in material.node_tree.nodes}
        assert ("BSDF_PRINCIPLED" in kinds) is relit  # unlit is no surface that lamps shine on
