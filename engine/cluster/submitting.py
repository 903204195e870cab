# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that go on by themselves on a cluster: Ray's job API begins them, and says what became of one that was never
begun. From its beginning on a job is found in its project's folder, like every detached one."""

from __future__ import annotations

import secrets
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from engine import protocol
from engine.detached import Follower, Order, read_order, write_order
from engine.errors import BadInput
from engine.rpc import error_body
from engine.workspace import Workspace

NOT_YET = "No available agent"  # what a cluster says whose head has only just begun
PATIENCE = 120.0  # seconds that it has then


def submit(
    method: str, request: Any, cluster: str, workers: int | None, cpus: float, python: str = sys.executable
) -> str:
    """Have a cluster begin a job in its request's workspace; the job's id. ``python``: the interpreter there. Raises
    BadInput where the cluster cannot be asked."""
    workspace = Workspace(request.workspace)
    params = msgspec.to_builtins(request)
    submission = f"instruct-nerf-{secrets.token_hex(8)}"
    with _asked(cluster) as client:
        order = Order(method, params, cluster, submission, workers, cpus)
        ident = write_order(workspace, order, params.get("instruction", ""), params.get("edit"))
        follower = Follower(workspace, ident)
        try:
            _begin(
                client,
                entrypoint=f"{shlex.quote(python)} -m engine.submitted",  # Ray gives it to a shell: nothing else in it
                submission_id=submission,
                runtime_env={"env_vars": {"INSTRUCT_NERF_SUBMITTED": str(follower.folder)}},
                metadata={"project": str(workspace.folder), "job": ident},
            )
        except BaseException:
            if follower.withdraw(error_body(BadInput("The cluster did not take it."))):
                follower.forget()
            raise
    return ident


def _begin(client: JobSubmissionClient, **order: Any) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            client.submit_job(**order)
            return
        except RuntimeError as error:
            if NOT_YET not in str(error) or time.monotonic() > until:
                raise
            time.sleep(1.0)


def look_after(follower: Follower) -> None:
    """Where a job that is waited for ended in the cluster before it was begun, write down why. Raises BadInput where
    the cluster cannot be asked."""
    order = read_order(follower.folder)
    if order is None:
        return
    with _asked(order.cluster) as client:
        if client.get_job_status(order.submission).is_terminal():
            said = [line for line in client.get_job_logs(order.submission).splitlines() if line.strip()]
            why = said[-1].strip()[:300] if said else client.get_job_info(order.submission).message or "it does not say"
            follower.withdraw(error_body(BadInput(f"The cluster could not begin this job: {why}")))


def withdraw(follower: Follower) -> bool:
    """Have a job that is waited for not begin; False where it has begun. Raises BadInput."""
    order = read_order(follower.folder)
    error = {"code": protocol.CANCELLED, "message": "The job was cancelled before it began."}
    if order is None or not follower.withdraw(error):
        return False
    with _asked(order.cluster) as client:
        if client.get_job_status(order.submission) in (JobStatus.PENDING, JobStatus.RUNNING):
            client.stop_job(order.submission)
    return True


@contextmanager
def _asked(cluster: str) -> Iterator[JobSubmissionClient]:
    try:
        yield JobSubmissionClient(cluster)
    except (RayError, RuntimeError, ConnectionError, OSError, ValueError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
        raise BadInput(
            f"The cluster {cluster} takes no jobs: {reason}. Its head needs the dashboard of “ray[default]”.",
            field="cluster",
        ) from None
