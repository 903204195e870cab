# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a server: lines in, lines out, one job at a time (docs/protocol.md).

The reader thread takes requests, cancels and what else concerns the running job; one thread answers what is quick, one
runs jobs. Torch is imported by a thread of its own that starts after `initialize`, so that a cancel is answered even
then.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from engine import __version__, protocol, typed, wire
from engine.detached import Answer, Recording
from engine.errors import BadInput, Cancelled
from engine.exchange import Exchange
from engine.looks import Looks
from engine.methods import DETACHABLE, FILES, JOBS, NEEDS_TORCH, WISHES
from engine.pieces import Pieces
from engine.process import give_memory_back
from engine.progress import Job
from engine.rpc import Request, RpcError, Unreadable, error_body, failure_line, read_params, read_request
from engine.runtime import Runtime
from engine.warm import WarmUp
from engine.wishes import Wishes
from engine.workspace import Workspace

log = logging.getLogger(__name__)
# Of a device: who does the pieces of a job on it; None where this process does. May raise BadInput.
Elsewhere = Callable[[str | None], contextlib.AbstractContextManager[Pieces | None]]
LONGEST_SAVE = 120.0  # seconds that a job may take to save when the engine is to leave


@dataclass
class _Running:
    """The job that runs, or is about to."""

    id: protocol.Ident
    method: str
    params: protocol.Message
    stop: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)  # to stop for the engine's sake, not the artist's
    wishes: Wishes = field(default_factory=Wishes)
    recording: Recording | None = None  # once it is detached


class Server:
    """Protocol logic; takes a callable to send a line with, and lines one by one, so that tests need no process."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        warm_up: Callable[[], None] | None = None,
        on_detached: Callable[[Path], None] = lambda log: None,
        ordered: str | None = None,
        pieces: Elsewhere = lambda device: contextlib.nullcontext(),
    ):
        """``on_detached`` is called with the path of a log once a job is to outlive the other side. ``ordered``: the id
        of the one detached job that this server is for. ``pieces``: who does a job's pieces."""
        self._pieces = pieces
        self._ordered = ordered
        self._send_line = send
        self._on_detached = on_detached
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._running: _Running | None = None
        self._runtime = Runtime()
        self._online = False  # until the artist's Blender says that it may be
        self._outlive = False  # likewise
        self._warm_up = WarmUp(warm_up)
        self.finished = False
        self._jobs = _Worker("jobs")
        self._quick = _Worker("answers")
        self._files = _Worker("files")
        self._exchange: Exchange | None = None  # once `initialize` has named a folder for files
        self._looks = Looks(
            self._wishes, self._jobs.put, self._answer_with, lambda job: self._warm_up.wait(job.check), self._runtime
        )

    # reading ---------------------------------------------------------------------------------------------------------

    def receive(self, line: bytes | wire.TooLong) -> None:
        """Handle one line; never raises. What concerns the running job is passed on before it returns."""
        ident: protocol.Ident | None = None
        try:
            request = read_request(line)
            ident = request.id
            params = read_params(request)
            if request.method in JOBS:
                self._enqueue(request, params)
            elif request.method == protocol.CANCEL:
                self._answer(ident, {"cancelling": self.cancel(params.job)})  # type: ignore[attr-defined]
            elif request.method in WISHES:
                self._wish(request.method, params).add_done_callback(
                    lambda answer: self._answer_with(ident, answer.result)
                )
            elif request.method == "job/detach":
                self._detach(ident, params.job)  # type: ignore[attr-defined]
            elif request.method == protocol.LOOK:
                if ident is None:
                    raise RpcError(protocol.INVALID_REQUEST, f"{request.method} needs an id: it answers with a file.")
                self._looks.ask(ident, params)  # type: ignore[arg-type]
            elif request.method in FILES:
                self._files.put(partial(self._answer_with, ident, partial(self._files_asked, request.method, params)))
            elif request.method == "shutdown":
                if not self.detached:
                    self.close()
                self.finished = True
                self._answer(ident, {})
            elif request.method == "devices/read":
                answer = partial(self._answer_with, ident, self._devices)
                self._warm_up.then(lambda: self._quick.put(answer))
            else:
                self._quick.put(partial(self._answer_with, ident, partial(self._ask, request.method, params)))
        except Unreadable as error:
            self._fail(error.ident, error)
        except BaseException as error:
            self._fail(ident, error)

    def _ask(self, method: str, params: Any) -> Any:
        if method == "initialize":
            return self._initialize(params)
        if method == "runtime/release":
            released = self._runtime.release()
            give_memory_back()
            return {"released": released}
        from engine.jobs import capture

        if method == "edit/key":
            return capture.propose_key(params)
        if method == "edit/delete_try":
            return capture.delete_try(params)
        if method == "edit/label":
            from engine.jobs import tree

            return tree.label_edit(params)
        return capture.read_workspace(params)

    def _initialize(self, params: protocol.Initialize) -> dict:
        from engine import devices
        from engine.editors.catalogue import find_editors
        from engine.hub import other_models
        from engine.presets import described, preset_infos

        if params.protocol != protocol.VERSION:
            raise RpcError(
                protocol.INVALID_PARAMS,
                f"The add-on speaks protocol {params.protocol}, this engine {protocol.VERSION}; install the engine "
                "that came with the add-on.",
                {"field": "protocol"},
            )
        self._online, self._outlive = params.online, params.outlive
        if params.files is not None:
            self._exchange = Exchange(params.files)
        warm = self._warm_up.done
        self._warm_up.begin()
        settled = warm or not devices.may_have_gpu()
        found = devices.find_devices() if warm else devices.decide(None, [], devices.cpu())
        return {
            "protocol": protocol.VERSION,
            "engine": __version__,
            "devices": described(found.devices),
            "computing": found.computing if settled else devices.WAITING,
            "settled": settled,
            "editors": find_editors(own=params.own),
            "models": other_models(),
            "presets": preset_infos(found.devices[0]),
            "files": str(self._exchange.folder) if self._exchange is not None else None,
        }

    def _files_asked(self, method: str, params: Any) -> Any:
        if self._exchange is None:
            raise BadInput("initialize named no folder for files.", field="files")
        return FILES[method](self._exchange, params)

    def _devices(self) -> dict:
        if self._warm_up.error is not None:
            raise self._warm_up.error
        from engine.devices import find_devices
        from engine.presets import described

        found = find_devices()
        return {"devices": described(found.devices), "computing": found.computing, "settled": True}

    def _enqueue(self, request: Request, params: protocol.Message) -> None:
        if request.id is None:
            raise RpcError(protocol.INVALID_REQUEST, f"{request.method} needs an id: it answers at its end.")
        if request.method == "model/download" and not self._online:
            raise BadInput("Blender is offline: turn on Allow Online Access in Preferences, System.", field="online")
        with self._state:
            if self._running is not None:
                raise RpcError(protocol.BUSY, "The engine is busy with another job; wait for it, or cancel it.")
            running = self._running = _Running(request.id, request.method, params)
        self._jobs.put(lambda: self._run_job(running))

    def _wish(self, method: str, params: Any) -> Future:
        """The answer to come of what the running job is asked. Raises BadInput."""
        with self._state:
            running = self._running
        if running is None or running.id != params.job:
            raise BadInput(f"The job {params.job} does not run.", field="job")
        if running.method not in WISHES[method]:
            raise BadInput(f"A job of {running.method} cannot be asked for {method}.", field="job")
        if method not in (protocol.PAUSE, protocol.CONTINUE) or running.method == protocol.ATTACH:
            return running.wishes.make(method, params)
        paused, answer = method == protocol.PAUSE, Future()
        running.wishes.pause(paused)
        answer.set_result({"paused": paused})
        return answer

    def _detach(self, ident: protocol.Ident | None, job: protocol.Ident) -> None:
        """Have the running job go on by itself: what it tells is written down from here on. Its request is answered
        with an error that says so."""
        with self._state:
            running = self._running
            if running is None or running.id != job or running.recording is not None:
                raise BadInput(f"The job {job} does not run.", field="job")
            if running.method not in DETACHABLE:
                raise BadInput("This is done in a moment and needs Blender; wait for it, or cancel it.", field="job")
            if running.method == protocol.ATTACH:  # it goes on by itself already
                self._answer(ident, {"id": running.params.id, "pid": os.getpid()})  # type: ignore[attr-defined]
                running.leave.set()
                return
            title = getattr(running.params, "instruction", "")
            workspace = Workspace(running.params.workspace)  # type: ignore[attr-defined]
            edit = getattr(running.params, "edit", None)
            recording = running.recording = Recording(workspace, running.method, title, edit, self._ordered)
        recording.listen(partial(self._heard, running))
        self._on_detached(recording.folder / "log")
        self._answer(ident, {"id": recording.id, "pid": os.getpid()})
        self._fail(running.id, RpcError(protocol.DETACHED, f"The job goes on by itself, as {recording.id}."))

    def _heard(self, running: _Running, method: str, params: dict[str, Any]) -> Future:
        """The answer to come of what a detached job is asked by whoever follows it."""
        if method not in WISHES and method != protocol.CANCEL:
            raise BadInput(f"A detached job cannot be asked for {method}.", field="method")
        try:
            asked = typed.convert({**params, "job": running.id}, protocol.REQUESTS[method])
        except msgspec.ValidationError as error:
            raise BadInput(f"{method}: {error}.") from None
        if method != protocol.CANCEL:
            return self._wish(method, asked)
        answer: Future = Future()
        answer.set_result({"cancelling": self.cancel(running.id)})
        return answer

    @property
    def detached(self) -> bool:
        """Whether a job runs that goes on by itself."""
        running = self._running
        return running is not None and running.recording is not None

    def lost(self) -> None:
        """The other side is gone without a word: the job is cancelled, saves and leaves or, where that was asked for,
        goes on by itself."""
        running = self._running
        if running is None or self.detached:
            return
        if self._outlive and running.method in DETACHABLE - {protocol.ATTACH}:
            try:
                self._detach(None, running.id)
                return
            except BadInput:
                log.exception("the job could not go on by itself")
        self._leave()

    def unheard(self) -> None:
        """What was sent reached nobody: what is not to outlive the other side stops at once, and not when input ends.
        Called while a line is sent, so it sends nothing."""
        if not self._outlive and not self.detached:
            self._leave()

    def _leave(self) -> None:
        """Have the job stop, because this program ends."""
        with self._state:
            if self._running is not None:
                self._running.leave.set()
                self._running.stop.set()

    def _wishes(self) -> Wishes | None:
        """Of the job that runs, or is about to."""
        with self._state:
            return self._running.wishes if self._running is not None else None

    @property
    def busy(self) -> bool:
        """Whether a job runs, or is about to."""
        return self._running is not None

    def cancel(self, job: protocol.Ident | None = None) -> bool:
        """Ask the job, or view, of that id (or whichever job runs) to stop. False where there is none."""
        if job is not None and self._looks.cancel(job):
            return True
        with self._state:
            if self._running is None or (job is not None and self._running.id != job):
                return False
            self._running.stop.set()
            return True

    def close(self) -> None:
        """Cancel the job, let it save, and end both threads; one that does not end in time is left behind. A job that
        goes on by itself is waited for, however long it takes."""
        self._looks.cancel()
        detached = self.detached
        if not detached:
            self._leave()
        for worker in (self._jobs, self._quick, self._files):
            if not worker.end(None if detached and worker is self._jobs else LONGEST_SAVE):
                log.error("The %s did not end within %.0f seconds of being asked to.", worker.name, LONGEST_SAVE)

    # working ---------------------------------------------------------------------------------------------------------

    def _run_job(self, running: _Running) -> None:
        tell = partial(self._tell, running)
        job = Job(
            on_progress=lambda p: tell(protocol.PROGRESS, msgspec.to_builtins(p)),
            on_view=lambda view, kind, image: tell(protocol.VIEW, {"view": view, "kind": kind, "image": image}),
            log=partial(self._log, running),
            cancelled=running.stop.is_set,
            leaving=running.leave.is_set,
            runtime=self._runtime,
            wishes=running.wishes,
        )
        with running.wishes.granting({protocol.LOOK: partial(self._looks.see, job)}):
            answer = self._attempted(partial(self._run, running.method, running.params, job))
        running.wishes.close()
        del job
        give_memory_back()
        with self._state:
            recording = running.recording
            if recording is None:
                self._running = None  # before the answer: whoever reads it may start the next job
        if recording is None:
            self._send(self._line(running.id, answer))
            return
        recording.finish(answer)
        with self._state:
            self._running = None

    def _run(self, method: str, params: protocol.Message, job: Job) -> Any:
        module, function = JOBS[method]
        if module in NEEDS_TORCH:
            self._warm_up.wait(job.check)
            self._runtime.settle(job.check)  # nothing builds a module while an abandoned load goes on
            self._runtime.make_room()
        run = getattr(importlib.import_module(f"engine.jobs.{module}"), function)
        elsewhere = self._pieces if module in NEEDS_TORCH else lambda device: contextlib.nullcontext()
        try:
            with elsewhere(getattr(params, "device", None)) as pieces:
                job.pieces = pieces or job.pieces
                return run(params, job)
        except (Cancelled, BadInput, RpcError):
            raise
        except BaseException:
            self._runtime.release()  # what failed may be what is kept, or what took the memory
            raise

    # sending ---------------------------------------------------------------------------------------------------------

    def _log(self, running: _Running, text: str) -> None:
        log.info("%s", text)
        self._tell(running, protocol.LOG, {"text": text})

    def _tell(self, running: _Running, method: str, params: dict) -> None:
        if running.recording is not None:
            running.recording.tell(method, params)
        elif not running.leave.is_set() or running.method != protocol.ATTACH:
            self._notify(method, {"job": running.id, **params})

    def _notify(self, method: str, params: dict) -> None:
        try:
            self._send(wire.encode({"jsonrpc": "2.0", "method": method, "params": params}))
        except Exception:  # a job does not fail because of what it wanted to tell
            log.exception("a notification was not sent")

    def _answer_with(self, ident: protocol.Ident | None, work: Callable[[], Any]) -> None:
        self._send(self._encoded(ident, work))

    def _answer(self, ident: protocol.Ident | None, result: Any) -> None:
        self._answer_with(ident, lambda: result)

    def _fail(self, ident: protocol.Ident | None, error: BaseException) -> None:
        self._send(failure_line(ident, error))

    def _attempted(self, work: Callable[[], Any]) -> Answer:
        """What ``work`` returns or raises, as an answer that can be written down."""
        try:
            result = work()
            wire.encode(result)
            return Answer(result=result)
        except BaseException as error:
            return Answer(error=error_body(error))

    def _line(self, ident: protocol.Ident, answer: Answer) -> bytes:
        said = {"result": answer.result} if answer.error is None else {"error": answer.error}
        return wire.encode({"jsonrpc": "2.0", "id": ident, **said})

    def _encoded(self, ident: protocol.Ident | None, work: Callable[[], Any]) -> bytes:
        """The line that answers with what ``work`` returns or raises; empty where no answer is wanted."""
        answer = self._attempted(work)
        return b"" if ident is None and answer.error is None else self._line(ident, answer)  # type: ignore[arg-type]

    def _send(self, line: bytes) -> None:
        if line:
            with self._sending:
                self._send_line(line)


class _Worker:
    """A thread that does one thing after the other, whatever becomes of each."""

    def __init__(self, name: str):
        self.name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def end(self, patience: float | None) -> bool:
        """End after what is queued; whether it did within ``patience`` seconds (None: it is waited for)."""
        self._work.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except BaseException:
                log.exception("the thread for %s goes on", self.name)
            del work  # nothing of a job outlives it
