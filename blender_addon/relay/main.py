# SPDX-License-Identifier: GPL-3.0-or-later
"""The program itself: messages of the add-on's to the engine and back, files where they name some."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import wire
from . import photos
from .carrier import Carrier, Stopped
from .line import Cut, Line
from .places import Place, Places, Refused, inside

# Answers that name nothing of a project's: editors and devices are that machine's own.
UNTOUCHED = {wire.INITIALIZE, wire.DEVICES_READ, wire.MODEL_DOWNLOAD}
JOBS = {*wire.DETACHABLE, wire.CAPTURE_OPEN, wire.MODEL_DOWNLOAD, wire.JOB_ATTACH, wire.EDIT_DELETE}
OPENING = {wire.CAPTURE_OPEN, wire.CAPTURE_REGISTER}
KNOWS_CAPTURE = {wire.CAPTURE_OPEN, wire.CAPTURE_IMAGES, wire.WORKSPACE_READ}
TELL_EVERY = 0.3  # seconds between two words of how far sending is
KEPT = 8  # pictures that were asked for at any time, as the engine keeps them
TOO_OLD = (
    "The engine there is of another version and takes no files: install the add-on's own there, or choose another "
    "under Engine Elsewhere."
)
DEFECT = "What sends files to the engine met a defect of its own; the log has the details."


class _Arrivals:
    """What the engine said and was not passed on yet. News of something takes the place of older news of it, so that a
    slow line lags behind by no more than the files that are fetched just now."""

    def __init__(self) -> None:
        self._messages: dict[Any, dict[str, Any]] = {}
        self._changed = threading.Condition()

    def put(self, message: dict[str, Any], key: Hashable) -> None:
        with self._changed:
            self._messages[object() if key is None else key] = message
            self._changed.notify()

    def get(self) -> dict[str, Any]:
        """The first; waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages)
            return self._messages.pop(next(iter(self._messages)))


class Relay:
    """Between the add-on, on standard input and output, and the engine."""

    def __init__(self, line: Line, folder: str, out: Any) -> None:
        self._line, self._folder, self._out = line, folder, out
        self._carrier = Carrier(line)
        self._places = Places()
        self._writing = threading.Lock()
        self._known = threading.Event()  # where files go there, or why none do
        self._problem = ""
        self._asked: dict[Any, tuple[str, str]] = {}  # of requests without an answer: method and workspace
        self._sending: dict[Any, threading.Event] = {}  # of jobs whose files are being sent: set to stop
        self._to_send: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._arrived = _Arrivals()

    # from the add-on -------------------------------------------------------------------------------------------------

    def hear(self, line: bytes) -> None:
        """One line of the add-on's, which is a request."""
        message = json.loads(line)
        method, ident, params = message["method"], message.get("id"), message.get("params") or {}
        if ident is not None:
            self._asked[ident] = method, str(params.get("workspace", ""))
        if method == wire.INITIALIZE:
            self._line.send({**message, "params": {**params, "files": self._folder}})
            return
        if method == wire.SHUTDOWN:
            self.stop_sending()
        elif method == wire.JOB_CANCEL and params.get("job") in self._sending:
            self._sending[params["job"]].set()
            self._answer(ident, {"result": {"cancelling": True}})
            return
        else:
            self._known.wait()
        if self._problem and method != wire.SHUTDOWN:
            self._answer(ident, {"error": _error(self._problem)})
        elif method in JOBS and ident is not None:  # perhaps with files, and in their order
            self._sending[ident] = threading.Event()
            self._to_send.put(message)
        else:
            with self._refusing(ident):
                self._line.send(self._translated(message))

    def stop_sending(self) -> None:
        """Have what is being sent end."""
        for stop in list(self._sending.values()):
            stop.set()

    def send_files(self) -> None:
        """What jobs need, and then the jobs: a thread's loop."""
        while True:
            message = self._to_send.get()
            ident = message["id"]
            with self._refusing(ident):
                try:
                    prepared = self._with_files(message)
                    if self._sending[ident].is_set():
                        raise Stopped
                    self._line.send(prepared)
                finally:
                    self._sending.pop(ident, None)

    def _translated(self, message: dict[str, Any]) -> dict[str, Any]:
        params = dict(message.get("params") or {})
        if isinstance(workspace := params.get("workspace"), str) and workspace:
            params["workspace"] = self._places.full(self._places.project(workspace))
        return {**message, "params": params}

    def _with_files(self, message: dict[str, Any]) -> dict[str, Any]:
        """A job's request as the engine is asked it, once it has what that names. Raises ``Refused``, ``Stopped``,
        ``Cut``."""
        told = self._translated(message)
        before, params, ident = message.get("params") or {}, told["params"], message["id"]
        workspace, files = str(before.get("workspace", "")), {}
        source = before.get("source")
        if message["method"] in OPENING and isinstance(source, str):
            params["source"], files = self._capture(workspace, source)
        keys = before.get("key_views")
        if isinstance(keys, list):
            params["key_views"] = [{**key, "picture": self._picture(workspace, key["picture"], files)} for key in keys]
        editor = before.get("editor")
        if message["method"] == wire.EDIT_TRY and isinstance(editor, str) and _is_picture(editor):
            params["editor"] = self._picture(workspace, editor, files)
        if files:
            self._carrier.send(files, self._progress(ident), self._sending[ident].is_set)
        return told

    def _capture(self, workspace: str, source: str) -> tuple[str, dict[str, str]]:
        """A capture's path there, and its files: by their names there, where they lie here."""
        if _below(source, workspace):  # photos whose cameras were found there
            return str(self._places.there(source)), {}
        path = Path(source)
        if path.suffix.lower() in photos.VIDEOS and path.is_file():
            folder, names = str(path.parent), [path.name]
        else:
            folder = photos.folder_of(source)
            names = photos.files_of(folder)
        there = self._places.capture(folder, workspace)
        rest = os.path.relpath(source, folder).replace(os.sep, "/")
        if path.is_file() and rest not in names:
            names.append(rest)
        files = {f"{there}/{name}": os.path.join(folder, *name.split("/")) for name in names}
        return self._places.full(there if rest == "." else f"{there}/{rest}"), files

    def _picture(self, workspace: str, picture: str, files: dict[str, str]) -> str:
        """The path there of a picture, which is among ``files`` then."""
        if not _is_picture(picture):
            raise Refused(f"There is no picture {picture}.")
        there = self._places.there(picture) if _below(picture, workspace) else None
        name = self._places.name_of(there) if there is not None else None
        if name is None:
            own = hashlib.sha256(picture.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            ending = Path(picture).suffix.lower()
            name = f"{self._places.project(workspace)}/given/{own}{ending}"
        files[name] = picture
        return self._places.full(name)

    def _progress(self, ident: Any) -> Any:
        began, last = time.monotonic(), 0.0

        def tell(done: int, of: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < TELL_EVERY:
                return
            last = now
            left = (of - done) * (now - began) / done if done else None
            self._write({"jsonrpc": "2.0", "method": wire.JOB_PROGRESS, "params": {
                "job": ident, "stage": "send", "label": "Sending files", "step": done >> 10, "of": of >> 10,
                "fraction": done / max(1, of), "seconds_left": left, "losses": {},
            }})  # fmt: skip

        return tell

    # from the engine -------------------------------------------------------------------------------------------------

    def arrived(self, line: bytes, message: dict[str, Any] | None) -> None:
        """One line of the engine's; what is to be fetched for it is, by another thread. Never raises."""
        if message is None or ("id" not in message and not isinstance(message.get("method"), str)):
            self._write_line(line)
            return
        if "id" in message and self._asked.get(_hashable(message["id"]), ("",))[0] == wire.INITIALIZE:
            self._learn(message)
        method, _ = self._asked.get(_hashable(message.get("id")), ("", ""))
        if method and method not in JOBS | KNOWS_CAPTURE and not self._names_files(message):
            self._pass_on(message)  # an answer that nobody's files hold up
        else:
            self._arrived.put(message, wire.replaced_key(message.get("method", ""), message.get("params")))

    def _learn(self, message: dict[str, Any]) -> None:
        """From the answer to `initialize`: where files lie there."""
        if self._known.is_set() and not self._problem:
            return
        result, error = message.get("result"), message.get("error")
        root = result.get("files") if isinstance(result, dict) else None
        if isinstance(root, str) and len(root) > 3:
            self._places.root, self._problem = root.rstrip("/\\"), ""
        elif error is None or "files" in str(error):  # it does not know what it was asked for
            self._problem = TOO_OLD
            message.pop("result", None)
            message["error"] = _error(TOO_OLD)
        else:
            self._problem = "The engine there did not begin."
        self._known.set()

    def _names_files(self, message: dict[str, Any]) -> bool:
        found: list[str] = []
        self._places.translated(message.get("result"), lambda path: found.append(path) or path)
        return bool(found)

    def bring(self) -> None:
        """What messages name, and then the messages, in their order: a thread's loop."""
        while message := self._arrived.get():
            with self._refusing(_hashable(message.get("id"))):
                self._pass_on(message)

    def no_more(self) -> None:
        """The line ended: `bring` ends after what has come."""
        self._problem = self._problem or "The engine ended."
        self._known.set()
        self._arrived.put({}, None)

    def _pass_on(self, message: dict[str, Any]) -> None:
        ident = _hashable(message.get("id"))
        method, workspace = self._asked.pop(ident, ("", "")) if "id" in message else ("", "")
        if method in UNTOUCHED:
            self._write(message)
            return
        wanted: dict[str, str] = {}

        def path(there: str) -> str:
            local, name = self._places.here(there)
            if name is not None:
                wanted[name] = local
                if name.endswith(".obj"):  # and what it reads by itself
                    for ending in (".mtl", "-obj.png"):
                        wanted[name[:-4] + ending] = local[:-4] + ending
            return local

        told = {**message}
        for part in ("result", "params", "error"):
            if part in message:
                told[part] = self._places.translated(message[part], path)
        if method in KNOWS_CAPTURE and workspace and "result" in message:
            name = f"{self._places.project(workspace)}/capture/capture.json"  # what makes a folder a project's
            wanted[name] = os.path.join(workspace, "capture", "capture.json")
        wanted = {name: local for name, local in wanted.items() if inside(self._project_of(local), local)}
        try:
            self._carrier.fetch(wanted)
        except Refused as refused:
            if ident is None:
                print(refused, file=sys.stderr, flush=True)
                return
            told = {"jsonrpc": "2.0", "id": ident, "error": _error(str(refused))}
        self._forget_old(wanted)
        self._write(told)

    def _project_of(self, local: str) -> str:
        return next((pair.here for pair in self._projects() if _below(local, pair.here)), os.devnull)

    def _projects(self) -> list[Place]:
        found = [pair for pair in self._places.pairs if pair.fetched]
        return sorted(found, key=lambda pair: -len(pair.here))

    def _forget_old(self, wanted: Mapping[str, str]) -> None:
        """Remove pictures that were asked for at any time, but for the latest."""
        for folder in {os.path.dirname(local) for local in wanted.values() if Path(local).name.startswith("asked-")}:
            with contextlib.suppress(OSError):
                for old in sorted(n for n in os.listdir(folder) if n.startswith("asked-"))[:-KEPT]:
                    os.unlink(os.path.join(folder, old))

    # to the add-on ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _refusing(self, ident: Any) -> Any:
        """What cannot be done for a request is its answer."""
        try:
            yield
        except Refused as refused:
            self._answer(ident, {"error": _error(str(refused))})
        except Stopped:
            self._answer(ident, {"error": {"code": wire.CANCELLED, "message": "Cancelled.", "data": {}}})
        except Cut:
            pass  # the end of the line is told by this program's
        except Exception:
            traceback.print_exc()
            self._answer(ident, {"error": {"code": wire.INTERNAL, "message": DEFECT, "data": {}}})

    def _answer(self, ident: Any, said: dict[str, Any]) -> None:
        self._asked.pop(ident, None)
        if ident is not None:
            self._write({"jsonrpc": "2.0", "id": ident, **said})

    def _write(self, message: Mapping[str, Any]) -> None:
        self._write_line(json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def _write_line(self, line: bytes) -> None:
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._out.write(line)
            self._out.flush()


def _error(sentence: str) -> dict[str, Any]:
    return {"code": wire.BAD_INPUT, "message": sentence, "data": {}}


def _hashable(ident: Any) -> Any:
    return ident if isinstance(ident, int | str) else None


def _below(path: str, folder: str) -> bool:
    try:
        return bool(folder) and os.path.commonpath([os.path.abspath(path), os.path.abspath(folder)]) == os.path.abspath(
            folder
        )
    except ValueError:
        return False


def _is_picture(path: str) -> bool:
    return Path(path).suffix.lower() in photos.PICTURES and os.path.isfile(path)


def main(arguments: Sequence[str]) -> None:
    """Relay between standard input and output and a command: ``FOLDER COMMAND …``; ends with the command's exit
    code."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no message
    try:
        line = Line(arguments[1:])
    except OSError as error:
        print(f"{arguments[1]} cannot be started: {error.strerror or error}.", file=sys.stderr, flush=True)
        os._exit(127)
    relay = Relay(line, arguments[0], out)

    def read_input() -> None:
        for said in sys.stdin.buffer:
            try:
                relay.hear(said)
            except Exception:
                traceback.print_exc()
        relay.stop_sending()
        line.close()

    bringing = threading.Thread(target=relay.bring, daemon=True)
    for work in (threading.Thread(target=read_input, daemon=True),
                 threading.Thread(target=relay.send_files, daemon=True), bringing):  # fmt: skip
        work.start()
    code = line.read(relay.arrived)
    relay.no_more()
    bringing.join(10.0)
    sys.stderr.flush()
    os._exit(code)  # a thread that waits for input must not keep the process
