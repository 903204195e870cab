# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a server: lines in, lines out, one job at a time (docs/protocol.md).

The reader thread takes requests, cancels and what else concerns the running job; one thread answers what is quick, one
runs jobs. Torch is imported by a thread of its own that starts after `initialize`, so that a cancel is answered even
then.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

import msgspec

from engine import __version__, protocol, wire
from engine.errors import BadInput, Cancelled
from engine.looks import Looks
from engine.process import give_memory_back
from engine.progress import Job
from engine.rpc import Request, RpcError, Unreadable, failure_line, read_params, read_request
from engine.runtime import Runtime
from engine.wishes import Wishes

log = logging.getLogger(__name__)
LONGEST_SAVE = 120.0  # seconds that a job may take to save when the engine is to leave

# Request → module of engine.jobs and function. Modules that import torch are named, not imported.
JOBS: dict[str, tuple[str, str]] = {
    "model/download": ("download", "download_model"),
    "capture/open": ("capture", "open_into_workspace"),
    "capture/register": ("registration", "register_photos"),
    "capture/images": ("capture", "write_images"),
    "scene/train": ("scene", "train_scene"),
    "edit/try": ("trying", "try_edit"),
    "edit/run": ("edit", "run_edit"),
    "edit/resume": ("edit", "resume_edit"),
    "edit/delete": ("tree", "delete_edit"),
    "output/mesh": ("output", "make_mesh"),
    "output/splats": ("splats", "make_splats"),
    "output/frames": ("frames", "render_frames"),
    "output/report": ("report", "make_report"),
}
NEEDS_TORCH = {"scene", "edit", "trying", "output", "splats", "frames", "report"}
# Wish → the jobs that it may be asked of while they run.
PAUSE = {name for name, (module, _) in JOBS.items() if module in NEEDS_TORCH}
EDITS = {"edit/run", "edit/resume"}
WISHES = {"job/pause": PAUSE, "job/continue": PAUSE, protocol.CHANGE: EDITS, protocol.REMAKE: EDITS}
WISHES |= dict.fromkeys((protocol.RENDER, protocol.SURFELS), EDITS | {"scene/train"})


@dataclass(frozen=True)
class _Running:
    """The job that runs, or is about to."""

    id: protocol.Ident
    method: str
    params: protocol.Message
    stop: threading.Event = field(default_factory=threading.Event)
    wishes: Wishes = field(default_factory=Wishes)


class Server:
    """Protocol logic; takes a callable to send a line with, and lines one by one, so that tests need no process."""

    def __init__(self, send: Callable[[bytes], None], warm_up: Callable[[], None] | None = None):
        self._send_line = send
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._running: _Running | None = None
        self._runtime = Runtime()
        self._online = False  # until the artist's Blender says that it may be
        self._warm_up = warm_up or _import_torch
        self._warm: threading.Thread | None = None
        self._warm_error: BaseException | None = None
        self.finished = False
        self._jobs = _Worker("jobs")
        self._quick = _Worker("answers")
        self._looks = Looks(self._wishes, self._jobs.put, self._answer_with, self._wait_for_imports, self._runtime)

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
            elif request.method == "job/cancel":
                self._answer(ident, {"cancelling": self.cancel(params.job)})  # type: ignore[attr-defined]
            elif request.method in WISHES:
                self._wish(request, params)
            elif request.method == protocol.LOOK:
                if ident is None:
                    raise RpcError(protocol.INVALID_REQUEST, f"{request.method} needs an id: it answers with a file.")
                self._looks.ask(ident, params)  # type: ignore[arg-type]
            elif request.method == "shutdown":
                self.close()
                self.finished = True
                self._answer(ident, {})
            elif request.method == "devices/read":
                self._when_warm(partial(self._answer_with, ident, self._devices))
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
        self._online = params.online
        warm = self._warm is not None and not self._warm.is_alive() and self._warm_error is None
        self._begin_warm_up()
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
        }

    def _devices(self) -> dict:
        if self._warm_error is not None:
            raise self._warm_error
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

    def _wish(self, request: Request, params: Any) -> None:
        with self._state:
            running = self._running
        if running is None or running.id != params.job:
            raise BadInput(f"The job {params.job} does not run.", field="job")
        if running.method not in WISHES[request.method]:
            raise BadInput(f"A job of {running.method} cannot be asked for {request.method}.", field="job")
        if request.method in ("job/pause", "job/continue"):
            paused = request.method == "job/pause"
            running.wishes.pause(paused)
            self._answer(request.id, {"paused": paused})
        else:
            granted = running.wishes.make(request.method, params)
            granted.add_done_callback(lambda answer: self._answer_with(request.id, answer.result))

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
        """Cancel the job, let it save, and end both threads; one that does not end in time is left behind."""
        self._looks.cancel()
        self.cancel()
        for worker in (self._jobs, self._quick):
            if not worker.end(LONGEST_SAVE):
                log.error("The %s did not end within %.0f seconds of being asked to.", worker.name, LONGEST_SAVE)

    # working ---------------------------------------------------------------------------------------------------------

    def _begin_warm_up(self) -> None:
        with self._state:
            if self._warm is None:

                def run() -> None:
                    try:
                        self._warm_up()
                        gc.collect()
                        gc.freeze()  # half a million objects of the libraries need not be looked at after each job
                    except BaseException as error:
                        self._warm_error = error

                self._warm = threading.Thread(target=run, name="imports", daemon=True)
                self._warm.start()

    def _when_warm(self, answer: Callable[[], None]) -> None:
        """Have that answered once torch is imported, which the thread for quick answers does not wait for."""
        self._begin_warm_up()
        warm = self._warm
        assert warm is not None

        def wait() -> None:
            warm.join()
            self._quick.put(answer)

        threading.Thread(target=wait, name="devices", daemon=True).start()

    def _run_job(self, running: _Running) -> None:
        job = Job(
            on_progress=lambda p: self._notify(protocol.PROGRESS, {"job": running.id, **msgspec.to_builtins(p)}),
            on_view=lambda view, kind, image: self._notify(
                protocol.VIEW, {"job": running.id, "view": view, "kind": kind, "image": image}
            ),
            log=lambda text: self._log(text, running.id),
            cancelled=running.stop.is_set,
            runtime=self._runtime,
            wishes=running.wishes,
        )
        with running.wishes.granting({protocol.LOOK: partial(self._looks.see, job)}):
            answer = self._encoded(running.id, partial(self._run, running.method, running.params, job))
        running.wishes.close()
        del job
        give_memory_back()
        with self._state:
            self._running = None  # before the answer: whoever reads it may start the next job
        self._send(answer)

    def _run(self, method: str, params: protocol.Message, job: Job) -> Any:
        module, function = JOBS[method]
        if module in NEEDS_TORCH:
            self._wait_for_imports(job)
            self._runtime.settle(job.check)  # nothing builds a module while an abandoned load goes on
            self._runtime.make_room()
        run = getattr(importlib.import_module(f"engine.jobs.{module}"), function)
        try:
            return run(params, job)
        except (Cancelled, BadInput):
            raise
        except BaseException:
            self._runtime.release()  # what failed may be what is kept, or what took the memory
            raise

    def _wait_for_imports(self, job: Job) -> None:
        self._begin_warm_up()
        assert self._warm is not None
        while self._warm.is_alive():
            job.check()
            self._warm.join(0.05)
        if self._warm_error is not None:
            raise self._warm_error

    # sending ---------------------------------------------------------------------------------------------------------

    def _log(self, text: str, job: protocol.Ident | None) -> None:
        log.info("%s", text)
        self._notify(protocol.LOG, {"job": job, "text": text})

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

    def _encoded(self, ident: protocol.Ident | None, work: Callable[[], Any]) -> bytes:
        """The line that answers with what ``work`` returns or raises; empty where no answer is wanted."""
        try:
            result = work()
            return b"" if ident is None else wire.encode({"jsonrpc": "2.0", "id": ident, "result": result})
        except BaseException as error:
            return failure_line(ident, error)

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

    def end(self, patience: float) -> bool:
        """End after what is queued; whether it did within ``patience`` seconds."""
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


def _import_torch() -> None:
    """Import what the jobs need and, where they will compute on the CPU, compile its kernels; both take seconds, and
    compiling most of a minute the first time."""
    from engine.devices import choose_device

    importlib.import_module("engine.jobs.output")
    importlib.import_module("engine.jobs.trying")
    if choose_device(None) == "cpu":
        importlib.import_module("engine.scenes.nerfacto.compiled").compile_kernels()


def serve(stdin: BinaryIO | None = None) -> None:
    """Serve on standard input and output until input ends or `shutdown` is asked."""
    out = wire.claim_stdout()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    def send(line: bytes) -> None:
        try:
            wire.write_all(out, line)
        except OSError:  # Blender is gone; the end of input says so as well
            server.cancel()

    server = Server(send)
    for line in wire.read_lines(stdin or sys.stdin.buffer):
        server.receive(line)
        if server.finished:
            break
    else:
        server.close()
    sys.stderr.flush()
    os._exit(0)  # threads that load models must not keep the process
