# SPDX-License-Identifier: GPL-3.0-or-later
"""A job that runs out of memory ends with a sentence, gives everything back, and the next one works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .fork_client import small_capture

pytest.importorskip("resource", reason="limits of POSIX")
ROOT = Path(__file__).parents[2]
MIB = 2**20

RUN = """
import json, queue, resource, sys

from tests.engine import forks  # sets the number of threads: imported before torch
import psutil
from msgspec.structs import replace

from engine import presets
from engine.process import set_up_process
from engine.server import Server

set_up_process()
forks.set_up()
answers = queue.Queue()
server = Server(lambda line: answers.put(json.loads(line)), warm_up=lambda: None)
project, capture = sys.argv[1:]
count = 0


def ask(method, **params):
    global count
    count += 1
    server.receive(json.dumps({"id": count, "method": method, "params": {"workspace": project, **params}}).encode())
    while (answer := answers.get(timeout=120)).get("id") != count:
        pass
    return answer


def held():
    return psutil.Process().memory_info().rss


edit = {"preset": "preview", "instruction": "make it night", "device": "cpu"}
first = [ask("capture/open", source=capture, preset="preview"), ask("capture/images"), ask("edit/run", **edit)]
ask("edit/run", **edit)  # what is kept, and the C library's own, is there from here on
before, most = held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

tiny = presets.PRESETS["preview"]
presets.PRESETS["preview"] = replace(tiny, edit=replace(tiny.edit, patches=800, patch=32))
room = 2**30
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room, hard))
failed = ask("edit/run", **edit)
after, took = held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - most
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
presets.PRESETS["preview"] = tiny
again = ask("edit/run", **edit)
print(json.dumps({"first": first, "failed": failed, "before": before, "after": after, "took": took, "again": again}))
"""


@pytest.mark.slow
def test_a_job_without_memory_gives_back_what_it_took(tmp_path):
    capture = small_capture(tmp_path / "capture")
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "project"), str(capture)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    print({name: round(said[name] / MIB) for name in ("before", "after", "took")})
    assert all("result" in answer for answer in said["first"]), said["first"]
    error = said["failed"]["error"]
    assert error["code"] == -32002, error
    assert "choose a smaller preset" in error["message"] and "lower" in error["message"], error
    assert said["took"] > 200 * MIB, said  # it did take what it then gave back
    assert said["after"] < 1.1 * said["before"], said
    assert "result" in said["again"], said["again"]
