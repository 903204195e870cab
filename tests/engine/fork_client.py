# SPDX-License-Identifier: GPL-3.0-or-later
"""What asks forks.py to run jobs that may be killed, or may never end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from engine.capture import Intrinsics
from engine.capture.ply import write_points
from engine.capture.types import SparsePoints
from tests.corner import walk

from .conftest import ring, sphere_picture

ROOT = Path(__file__).parents[2]


class Server:
    """A process that forks for every job, all imports done."""

    def __init__(self, capture, log):
        self.capture = str(capture)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.forks"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip

    def run(self, job, project, **more):
        """How the job ended: `killed`, `seconds`, `peak_bytes`, `writes`, `outside`, and `error` and `defect`."""
        order = {"job": job, "project": str(project), "source": self.capture, **more}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.kill()
        self.process.wait()


def small_photos(folder):
    """Four photos that show the same corner, and no cameras."""
    folder.mkdir()
    for number, pixels in enumerate(walk(4)):
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=95)
    return folder


def small_capture(folder):
    """Nine views of 64 × 52 pixels of the sphere, with points: a transforms.json."""
    folder.mkdir()
    i = Intrinsics(64, 52, 80.0, 82.0, 30.0, 27.0)
    frames = []
    for number, pose in enumerate(ring(9)):
        Image.fromarray(sphere_picture(pose, i)).save(folder / f"{number:02d}.png")
        frames.append({"file_path": f"{number:02d}.png", "transform_matrix": pose.tolist()})
    numbers = {"w": i.width, "h": i.height, "fl_x": i.fx, "fl_y": i.fy, "cx": i.cx, "cy": i.cy}
    write_points(SparsePoints(np.random.default_rng(0).normal(size=(50, 3))), folder / "points.ply")
    said = {**numbers, "ply_file_path": "points.ply", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(said))
    return folder
