# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparse points: PLY files of any kind, and points kept beside a saved capture; trimesh reads the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from capture_on_disk import transforms, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.capture import CaptureError, load_capture, open_capture, save_capture
from engine.capture.ply import read_points, write_points
from engine.capture.types import SparsePoints

RNG = np.random.default_rng(3)
POINTS = SparsePoints(RNG.normal(size=(50, 3)), RNG.integers(0, 256, (50, 3), dtype=np.uint8))


def test_written_as_trimesh_reads(tmp_path: Path) -> None:
    write_points(POINTS, tmp_path / "points.ply")
    cloud = trimesh.load(tmp_path / "points.ply")
    assert np.array_equal(cloud.vertices, POINTS.positions)
    assert np.array_equal(cloud.visual.vertex_colors[:, :3], POINTS.colours)
    again = read_points(tmp_path / "points.ply")
    assert np.array_equal(again.positions, POINTS.positions) and np.array_equal(again.colours, POINTS.colours)
    write_points(SparsePoints(POINTS.positions), tmp_path / "points.ply")
    assert (read_points(tmp_path / "points.ply").colours == 255).all()
    assert [path.name for path in tmp_path.iterdir()] == ["points.ply"]


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_reads_what_trimesh_writes(encoding: str, tmp_path: Path) -> None:
    cloud = trimesh.PointCloud(POINTS.positions, colors=POINTS.colours)
    (tmp_path / "a.ply").write_bytes(cloud.export(file_type="ply", encoding=encoding))
    points = read_points(tmp_path / "a.ply")
    assert np.allclose(points.positions, POINTS.positions, atol=1e-6)
    assert np.array_equal(points.colours, POINTS.colours)


def test_other_orders_and_types(tmp_path: Path) -> None:
    layout = np.dtype([("nx", ">f4"), ("red", ">f4"), ("green", ">f4"), ("blue", ">f4"), ("x", ">f8"), ("y", ">f4"),
                       ("z", ">i2")])  # fmt: skip
    rows = np.array([(0, 1, 0.5, 0, 1.5, 2, -3), (0, 0, 0, 1, np.nan, 0, 0)], dtype=layout)
    header = "ply\r\nformat binary_big_endian 1.0\r\ncomment by hand\r\nelement vertex 2\r\nproperty float nx\r\n"
    header += "property float32 red\r\nproperty float green\r\nproperty float blue\r\nproperty double x\r\n"
    header += "property float y\r\nproperty short z\r\nelement face 0\r\nproperty list uchar int v\r\nend_header\r\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + rows.tobytes())
    points = read_points(tmp_path / "a.ply")
    assert points.positions.tolist() == [[1.5, 2, -3]] and points.colours.tolist() == [[255, 128, 0]]


HEADER = "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not begin so"),
        (b"ply\n", "no end"),
        (b"ply\n" + b"comment x\n" * 10_000, "no end"),
        (HEADER.format("ascii", 10**15).encode(), "no room"),
        (HEADER.format("binary_little_endian", 2).encode() + bytes(10), "no room"),
        (HEADER.format("ascii", 2).encode() + b"1 2 3\n1 two 3\n", "not numbers"),
        (HEADER.format("ascii", 3).encode() + b"1.00000 2.00000 3.00000\n\n", "ends early"),
        (HEADER.format("other", 1).encode(), "no vertices"),
        (HEADER.format("ascii", -1).encode(), "number of points"),
        (HEADER.format("ascii", 1).replace("float y", "list uchar int y").encode(), "property list"),
    ],
)
def test_bad_files_get_a_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(CaptureError, match=said) as caught:
        read_points(tmp_path / "a.ply")
    assert "a.ply" in caught.value.message and len(caught.value.message) < 300


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.integers(0, 10**4), st.integers(0, 20), st.binary(max_size=8))
def test_whatever_stands_in_the_file(tmp_path: Path, binary: bool, at: int, lost: int, put: bytes) -> None:
    if binary:
        write_points(POINTS, tmp_path / "a.ply")
    else:
        cloud = trimesh.PointCloud(POINTS.positions, colors=POINTS.colours)
        (tmp_path / "a.ply").write_bytes(cloud.export(file_type="ply", encoding="ascii"))
    whole = (tmp_path / "a.ply").read_bytes()
    at %= len(whole)
    (tmp_path / "a.ply").write_bytes(whole[:at] + put + whole[at + lost :])
    try:
        points = read_points(tmp_path / "a.ply")
    except CaptureError as problem:
        assert problem.message and problem.file
    else:
        assert points is None or np.isfinite(points.positions).all()


def test_points_of_a_transforms_file(tmp_path: Path) -> None:
    write(tmp_path, transforms(2, ply_file_path="sparse_pc.ply", applied_scale=0.5))
    write_points(POINTS, tmp_path / "sparse_pc.ply")
    assert np.allclose(open_capture(tmp_path, 64).points.positions, POINTS.positions * 0.5)
    (tmp_path / "sparse_pc.ply").write_bytes(b"ply\n")
    for ply in ("sparse_pc.ply", "../points.ply", "nothing.ply", "\0"):
        capture = open_capture(write(tmp_path, transforms(2, ply_file_path=ply)), 64)
        assert len(capture.views) == 2 and capture.points is None
        assert capture.notes[0].startswith("The points of ply_file_path were left out: ")


def test_kept_beside_the_capture_and_read_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, transforms(2, ply_file_path="sparse_pc.ply"))
    write_points(POINTS, tmp_path / "sparse_pc.ply")
    capture = dataclasses.replace(open_capture(tmp_path, 64), gravity_up=np.array([0.0, 0.6, 0.8]))
    path = tmp_path / "project/capture.json"
    save_capture(capture, path)
    again = load_capture(path)
    assert len(again.points) == 50 and again.up.tolist() == [0, 0.6, 0.8]
    assert np.array_equal(again.points.positions, POINTS.positions)
    assert np.array_equal(again.points.colours, POINTS.colours)
    # Saved again from what was loaded, unread.
    stored = path.with_name("points.ply")
    before = stored.stat().st_mtime_ns
    save_capture(load_capture(path), path)
    assert stored.stat().st_mtime_ns == before and len(load_capture(path).points) == 50
    # Damaged points are said when they are asked for; the cameras open.
    stored.write_bytes(stored.read_bytes()[:-1])
    damaged = load_capture(path)
    assert len(damaged.views) == 2
    with pytest.raises(CaptureError, match=r"points\.ply"):
        _ = damaged.points.positions
    # A capture without points leaves none of another behind.
    save_capture(dataclasses.replace(capture, points=None), path)
    assert not stored.exists() and load_capture(path).points is None


def test_a_saved_up_that_is_no_direction(tmp_path: Path) -> None:
    capture = dataclasses.replace(open_capture(write(tmp_path, transforms(2)), 64), gravity_up=np.array([0.0, 2, 0]))
    save_capture(capture, tmp_path / "capture.json")
    with pytest.raises(CaptureError, match="its up is no direction"):
        load_capture(tmp_path / "capture.json")
