# SPDX-License-Identifier: GPL-3.0-or-later
"""Detached jobs at a terminal: `python -m engine jobs WORKSPACE [list|follow|pause|continue|cancel|collect] [JOB]`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import tyro

from engine import protocol
from engine.cli_cluster import look_after, withdraw
from engine.detached import LOOK, Follower, detached_jobs
from engine.errors import BadInput
from engine.results import Detached
from engine.rpc import RpcError, error_of
from engine.terminal import console, full, run_job, say, show_result
from engine.workspace import Workspace

LOOK_AFTER = 1.0  # seconds between two looks at whether a cluster begins a job
PATIENCE = 30.0  # seconds that a job has to hear what it is asked: it does between two of its steps


def jobs(
    workspace: Annotated[Path, tyro.conf.Positional],
    action: Annotated[
        Literal["list", "follow", "pause", "continue", "cancel", "collect"], tyro.conf.Positional
    ] = "list",
    job: Annotated[str | None, tyro.conf.Positional] = None,
) -> None:
    """List the jobs of a project that go on by themselves, and follow, pause, cancel or collect one.

    Args:
        workspace: The project's folder.
        action: follow shows a job's progress to its end and prints its result (Ctrl-C stops following, not the job);
            collect prints the result of one that has ended, and forgets it.
        job: The job's id, as `list` has it; the only one that the action can mean where not given.
    """
    project = Workspace(full(workspace))
    _look_after(project)
    if action == "list":
        say(_table(detached_jobs(project)))
        return
    chosen = _chosen(detached_jobs(project), action, job)
    if action == "follow":
        _follow(project, chosen)
    elif action == "collect":
        if chosen.state == "running":
            raise BadInput(f"The job {chosen.id} still runs; follow it, or cancel it first.", field="job")
        _follow(project, chosen)
    elif action == "cancel" and withdraw(Follower(project, chosen.id)):
        console.print(f"{chosen.id}: cancelled before it began")
    else:
        _ask(Follower(project, chosen.id), {"cancel": protocol.CANCEL}.get(action, f"job/{action}"))
        console.print(f"{chosen.id}: {'cancelling' if action == 'cancel' else action + 'd'}")


def _look_after(project: Workspace) -> None:
    """See whether what a cluster is to begin still can be."""
    for one in detached_jobs(project):
        try:
            look_after(Follower(project, one.id))
        except BadInput as error:
            console.print(error.message, markup=False)


def _chosen(found: list[Detached], action: str, job: str | None) -> Detached:
    wanted = [one for one in found if job in (None, one.id)]
    if job is None and action in ("pause", "continue", "cancel"):
        wanted = [one for one in wanted if one.state == "running"]
    if len(wanted) != 1:
        why = "There is no such job" if not wanted else f"There are {len(wanted)} jobs that this can mean"
        raise BadInput(f"{why}; name one of: {', '.join(one.id for one in found) or 'none'}.", field="job")
    return wanted[0]


def _follow(project: Workspace, chosen: Detached) -> None:
    from engine.jobs.following import follow_job

    def work(job):
        job.leaving = job.cancelled  # Ctrl-C stops following alone
        follower = Follower(project, chosen.id)
        while follower.waiting and not job.leaving():
            look_after(follower)
            time.sleep(LOOK_AFTER)
        return follow_job(protocol.AttachJob(str(project.folder), chosen.id), job)

    try:
        show_result(run_job(work).result)
    except RpcError as error:
        if error.code != protocol.DETACHED:
            raise
        console.print(f"{chosen.id} goes on by itself.")


def _ask(follower: Follower, method: str) -> None:
    number = follower.ask(method, {})
    until = time.monotonic() + PATIENCE
    while (answer := follower.answered(number)) is None:
        if time.monotonic() > until or not follower.alive():
            raise BadInput(f"The job {follower.id} does not answer; look at its log in {follower.folder}.", field="job")
        time.sleep(LOOK)
    if answer.error is not None:
        raise error_of(answer.error)


def _table(found: list[Detached]) -> str:
    """A job a line, tabs between what is said of it."""
    lines = []
    for one in found:
        left = "" if one.seconds_left is None or one.state != "running" else f", {one.seconds_left / 60:.0f} min left"
        far = f"step {one.step} of {one.of}, {100 * one.fraction:.0f} %{left}"
        lines.append("\t".join((one.id, f"{one.method} {one.title}".strip(), one.message or one.state, far, one.host)))
    return "\n".join(lines) or "No job of this project goes on by itself."
