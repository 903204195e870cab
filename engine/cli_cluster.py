# SPDX-License-Identifier: GPL-3.0-or-later
"""Many edits, and many workers, at a terminal: the only part of the engine that names its cluster, when it is asked."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from engine.errors import BadInput
from engine.progress import Job
from engine.terminal import console, run_job, say

T = TypeVar("T")


@contextlib.contextmanager
def pool_of(cluster: str | None, workers: int | None, device: str | None, cpus: float = 1.0) -> Iterator[Any]:
    """The workers that are asked for; None where none are. Raises BadInput where Ray is not installed."""
    if not workers and cluster is None:
        yield None
        return
    if importlib.util.find_spec("ray") is None:
        raise BadInput("Workers need Ray: install it with “pip install 'ray>=2.47,<3'” in the engine's environment.")
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

    def run_job(self, device: str | None, work: Callable[[Job], T]) -> T:
        """As `engine.terminal.run_job`, the pieces done by these. ``device``: what they compute on. Raises BadInput."""

        def over_workers(job: Job) -> T:
            with pool_of(self.cluster, self.workers, device, self.cpus) as pool:
                if pool is not None:
                    job.pieces = pool
                return work(job)

        return run_job(over_workers)


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
