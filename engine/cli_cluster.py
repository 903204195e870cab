# SPDX-License-Identifier: GPL-3.0-or-later
"""Many edits, and many workers, at a terminal: the only part of the engine that names its cluster, when it is asked."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from engine import protocol
from engine.detached import Follower
from engine.errors import BadInput
from engine.progress import Job
from engine.terminal import console, run_job, say, show_result


@contextlib.contextmanager
def pool_of(cluster: str | None, workers: int | None, device: str | None, cpus: float = 1.0) -> Iterator[Any]:
    """The workers that are asked for; None where none are. Raises BadInput where Ray is not installed."""
    if not workers and cluster is None:
        yield None
        return
    _need_ray()
    from engine.cluster.pool import Pool
    from engine.devices import choose_device

    with Pool(cluster, choose_device(device), cpus, workers) as pool:
        console.print(f"{pool.workers} workers")
        yield pool


@dataclass(frozen=True)
class Workers:
    """Who does what can be done in pieces; this process, where neither workers nor a cluster are named."""

    workers: int | None = None
    """How many at once; with no cluster named, as processes of this machine."""
    cluster: str | None = None
    """The address of a Ray cluster that runs, or auto: that of this machine."""
    cpus: float = 1.0
    """Cores that each worker takes."""
    detach: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Submit it to the cluster, whose head sees the project under the same path; it goes on by itself (`jobs`)."""

    def pieces(self, cluster: str | None) -> Callable[[str | None], contextlib.AbstractContextManager[Any]]:
        """Who does the pieces of jobs, by the device; ``cluster``: the one to take where none is named."""
        named = self.cluster or cluster
        return lambda device: pool_of(named, self.workers, device, self.cpus)

    def show(self, request: protocol.Message, work: Callable[[Job], Any]) -> None:
        """Do the job of a request, its pieces by these workers, and print the result as JSON; or submit it, and print
        its id. Raises BadInput."""
        if self.detach:
            say(self._submitted(request))
        else:
            show_result(self._done(request, work))

    def do(self, request: protocol.Message, work: Callable[[Job], Any]) -> None:
        """Do the job of a request, its pieces by these workers, where that cannot be left to others. Raises
        BadInput."""
        if self.detach:
            raise BadInput("This writes a file of yours; it cannot be detached.", field="detach")
        self._done(request, work)

    def _done(self, request: protocol.Message, work: Callable[[Job], Any]) -> Any:
        def over_workers(job: Job) -> Any:
            with self.pieces(None)(getattr(request, "device", None)) as pool:
                job.pieces = pool or job.pieces
                return work(job)

        return run_job(over_workers)

    def _submitted(self, request: protocol.Message) -> str:
        if self.cluster is None:
            raise BadInput("Name the cluster that is to do it with --cluster.", field="cluster")
        method = next((name for name, kind in protocol.REQUESTS.items() if kind is type(request)), None)
        if method is None or not hasattr(request, "workspace"):
            raise BadInput("This is no job of a project; it cannot be detached.", field="detach")
        _need_ray()
        from engine.cluster.submitting import submit

        return submit(method, request, self.cluster, self.workers, self.cpus)


def look_after(follower: Follower) -> None:
    """Where a job was ordered from a cluster that ended it before it began, write that down. Raises BadInput where the
    cluster cannot be asked."""
    if follower.waiting:
        _need_ray()
        from engine.cluster.submitting import look_after as look

        look(follower)


def withdraw(follower: Follower) -> bool:
    """Have a job that was ordered from a cluster not begin; False where it has begun. Raises BadInput."""
    if not follower.waiting:
        return False
    _need_ray()
    from engine.cluster.submitting import withdraw as call_off

    return call_off(follower)


def _need_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise BadInput(
            "Workers need Ray: install it with “pip install 'ray[default]>=2.47,<3'” in the engine's environment."
        )


def batch(
    file: Annotated[Path, tyro.conf.Positional],
    workers: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    cpus: float = 1.0,
) -> None:
    """Make many edits: every edit of a batch's file, of every capture in it. One that was stopped goes on.

    Args:
        file: JSON: captures (a workspace each, and a source where it is not opened yet), edits (an instruction each,
            with editor, options, seed, views and steps where they are meant) and a preset.
        workers: How many at once; with no cluster named, as processes of this machine. None: one edit after the other.
        cluster: The address of a Ray cluster that runs, or auto: that of this machine.
        device: What the workers compute on: cpu, or cuda:0 for a card each; the best of this machine where not given.
        cpus: Cores that each worker takes.
    """
    from engine.cluster.batch import run_batch

    shown: dict[str, str] = {}

    def show(rows: list[Any]) -> None:
        for row in rows:
            if shown.get(row.key) != row.state:
                shown[row.key] = row.state
                console.print(f"{row.workspace.folder.name}  {row.edit.instruction}  {row.state}", markup=False)

    def work(job: Job) -> list[Any]:
        with pool_of(cluster, workers, device, cpus) as pool:
            return run_batch(file, pool, job, show)

    rows = run_job(work)
    say("\n".join("\t".join((r.workspace.folder.name, r.edit.instruction, r.id, r.state)) for r in rows))
    if failed := sum(row.failed for row in rows):
        raise BadInput(f"{failed} of {len(rows)} edits were not made; the table says why.")
