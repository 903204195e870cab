# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are written whole, read within bounds, and one engine works in a project's folder at a time."""

import errno
import itertools
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from engine import files
from engine.errors import BadInput, Busy, OutOfMemory, explained

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="pipes, links and permissions of POSIX")


class Note(msgspec.Struct):
    text: str


# ---- writing ----


def test_a_file_takes_its_place_whole_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "deep" / ("a" * 250 + ".png")  # the temporary name must not be longer than the system allows
    with files.replacing(target) as first, files.replacing(target) as second:
        assert first != second and first.suffix == ".png" and first.parent == target.parent
        second.write_text("second")
        first.write_text("first")
    assert target.read_text() == "first"
    with pytest.raises(RuntimeError), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "first" and os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "is full; make room and start again"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EMFILE, "Too many files"),
        (errno.EIO, "check it"),
        (errno.EBUSY, "cannot be written"),
    ],
)
@pytest.mark.parametrize("rust", [False, True])
def test_whatever_the_disk_does_is_one_sentence(tmp_path, code, said, rust):
    """`rust`: as safetensors words it, whose error is none of the system's."""
    target = tmp_path / "a.json"
    target.write_text("old")
    error = Exception(f"I/O error: {os.strerror(code)} (os error {code})") if rust else OSError(code, os.strerror(code))
    with pytest.raises(BadInput, match=said) as caught, files.replacing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert caught.value.message.count(". ") == 0
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file(tmp_path, monkeypatch, step):
    target = tmp_path / "a.json"
    files.write_record(target, Note("old"))

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, step, fails)
    with pytest.raises(BadInput, match="is full"):
        files.write_record(target, Note("new"))
    monkeypatch.undo()
    assert files.read_record(target, Note) == Note("old") and os.listdir(tmp_path) == ["a.json"]
    files.write_record(target, Note("new"))
    assert files.read_record(target, Note) == Note("new")


@posix
def test_a_record_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_end(tmp_path, monkeypatch):
    done = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(descriptor):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        real["fsync"](descriptor)

    def replace(*names):
        done.append("rename")
        real["replace"](*names)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", replace)
    files.write_record(tmp_path / "a.json", Note("x"))
    assert done == ["file", "rename", "folder"]


def test_two_writers_never_take_the_same_name(tmp_path):
    taken, start = [], threading.Barrier(8)

    def take():
        start.wait()
        for _ in range(20):
            taken.append(files.exclusive_folder(tmp_path, (f"{n:04d}" for n in itertools.count(1))).name)

    threads = [threading.Thread(target=take) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(taken) == [f"{n:04d}" for n in range(1, 161)]


# ---- reading ----


@posix
def test_only_regular_files_of_a_bounded_size_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path is at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name, kind in (
            ("pipe", "a pipe"),
            ("folder", "a folder"),
            ("socket", "a socket"),
            ("/dev/zero", "a device"),
        ):
            with pytest.raises(OSError, match=kind):
                files.read_bounded(tmp_path / name, 100)
            with pytest.raises(BadInput, match=kind):
                files.read_record(tmp_path / name, Note)
    (tmp_path / "large").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="larger than 100 bytes"):
        files.read_bounded(tmp_path / "large", 100)
    assert len(files.read_bounded(tmp_path / "large", 101)) == 101
    with pytest.raises(FileNotFoundError):
        files.read_bounded(tmp_path / "none", 100)
    with pytest.raises(OSError):
        files.read_bounded(Path("a\0b"), 100)
    assert files.read_record(tmp_path / "none", Note) is None


@pytest.mark.parametrize("text", ["", "{", '{"text": 3}', "[" * 100_000, '{"text": "\\ud800"}', "\xff"])
def test_a_damaged_record_is_said(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"a\.json is damaged"):
        files.read_record(tmp_path / "a.json", Note)


@posix
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("/a\0b", "NUL"),
        ("a/b", "relative"),
        ("~nobody-of-this-name/x", "user who does not exist"),
        ("/" + "a" * 300, "too long"),
        ("/" + "a/" * 5000, "too long"),
        ("/\udc80\ud800", "characters"),
        ("\\\\.\\pipe\\x", "device"),
    ],
)
def test_what_no_path_can_be_is_said(text, why):
    with pytest.raises(BadInput, match=why) as caught:
        files.checked_path(text, "workspace")
    assert caught.value.field == "workspace" and len(caught.value.message) < 300
    caught.value.message.encode()


@posix
def test_links_in_a_circle_and_through_files_are_said(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BadInput, match="circle"):
        files.checked_path(tmp_path / "a" / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="through a file"):
        files.checked_path(tmp_path / "file" / "c")
    assert files.checked_path(tmp_path / "new" / "deeper") == tmp_path.resolve() / "new" / "deeper"


@posix
def test_no_path_leaves_its_folder(tmp_path):
    project, other = tmp_path / "project", tmp_path / "other"
    project.mkdir()
    other.mkdir()
    (project / "link").symlink_to(other)
    (project / "loop").symlink_to(project / "loop")
    assert files.inside(project, project / "a" / "b") == project / "a" / "b"
    for path in (project / "link" / "a", project / "loop" / "a", project / ".." / "x", project / "a\0b"):
        with pytest.raises(BadInput, match="leads out of"):
            files.inside(project, path)


# ---- leftovers ----


@posix
def test_only_what_an_engine_had_not_finished_is_swept(tmp_path):
    kept = ["a.png", "notes.part", "a.part.txt", ".part-of-it", "film.png.part", ".hidden"]
    left = [".part-0123456789abcdef.png", ".part-0123456789abcdef", ".a.part.png", ".edit.part.json"]
    left += [".points.ply.part", "checkpoint.safetensors.part", "mesh.ply.part", "capture.json.part"]
    outside = tmp_path / "outside"
    project = tmp_path / "project"
    for folder in (outside, project, project / "edits" / "0001-a"):
        folder.mkdir(parents=True)
        for name in (*kept, *left):
            (folder / name).write_text("x")
    (project / "link").symlink_to(outside)
    assert len(files.sweep(project)) == 2 * len(left)
    assert set(os.listdir(outside)) == {*kept, *left}
    assert set(os.listdir(project)) == {*kept, "edits", "link"}
    with pytest.raises(RuntimeError), files.replacing(project / "a.png") as temporary:
        assert files.is_leftover(temporary.name)
        raise RuntimeError


# ---- the lock ----

HOLD = """
import sys, time
from pathlib import Path
from engine.files import locked
with locked(Path(sys.argv[1]), "training the scene"):
    print("mine", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline().strip() == b"mine"
    return process


def test_the_second_engine_is_told_who_works_there_and_a_kill_frees_the_project(tmp_path):
    folder = tmp_path.resolve() / "project"
    process = hold(folder)
    try:
        with pytest.raises(Busy) as caught, files.locked(folder, "editing"):
            pass
        assert f"process {process.pid}" in caught.value.message
        assert "training the scene" in caught.value.message and "project" in caught.value.message
        assert files.holder(folder).pid == process.pid  # anybody may read it
    finally:
        process.kill()
        process.wait()
    assert files.holder(folder).pid == process.pid  # the dead one is still named, and holds nothing
    with files.locked(folder, "editing"):
        assert files.holder(folder).pid == os.getpid()
    assert files.holder(folder) is None


def test_one_thread_takes_the_lock_twice_and_another_never(tmp_path):
    folder = tmp_path.resolve()
    caught = []

    def other():
        try:
            with files.locked(folder, "meshing"):
                pass
        except Busy as error:
            caught.append(error.message)

    with files.locked(folder, "editing"), files.locked(folder, "training"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1 and "this engine" in caught[0] and "editing" in caught[0]
    other()
    assert len(caught) == 1


@posix
def test_a_project_that_is_moved_away_meanwhile_is_not_made_again(tmp_path):
    folder = tmp_path.resolve() / "project"
    with files.locked(folder, "editing"):
        files.write_record(folder / "scene" / "scene.json", Note("a"))
        folder.rename(tmp_path / "renamed")
        with pytest.raises(BadInput, match="was moved, renamed or removed"):
            files.write_record(folder / "scene" / "scene.json", Note("b"))
        assert not folder.exists()
        (tmp_path / "renamed").rename(folder)
        files.write_record(folder / "scene" / "scene.json", Note("c"))


@posix
def test_nothing_is_written_through_a_link_out_of_the_project(tmp_path):
    folder, outside = tmp_path.resolve() / "project", tmp_path.resolve() / "outside"
    outside.mkdir()
    with files.locked(folder, "editing"):
        (folder / "views").symlink_to(outside)
        for write in (
            lambda: files.write_record(folder / "views" / "a.json", Note("a")),
            lambda: files.write_record(folder / "views" / "deeper" / "a.json", Note("a")),
            lambda: files.remove_file(folder / "views" / "a.json"),
        ):
            with pytest.raises(BadInput, match="leads out of"):
                write()
        (outside / "kept.json").write_text("kept")
        (folder / "own.json").symlink_to(outside / "kept.json")
        files.write_record(folder / "own.json", Note("a"))  # the link is replaced
    assert (outside / "kept.json").read_text() == "kept" and os.listdir(outside) == ["kept.json"]


@posix
@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_something_else_in_the_place_of_the_lock_is_said(tmp_path, kind):
    lock = tmp_path / files.LOCK
    {"pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir, "link": lambda: lock.symlink_to(tmp_path / "x")}[kind]()
    with pytest.raises(BadInput, match="remove it"), files.locked(tmp_path.resolve(), "editing"):
        pass
    assert not (tmp_path / "x").exists()


def test_a_lock_file_of_nonsense_holds_nobody(tmp_path):
    for text in (b"", b"{", b'{"pid": -1, "host": "x", "what": "y", "since": 1e300}', b"\xff" * 5000):
        (tmp_path / files.LOCK).write_bytes(text)
        with files.locked(tmp_path.resolve(), "editing"):
            pass
        str(files.holder(tmp_path))


def test_a_disk_that_cannot_be_written_is_found_out_before_any_work(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.os, "open", fails)
    with pytest.raises(BadInput, match="read-only"), files.locked(tmp_path.resolve(), "editing"):
        pass
    with pytest.raises(BadInput, match="read-only"):
        files.probe(tmp_path)
    monkeypatch.undo()
    files.probe(tmp_path)
    assert os.listdir(tmp_path) == []


# ---- errors ----


def test_memory_is_called_memory_whoever_says_it():
    class OutOfMemoryError(RuntimeError):
        pass

    for error in (
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to …"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OutOfMemoryError("CUDA out of memory."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ):
        assert isinstance(explained(error), OutOfMemory) and str(explained(error)).endswith(".")
    assert explained(RuntimeError("shape mismatch")) is None
    assert explained(ValueError("out of memory")) is None
    assert explained(PermissionError(errno.EACCES, "no")) is None
    assert "full" in explained(OSError(errno.ENOSPC, "No space left on device")).message
    bad = BadInput("x")
    assert explained(bad) is bad
    own = OutOfMemory("Lower the resolution.")
    assert explained(own) is own


@pytest.mark.skipif(os.name != "posix", reason="names are UTF-16 there")
def test_names_in_another_encoding_are_written_and_read_back(tmp_path):
    class Named(msgspec.Struct):
        name: str
        numbers: tuple[float, ...] = ()

    record = Named(os.fsdecode(b"caf\xe9.jpg"), (1.5, 2.0))
    files.write_record(tmp_path / "record.json", record)
    (tmp_path / "record.json").read_text(encoding="utf-8")
    assert files.read_record(tmp_path / "record.json", Named) == record
    for text, why in (
        ('{"name": "\\udce9", "numbers": [NaN]}', "NaN"),
        ('{"name": "\\udce9" ', "damaged"),
        ('{"name": 3, "x": "\\udce9"}', "str"),
    ):
        (tmp_path / "record.json").write_text(text)
        with pytest.raises(BadInput, match=why):
            files.read_record(tmp_path / "record.json", Named)
