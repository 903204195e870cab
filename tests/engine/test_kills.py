# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any moment, at any write, in any job, and gone on with: nothing is lost, nothing is left over, and the
result is bit for bit the unbroken one's."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from engine.capture import Intrinsics
from engine.files import LOCK

from .conftest import ring, sphere_picture

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs run in forks")]

ROOT = Path(__file__).parents[2]
JOBS = ("open", "images", "train", "edit", "frames", "mesh", "report")
KILLS = int(os.environ.get("INSTRUCT_NERF_KILLS", "200"))
SEED = int(os.environ.get("INSTRUCT_NERF_KILLS_SEED", "0"))
# What differs from run to run and is no result: how long it took, and how much memory.
TIMES = re.compile(rb'"(seconds|peak_bytes|peak_megabytes)": [0-9.e+-]+')


class Server:
    """Runs jobs that may be killed (kill_server.py)."""

    def __init__(self, capture, log):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.kill_server", str(capture)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip

    def run(self, job, project, **kill):
        self.process.stdin.write(json.dumps({"job": job, "project": str(project), **kill}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture")
    i = Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)
    frames = []
    for number, pose in enumerate(ring(9)):
        Image.fromarray(sphere_picture(pose, i)).save(folder / f"{number:02d}.png")
        frames.append({"file_path": f"{number:02d}.png", "transform_matrix": pose.tolist()})
    numbers = {"w": i.width, "h": i.height, "fl_x": i.fx, "fl_y": i.fy, "cx": i.cx, "cy": i.cy}
    (folder / "transforms.json").write_text(json.dumps({**numbers, "frames": frames}))
    with open(folder.parent / "log", "w") as log:
        server = Server(folder, log)
        yield server
        server.process.kill()
        server.process.wait()


def content(project):
    """What a project holds, times aside, by path."""
    found = {}
    for path in sorted(project.rglob("*")):
        name = str(path.relative_to(project))
        if name == LOCK:
            continue
        data = path.read_bytes() if path.is_file() else None
        if path.suffix == ".json":
            data = TIMES.sub(rb'"\1": 0', data)
        if path.suffix == ".html":  # its table says how long all took
            data = re.sub(rb"<td>[0-9.]+</td>", b"<td></td>", data)
        found[name] = data
    return found


@pytest.fixture(scope="module")
def unbroken(server, tmp_path_factory):
    """(folders of the project before each job and, last, after all; how long and how many writes each job took)."""
    project = tmp_path_factory.mktemp("unbroken") / "project"
    stages, taken = [], {}
    for job in JOBS:
        stages.append(tmp_path_factory.mktemp(f"before-{job}") / "project")
        if project.exists():
            shutil.copytree(project, stages[-1])
        taken[job] = server.run(job, project)
        assert not taken[job]["killed"] and "error" not in taken[job], (job, taken[job])
    return [*stages, project], taken


def test_killed_and_gone_on_with(server, unbroken, tmp_path):
    stages, taken = unbroken
    draw = random.Random(SEED)
    kills = trials = 0
    while kills < KILLS:
        trials += 1
        number = trials % len(JOBS)
        job = JOBS[number]
        project = tmp_path / str(trials) / "project"
        project.parent.mkdir()
        if stages[number].exists():
            shutil.copytree(stages[number], project)
        earlier = content(project) if project.exists() else {}
        story = []
        for _ in range(draw.randint(1, 3)):
            if draw.random() < 0.5:
                kill = {"write": draw.randint(1, max(1, taken[job]["writes"]))}
            else:
                kill = {"seconds": draw.uniform(0, taken[job]["seconds"])}
            ended = server.run(job, project, **kill)
            story.append((kill, ended))
            assert "error" not in ended, (job, story)
            kills += ended["killed"]
            lost = {name for name, data in earlier.items() if data is not None and not (project / name).is_file()}
            assert not lost, (job, story, lost)
            if not ended["killed"]:
                break
        ended = server.run(job, project)
        assert not ended["killed"] and "error" not in ended, (job, story, ended)
        wanted, found = content(stages[number + 1]), content(project)
        assert sorted(found) == sorted(wanted), (job, story)
        different = [name for name in wanted if found[name] != wanted[name]]
        assert not different, (job, story, different)
        shutil.rmtree(project.parent)
    print(f"{kills} kills in {trials} trials of {len(JOBS)} jobs")
