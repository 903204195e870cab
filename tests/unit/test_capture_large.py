# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand cameras of twenty megapixels open at once, for no pixel of theirs is decoded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from capture_on_disk import ring
from PIL import Image

COUNT, WIDTH, HEIGHT = 1000, 5472, 3648
MEASURE = """
import re, sys, time
from pathlib import Path
from engine import protocol
from engine.jobs.capture import open_into_workspace
began = time.perf_counter()
opened = open_into_workspace(protocol.OpenCapture(sys.argv[2], sys.argv[1], "preview"))
peak = int(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(len(opened.views), opened.point_count, time.perf_counter() - began, peak)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures; all but the first are links to it."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), "grey").save(folder / "images/0000.jpg", quality=20)
    for index in range(1, COUNT):
        os.link(folder / "images/0000.jpg", folder / f"images/{index:04d}.jpg")
    return folder


def _transforms(folder: Path) -> None:
    frames = [
        {"file_path": f"images/{index:04d}.jpg", "transform_matrix": pose.tolist()}
        for index, pose in enumerate(ring(COUNT))
    ]
    meta = {"fl_x": 4000.0, "k1": 0.05, "w": WIDTH, "h": HEIGHT, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(meta))


def _colmap(folder: Path) -> None:
    """With a camera for each ten pictures, thousands of keypoints in each, and half a million points."""
    model = pycolmap.Reconstruction()
    keypoints = np.random.default_rng(0).uniform(0, 3000, (5000, 2))
    for index, pose in enumerate(ring(COUNT), start=1):
        number = (index + 9) // 10
        if index % 10 == 1:
            params = [4000.0, WIDTH / 2, HEIGHT / 2, 0.02 + index * 1e-6]
            camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=params, camera_id=number)
            model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=f"{index - 1:04d}.jpg", keypoints=keypoints, camera_id=number, image_id=index)
        camera_from_world = np.linalg.inv(pose @ np.diag([1.0, -1, -1, 1]))
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(camera_from_world[:3]))
    (folder / "sparse/0").mkdir(parents=True)
    model.write_binary(str(folder / "sparse/0"))
    # Points by hand: pycolmap adds them one by one.
    layout = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8"),
                       ("track", "<u4", (6, 2))])  # fmt: skip
    points = np.zeros(500_000, dtype=layout)
    points["id"] = np.arange(1, len(points) + 1)
    points["xyz"] = np.random.default_rng(1).normal(size=(len(points), 3))
    points["length"] = 6
    path = folder / "sparse/0/points3D.bin"
    path.write_bytes(np.uint64(len(points)).tobytes() + points.tobytes())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the most memory a process had")
@pytest.mark.parametrize(("make", "points"), [(_transforms, 0), (_colmap, 500_000)])
def test_three_seconds_and_little_memory(make, points: int, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    folder.mkdir()
    (folder / "images").mkdir()
    for picture in (pictures / "images").iterdir():
        os.link(picture, folder / "images" / picture.name)
    make(folder)
    command = [sys.executable, "-c", MEASURE, str(folder), str(tmp_path / "project")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    views, found, seconds, megabytes = (float(word) for word in done.stdout.split())
    print(f"{seconds:.2f} s, {megabytes:.0f} MB")
    assert (views, found) == (COUNT, points) and seconds < 3 and megabytes < 1000
