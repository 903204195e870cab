# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: written whole or not at all, read within bounds (paths.py), one engine at a time in a project (lock.py).

A file is written beside its place under a temporary name of its own, flushed to the disk and renamed, so that neither a
kill nor a loss of power leaves half of one. Whoever reads or writes files imports it from here. Imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.errors import BadInput, cannot_write, os_error_of
from engine.lock import LOCK, Holder, held_above, holder, locked, probe
from engine.paths import (
    LARGEST_RECORD,
    NotAFile,
    checked_path,
    inside,
    is_link,
    is_pointer,
    open_file,
    read_bounded,
    read_record,
    require_file,
    shortened,
)
from engine.text import to_json

__all__ = [
    "ASIDE", "LARGEST_RECORD", "LOCK", "Holder", "NotAFile", "checked_path", "exclusive_folder", "folders_left",
    "holder", "inside", "is_leftover", "is_link", "is_pointer", "leftovers", "locked", "make_folder", "open_file",
    "probe", "read_bounded", "read_record", "remove_file", "remove_tree", "replacing", "replacing_folder",
    "require_file", "shortened", "sweep", "write_bytes", "write_record",
]  # fmt: skip

_TEMPORARY = re.compile(r"\.part-[0-9a-f]{16}(\..*)?")
# What earlier versions called a file that they had not finished.
_TEMPORARY_BEFORE = re.compile(
    r"\..+\.part(\.(png|json|html|ply|safetensors))?|(checkpoint\.safetensors|mesh\.ply|capture\.json)\.part"
)
_FOLDER_LEFT = re.compile(r"\.part-[0-9a-f]{16}|\.registered\.(part|before)")


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path``, with the same ending, that takes its place when the block ends well.

    The name is new each time, so two writers never share one. ``durable``: on the disk before it takes the place, and
    the renaming too; only for what is made again in a moment it is not worth its milliseconds. Where the block or the
    renaming fails, nothing is left and ``path`` is what it was. Raises BadInput, with one sentence, for every OSError
    of the block and its like (safetensors' own).
    """
    path = Path(path)
    temporary = path.with_name(f".part-{secrets.token_hex(8)}{path.suffix}")
    try:
        make_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        if durable:
            _flush_file(temporary)
        _rename(temporary, path)
        if durable:
            _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        problem = os_error_of(error)
        if problem is None or problem.errno == errno.ENOMEM:
            raise
        raise _cannot_write(path, problem) from error


def write_record(path: Path, record: msgspec.Struct) -> None:
    """Write a record as readable JSON, whole or not at all. Raises BadInput."""
    write_bytes(path, to_json(record))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all. Raises BadInput."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OSError; BadInput where a link leads out of the project that this engine
    works in, or where that project was moved away meanwhile (it is not to be made again, half empty)."""
    locks = held_above(folder)
    for lock in locks:
        lock.check_unmoved()
        inside(lock.folder, folder)
    if not locks:
        folder.mkdir(parents=True, exist_ok=True)
        return
    project = max((lock.folder for lock in locks), key=lambda held: len(held.parts))
    for below in reversed([folder, *folder.parents][: len(folder.parts) - len(project.parts)]):
        try:
            below.mkdir(exist_ok=True)  # and never the project itself, which may be moved at any moment
        except FileNotFoundError:
            for lock in locks:
                lock.check_unmoved()
            raise


ASIDE = ".{}.before"  # what a folder is called between the two renames of its exchange


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder``, all in it on the disk, when the block ends well.

    A kill between the renames leaves the old one under the name `ASIDE`, from which a sweep brings it back. Raises
    BadInput, with one sentence, for every OSError of the block.
    """
    fresh = folder.with_name(f".part-{secrets.token_hex(8)}")
    aside = folder.with_name(ASIDE.format(folder.name))
    try:
        make_folder(fresh)
        yield fresh
        _flush_tree(fresh)
        remove_tree(aside)
        if os.path.lexists(folder):
            _rename(folder, aside)
        _rename(fresh, folder)
        _flush_folder(folder.parent)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        if os.path.lexists(aside) and not os.path.lexists(folder):
            with contextlib.suppress(OSError):
                os.replace(aside, folder)
        for left in (fresh, aside):
            with contextlib.suppress(OSError):
                remove_tree(left)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; a link itself, never what it leads to. Raises OSError."""
    if is_link(folder):
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def remove_file(path: Path) -> None:
    """Remove a file where there is one; a link itself, never what it leads to. Raises BadInput."""
    try:
        for lock in held_above(path.parent):
            inside(lock.folder, path.parent)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def exclusive_folder(parent: Path, names: Iterator[str]) -> Path:
    """Make the first of the named folders in ``parent`` that does not exist; no two callers get the same. Raises
    BadInput."""
    try:
        make_folder(parent)
        for name in names:
            with contextlib.suppress(FileExistsError):
                (parent / name).mkdir()
                _flush_folder(parent)
                return parent / name
    except OSError as error:
        raise _cannot_write(parent, error) from error
    raise BadInput(f"{parent} holds no free name any more.", file=parent)


def _cannot_write(path: Path, error: OSError) -> BadInput:
    """The sentence for a file that could not be written; of a project that was moved away, that one."""
    try:
        for lock in held_above(path):
            lock.check_unmoved()
    except BadInput as moved:
        return moved
    return cannot_write(path, error)


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; NTFS keeps a journal of names
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):  # network disks know none
            raise
    finally:
        os.close(descriptor)


def _flush_tree(folder: Path) -> None:
    """Bring all in a folder to the disk; files that may not be written are links to what lies there already."""
    for here, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(PermissionError):
                _flush_file(Path(here, name))
        _flush_folder(Path(here))


def _rename(source: Path, target: Path) -> None:
    for attempt in range(20):
        try:
            return os.replace(source, target)
        except PermissionError:  # Windows: a virus scanner or Blender has the old file open for a moment
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.05)


def is_leftover(name: str) -> bool:
    """Whether a file of that name is one that an engine, killed, had not finished."""
    return bool(_TEMPORARY.fullmatch(name) or _TEMPORARY_BEFORE.fullmatch(name))


def folders_left(folder: Path) -> list[str]:
    """Names in ``folder`` of folders that an engine, killed, had not finished, or had put aside."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [e.name for e in entries if _FOLDER_LEFT.fullmatch(e.name) and not e.is_file(follow_symlinks=False)]
    return []


def sweep(folder: Path, deepest: int = 5) -> list[Path]:
    """Remove files that a killed engine had not finished from ``folder`` and those below it, links not followed.

    Only for who holds the project's lock. Returns what was removed; what cannot be removed stays without a word.
    """
    removed = []
    for path in list(leftovers(folder, deepest)):
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


def leftovers(folder: Path, deepest: int = 5) -> Iterator[Path]:
    """Files that a killed engine had not finished, in a folder and those below it, links not followed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if deepest and not is_link(Path(entry.path)):  # a junction is a folder and yet a link
                        yield from leftovers(Path(entry.path), deepest - 1)
                elif is_leftover(entry.name):
                    yield Path(entry.path)
    except OSError:
        return
