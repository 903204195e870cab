# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh that is brought in by small steps is the one that Blender's own importer makes of the same file."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon import ply
from blender_addon.scene import mesh
from blender_addon.trajectories import exhausted

pytestmark = pytest.mark.usefixtures("empty")


def written(path: Path, faces: list[list[int]], seed: int, *, real: str = "float", head: str = "uchar") -> str:
    """A PLY of eight vertices of the kinds that the arguments name, with a property that nobody wants in between."""
    rng = random.Random(seed)
    kinds = {"float": "f", "double": "d", "uchar": "B", "int": "i"}
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment of a test\nelement vertex 40\nproperty uchar green\n"
        f"property {real} x\nproperty {real} z\nproperty short what\nproperty {real} y\nproperty uchar red\n"
        f"property uchar blue\nelement face {len(faces)}\nproperty list {head} int vertex_indices\nend_header\n"
    )
    body = b"".join(
        struct.pack(f"<B2{kinds[real]}h{kinds[real]}2B", rng.randrange(256), rng.uniform(-9, 9), rng.uniform(-9, 9), 7,
                    rng.uniform(-9, 9), rng.randrange(256), rng.randrange(256))
        for _ in range(40)
    )  # fmt: skip
    body += b"".join(struct.pack(f"<{kinds[head]}{len(f)}i", len(f), *f) for f in faces)
    path.write_bytes(header.encode() + body)
    return str(path)


def random_faces(rng: random.Random, sides: tuple[int, ...]) -> list[list[int]]:
    """Faces no two of which have the same corners: Blender's importer throws such away."""
    found: dict[frozenset[int], list[int]] = {}
    for _ in range(rng.randint(1, 120)):
        face = rng.sample(range(40), rng.choice(sides))
        found[frozenset(face)] = face
    return list(found.values())


@pytest.mark.parametrize("sides", [(3,), (4,), (3, 3, 3, 4), (3, 4, 5, 7)])
@pytest.mark.parametrize(("real", "head"), [("float", "uchar"), ("double", "uchar"), ("float", "int")])
def test_it_is_what_blenders_importer_makes(
    tmp_path: Path, sides: tuple[int, ...], real: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        for name in ("VERTICES", "FACES", "MIXED", "EDGES"):  # so that small meshes take several steps, too
            monkeypatch.setattr(ply, name, rng.randint(10, 50))
        monkeypatch.setattr(ply, "SHARE", rng.randint(1, 50))
        path = written(tmp_path / "m.ply", random_faces(rng, sides), seed, real=real, head=head)
        bpy.ops.wm.ply_import(filepath=path, forward_axis="Y", up_axis="Z", merge_verts=False, import_colors="SRGB")
        theirs = bpy.context.object.data
        root = bpy.data.objects.new("root", None)
        bpy.context.collection.objects.link(root)
        item = exhausted(mesh.importing(root, path, "ours", "e"))
        ours = item.data
        assert not ours.validate(verbose=True), "Blender had something to mend"
        for name in ("vertices", "polygons", "edges", "loops"):
            assert len(getattr(ours, name)) == len(getattr(theirs, name)), name
        assert [tuple(p.vertices) for p in ours.polygons] == [tuple(p.vertices) for p in theirs.polygons]
        assert {frozenset(e.vertices) for e in ours.edges} == {frozenset(e.vertices) for e in theirs.edges}
        for face in ours.polygons:
            corners = list(face.vertices)
            for at, loop in enumerate(face.loop_indices):
                ends = {corners[at], corners[(at + 1) % len(corners)]}
                assert set(ours.edges[ours.loops[loop].edge_index].vertices) == ends
        np.testing.assert_allclose([v.co[:] for v in ours.vertices], [v.co[:] for v in theirs.vertices], rtol=1e-6)
        seen = [[c.color[:] for c in m.color_attributes[0].data] for m in (ours, theirs)]
        np.testing.assert_allclose(*seen, atol=1e-5)
        assert item.parent == root and ours.materials[0].name == mesh.MATERIAL


def test_a_mesh_that_fails_half_way_leaves_nothing_and_the_old_one(tmp_path: Path) -> None:
    root = bpy.data.objects.new("root", None)
    bpy.context.collection.objects.link(root)
    path = Path(written(tmp_path / "m.ply", [[0, 1, 2], [2, 1, 3]], 0))
    old = exhausted(mesh.importing(root, str(path), "m", "e"))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"m\.ply is damaged"):
        exhausted(mesh.importing(root, str(path), "m", "e"))
    steps = mesh.importing(root, written(tmp_path / "n.ply", [[0, 1, 2]], 0), "m", "e")
    while not len(bpy.data.meshes) > 1:
        next(steps)
    steps.close()
    assert list(bpy.data.meshes) == [old.data] and [c for c in root.children] == [old]


def test_faces_of_many_sides_take_more_steps_and_of_very_many_are_refused(tmp_path: Path) -> None:
    faces = [[(at + turn) % 40 for at in range(32)] for turn in range(40)] * 100
    steps = sum(1 for _ in ply.reading(written(tmp_path / "m.ply", faces, 1)))
    assert steps > 2 + 4000 * 32 / (4 * ply.FACES) + 4000 / ply.EDGES
    with pytest.raises(ValueError, match=r"more.ply is damaged or holds no mesh"):
        exhausted(ply.reading(written(tmp_path / "more.ply", [list(range(33))], 1)))
