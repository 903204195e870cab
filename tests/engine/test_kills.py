# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any moment, at any write, in any job, and gone on with: nothing is lost, nothing is left over, and the
result is bit for bit the unbroken one's."""

import contextlib
import ctypes
import os
import random
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.files import LOCK

from .fork_client import Server, small_capture, small_photos

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs run in forks"),
]

JOBS = ("open", "images", "train", "edit", "frames", "mesh", "report")
KILLS = int(os.environ.get("INSTRUCT_NERF_KILLS", "200"))
SEED = int(os.environ.get("INSTRUCT_NERF_KILLS_SEED", "0"))
# What differs from run to run and is no result: how long it took, and how much memory.
TIMES = re.compile(rb'"(seconds|peak_bytes|peak_megabytes)": [0-9.e+-]+')


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = small_capture(tmp_path_factory.mktemp("capture") / "capture")
    with open(folder.parent / "log", "w") as log:
        server = Server(folder, log)
        yield server
        server.end()


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


def test_killed_while_cameras_are_found(server, tmp_path):
    """COLMAP works in a process of its own: it ends with the engine, and leaves nothing that the next one meets."""
    photos = {name: small_photos(tmp_path / name) for name in ("before", "after")}
    (photos["after"] / "3.jpg").unlink()
    project, wanted = tmp_path / "project", tmp_path / "wanted"
    taken = server.run("register", wanted, source=str(photos["after"]))
    assert not taken["killed"] and "error" not in taken, taken
    assert "error" not in server.run("register", project, source=str(photos["before"]))
    earlier = content(project)
    assert content(wanted) != earlier
    draw = random.Random(SEED)
    kills = 0
    while kills < KILLS // 15:
        for _ in range(2):
            at = {"write": draw.randint(1, taken["writes"])} if draw.random() < 0.3 else {"seconds": None}
            if "seconds" in at:
                at["seconds"] = draw.uniform(0, taken["seconds"])
            ended = server.run("register", project, source=str(photos["after"]), **at)
            assert "error" not in ended, (at, ended)
            kills += ended["killed"]
            if not ended["killed"]:
                break
            server.run("read", project)  # as Blender does: what was left half done goes
            found = content(project)
            assert found in (earlier, content(wanted)), (at, sorted(found))
        assert "error" not in server.run("register", project, source=str(photos["after"]))
        assert content(project) == content(wanted), at
        assert "error" not in server.run("register", project, source=str(photos["before"]))
        assert content(project) == earlier
    print(f"{kills} kills while cameras were found")


def test_the_second_engine_is_told_and_no_edit_is_lost(server, unbroken, tmp_path):
    """Two engines are asked for an edit of the same project at the same moment."""
    stages, _ = unbroken
    project = tmp_path / "project"
    shutil.copytree(stages[JOBS.index("edit")], project)
    with open(tmp_path / "log", "w") as log:
        servers = [server, Server(server.capture, log)]
        try:
            servers[1].run("read", project)  # all is imported
            done = []
            for _ in range(3):
                with ThreadPoolExecutor(2) as pool:
                    done += pool.map(lambda engine: engine.run("edit", project, anew=True), servers)
        finally:
            servers[1].end()
    told = [ended["error"] for ended in done if "error" in ended]
    assert all("is in use: another engine (process" in text and "has been editing there since" in text for text in told)
    assert len(told) >= 1 and not any(ended.get("defect") for ended in done)
    edits = sorted(path.name for path in (project / "edits").iterdir())
    assert [name[:4] for name in edits] == [f"{n:04d}" for n in range(1, len(done) - len(told) + 1)]
    for name in edits:
        assert '"finished": true' in (project / "edits" / name / "edit.json").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs is Linux's")
@pytest.mark.parametrize("job", JOBS)
def test_every_job_goes_on_after_a_full_disk_has_room_again(server, unbroken, tmp_path, job):
    libc = ctypes.CDLL(None, use_errno=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    if libc.mount(b"none", os.fsencode(disk), b"tmpfs", 0, b"size=16m"):
        pytest.skip("this user may not mount a disk")
    try:
        stages, _ = unbroken
        number = JOBS.index(job)
        project = disk / "project"
        if stages[number].exists():
            shutil.copytree(stages[number], project)
        earlier = content(project) if project.exists() else {}
        draw = random.Random(SEED)
        said = set()
        for room in (0, 1, draw.randint(2, 20), draw.randint(20, 100), draw.randint(100, 400)):  # kilobytes
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1024))
                file.truncate(max(0, file.tell() - room * 1024))
            ended = server.run(job, project)
            assert not ended["killed"] and not ended.get("defect"), (room, ended)
            if "error" in ended:
                said.add(ended["error"])
                assert ended["error"].startswith("The disk with ") and "is full; make room" in ended["error"], ended
            ballast.unlink()
            assert not [name for name in earlier if earlier[name] is not None and not (project / name).is_file()]
            left = [name for name in (content(project) if project.exists() else ()) if ".part" in name]
            assert not left, (room, left)
        assert said
        ended = server.run(job, project)
        assert not ended["killed"] and "error" not in ended, ended
        wanted, found = content(stages[number + 1]), content(project)
        assert sorted(found) == sorted(wanted)
        assert not [name for name in wanted if found[name] != wanted[name]]
    finally:
        libc.umount2(os.fsencode(disk), 2)
