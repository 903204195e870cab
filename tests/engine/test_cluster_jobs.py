# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that are submitted to a cluster: Ray's job API begins them; from then on they are detached jobs like others."""

from __future__ import annotations

import json
import os
import sys
import time
from types import SimpleNamespace

import pytest

ray = pytest.importorskip("ray", reason="the extra “cluster” is not installed")
pytest.importorskip("aiohttp_cors", reason="Ray's dashboard is not installed")

from ray.cluster_utils import Cluster  # noqa: E402

from engine import cli_jobs, protocol  # noqa: E402
from engine.cluster import submitting  # noqa: E402
from engine.detached import WAITING, Follower, detached_jobs  # noqa: E402
from engine.errors import BadInput  # noqa: E402
from engine.jobs import edit  # noqa: E402
from engine.progress import Job  # noqa: E402
from engine.workspace import Workspace  # noqa: E402

from .cluster_tools import ROOT, SETUP, editor, kinds, project, same, whole  # noqa: E402, F401
from .conftest import PRESET  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = 180.0  # seconds that a cluster may take to begin something

INTERPRETER = f"""#!{sys.executable}
# Runs a submitted job as the engine does, with the tests' own preset and editor.
import functools, time
from tests.engine.cluster_setup import begin
begin()
import engine.cluster.pool as pool
wait = pool.Pool.wait
pool.Pool.wait = lambda self, *given: (time.sleep({{pause}}), wait(self, *given))[1]
pool.Pool = functools.partial(pool.Pool, setup={SETUP!r})
from engine.submitted import main
main()
"""


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        patch.setenv("RAY_worker_register_timeout_seconds", "150")
        patch.setenv("RAY_agent_register_timeout_ms", "150000")
        made = Cluster()
        try:
            for number in range(3):
                made.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=number == 0)
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def python(tmp_path):
    def written(pause=0.0):
        path = tmp_path / f"python {pause}"
        path.write_text(INTERPRETER.format(pause=pause))
        path.chmod(0o700)
        return str(path)

    return written


def order(project, editor, **more):
    return protocol.RunEdit(
        instruction="make it night; $(touch /tmp/no) 'x'", editor=editor, options={"tint": "red"},
        workspace=str(project), preset=PRESET.name, device="cpu", **more,
    )  # fmt: skip


def until(wanted, seconds=LONG):
    end = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def state_of(there, ident):
    return Follower(Workspace(there), ident).state()


def edits(there, ident):
    """Whether it has taken steps of an edit."""
    state = state_of(there, ident)
    assert state.state == "running", state.message
    return state.label == "Editing" and state.step > 2


def ended(there, ident):
    until(lambda: state_of(there, ident).state != "running")
    return state_of(there, ident)


def test_a_submitted_edit_is_found_followed_and_collected(cluster, project, editor, python, capsys):
    """And is that of one process, though workers edited its pictures."""
    here, there = project("here"), project("there")
    alone = edit.run_edit(order(here, editor), Job())
    ident = submitting.submit("edit/run", order(there, editor), cluster.address, None, 1.0, python())
    [found] = detached_jobs(Workspace(there))
    assert found.id == ident and found.state == "running" and found.title.startswith("make it night")
    cli_jobs.jobs(there, "follow")
    made = json.loads(capsys.readouterr().out)
    same(whole(here, alone), whole(there, SimpleNamespace(**made)))
    assert detached_jobs(Workspace(there)) == []


def test_a_submitted_edit_is_paused_and_cancelled_and_a_second_is_kept_out_meanwhile(cluster, project, editor, python):
    there = project("there")
    first = submitting.submit("edit/run", order(there, editor), cluster.address, None, 1.0, python(1.0))
    until(lambda: edits(there, first))
    cli_jobs.jobs(there, "pause", first)
    second = submitting.submit("edit/run", order(there, editor), cluster.address, None, 1.0, python())
    assert ended(there, second).state == "failed" and "is in use" in state_of(there, second).message
    cli_jobs.jobs(there, "cancel", first)
    assert ended(there, first).state == "cancelled"
    [record] = Workspace(there).edits()
    assert 0 < record.steps < PRESET.edit.steps and not record.finished


def test_a_job_that_the_cluster_stops_saves_first(cluster, project, editor, python):
    there = project("there")
    ident = submitting.submit("edit/run", order(there, editor), cluster.address, None, 1.0, python(1.0))
    submission = submitting.read_order(Follower(Workspace(there), ident).folder).submission
    until(lambda: edits(there, ident))
    submitting.JobSubmissionClient(cluster.address).stop_job(submission)
    assert ended(there, ident).state == "cancelled"
    assert Workspace(there).edits()[0].steps > 0


def test_what_the_cluster_cannot_begin_is_said_and_what_waits_can_be_called_off(cluster, project, editor, tmp_path):
    there = project("there")
    path = tmp_path / "not python"
    path.write_text("#!/bin/sh\necho no engine is installed here >&2\nexit 1\n")
    path.chmod(0o700)
    ident = submitting.submit("edit/run", order(there, editor), cluster.address, None, 1.0, str(path))
    assert state_of(there, ident).label == WAITING

    def failed():
        cli_jobs._look_after(Workspace(there))
        return state_of(there, ident).state == "failed"

    until(failed)
    assert "could not begin" in state_of(there, ident).message
    path.write_text("#!/bin/sh\nsleep 600\n")
    slow = submitting.submit("edit/run", order(there, editor), cluster.address, None, 1.0, str(path))
    cli_jobs.jobs(there, "cancel", slow)
    assert state_of(there, slow).state == "cancelled" and Workspace(there).edits() == []


def test_a_cluster_that_takes_no_jobs_is_named(project, editor):
    there = project("there")
    with pytest.raises(BadInput, match=r"The cluster http://127\.0\.0\.1:9 takes no jobs"):
        submitting.submit("edit/run", order(there, editor), "http://127.0.0.1:9", None, 1.0)
    assert detached_jobs(Workspace(there)) == []
