# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that outlive who began them: the real server in processes of its own, whose edits only tick."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine import protocol
from engine.detached import Follower, detached_jobs
from engine.errors import BadInput
from engine.workspace import Workspace

ROOT = Path(__file__).parents[2]


class Engine:
    """A process of the ticking engine, or what leads to it, and the end of the line to it."""

    def __init__(self, before=(), **environment):
        self.process = subprocess.Popen(
            [*before, sys.executable, str(Path(__file__).with_name("ticking_engine.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )  # fmt: skip
        self.lines: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.number = 0

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def ask(self, method, **params):
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return self.number

    def until(self, wanted, timeout=20.0):
        """(the first message that is ``wanted``, those before it)"""
        before, end = [], time.monotonic() + timeout
        while True:
            message = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            assert message is not None, before[-3:]
            if wanted(message):
                return message, before
            before.append(message)

    def answer(self, number):
        return self.until(lambda m: m.get("id") == number)[0]

    def result(self, method, **params):
        answer = self.answer(self.ask(method, **params))
        assert "result" in answer, answer
        return answer["result"]

    def hang_up(self):
        """As a Blender that is gone: the line is cut without a word."""
        self.process.stdin.close()

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def engines():
    made = []

    def make(**environment):
        made.append(Engine(**environment))
        return made[-1]

    yield make
    for engine in made:
        engine.end()


@pytest.fixture
def project(tmp_path):
    workspace = Workspace(tmp_path / "project")
    workspace.capture_file.parent.mkdir(parents=True)
    workspace.capture_file.write_text("{}")
    return workspace


def at_step(step):
    return lambda m: m.get("method") == protocol.PROGRESS and m["params"]["step"] >= step


def begun(engine, project, step=3):
    job = engine.ask("edit/run", workspace=str(project.folder), instruction="make it night")
    engine.until(at_step(step))
    return job


def detached(engine, project, step=3):
    """An edit that goes on by itself; its id."""
    job = begun(engine, project, step)
    asked = engine.ask("job/detach", job=job)
    said = engine.answer(asked)["result"]
    assert said["pid"] == engine.process.pid
    assert engine.answer(job)["error"]["code"] == protocol.DETACHED
    engine.hang_up()
    return said["id"]


def wait_for(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(project):
    [job] = detached_jobs(project)
    return job


def test_a_job_goes_on_without_who_began_it_and_another_follows_it_to_its_end(engines, project):
    first, second = engines(), engines()
    ident = detached(first, project)
    assert first.process.poll() is None
    found = second.result("workspace/read", workspace=str(project.folder))["jobs"]
    assert [(job["id"], job["method"], job["title"], job["state"]) for job in found] == [
        (ident, "edit/run", "make it night", "running")
    ]
    busy = second.answer(second.ask("edit/run", workspace=str(project.folder), instruction="make it day"))
    assert busy["error"]["code"] == protocol.BUSY and str(first.process.pid) in busy["error"]["message"]
    attached = second.ask("job/attach", workspace=str(project.folder), id=ident)
    answer, before = second.until(lambda m: m.get("id") == attached)
    assert answer["result"]["method"] == "edit/run" and answer["result"]["result"]["finished"]
    told = [m["params"] for m in before if m.get("method") in (protocol.PROGRESS, protocol.VIEW)]
    assert all(params["job"] == attached for params in told)
    steps = [params["step"] for params in told if "step" in params]
    assert steps == sorted(steps) and steps[-1] == 100
    assert {params["view"] for params in told if "view" in params} == {"a", "b"}
    first.process.wait(10)  # it has done what it stayed for
    assert detached_jobs(project) == [] and not any((project.folder / "jobs").iterdir())


def test_what_follows_a_job_talks_to_it(engines, project):
    first, second = engines(STEPS="400"), engines()
    ident = detached(first, project)
    attached = second.ask("job/attach", workspace=str(project.folder), id=ident)
    second.until(at_step(4))
    assert second.result("job/pause", job=attached) == {"paused": True}
    time.sleep(0.7)  # the last that it had said came
    at = state(project).step
    time.sleep(0.7)
    assert state(project).step == at
    assert at <= second.result("job/change", job=attached, instruction="make it day")["step"] <= at + 40
    assert second.result("job/continue", job=attached) == {"paused": False}
    assert second.result("job/cancel", job=attached) == {"cancelling": True}
    assert second.answer(attached)["error"]["code"] == protocol.CANCELLED
    first.process.wait(10)
    assert detached_jobs(project) == []


def test_who_follows_may_leave_and_the_job_goes_on(engines, project):
    first = engines(STEPS="300")
    ident = detached(first, project)
    for leave in ("detach", "hang up", "shutdown", "kill"):
        follower = engines()
        attached = follower.ask("job/attach", workspace=str(project.folder), id=ident)
        follower.until(at_step(3))
        if leave == "detach":
            assert follower.result("job/detach", job=attached)["id"] == ident
            assert follower.answer(attached)["error"]["code"] == protocol.DETACHED
        elif leave == "hang up":
            follower.hang_up()
            follower.process.wait(10)
        elif leave == "shutdown":
            follower.ask("shutdown")
            follower.process.wait(10)
        else:
            follower.end()
        assert state(project).state == "running"
    wait_for(lambda: state(project).state == "done")


def test_a_killed_job_is_lost_and_its_project_free(engines, project):
    first, second = engines(STEPS="400"), engines()
    ident = detached(first, project)
    attached = second.ask("job/attach", workspace=str(project.folder), id=ident)
    second.until(at_step(4))
    first.end()
    answer = second.answer(attached)
    assert answer["error"]["code"] == protocol.BAD_INPUT and "ended without a word" in answer["error"]["message"]
    assert state(project).state == "lost"
    begun(second, project)  # the lock is free


@pytest.mark.parametrize("outlive", [True, False])
def test_a_connection_that_is_cut_ends_a_job_only_where_that_is_wanted(engines, project, outlive):
    first = engines(STEPS="150")
    first.result("initialize", protocol=protocol.VERSION, outlive=outlive)
    begun(first, project)
    first.hang_up()
    first.process.wait(15)
    [edit] = project.edits()
    assert edit.finished == outlive and [job.state for job in detached_jobs(project)] == ["done"] * outlive


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
def test_the_end_of_a_session_does_not_end_it(engines, project):
    first = engines()
    detached(first, project)
    os.kill(first.process.pid, signal.SIGHUP)
    first.process.wait(15)
    assert state(project).state == "done" and "a library prints 100" in (
        (Follower(project, state(project).id).folder / "log").read_text()
    )


def test_what_cannot_be_detached_says_so(engines, project):
    engine = engines()
    assert engine.answer(engine.ask("job/detach", job=7))["error"]["data"] == {"field": "job"}
    gone = engine.answer(engine.ask("job/attach", workspace=str(project.folder), id="20260101-000000-000"))
    assert "There is no detached job" in gone["error"]["message"]
    for wrong in ("../capture", "", "x"):
        answer = engine.answer(engine.ask("job/attach", workspace=str(project.folder), id=wrong))
        assert answer["error"]["data"] == {"field": "id"}


def run_cli(project, *words, **more):
    return subprocess.run(
        [sys.executable, "-m", "engine", "jobs", str(project.folder), *words], capture_output=True, text=True,
        cwd=ROOT, timeout=60, **more,
    )  # fmt: skip


def test_the_command_line_lists_pauses_follows_and_collects(engines, project):
    engine = engines(STEPS="300")
    ident = detached(engine, project)
    listed = run_cli(project)
    assert ident in listed.stdout and "running" in listed.stdout and "make it night" in listed.stdout
    assert run_cli(project, "pause").returncode == 0
    early = run_cli(project, "collect")
    assert early.returncode == 2 and "still runs" in early.stderr
    assert run_cli(project, "continue", ident).returncode == 0
    followed = run_cli(project, "follow")
    assert followed.returncode == 0 and json.loads(followed.stdout)["finished"]
    assert "No job of this project" in run_cli(project).stdout


def test_hostile_records_of_jobs_are_left_out(project, tmp_path):
    folder = project.below("jobs") / "20260101-000000-000"
    folder.mkdir(parents=True)
    assert detached_jobs(project) == []
    (folder / "job.json").write_text('{"method": "edit/run", "title": "x", "pid": 1, "host": "h", "began": 0}')
    (folder / "progress.json").write_text("[" * 10_000)
    event = {"method": "job/view", "params": {"view": "a", "kind": "edited", "image": "/etc/passwd"}}
    (folder / "events.jsonl").write_text(json.dumps(event) + '\n{"method": 3}\n\n[1]\n{"method": "job/log", "params":')
    assert state(project).state == "lost"
    assert list(Follower(project, folder.name).news()) in ([], [("3", {})])
    (folder / "answer.json").write_text("{")
    assert "damaged" in state(project).message
    (folder / "job.json").unlink()
    (folder / "job.json").symlink_to(tmp_path / "none")
    with pytest.raises(BadInput):
        Follower(project, folder.name)
