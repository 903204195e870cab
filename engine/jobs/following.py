# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a detached job to its end, as if it were one's own. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from engine import protocol, typed
from engine.detached import LOOK, LOST, Answer, Follower
from engine.errors import BadInput
from engine.progress import Job
from engine.results import Followed
from engine.rpc import RpcError, error_of
from engine.workspace import Workspace

ALIVE_EVERY = 1.0  # seconds between two looks at whether the process still lives
PASSED_ON = (
    protocol.PAUSE, protocol.CONTINUE, protocol.RENDER, protocol.SURFELS, protocol.CHANGE, protocol.REMAKE
)  # fmt: skip


def follow_job(request: protocol.AttachJob, job: Job) -> Followed:
    """Tell what a detached job tells, from its beginning, pass on what it is asked, and answer as it does; then what
    was written down of it is removed. A cancel is passed on; where this engine is to leave, the job goes on."""
    follower = Follower(Workspace(request.workspace), request.id)
    grants = {name: partial(_passed_on, follower, name, job) for name in PASSED_ON}
    cancelling = False
    watch = _Watch(follower)
    with job.wishes.granting(grants):
        while True:
            if job.leaving():
                raise _let_go()
            if job.cancelled() and not cancelling:
                follower.ask(protocol.CANCEL, {})
                cancelling = True
            answer = watch.answer()
            _relay(follower, job)
            if answer is not None:
                break
            job.wishes.serve(lambda: True)
            time.sleep(LOOK)
    follower.forget()
    if answer.error is not None:
        raise error_of(answer.error)
    return Followed(follower.record.method, answer.result)


def _let_go() -> RpcError:
    return RpcError(protocol.DETACHED, "The job goes on by itself.")


class _Watch:
    """Looks for a job's answer, and now and then whether there will be one."""

    def __init__(self, follower: Follower, read: Callable[[], Answer | None] | None = None):
        self._follower, self._read = follower, read or follower.answer
        self._looked = -ALIVE_EVERY

    def answer(self) -> Answer | None:
        """The answer; None as long as there is none. Raises BadInput where there will be none."""
        if (answer := self._read()) is not None:
            return answer
        now = time.monotonic()
        if now - self._looked < ALIVE_EVERY:
            return None
        self._looked = now
        if self._follower.alive() or (answer := self._read()) is not None:
            return answer
        raise BadInput(LOST, file=self._follower.folder, field="id")


def _relay(follower: Follower, job: Job) -> None:
    for method, params in follower.news():
        try:
            if method == protocol.PROGRESS:
                job.on_progress(typed.convert(params, protocol.Progress))
            elif method == protocol.VIEW:
                job.on_view(str(params["view"]), str(params["kind"]), str(params["image"]))
            elif method == protocol.LOG:
                job.log(str(params["text"]))
        except (msgspec.ValidationError, KeyError):
            continue  # of another version


def _passed_on(follower: Follower, method: str, job: Job, wish: protocol.Message) -> Any:
    """The answer of the detached job to what it is asked. Raises what it raises there."""
    number = follower.ask(method, {k: v for k, v in msgspec.to_builtins(wish).items() if k != "job"})
    watch = _Watch(follower, lambda: follower.answered(number))
    while (answer := watch.answer()) is None:
        if job.leaving():
            raise _let_go()
        if follower.answer() is not None and (answer := follower.answered(number)) is None:
            raise BadInput("The job ended before that could be done.", field="job")
        if answer is not None:
            break
        time.sleep(LOOK / 2)
    if answer.error is not None:
        raise error_of(answer.error)
    return answer.result
