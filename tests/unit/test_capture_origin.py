# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinates of a map are brought near the origin, whatever the format, before any single precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import ring, transforms, write
from capture_writers import gaussian_splatting, meshroom, opensfm, polycam, reality_capture

from engine.capture import load_capture, open_capture, save_capture
from engine.capture.types import SparsePoints

UTM = np.array([500123.25, 5412345.5, 311.125])


def _far(name: str, folder: Path, poses: list[np.ndarray]) -> None:
    """The ring's capture with other poses, in a format that says them as matrices or as COLMAP does."""
    if name == "transforms.json":
        meta = transforms(len(poses))
        for frame, pose in zip(meta["frames"], poses, strict=True):
            frame["transform_matrix"] = pose.tolist()
        write(folder, meta)
    elif name == "3D Gaussian Splatting":
        gaussian_splatting(folder, poses)
    elif name == "Meshroom":
        meshroom(folder, poses)
    elif name == "OpenSfM":
        opensfm(folder, poses)
    elif name == "Polycam":
        polycam(folder, poses)
    else:
        reality_capture(folder, poses)


@pytest.mark.parametrize(
    "name", ["transforms.json", "3D Gaussian Splatting", "Meshroom", "OpenSfM", "Polycam", "RealityCapture"]
)
def test_a_maps_coordinates_are_brought_near_the_origin(tmp_path: Path, name: str) -> None:
    poses = ring(5)
    for pose in poses:
        pose[:3, 3] += UTM
    _far(name, tmp_path, poses)
    capture = open_capture(tmp_path, 64)
    origin = np.array(capture.origin)
    assert (origin == np.round(origin)).all() and np.linalg.norm(origin - UTM) < 10
    assert "taken off" in capture.notes[-1] and f"{origin[1]:.0f}" in capture.notes[-1]
    for view, pose in zip(capture.views, poses, strict=True):
        # To the half millionth of a metre, in single precision too.
        assert np.abs(view.pose[:3, 3].astype(np.float32) + origin - pose[:3, 3]).max() < 1e-6
        assert np.abs(view.pose[:3, :3] - pose[:3, :3]).max() < 1e-6
    if capture.points is not None:  # the writers' point is near the world's origin: as far away now as it was then
        assert np.allclose(capture.points.positions, np.array([[0.5, 0, -1]]) - origin, atol=1e-6)
    save_capture(capture, tmp_path / "saved/capture.json")
    assert load_capture(tmp_path / "saved/capture.json").origin == capture.origin


def test_points_are_moved_with_the_cameras(tmp_path: Path) -> None:
    poses = ring(4)
    for pose in poses:
        pose[:3, 3] += UTM
    opensfm(tmp_path, poses)
    place = (UTM + np.array([0.25, 0.5, 0.125])).tolist()
    whole = json.loads((tmp_path / "reconstruction.json").read_text())
    whole[0]["points"]["5"]["coordinates"] = place
    (tmp_path / "reconstruction.json").write_text(json.dumps(whole))
    capture = open_capture(tmp_path, 64)
    assert np.abs(capture.points.positions - (np.array(place) - capture.origin)).max() < 1e-9


def test_ordinary_coordinates_are_left_alone(tmp_path: Path) -> None:
    for offset in (0.0, 5.0, 100.0):
        meta = transforms(4)
        for frame in meta["frames"]:
            for row in range(3):
                frame["transform_matrix"][row][3] += offset
        capture = open_capture(write(tmp_path / str(offset), meta), 64)
        assert capture.origin == (0, 0, 0) and not capture.notes
    single = open_capture(write(tmp_path / "one", transforms(1)), 64)
    assert single.origin == (0, 0, 0)


def test_points_of_a_map_in_millimetres_are_kept() -> None:
    assert SparsePoints.usable(np.array([[5.4e9, 1.0, 2.0], [1e11, 0, 0]])).positions.tolist() == [[5.4e9, 1, 2]]
