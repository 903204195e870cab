# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that were ordered: written down, taken up by a process of their own, or withdrawn; what begins that process is a
test of the cluster's (tests/engine/test_cluster_jobs.py). The edit only ticks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import protocol
from engine.detached import WAITING, Follower, Order, Recording, detached_jobs, read_order, write_order
from engine.errors import BadInput
from engine.submitted import FOLDER
from engine.workspace import Workspace

ROOT = Path(__file__).parents[2]
DOER = """
import contextlib, os, sys
from engine.errors import BadInput
sys.path.insert(0, "tests/unit")
import ticking_engine
from engine import submitted
def pool_of(*asked):
    if "NO_WORKERS" in os.environ:
        raise BadInput(os.environ["NO_WORKERS"])
    return contextlib.nullcontext(print("workers of", *asked, flush=True))
submitted.pool_of = pool_of
submitted.import_torch = lambda: None
submitted.main()
"""


@pytest.fixture
def workspace(tmp_path):
    project = Workspace(tmp_path / "project")
    project.capture_file.parent.mkdir(parents=True)
    project.capture_file.write_text("{}")
    return project


def ordered(workspace, **more):
    asked = {"instruction": "make it night", "workspace": "/somewhere/else", "device": "cpu", **more}
    return write_order(workspace, Order("edit/run", asked, "auto", "name", 3, 2.0), "make it night", None)


def doer(workspace, ident, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", DOER], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), FOLDER: str(workspace.below("jobs", ident)), **environment},
    )  # fmt: skip


def state_of(workspace, ident):
    return Follower(workspace, ident).state()


def until(wanted):
    end = time.monotonic() + 60
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_ordered_job_waits_is_taken_up_once_and_ends_as_any_other(workspace):
    ident = ordered(workspace)
    [found] = detached_jobs(workspace)
    assert (found.id, found.state, found.label, found.title) == (ident, "running", WAITING, "make it night")
    process = doer(workspace, ident, STEPS="3")
    said, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "workers of auto 3 cpu 2.0" in said
    assert state_of(workspace, ident).state == "done" and len(workspace.edits()) == 1
    follower = Follower(workspace, ident)
    assert not follower.waiting and any(method == protocol.VIEW for method, _ in follower.news())
    assert follower.record.pid == process.pid
    again = doer(workspace, ident)
    assert "no job to be begun" in again.communicate(timeout=60)[1] and again.returncode == 2


def test_a_job_that_its_cluster_ends_saves_and_one_that_fails_says_so(workspace):
    ident = ordered(workspace)
    process = doer(workspace, ident, STEPS="100000")
    until(lambda: state_of(workspace, ident).step > 2)
    with pytest.raises(BadInput, match="is in use"), workspace.writing("looking"):
        pass
    second = ordered(workspace)
    assert doer(workspace, second).wait(timeout=60) == 1  # at most one writer
    assert state_of(workspace, second).state == "failed" and "is in use" in state_of(workspace, second).message
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert state_of(workspace, ident).state == "cancelled"


def test_a_cluster_whose_nodes_cannot_be_used_is_the_jobs_own_answer(workspace):
    ident = ordered(workspace)
    assert doer(workspace, ident, NO_WORKERS="The node a has no card.").wait(timeout=60) == 1
    assert state_of(workspace, ident).message == "The node a has no card."
    assert workspace.edits() == []


def test_a_withdrawn_job_is_not_taken_up_and_one_that_was_taken_up_is_not_withdrawn(workspace):
    ident = ordered(workspace)
    folder = workspace.below("jobs", ident)
    assert read_order(folder).submission == "name"
    assert Follower(workspace, ident).withdraw({"code": protocol.CANCELLED, "message": "No more."})
    assert state_of(workspace, ident).state == "cancelled" and read_order(folder) is None
    with pytest.raises(BadInput, match="was withdrawn"):
        Recording(workspace, "edit/run", "make it night", ordered=ident)
    other = ordered(workspace)
    recording = Recording(workspace, "edit/run", "make it night", ordered=other)
    assert not Follower(workspace, other).withdraw({"code": 0, "message": "Too late."})
    assert recording.id == other and not Follower(workspace, other).waiting


def test_what_cannot_be_begun_is_one_sentence(workspace):
    ident = write_order(workspace, Order("edit/run", {"no": 1}, "auto", "name"), "", None)
    process = doer(workspace, ident)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2 and "edit/run" in log.splitlines()[-1]
    assert Follower(workspace, ident).waiting  # whoever looks after it asks the cluster why


@pytest.mark.parametrize("address", ["antigravity://here", "os.path://x", "http://a b", "", "-x;y"])
def test_what_is_no_address_of_a_cluster_is_never_asked(address, workspace):
    """Ray imports the module that stands before “://”, and a project may be anybody's."""
    with pytest.raises(BadInput, match="no address"):
        write_order(workspace, Order("edit/run", {}, address, "name"), "", None)
    assert not workspace.below("jobs").exists()
    folder = workspace.below("jobs", ordered(workspace))
    (folder / "order.json").write_text(json.dumps({"method": "x", "params": {}, "cluster": address, "submission": "y"}))
    with pytest.raises(BadInput, match=r"order\.json"):
        read_order(folder)


@pytest.mark.parametrize(
    "address", ["auto", "10.0.0.1:6379", "http://[::1]:8265", "ray://head:10001", "https://a-b.c/"]
)
def test_addresses_of_clusters(address, workspace):
    ident = write_order(workspace, Order("edit/run", {}, address, "name"), "", None)
    assert read_order(workspace.below("jobs", ident)).cluster == address
