# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that outlive the program that began them. What is known of one lies in its project's folder, and nowhere else:
no port is opened, and no process is asked by its number.

    jobs/<id>/job.json           what it is, and which process does it
    jobs/<id>/.engine.lock       held by that process as long as it lives
    jobs/<id>/progress.json      how far it is
    jobs/<id>/events.jsonl       pictures that it made and what it said, one a line
    jobs/<id>/asked/<n>.json     what is asked of it, by whoever follows it …
    jobs/<id>/answers/<n>.json   … and its answers
    jobs/<id>/answer.json        its own answer, once it has ended
    jobs/<id>/order.json         what is to be done, until a process does it: where a cluster was asked for one
    jobs/<id>/log                what its process would say on a terminal

Imports no torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from engine import files, protocol, typed
from engine.errors import BadInput, Busy
from engine.results import Detached
from engine.rpc import error_body
from engine.workspace import Workspace

log = logging.getLogger(__name__)

ID = re.compile(r"\d{8}-\d{6}-\d{3}")  # the time, to the millisecond
LOOK = 0.1  # seconds between two looks at what was asked, or came
PROGRESS_REST = 0.5  # seconds between two writes of how far it is
MOST_EVENTS = 64 * 2**20  # bytes; what a job says beyond that is not kept
MOST_ASKED = 2**20  # bytes of one request
LOST = (
    "The process that did this job ended without a word: it was killed, or the machine was switched off. What it had "
    "saved is there; go on with the edit, or begin the job again."
)
WAITING = "Waiting for the cluster"
_PATIENCE = 60.0  # seconds that the answer is tried to be written, where the disk is full
_NUMBER = re.compile(r"\d{20}-[0-9a-f]{8}\.json")


class JobRecord(msgspec.Struct, frozen=True):
    """job.json"""

    method: Annotated[str, Meta(max_length=40)]
    title: Annotated[str, Meta(max_length=200)]
    pid: int
    host: Annotated[str, Meta(max_length=255)]
    began: float  # seconds since 1970
    edit: Annotated[str, Meta(max_length=80)] | None = None  # the edit that it is about, where the request named one


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """answer.json, and an answer to what was asked: a result, or an error as the wire has it."""

    result: Any = None
    error: dict[str, Any] | None = None


class Order(msgspec.Struct, frozen=True):
    """order.json: a job that a cluster was asked to begin."""

    method: Annotated[str, Meta(max_length=40)]
    params: dict[str, Any]
    # The address that it was asked at: of a computer, for Ray would import a module that stands before “://”.
    cluster: Annotated[str, Meta(max_length=500, pattern=r"^(auto|((https?|ray)://)?[A-Za-z0-9._:\[\]-]+/?)$")]
    submission: Annotated[str, Meta(max_length=80)]  # its name there
    workers: Annotated[int, Meta(ge=1)] | None = None  # that do its pieces
    cpus: Annotated[float, Meta(gt=0)] = 1.0  # of each


def write_order(workspace: Workspace, order: Order, title: str, edit: str | None) -> str:
    """Write down a job that is to be begun elsewhere; its id. Raises BadInput where the project cannot be written, or
    the cluster's address is none."""
    try:
        typed.convert(msgspec.to_builtins(order), Order)
    except msgspec.ValidationError:
        raise BadInput(f"“{order.cluster}” is no address of a cluster.", field="cluster") from None
    folder = _new_folder(workspace)
    record = JobRecord(order.method, title[:200], 0, "", time.time(), edit)
    files.write_bytes(folder / "order.json", msgspec.json.encode(order))
    files.write_record(folder / "job.json", record)
    return folder.name


def read_order(folder: Path) -> Order | None:
    """The order in a job's folder; None where the job was begun, or withdrawn. Raises BadInput where it is damaged."""
    return files.read_record(folder / "order.json", Order)


def _new_folder(workspace: Workspace) -> Path:
    now = time.time_ns() // 1_000_000
    return files.exclusive_folder(workspace.below("jobs"), (_id(now + later) for later in range(1000)))


# The side that does the job ------------------------------------------------------------------------------------------


class Recording:
    """What a job tells, written down from now on; and what is asked of it, passed on. Made once, by the process that
    does the job, which holds its lock until it ends."""

    def __init__(
        self, workspace: Workspace, method: str, title: str, edit: str | None = None, ordered: str | None = None
    ):
        """``ordered``: the id of the job, where it was ordered. Raises BadInput where the project cannot be written,
        or where the order was withdrawn, or carried out, meanwhile."""
        self.folder = _new_folder(workspace) if ordered is None else workspace.below("jobs", ordered)
        self._held = contextlib.ExitStack()
        self._held.enter_context(files.locked(self.folder, "doing a detached job"))  # until the process ends
        if ordered is not None and read_order(self.folder) is None:
            self._held.close()
            raise BadInput(f"The job {ordered} was withdrawn, or is done elsewhere.", field="id")
        self._events = open(self.folder / "events.jsonl", "ab", buffering=0)  # noqa: SIM115
        self._size = 0
        self._told = 0.0
        self._over = threading.Event()
        self._writing = threading.Lock()
        record = JobRecord(method, title[:200], os.getpid(), socket.gethostname(), time.time(), edit)
        files.write_record(self.folder / "job.json", record)
        if ordered is not None:
            files.remove_file(self.folder / "order.json")

    @property
    def id(self) -> str:
        return self.folder.name

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Write down a notification of the job's; one that cannot be written is lost, and the job goes on."""
        try:
            line = msgspec.json.encode({"method": method, "params": params})
            if method == protocol.PROGRESS:
                now = time.monotonic()
                if now - self._told < PROGRESS_REST and params.get("step") != params.get("of"):
                    return
                self._told = now
                with files.replacing(self.folder / "progress.json", durable=False) as temporary:
                    temporary.write_bytes(line)
            else:
                with self._writing:
                    if self._size + len(line) < MOST_EVENTS:
                        self._size += self._events.write(line + b"\n")
        except (OSError, ValueError, TypeError, BadInput):
            log.exception("a notification was not written down")

    def listen(self, hear: Callable[[str, dict[str, Any]], Future]) -> None:
        """Pass on what is asked, from a thread of its own until the job has ended. ``hear`` gives the answer to come;
        raises BadInput where there will be none."""
        threading.Thread(target=self._listen, args=(hear,), name="asked", daemon=True).start()

    def _listen(self, hear: Callable[[str, dict[str, Any]], Future]) -> None:
        while not self._over.wait(LOOK):
            for path in _numbered(self.folder / "asked"):
                answer: Future = Future()
                try:
                    asked = msgspec.json.decode(files.read_bounded(path, MOST_ASKED))
                    answer = hear(str(asked["method"]), dict(asked["params"]))
                except (BadInput, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                    answer.set_exception(error if isinstance(error, BadInput) else BadInput(f"Not a request: {error}."))
                with contextlib.suppress(OSError):
                    path.unlink()
                answer.add_done_callback(lambda answer, name=path.name: self._answer(name, answer))

    def _answer(self, name: str, answer: Future) -> None:
        try:
            try:
                body = Answer(result=answer.result())
            except BaseException as error:
                body = Answer(error=error_body(error))
            files.write_bytes(self.folder / "answers" / name, msgspec.json.encode(body))
        except BaseException:  # whoever asked waits no longer than the job lives
            log.exception("an answer was not written down")

    def finish(self, answer: Answer) -> None:
        """Write the job's own answer; tried for a minute where the disk is full. Never raises."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                files.write_bytes(self.folder / "answer.json", msgspec.json.encode(answer))
                break
            except BaseException as error:
                log.error("the answer of a detached job could not be written: %s", error)
                if time.monotonic() > until:
                    break
                time.sleep(1.0)
        self._over.set()


# The side that looks -------------------------------------------------------------------------------------------------


class Follower:
    """A detached job, seen from any process."""

    def __init__(self, workspace: Workspace, ident: str):
        """Raises BadInput where there is no such job."""
        if not ID.fullmatch(ident):
            raise BadInput("A detached job's id is the one that workspace/read gives it.", field="id")
        self.workspace, self.id = workspace, ident
        self.folder = workspace.below("jobs", ident)
        record = files.read_record(self.folder / "job.json", JobRecord)
        if record is None:
            raise BadInput(f"There is no detached job {ident} in {workspace.folder}.", field="id")
        self.record = record
        self._read = 0  # bytes of the events
        self._progress = b""

    @property
    def waiting(self) -> bool:
        """Whether it was ordered, and no process has begun it yet."""
        return (self.folder / "order.json").exists()

    def alive(self) -> bool:
        """Whether the process that does it lives, or is still to come."""
        if self.waiting:
            return True
        try:
            with files.locked(self.folder, "looking after a detached job"):
                return False
        except Busy:
            return True
        except BadInput:  # a disk that cannot be written: nothing is being done there either
            return False

    def answer(self) -> Answer | None:
        """Its own answer; None as long as there is none. Raises BadInput where it is damaged."""
        return files.read_record(self.folder / "answer.json", Answer)

    def progress(self) -> protocol.Progress | None:
        """How far it is, as far as it said so."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            told = msgspec.json.decode(files.read_bounded(self.folder / "progress.json", MOST_ASKED))
            return typed.convert(told["params"], protocol.Progress)
        return None

    def news(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(method, parameters) of what it told since this was last asked; pictures outside of the project are left
        out."""
        with contextlib.suppress(OSError), files.open_file(self.folder / "events.jsonl") as file:
            file.seek(self._read)
            while (line := file.readline(MOST_ASKED)).endswith(b"\n"):
                self._read += len(line)
                if (event := _event(line)) and self._is_ours(event[1]):
                    yield event
        with contextlib.suppress(OSError):
            told = files.read_bounded(self.folder / "progress.json", MOST_ASKED)
            if told != self._progress:
                self._progress = told
                if event := _event(told):
                    yield event

    def _is_ours(self, params: dict[str, Any]) -> bool:
        image = params.get("image", "")
        if not image:
            return True
        try:
            return Path(image).is_relative_to(self.workspace.folder) and bool(self.workspace.below(image))
        except (BadInput, OSError, TypeError, ValueError):
            return False

    def ask(self, method: str, params: dict[str, Any]) -> str:
        """Ask something of the running job; the number of the request. Raises BadInput."""
        number = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        with files.replacing(self.folder / "asked" / number, durable=False) as temporary:
            temporary.write_bytes(msgspec.json.encode({"method": method, "params": params}))
        return number

    def answered(self, number: str) -> Answer | None:
        """The answer to what was asked under that number, which is then forgotten; None as long as there is none."""
        path = self.folder / "answers" / number
        answer = files.read_record(path, Answer)
        if answer is not None:
            with contextlib.suppress(OSError):
                path.unlink()
        return answer

    def state(self) -> Detached:
        """What it is, and how far."""
        record, far, message = self.record, self.progress(), ""
        label = far.label if far else WAITING if self.waiting else ""
        try:
            answer = self.answer()
            if answer is None and not self.alive():
                answer = self.answer()  # written just before its end
                state = "lost" if answer is None else ""
            else:
                state = "running" if answer is None else ""
        except BadInput as error:
            answer, state, message = None, "lost", error.message
        if answer is not None:
            error = answer.error or {}
            state = "done" if answer.error is None else "failed"
            state = "cancelled" if error.get("code") == protocol.CANCELLED else state
            message = str(error.get("message", ""))
        return Detached(
            id=self.id, method=record.method, title=record.title, edit=record.edit, state=state, host=record.host,
            began=record.began, label=label, step=far.step if far else 0, of=far.of if far else 0,
            fraction=far.fraction if far else 0.0, seconds_left=far.seconds_left if far else None,
            message=LOST if state == "lost" and not message else message,
        )  # fmt: skip

    def withdraw(self, why: dict[str, Any]) -> bool:
        """Have an order not be carried out any more, but be answered with the error ``why``; False where a process has
        begun it. Raises BadInput where the project cannot be written."""
        try:
            with files.locked(self.folder, "withdrawing a job"):
                if not self.waiting:
                    return False
                files.write_bytes(self.folder / "answer.json", msgspec.json.encode(Answer(error=why)))
                files.remove_file(self.folder / "order.json")
                return True
        except Busy:
            return False

    def forget(self, patience: float = 10.0) -> bool:
        """Remove what was written down of a job that has ended, once its process has, too; whether that was so within
        ``patience`` seconds."""
        until = time.monotonic() + patience
        while self.alive():
            if time.monotonic() > until:
                return False
            time.sleep(LOOK)
        with contextlib.suppress(OSError):
            (self.folder / "job.json").unlink(missing_ok=True)  # first: what is left half removed is no job any more
            files.remove_tree(self.folder)
        return True


def detached_jobs(workspace: Workspace) -> list[Detached]:
    """What is known of every detached job of a project, oldest first; those that cannot be read are left out."""
    found = []
    with contextlib.suppress(OSError, BadInput), os.scandir(workspace.below("jobs")) as entries:
        for name in sorted(e.name for e in entries if ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False)):
            with contextlib.suppress(BadInput):
                found.append(Follower(workspace, name).state())
    return found


def _event(line: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        told = msgspec.json.decode(line)
        return str(told["method"]), dict(told["params"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _numbered(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [folder / name for name in sorted(e.name for e in entries if _NUMBER.fullmatch(e.name))]
    return []


def _id(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{rest:03d}"
