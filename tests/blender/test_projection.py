# SPDX-License-Identifier: GPL-3.0-or-later
"""A point falls on the same pixel in Blender as in the program that the capture comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from projection import LIMIT, build, distances, worst_of_random_cameras

from blender_addon.conversion import Camera, Intrinsics, matrix_from_rows

sys.path.append(str(Path(__file__).parents[1] / "unit"))
pytestmark = pytest.mark.usefixtures("empty")


def test_random_cameras() -> None:
    assert worst_of_random_cameras(60) < LIMIT


@pytest.mark.parametrize("size", [(64, 48), (600, 800)])
@pytest.mark.parametrize("name", ["Polycam", "3D Gaussian Splatting", "Record3D", "LLFF", "Blender-synthetic"])
def test_captures_from_the_program_that_wrote_them_to_blender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]
) -> None:
    """Written as the format has it, opened by the engine, put into the scene, projected by Blender."""
    pytest.importorskip("cv2")
    pytest.importorskip("scipy")
    import capture_writers

    from engine.capture import open_capture

    monkeypatch.setattr(capture_writers, "SIZE", size)
    source = capture_writers.write_ring(name, tmp_path, 6)
    capture = open_capture(tmp_path, max(size))
    views = []
    for view in capture.views:
        k = view.intrinsics
        assert (k.width, k.height) == size
        camera = Camera(matrix_from_rows(view.pose), Intrinsics(k.width, k.height, k.fx, k.fy, k.cx, k.cy))
        views.append((view.name, camera))
    root = build(views)
    points = np.random.default_rng(1).uniform(-1, 1, (20, 3))
    worst = 0.0
    for index, (view, camera) in enumerate(views):
        pairs = [(tuple(p), tuple(q)) for p, q in zip(points, source(index, points), strict=True)]
        worst = max(worst, *distances(root, view, camera, pairs))
    assert worst < LIMIT
    assert len(bpy.data.cameras) == 6
