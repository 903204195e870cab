# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a server: lines in, lines out, one job at a time (docs/protocol.md).

The reader thread answers what is quick; one worker thread runs jobs. Torch is imported by a thread of its own that
starts after `initialize`, so that a cancel is answered even then.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from engine import __version__, protocol
from engine.errors import BadInput, Busy, Cancelled, OutOfMemory, explained
from engine.progress import Job

log = logging.getLogger(__name__)
LONGEST_LINE = 16 * 2**20  # bytes; 10,000 cameras take 3 MB

# Request → module of engine.jobs and function. Modules that import torch are named, not imported.
JOBS: dict[str, tuple[str, str]] = {
    "capture/register": ("registration", "register_photos"),
    "capture/images": ("capture", "write_images"),
    "scene/train": ("scene", "train_scene"),
    "edit/try": ("edit", "try_edit"),
    "edit/run": ("edit", "run_edit"),
    "edit/resume": ("edit", "resume_edit"),
    "output/mesh": ("output", "make_mesh"),
    "output/frames": ("output", "render_frames"),
    "output/report": ("report", "make_report"),
}
NEEDS_TORCH = {"scene", "edit", "output", "report"}


class RpcError(Exception):
    """An error answer: code, sentence and what is at fault."""

    def __init__(self, code: int, message: str, data: dict[str, str] | None = None):
        super().__init__(message)
        self.code, self.message, self.data = code, message, data or {}


class _Request(msgspec.Struct):
    method: str
    id: int | str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    jsonrpc: str = "2.0"


class Server:
    """Protocol logic; takes a callable to send a line with, and lines one by one, so that tests need no process."""

    def __init__(self, send: Callable[[bytes], None], warm_up: Callable[[], None] | None = None):
        self._send_line = send
        self._sending = threading.Lock()
        self._work: queue.Queue[tuple[_Request, protocol.Message, threading.Event] | None] = queue.Queue()
        self._job: tuple[int | str, threading.Event] | None = None
        self._state = threading.Lock()
        self._warm_up = warm_up or _import_torch
        self._warm: threading.Thread | None = None
        self._warm_error: BaseException | None = None
        self.finished = False
        self._worker = threading.Thread(target=self._run_jobs, name="jobs", daemon=True)
        self._worker.start()

    # reading ---------------------------------------------------------------------------------------------------------

    def receive(self, line: bytes) -> None:
        """Handle one line; answers quick requests before it returns, never raises."""
        ident: int | str | None = None
        try:
            try:
                request = msgspec.json.decode(line, type=_Request)
            except msgspec.ValidationError as error:
                raise RpcError(protocol.INVALID_REQUEST, f"Not a request: {error}.") from None
            except (msgspec.DecodeError, RecursionError) as error:
                raise RpcError(protocol.PARSE_ERROR, f"Not JSON: {error}.") from None
            ident = request.id
            params = self._params(request)
            if request.method in JOBS:
                self._enqueue(request, params)
            else:
                self._answer(ident, self._quick(request.method, params))
        except BaseException as error:
            self._fail(ident, error)

    def _params(self, request: _Request) -> protocol.Message:
        kind = protocol.REQUESTS.get(request.method)
        if kind is None:
            raise RpcError(protocol.UNKNOWN_METHOD, f"The engine knows no request {request.method!r}.")
        try:
            return msgspec.json.decode(request.params, type=kind)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RpcError(protocol.INVALID_PARAMS, f"{request.method}: {error}.") from None

    def _quick(self, method: str, params: Any) -> Any:
        from engine.jobs import capture

        if method == "initialize":
            return self._initialize(params)
        if method == "capture/open":
            return capture.open_into_workspace(params)
        if method == "workspace/read":
            return capture.read_workspace(params)
        if method == "job/cancel":
            return {"cancelling": self.cancel(params.job)}
        self.close()
        self.finished = True
        return {}

    def _initialize(self, params: protocol.Initialize) -> dict:
        from engine.devices import find_devices
        from engine.editors.catalogue import find_editors
        from engine.presets import preset_infos

        if params.protocol != protocol.VERSION:
            raise RpcError(
                protocol.INVALID_PARAMS,
                f"The add-on speaks protocol {params.protocol}, this engine {protocol.VERSION}; install the engine "
                "that came with the add-on.",
                {"field": "protocol"},
            )
        self._begin_warm_up()
        devices = find_devices()
        return {
            "protocol": protocol.VERSION,
            "engine": __version__,
            "devices": devices,
            "editors": find_editors(),
            "presets": preset_infos(devices),
        }

    def _enqueue(self, request: _Request, params: protocol.Message) -> None:
        if request.id is None:
            raise RpcError(protocol.INVALID_REQUEST, f"{request.method} needs an id: it answers at its end.")
        with self._state:
            if self._job is not None:
                raise RpcError(protocol.BUSY, "The engine is busy with another job; wait for it, or cancel it.")
            stop = threading.Event()
            self._job = (request.id, stop)
        self._work.put((request, params, stop))

    def cancel(self, job: int | str | None = None) -> bool:
        """Ask the job of that id (or whichever runs) to stop. False where there is none."""
        with self._state:
            if self._job is None or (job is not None and self._job[0] != job):
                return False
            self._job[1].set()
            return True

    def close(self) -> None:
        """Cancel the job, let it save, and end the worker."""
        self.cancel()
        self._work.put(None)
        self._worker.join()

    # working ---------------------------------------------------------------------------------------------------------

    def _begin_warm_up(self) -> None:
        if self._warm is None:

            def run() -> None:
                try:
                    self._warm_up()
                except BaseException as error:
                    self._warm_error = error

            self._warm = threading.Thread(target=run, name="imports", daemon=True)
            self._warm.start()

    def _run_jobs(self) -> None:
        while (item := self._work.get()) is not None:
            request, params, stop = item
            ident = request.id
            job = Job(
                on_progress=lambda p, i=ident: self._notify(protocol.PROGRESS, {"job": i, **msgspec.to_builtins(p)}),
                on_view=lambda v, kind, image, i=ident: self._notify(
                    protocol.VIEW, {"job": i, "view": v, "kind": kind, "image": image}
                ),
                log=lambda text, i=ident: self._log(text, i),
                cancelled=stop.is_set,
            )
            answer: Any = None
            failure: BaseException | None = None
            try:
                answer = self._run(request.method, params, job)
            except BaseException as error:
                failure = error
            with self._state:
                self._job = None  # before the answer: whoever reads it may start the next job
            if failure is None:
                self._answer(ident, answer)
            else:
                self._fail(ident, failure)

    def _run(self, method: str, params: protocol.Message, job: Job) -> Any:
        module, function = JOBS[method]
        if module in NEEDS_TORCH:
            self._begin_warm_up()
            assert self._warm is not None
            while self._warm.is_alive():
                job.check()
                self._warm.join(0.05)
            if self._warm_error is not None:
                raise self._warm_error
        return getattr(importlib.import_module(f"engine.jobs.{module}"), function)(params, job)

    # sending ---------------------------------------------------------------------------------------------------------

    def _log(self, text: str, job: int | str | None) -> None:
        log.info("%s", text)
        self._notify(protocol.LOG, {"job": job, "text": text})

    def _notify(self, method: str, params: dict) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _answer(self, ident: int | str | None, result: Any) -> None:
        if ident is not None:
            self._send({"jsonrpc": "2.0", "id": ident, "result": result})

    def _fail(self, ident: int | str | None, error: BaseException) -> None:
        rpc = _as_rpc_error(error)
        if rpc.code == protocol.INTERNAL:
            log.error("%s", "".join(traceback.format_exception(error)))
        body = {"code": rpc.code, "message": rpc.message, "data": rpc.data}
        self._send({"jsonrpc": "2.0", "id": ident, "error": body})

    def _send(self, message: dict) -> None:
        line = msgspec.json.encode(message) + b"\n"
        with self._sending:
            self._send_line(line)


def _as_rpc_error(error: BaseException) -> RpcError:
    if isinstance(error, RpcError):
        return error
    known = explained(error)
    if isinstance(known, Cancelled):
        return RpcError(protocol.CANCELLED, str(known))
    if isinstance(known, BadInput):
        code = protocol.BUSY if isinstance(known, Busy) else protocol.BAD_INPUT
        at_fault = {"field": known.field, "file": known.file}
        return RpcError(code, known.message, {k: v for k, v in at_fault.items() if v})
    if isinstance(known, OutOfMemory):
        return RpcError(protocol.OUT_OF_MEMORY, str(known))
    return RpcError(
        protocol.INTERNAL, f"The engine met a defect of its own ({type(error).__name__}: {error}); its log says where."
    )


def _import_torch() -> None:
    """Import what the jobs need, and compile the CPU kernels, both of which take seconds."""
    importlib.import_module("engine.jobs.output")
    importlib.import_module("engine.jobs.edit")
    kernels = importlib.import_module("engine.scenes.nerfacto.hash_encoding")
    for features in (2, 4):  # the proposals' and the full-size field's, and the preview field's
        kernels.compile_kernels(features)


def serve(stdin: BinaryIO | None = None) -> None:
    """Serve on standard input and output until input ends or `shutdown` is asked."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes to the log
    sys.stdout = sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stdin = stdin or sys.stdin.buffer

    def send(line: bytes) -> None:
        try:
            out.write(line)
        except OSError:  # Blender is gone; the end of input says so as well
            server.cancel()

    server = Server(send)
    while not server.finished:
        line = stdin.readline(LONGEST_LINE)
        if not line:
            server.close()
            break
        if line.strip():
            server.receive(line)
    sys.stderr.flush()
    os._exit(0)  # threads that load models must not keep the process
