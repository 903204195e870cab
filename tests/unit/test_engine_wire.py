# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport: every line whole, whatever comes in or goes out."""

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from engine import wire
from engine.rpc import read_params, read_request

ROOT = Path(__file__).parents[2]


def test_lines_are_read_past_what_is_too_long():
    long = b'{"id": 7, "method": "output/frames", "params": {"cameras": [' + b"0," * 5000 + b"0]}}"
    stream = io.BytesIO(b"first\n\n  \n" + long + b"\nafter\n" + b"x" * 3000 + b"\nlast without an end")
    lines = list(wire.read_lines(stream, limit=1000))
    assert [line for line in lines if isinstance(line, bytes)] == [b"first\n", b"after\n", b"last without an end"]
    first, second = [line for line in lines if not isinstance(line, bytes)]
    assert first.size == len(long) + 1 and wire.ident_of(first.head, first.tail) == 7
    assert second.size == 3001 and wire.ident_of(second.head, second.tail) is None


@pytest.mark.parametrize("extra", [-1, 0, 1, 2**20 - 1, 2**20, 2**20 + 1, 2**20 + 2])
def test_the_next_line_is_found_whatever_the_length(extra):
    line = b"y" * (1000 + extra) + b"\n"
    lines = list(wire.read_lines(io.BytesIO(line + b"next\n"), limit=1000))
    assert len(lines) == 2 and lines[1] == b"next\n"
    assert (lines[0] == line) if len(line) <= 1000 else (lines[0].size == len(line))


@pytest.mark.parametrize(
    ("line", "ident"),
    [
        (b'{"jsonrpc": "2.0", "id": 3, "method": "x", "params": {"id": 9}', 3),
        (b'{"params": {"id": 9, "x": "}"}, "id": "a\\"b" ', 'a"b'),
        (b'{"params": {"id": 9}, "method": "id", "id":-4 , "x": [', -4),
        (b'{"params": [[["id", 5]', None),
        (b'{"id": {"id": 5}', None),
        (b'{"id": 5.5}', None),
        (b'{"id": 55', None),
        (b'{"id": 100000000000000000000}', None),
        (b"[" * 100_000, None),
        (b'"id": 5', None),
        (b'{"params": {"x": [' + b"1," * 100_000 + b'1]}, "method": "edit/run", "id": 12}', 12),
        (b'{"params": {"x": [' + b"1," * 100_000 + b'1]}, "id": 12, "method": "a", "jsonrpc": "2.0"}\n', 12),
        (b"\xff\xfe\x00", None),
    ],
)
def test_the_id_of_what_cannot_be_decoded(line, ident):
    assert wire.ident_of(line) == ident


class Pipe:
    """Takes a few bytes at a time, or none."""

    def __init__(self, *takes):
        self.takes, self.taken = list(takes), b""

    def write(self, data):
        take = self.takes.pop(0) if self.takes else len(data)
        if take is not None:
            self.taken += bytes(data[:take])
        return take if take is None else min(take, len(data))

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)


def test_what_a_pipe_does_not_take_at_once_is_written_after():
    pipe = Pipe(3, 1, None, 0, 5)
    wire.write_all(pipe, b"a line of the engine\n")
    assert pipe.taken == b"a line of the engine\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes that do not block")
def test_a_full_pipe_that_does_not_block_is_waited_for():
    """What Blender's side, or a shell, may have made of it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = bytes(range(256)) * 4000  # more than a pipe holds
    got = []

    def reader():
        while len(b"".join(got)) < len(data):
            got.append(os.read(read, 5000))

    thread = threading.Thread(target=reader)
    thread.start()
    with os.fdopen(write, "wb", buffering=0) as out:
        wire.write_all(out, data)
        thread.join(10)
    os.close(read)
    assert b"".join(got) == data


def test_text_that_utf8_cannot_hold_is_cleaned_when_sent_and_when_received():
    class Named(msgspec.Struct):
        name: str

    name = os.fsdecode(b"caf\xe9.jpg") if os.name == "posix" else "caf\udce9.jpg"
    line = wire.encode({"result": [Named(name), {"\ud800": name}]})
    assert json.loads(line.decode()) == {"result": [{"name": "caf\\udce9.jpg"}, {"\\ud800": "caf\\udce9.jpg"}]}
    assert wire.decode(b'{"name": "caf\\udce9.jpg"}', Named).name == "caf\\udce9.jpg"
    assert wire.decode(b'{"name": "\\ud83d\\ude00"}', Named).name == "\N{GRINNING FACE}"
    assert wire.decode(b'{"name": "caf\xe9"}', Named).name == "caf\N{REPLACEMENT CHARACTER}"
    with pytest.raises(ValueError):
        wire.decode(b'{"name": "\\ud800', Named)


def test_fifty_thousand_cameras_are_one_request():
    camera = {"pose": [0.123456789012345 + k for k in range(16)], "width": 1920, "height": 1080}
    camera |= {"fx": 1234.5678901, "fy": 1234.5678901, "cx": 960.0, "cy": 540.0}
    params = {"workspace": "/w", "edit": "0001-a", "name": "path", "cameras": [camera] * 50_000}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "output/frames", "params": params}).encode() + b"\n"
    assert len(line) > 16 * 2**20
    [read] = wire.read_lines(io.BytesIO(line))
    request = read_request(read)
    assert request.id == 1 and len(read_params(request).cameras) == 50_000


@pytest.mark.parametrize("where", ["a Python print", "the C library", "a subprocess"])
def test_the_command_line_prints_its_result_alone(where, tmp_path):
    """A library that announces its downloads, while a command runs, on standard output."""
    (tmp_path / "sitecustomize.py").write_text(f"""
import builtins, ctypes, subprocess, sys
import importlib.abc

def announce():
    kind = {where!r}
    if kind == "a Python print":
        print("Downloading: weights")
    elif kind == "the C library":
        ctypes.CDLL(None).puts(b"Downloading: weights")
    else:
        subprocess.run([sys.executable, "-S", "-c", "print('Downloading: weights')"])

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "engine.jobs.capture":
            sys.meta_path.remove(self)
            announce()

sys.meta_path.insert(0, Finder())
""")
    if where == "the C library" and os.name != "posix":
        pytest.skip("its name is another")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "engine", "show", str(tmp_path / "project")]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["capture"] is None
    assert "Downloading: weights" in done.stderr
