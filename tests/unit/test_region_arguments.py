# SPDX-License-Identifier: GPL-3.0-or-later
"""A region by the command line: what is given by numbers and by files is asked for, and what is none is said."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from engine import cli, protocol
from engine.cli_region import MOST_BYTES, Where, box_solid, mesh_solid
from engine.edit.region import Region
from engine.errors import BadInput
from engine.jobs import edit as edits
from engine.jobs import trying

BALL = trimesh.creation.icosphere(2, 1.0)


def asked(*words: str, monkeypatch: pytest.MonkeyPatch) -> protocol.Message:
    """The request that a command line comes to."""
    found = []
    monkeypatch.setattr(cli, "have_editor", lambda *_: None)
    monkeypatch.setattr(cli, "run_job", lambda work: work(None))
    monkeypatch.setattr(cli, "show_result", lambda _: None)
    for module, name in ((edits, "run_edit"), (trying, "try_photo"), (trying, "copy_of_try")):
        monkeypatch.setattr(module, name, lambda request, *_: found.append(request))
    cli.tyro.extras.subcommand_cli_from_dict(cli.COMMANDS | {"try": cli.try_}, prog="engine", args=list(words))
    [request] = found
    return request


def test_boxes_and_meshes_are_one_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    BALL.export(tmp_path / "ball one.ply")
    words = ["--region-box", "1", "0.5", "-2e-1", "-1", "0", ".5", "--region-box", "4", "4", "4", "5", "5", "5"]
    words += ["--region-mesh", str(tmp_path / "ball one.ply"), "--region-softness", "0.25", "--region-invert"]
    for command in (["edit", str(tmp_path), "x"], ["try", "0001", "x", "--workspace", str(tmp_path)]):
        region = asked(*command, *words, monkeypatch=monkeypatch).region
        assert (region.softness, region.invert, len(region.solids)) == (0.25, True, 3)
        places = np.array([[0.9, 0.4, 0.4], [0, 0.4, 0.9], [4.5, 4.5, 4.5], [4.5, 4.5, 3.5], [0, 2, 0], [0, -2, 0]])
        assert Region(region).may_change(places).round().tolist() == [0, 0, 0, 1, 1, 1]
        assert asked(*command, monkeypatch=monkeypatch).region is None


@pytest.mark.parametrize("ending", ["ply", "obj", "stl"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_mesh_encloses_what_it_enclosed_when_it_was_written(tmp_path: Path, ending: str, binary: bool) -> None:
    path = tmp_path / f"a.{ending.upper()}"
    form = {
        "ply": {"encoding": "binary" if binary else "ascii"},
        "stl": {"file_type": "stl" if binary else "stl_ascii"},
    }
    BALL.export(path, **form.get(ending, {}))
    region = Region(protocol.Region(solids=[mesh_solid(path)]))
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (500, 3))
    points = points[np.abs(np.linalg.norm(points, axis=1) - 0.98) > 0.03]
    assert region.may_change(points).tolist() == (np.linalg.norm(points, axis=1) < 0.98).tolist()


def test_a_box_of_quads_is_closed(tmp_path: Path) -> None:
    corners = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = "".join("f " + " ".join(str(corner + 1) for corner in quad) + "\n" for quad in quads)
    (tmp_path / "a.obj").write_text("mtllib ../../secret.mtl\n" + corners + "usemtl a\n" + faces)
    region = Region(protocol.Region(solids=[mesh_solid(tmp_path / "a.obj")]))
    assert region.may_change(np.array([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]])).tolist() == [1, 0]


def test_a_boxes_corners_may_come_in_any_order() -> None:
    for box in ((0, 0, 0, 1, 2, 3), (1, 0, 3, 0, 2, 0), (1, 2, 3, 0, 0, 0)):
        region = Region(protocol.Region(solids=[box_solid(box)]))
        assert region.may_change(np.array([[0.9, 1.9, 2.9], [-0.1, 1, 1], [0.5, 2.1, 1]])).tolist() == [1, 0, 0]


@pytest.mark.parametrize("box", [(0, 0, 0, 1, 0, 1), (0, 0, 0, 1, 1, float("nan")), (0, 0, 0, 1, 1, float("inf"))])
def test_a_box_that_holds_nothing_is_said(box: tuple) -> None:
    with pytest.raises(BadInput, match="two opposite ones"):
        box_solid(box)


def test_a_photo_alone_knows_no_region_and_nothing_is_softened_where_there_is_none() -> None:
    request = protocol.TryPhoto(
        photo="a.png", out="b.png", instruction="x", region=Where(((0, 0, 0, 1, 1, 1),)).region()
    )
    with pytest.raises(BadInput, match="knows no region") as caught:
        trying.try_photo(request, None)
    assert caught.value.field == "region"
    for nothing in (Where(region_softness=0.1), Where(region_invert=True)):
        with pytest.raises(BadInput, match="There is no region to soften"):
            nothing.region()


HEADER = "ply\nformat {0} 1.0\nelement vertex {1}\nproperty float x\nproperty float y\nproperty float z\nelement face {2}\nproperty list uchar int vertex_indices\nend_header\n"  # noqa: E501


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("absent.ply", None, "absent.ply cannot be read: No such file"),
        ("a.blend", b"", "give a PLY, OBJ or STL"),
        ("a.pkl", b"", "give a PLY, OBJ or STL"),
        ("a.ply", HEADER.format("ascii", 10**15, 1).encode(), "more than it has room for"),
        ("a.ply", HEADER.format("binary_little_endian", 3, 10**9).encode() + bytes(100), "more than it has room for"),
        ("a.ply", HEADER.format("ascii", "-3", 1).encode(), "more than it has room for"),
        ("a.ply", HEADER.format("ascii", 3, 1).encode() + b"0 0 0\n0 0", "cannot be read as a mesh|has no faces"),
        ("a.ply", HEADER.format("binary_little_endian", 3, 0).encode() + bytes(36), "has no faces"),
        ("a.ply", b"ply\n", "cannot be read as a mesh"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\n", "cannot be read as a mesh|has no faces"),
        ("a.obj", b"", "cannot be read as a mesh|has no faces"),
        ("a.stl", bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(500), "cannot be read as a mesh|has no faces"),
        ("a.stl", b"\xff\xfe" * 50, "cannot be read as a mesh|has no faces"),
    ],
)
def test_what_is_no_mesh_is_said_in_a_sentence(tmp_path: Path, name: str, data: bytes | None, said: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInput, match=said) as caught:
        mesh_solid(path)
    assert caught.value.field == "region" and caught.value.file == str(path) and name in caught.value.message


def test_a_mesh_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.stl").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(BadInput, match="larger than 64 MB"):
        mesh_solid(tmp_path / "a.stl")


@pytest.mark.parametrize("ending", ["ply", "obj", "stl"])
def test_a_damaged_mesh_is_a_region_or_a_sentence(tmp_path: Path, ending: str) -> None:
    whole = bytes(BALL.export(file_type=ending)) if ending != "obj" else BALL.export(file_type="obj").encode()
    draw = random.Random(7)
    path = tmp_path / f"a.{ending}"
    said = 0
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            data[draw.choice((draw.randrange(len(data)), draw.randrange(200)))] = draw.choice(
                b"\x00\xff 0 9\n-e" + bytes(range(48, 58))
            )
        path.write_bytes(data[: draw.choice((len(data), draw.randrange(1, len(data))))])
        try:
            Region(protocol.Region(solids=[mesh_solid(path)])).may_change(np.zeros((1, 3)))
        except BadInput as problem:
            said += 1
            assert problem.message.endswith(".") and "\n" not in problem.message
    assert said > 8
