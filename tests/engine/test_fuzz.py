# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects, models and captures of another person's, made hostile: no defect, no hang, no 2 GB of memory, and no byte
outside the project. (Messages: test_fuzz_messages.py.)"""

import json
import os
import random
import shutil
import socket
import struct
from pathlib import Path

import pytest

import engine

from .fork_client import Server, small_capture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs run in forks"),
]

CASES = int(os.environ.get("INSTRUCT_NERF_FUZZ", "500"))
SEED = int(os.environ.get("INSTRUCT_NERF_FUZZ_SEED", "0"))
FIRST = int(os.environ.get("INSTRUCT_NERF_FUZZ_FIRST", "0"))  # of each kind: where a run that was stopped goes on
PATIENCE = 90.0  # seconds
MOST_BYTES = 2 * 2**30
BUNDLED = Path(engine.__file__).parent / "editors" / "weights" / "instruct-pix2pix-small"
ODD = [
    None, True, 0, -1, 1, 3, 10**6, 10**9, 2**63, 10**30, -0.5, 1e-300, 1e300, "", "abc", "..", "../../outside/x",
    "/etc/passwd", "/dev/zero", "\0", "a\0b", "x" * 5000, "~nobody/x", "\N{GRINNING FACE}", [], {}, [1, 2, 3],
    ["a"] * 50, [[[[1]]]], {"a": {"b": 1}}, [1e308] * 16, "0001-make-it-night", "CON", "C:\\x", "\\\\server\\share\\x",
]  # fmt: skip
NESTED = "a list in a list in a list"  # 5,000 deep, which json cannot write


class Spoiler:
    """Makes one hostile thing of one good one, by a seed."""

    def __init__(self, seed, outside):
        self.random, self.outside = random.Random(seed), outside

    def spoil(self, folder):
        """Change a file or a folder below ``folder``; what was done, in words."""
        paths = sorted(p for p in folder.rglob("*") if not p.is_symlink())
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            there = [p for p in paths if os.path.lexists(p)]
            telling = [p for p in there if p.suffix in (".json", ".safetensors") and p.is_file()]
            path = self.random.choice(telling if telling and self.random.random() < 0.6 else there)
            done = self._spoil_one(path)
        return f"{path.relative_to(folder)}: {done}"

    def _spoil_one(self, path):
        if path.is_symlink() or not path.is_file():  # a folder, or a pipe that this test would wait for itself
            return self._replace(path)
        if path.stat().st_size > 2**26:  # long already: more than this test may hold itself
            return "long"
        if self.random.random() < 0.15:
            return self._replace(path)
        if self.random.random() < 0.2:
            return self._bytes(path)
        if path.suffix == ".json":
            return self._json(path)
        if path.suffix == ".safetensors":
            return self._tensors(path)
        return self._bytes(path)

    def _replace(self, path):
        kind = self.random.choice(["pipe", "folder", "link out", "loop", "device", "nothing", "socket", "file out"])
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "link out":
            path.symlink_to(self.outside)
        elif kind == "file out":
            path.symlink_to(self.outside / "kept.json")
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "device":
            path.symlink_to(self.random.choice(["/dev/zero", "/dev/full", "/dev/tty", "/proc/self/mem"]))
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as made:
                here = os.open(path.parent, os.O_RDONLY)
                made.bind(f"/proc/self/fd/{here}/{path.name}"[:100])
                os.close(here)
        return f"now {kind}"

    def _bytes(self, path):
        data = bytearray(path.read_bytes())
        kind = self.random.choice(["cut", "flip", "empty", "noise", "zeros", "long"])
        if kind == "cut":
            data = data[: self.random.randrange(len(data) + 1)]
        elif kind == "flip" and data:
            for _ in range(self.random.choice([1, 5, 50])):
                data[self.random.randrange(len(data))] = self.random.randrange(256)
        elif kind == "empty":
            data = bytearray()
        elif kind == "noise":
            data = bytearray(self.random.randbytes(500))
        elif kind == "zeros":
            data = bytearray(len(data))
        elif kind == "long":
            data = data + data
        path.unlink()  # it may be a hard link to the good one
        path.write_bytes(data)
        if kind == "long":
            os.truncate(path, 2**33)  # sparse
        return kind

    def _json(self, path):
        try:
            said = json.loads(path.read_text())
        except (ValueError, RecursionError):  # spoiled before
            return self._bytes(path)
        said, what = self._spoiled(said)
        path.unlink()
        path.write_text(_text(said, self.random.random() < 0.5))
        return what

    def _spoiled(self, value):
        """The same JSON with one of its values another."""
        places = list(_places(value))
        if not places:
            return self.random.choice(ODD), "another value"
        way = self.random.choice(places)
        holder = value
        for key in way[:-1]:
            holder = holder[key]
        odd = self.random.choice(ODD)
        kind = self.random.random()
        if kind < 0.15 and isinstance(holder, dict):
            del holder[way[-1]]
            return value, f"without {way}"
        if kind < 0.25 and isinstance(holder, list):
            holder.extend([holder[way[-1]]] * self.random.choice([1, 1000]))
            return value, f"more of {way}"
        if kind < 0.3:
            odd = NESTED
        holder[way[-1]] = odd
        return value, f"{way} = {str(odd)[:60]}" if kind >= 0.3 else f"{way} nested"

    def _tensors(self, path):
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header, rest = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
        kind = self.random.random()
        if kind < 0.5 and "header" in header.get("__metadata__", {}):
            told, what = self._spoiled(json.loads(header["__metadata__"]["header"]))
            header["__metadata__"]["header"] = _text(told)
        elif kind < 0.7:
            header, what = self._spoiled(header)
        elif kind < 0.9 and rest:
            place = self.random.randrange(len(rest) // 4) * 4
            number = self.random.choice([float("nan"), float("inf"), -1e38, 1e38])
            rest[place : place + 4] = struct.pack("<f", number)
            what = f"{number} at {place}"
        else:
            names = [name for name in header if name != "__metadata__"]
            name = self.random.choice(names)
            other = self.random.choice(["adam.999.step", "adam.x.exp_avg", "image.../x", "image.nobody", "nerf.x"])
            header[other] = header.pop(name)
            what = f"{name} is now {other}"
        encoded = _text(header).encode()
        path.unlink()
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + rest)
        return what


def _text(said, ascii_only=True):
    return json.dumps(said, ensure_ascii=ascii_only).replace(json.dumps(NESTED), "[" * 5000 + "]" * 5000)


def _places(value, way=()):
    if isinstance(value, dict | list) and len(way) < 8:
        for key in value if isinstance(value, dict) else range(min(len(value), 30)):
            yield (*way, key)
            yield from _places(value[key], (*way, key))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """(server, its log, a capture, a project with an edit and all that comes of it)."""
    folder = tmp_path_factory.mktemp("good")
    capture = small_capture(folder / "capture")
    with open(folder / "log", "w") as log:
        server = Server(capture, log)
        project = folder / "project"
        for job in ("open", "images", "train", "edit", "frames", "mesh", "report"):
            ended = server.run(job, project)
            assert "error" not in ended and not ended["killed"], (job, ended)
        yield server, folder / "log", capture, project
        server.end()


@pytest.fixture
def outside(tmp_path):
    """A folder that nothing may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept.json").write_text('{"frames": ["0001.png"]}')
    (folder / "0001.png").write_bytes(b"the artist's")
    (folder / ".part-0123456789abcdef.png").write_bytes(b"not ours")
    return folder


def state(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def judged(ended, log, case):
    """That a job ended in time, within memory, inside the project, and with a sentence where it failed."""
    assert not ended["killed"], ("it did not end", case)
    assert not ended.get("defect"), (ended["error"], case, log.read_text()[-3000:])
    assert ended["peak_bytes"] < MOST_BYTES, (ended["peak_bytes"], case)
    assert not ended["outside"], (ended["outside"], case)
    if "error" in ended:
        assert len(ended["error"]) < 1500 and ended["error"].isprintable(), (ended["error"], case)


def test_hostile_projects(good, outside, tmp_path):
    server, log, _, project = good
    before = state(outside)
    failed = 0
    count = CASES // 2
    for number in range(FIRST, count):
        spoiler = Spoiler(SEED * 10**6 + number, outside)
        folder = tmp_path / str(number) / "project"
        shutil.copytree(project, folder)
        what = spoiler.spoil(folder)
        job = spoiler.random.choice(["open", "images", "train", "edit", "edit", "frames", "mesh", "report"])
        more = {"steps": 14} if job == "train" else {"anew": True} if spoiler.random.random() < 0.3 else {}
        if job == "edit" and spoiler.random.random() < 0.5:  # one that goes on where it was
            for record in folder.glob("edits/*/edit.json"):
                if record.is_file() and record.stat().st_size < 2**26:
                    text = record.read_text(errors="replace").replace('"finished": true', '"finished": false')
                    record.write_text(text, errors="replace")
        judged(server.run("read", folder, seconds=PATIENCE), log, (number, what, "read"))
        ended = server.run(job, folder, seconds=PATIENCE, **more)
        judged(ended, log, (number, what, job))
        failed += "error" in ended
        assert state(outside) == before, (number, what, job)
        shutil.rmtree(folder.parent)
    print(f"{count - FIRST} projects, {failed} refused")
    assert failed > (count - FIRST) / 10  # they are hostile


def test_hostile_captures(good, outside, tmp_path):
    server, log, capture, _ = good
    before = state(outside)
    count = CASES * 3 // 10
    failed = 0
    for number in range(FIRST, count):
        spoiler = Spoiler(SEED * 10**6 + 10**5 + number, outside)
        source, folder = tmp_path / str(number) / "capture", tmp_path / str(number) / "project"
        shutil.copytree(capture, source)
        what = spoiler.spoil(source)
        server.capture = str(source)
        ended = server.run("open", folder, seconds=PATIENCE)
        judged(ended, log, (number, what, "open"))
        if "error" not in ended:
            judged(ended := server.run("images", folder, seconds=PATIENCE), log, (number, what, "images"))
        failed += "error" in ended
        assert state(outside) == before, (number, what)
        shutil.rmtree(folder.parent)
    server.capture = str(capture)
    print(f"{count - FIRST} captures, {failed} refused")


def test_hostile_models(good, outside, tmp_path):
    server, log, _, project = good
    before = state(outside)
    count = CASES // 5
    failed = 0
    for number in range(FIRST, count):
        spoiler = Spoiler(SEED * 10**6 + 2 * 10**5 + number, outside)
        model = tmp_path / str(number) / "model"
        shutil.copytree(BUNDLED, model)
        what = spoiler.spoil(model)
        ended = server.run("model", project, editor=str(model), seconds=PATIENCE)
        judged(ended, log, (number, what))
        failed += "error" in ended
        assert state(outside) == before, (number, what)
        shutil.rmtree(model.parent)
    print(f"{count - FIRST} models, {failed} refused")
