# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that no add-on sends: the engine neither dies nor hangs, answers each id once, and meets no defect of its
own."""

import gc
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from engine import protocol
from engine.server import Server

ROOT = Path(__file__).parents[2]
# Values of the wrong kind, out of range, or hostile; text that is a path is kept inside a folder of the test's.
ODD = [
    None, True, False, 0, 1, -1, 2**31, -(2**63), 2**64, 10**30, 0.5, -1.5, 1e308, 1e-320, "", " ", "a", "null", "..",
    "../..", "\0", "a\0b", "x" * 5000, "\ud800", "caf\udce9", "\N{GRINNING FACE}", "~nobody/x", "con", "a/b", "*", [],
    {}, [None], ["a"] * 300, [[[[[]]]]], {"a": {"a": {}}}, [0] * 16, "cpu", "cuda:0", "cuda:99", "preview",
    "make it night",
]  # fmt: skip


class Messages:
    """Lines by a seed; with each, the id under which it must be answered, if it has one."""

    def __init__(self, seed: int, folder: Path):
        self.random, self.folder, self.number = random.Random(seed), folder, 0

    def __iter__(self):
        return self

    def __next__(self) -> tuple[bytes, str | None]:
        self.number += 1
        kind = self.random.random()
        if kind < 0.06:
            return self._noise(), None
        request = {"jsonrpc": "2.0", "id": f"message {self.number}", "method": self._method()}
        request["params"] = self._params(request["method"])
        if kind < 0.2:
            self._spoil(request)
        elif kind < 0.32:  # what is left of its id may be told, and be no other message's
            request["id"] = f"spoiled {self.number}"
        line = json.dumps(request, ensure_ascii=self.random.random() < 0.7)
        data = line.encode("utf-8", "surrogatepass")
        if kind < 0.26:  # cut off
            return data[: self.random.randrange(len(data))].replace(b"\n", b"") or b"x", None
        if kind < 0.32:  # a byte is another
            place = self.random.randrange(len(data))
            return data[:place] + bytes([self.random.choice([0, 34, 44, 91, 123, 125, 200, 255])]) + data[
                place + 1 :
            ], None
        ident = request.get("id")
        return data, ident if isinstance(ident, str) and ident.startswith("message") else None

    def _method(self) -> str:
        # `shutdown` ends the conversation as it should.
        return self.random.choice(
            [name for name in protocol.REQUESTS if name != "shutdown"] * 6 + ["", "os/system", "é"]
        )

    def _params(self, method: str) -> object:
        kind = protocol.REQUESTS.get(method)
        if kind is None or self.random.random() < 0.1:
            return self.random.choice(ODD)
        params = {}
        for field in msgspec.structs.fields(kind):
            if self.random.random() < 0.85:
                params[field.name] = self._value(field.name)
        if self.random.random() < 0.1:
            params[self.random.choice(["extra", "", "__class__", "id"])] = self.random.choice(ODD)
        return params

    def _value(self, name: str) -> object:
        if self.random.random() < 0.3 and name not in ("workspace", "source"):
            return self.random.choice(ODD)
        usual = {
            "workspace": self._path, "source": self._path, "protocol": lambda: 1, "preset": lambda: "preview",
            "device": lambda: "cpu", "view": lambda: "view", "views": lambda: ["a", "b"], "edit": lambda: "0001-a",
            "name": lambda: "path", "cameras": lambda: [self._camera() for _ in range(3)],
            "job": lambda: f"message {self.number - 1}", "background": lambda: [1, 2, 3],
            "instruction": lambda: "make it night", "editor": self._path,
        }  # fmt: skip
        return usual.get(name, lambda: self.random.choice(ODD))()

    def _path(self) -> object:
        odd = self.random.choice(ODD)
        if isinstance(odd, str) and ".." not in odd and not odd.startswith("~"):
            return f"{self.folder}/{odd}"
        return odd if not isinstance(odd, str) else str(self.folder)

    def _camera(self) -> dict:
        numbers = {"width": 9, "height": 8, "fx": 9.0, "fy": 9.0, "cx": 4.0, "cy": 4.0}
        camera = {"pose": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], **numbers}
        camera[self.random.choice(list(camera))] = self.random.choice(ODD)
        return camera

    def _spoil(self, request: dict) -> None:
        key = self.random.choice(["id", "method", "params", "jsonrpc", "extra"])
        if self.random.random() < 0.3:
            request.pop(key, None)
        else:
            request[key] = self.random.choice(ODD)
        self.random.shuffle(order := list(request.items()))
        request.clear()
        request.update(order)

    def _noise(self) -> bytes:
        return self.random.choice(
            [b"{", b"[]", b"null", b"\xff\xfe\0", b"[" * 20_000, b'{"a":' * 20_000, b'"', b"{" + b" " * 9000, b"1e999",
             self.random.randbytes(200).replace(b"\n", b"")]
        )  # fmt: skip


def checked(answers: list[dict], asked: list[str]) -> None:
    """That each id was answered once, and with no defect."""
    answered = [ident for message in answers if str(ident := message.get("id")).startswith("message")]
    assert len(answered) == len(set(answered))
    assert not set(asked) - set(answered)
    defects = [message["error"] for message in answers if message.get("error", {}).get("code") == protocol.INTERNAL]
    assert not defects, defects[:5]


def test_three_hundred_messages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gc.freeze()  # as the engine does once all is imported: jobs that end at once are not to wait for the collector
    lines: queue.Queue = queue.Queue()
    server = Server(lambda line: lines.put(json.loads(line.decode())), warm_up=lambda: None)
    asked, answers = [], []
    for _, (line, ident) in zip(range(300), Messages(0, tmp_path), strict=False):
        server.receive(line)
        asked += [] if ident is None else [ident]
        while server.busy:  # else nearly all are refused
            time.sleep(0.001)
    server.close()
    while not lines.empty():
        answers.append(lines.get())
    checked([message for message in answers if "method" not in message], asked)
    kinds = {message.get("error", {}).get("code") for message in answers}
    assert {protocol.PARSE_ERROR, protocol.INVALID_REQUEST, protocol.INVALID_PARAMS, protocol.BAD_INPUT, None} <= kinds


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_five_thousand_messages_to_a_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "serve"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )
    assert process.stdin and process.stdout and process.stderr
    answers: list[dict] = []
    log: list[bytes] = []
    here = threading.Condition()

    def read() -> None:
        for line in process.stdout:
            message = json.loads(line.decode())
            if "method" not in message:
                with here:
                    answers.append(message)
                    here.notify()

    threads = [threading.Thread(target=read), threading.Thread(target=lambda: log.extend(process.stderr))]
    for thread in threads:
        thread.start()
    asked = []

    def answered(ident: str) -> bool:
        return any(message.get("id") == ident for message in reversed(answers))

    for number, (line, ident) in zip(range(5000), Messages(1, tmp_path), strict=False):
        process.stdin.write(line + b"\n")
        asked += [] if ident is None else [ident]
        if ident is not None and number % 3:  # else it meets a job that runs
            process.stdin.flush()
            with here:
                assert here.wait_for(lambda ident=ident: answered(ident), timeout=60), (line, log[-20:])
    process.stdin.write(b'{"id": "last", "method": "shutdown", "params": {}}\n')
    process.stdin.close()
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        for thread in threads:
            thread.join()
    assert answers[-1] == {"jsonrpc": "2.0", "id": "last", "result": {}}
    checked(answers, asked)
