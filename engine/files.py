# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: written whole or not at all, read within bounds, and one engine at a time in a project's folder.

A file is written beside its place under a temporary name of its own, flushed to the disk and renamed, so that neither a
kill nor a loss of power leaves half of one. Whatever is read may come from another person: only regular files of a
bounded size are, never a pipe or a device, and no link leads out of a project. Imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from engine.errors import BadInput, Busy, cannot_read, cannot_write, os_error_of
from engine.text import from_json, to_json

T = TypeVar("T")
LARGEST_RECORD = 64 * 2**20  # bytes; an edit of 50,000 views takes 3 MB
LOCK = ".engine.lock"
_TEMPORARY = re.compile(r"\.part-[0-9a-f]{16}(\..*)?")
# What earlier versions called a file that they had not finished.
_TEMPORARY_BEFORE = re.compile(
    r"\..+\.part(\.(png|json|html|ply|safetensors))?|(checkpoint\.safetensors|mesh\.ply|capture\.json)\.part"
)
_FOLDER_LEFT = re.compile(r"\.part-[0-9a-f]{16}|\.registered\.(part|before)")
_LOCKED_BYTE = 2**30  # far behind the text, which others may then read while the byte is locked (Windows)


# ---- paths --------------------------------------------------------------------------------------------------------


def checked_path(text: str | Path, field: str | None = None) -> Path:
    """The path that a request or the command line names, absolute, `~` expanded, links followed.

    Raises BadInput where no file or folder can have it: empty, relative, with a NUL, too long, links in a circle, the
    home of a user who does not exist, a device of Windows.
    """
    given = str(text)
    shown = shortened(given)

    def wrong(why: str) -> BadInput:
        return BadInput(f"{shown!r} cannot be used as a path: {why}.", field=field)

    if not given.strip():
        raise BadInput("A path is empty; name a file or a folder.", field=field)
    if "\0" in given:
        raise wrong("it holds a NUL character")
    if given.replace("/", "\\").startswith(("\\\\.\\", "\\\\?\\")):
        raise wrong("it names a device")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise wrong("it begins with the home of a user who does not exist") from None
    if not path.is_absolute():
        raise wrong("it is relative; give it from the root on")
    try:
        os.fsencode(path)
        path = path.resolve()
        with contextlib.suppress(FileNotFoundError):
            os.stat(path)
    except UnicodeError:
        raise wrong("it holds characters that no file name has") from None
    except (OSError, RuntimeError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) else errno.ELOOP
        if code == errno.ENAMETOOLONG:
            raise wrong("it is too long; choose a shorter name") from None
        if code == errno.ELOOP:
            raise wrong("its links lead in a circle") from None
        if code == errno.ENOTDIR:
            raise wrong("it leads through a file as if that were a folder") from None
        raise wrong(getattr(error, "strerror", None) or str(error)) from None
    return path


def shortened(text: str, most: int = 120) -> str:
    """``text``, its middle left out where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 3 :]}"


def inside(folder: Path, path: Path) -> Path:
    """``path``, where it stays inside ``folder`` once links are followed. Raises BadInput."""
    try:
        there = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name too long, a NUL
        there = False
    if not there:
        raise BadInput(
            f"{shortened(str(path))} leads out of {shortened(str(folder))} by a link; put a folder of its own there.",
            file=path,
        )
    return path


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, or on Windows a junction."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    junction = getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(status.st_mode) or junction


# ---- reading ------------------------------------------------------------------------------------------------------


class NotAFile(OSError):
    """A pipe, socket, device or folder where a file is expected, or a file that is too large."""

    def __init__(self, why: str, path: Path, code: int = errno.EINVAL) -> None:
        super().__init__(code, why, str(path))

    def __reduce__(self):
        return type(self), (self.strerror, Path(self.filename), self.errno)


def _require_file(status: os.stat_result, path: Path) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    kind = next((name for test, name in kinds if test(mode)), "a device")
    raise NotAFile(f"it is {kind}, not a file", path, errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL)


def require_file(path: Path, limit: int | None = None) -> int:
    """The size in bytes of a regular file, for libraries that open by name.

    Raises NotAFile for anything else, or for one larger than ``limit``; OSError where it cannot be looked at.
    """
    status = _looked_at(path)
    _require_file(status, path)
    if limit is not None and status.st_size > limit:
        raise NotAFile(f"it is larger than {_size(limit)}", path, errno.EFBIG)
    return status.st_size


def _looked_at(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None


def open_file(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file for reading; never waits, as opening a pipe would.

    Raises NotAFile (an OSError) for anything else, or for a file larger than ``limit`` bytes; OSError.
    """
    require_file(path, limit)  # before it is opened: opening alone can set a device in motion
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        _require_file(status, path)
        if limit is not None and status.st_size > limit:
            raise NotAFile(f"it is larger than {_size(limit)}", path, errno.EFBIG)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes. Raises NotAFile and other OSErrors; never waits."""
    with open_file(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it grew while it was read
        raise NotAFile(f"it is larger than {_size(limit)}", path, errno.EFBIG)
    return data


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 2**20 else f"{count} bytes"


def read_record(path: Path, kind: type[T]) -> T | None:
    """Read a record; None where there is none. Raises BadInput where it is damaged or cannot be read."""
    try:
        data = read_bounded(path, LARGEST_RECORD)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_read(path, error) from None
    try:
        return from_json(data, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error}); delete it to begin anew.", file=path) from None


# ---- writing ------------------------------------------------------------------------------------------------------


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
        raise cannot_write(path, problem) from error


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
    for lock in _held_above(folder):
        lock.check_unmoved()
        inside(lock.folder, folder)
    folder.mkdir(parents=True, exist_ok=True)


ASIDE = ".{}.before"  # what a folder is called between the two renames of its exchange


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """The path of a folder, not made yet, that takes the place of ``folder`` when the block ends well.

    A kill between the renames leaves the old one under the name `ASIDE`, from which a sweep brings it back. Raises
    BadInput, with one sentence, for every OSError of the block.
    """
    fresh = folder.with_name(f".part-{secrets.token_hex(8)}")
    aside = folder.with_name(ASIDE.format(folder.name))
    try:
        make_folder(folder.parent)
        yield fresh
        remove_tree(aside)
        if os.path.lexists(folder):
            _rename(folder, aside)
        _rename(fresh, folder)
        _flush_folder(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error
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
        for lock in _held_above(path.parent):
            inside(lock.folder, path.parent)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


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
        raise cannot_write(parent, error) from error
    raise BadInput(f"{parent} holds no free name any more.", file=parent)


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


def _rename(source: Path, target: Path) -> None:
    for attempt in range(20):
        try:
            return os.replace(source, target)
        except PermissionError:  # Windows: a virus scanner or Blender has the old file open for a moment
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.05)


# ---- leftovers ----------------------------------------------------------------------------------------------------


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


# ---- the lock -----------------------------------------------------------------------------------------------------


class Holder(msgspec.Struct, frozen=True):
    """Who works in a project, as the lock's file says it."""

    pid: int
    host: str
    what: str  # "training the scene"
    since: float  # seconds since 1970

    def __str__(self) -> str:
        here = self.host == socket.gethostname()
        who = "this engine" if here and self.pid == os.getpid() else f"another engine (process {self.pid}"
        if who.endswith(str(self.pid)):
            who += ")" if here else f" on {shortened(self.host, 60)})"
        clock = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(max(self.since, 0.0), 4e9)))
        return f"{who} has been {shortened(self.what, 80)} there since {clock}"


class _Lock:
    def __init__(self, folder: Path, descriptor: int, made: list[Path]) -> None:
        self.folder = folder
        self.made = made  # folders that were not there before
        self.descriptor = descriptor
        self.owner = threading.get_ident()
        self.depth = 1

    def release(self) -> None:
        """Let others in; a project that was made for a job that then made nothing goes again."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, 0)  # nobody is named who is not here any more
            if self.made and os.listdir(self.folder) == [LOCK]:
                if os.name == "nt":  # which removes no open file
                    os.close(self.descriptor)
                    self.descriptor = -1
                (self.folder / LOCK).unlink()
                for folder in self.made:
                    folder.rmdir()
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def check_unmoved(self) -> None:
        """Raises BadInput where the folder is no longer where it was when it was locked."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.folder / LOCK), os.fstat(self.descriptor)):
                return
        raise BadInput(
            f"The project folder {shortened(str(self.folder))} was moved, renamed or removed while the engine worked "
            "in it; open the project where it is now and resume.",
            file=self.folder,
            field="workspace",
        )


_held: dict[Path, _Lock] = {}
_held_guard = threading.Lock()


def _held_above(path: Path) -> list[_Lock]:
    return [lock for folder, lock in list(_held.items()) if path == folder or folder in path.parents]


@contextmanager
def locked(folder: Path, what: str) -> Iterator[bool]:
    """Be the only one to write in ``folder`` (resolved, made where it is not there) until the block ends; whether the
    lock was not yet this thread's.

    ``what`` completes “another engine has been …”. The lock is the system's own on an open file: it ends with the
    process, however that ends. Within one thread it may be taken again. Raises Busy, who says who has it; BadInput
    where the folder cannot be written, which is so found out before hours of work.
    """
    with _held_guard:
        mine = _held.get(folder)
        if mine is not None and mine.owner != threading.get_ident():
            raise _busy(folder, holder(folder))
        if mine is None:
            mine = _held[folder] = _acquired(folder, what)
        else:
            mine.depth += 1
    try:
        yield mine.depth == 1
    finally:
        with _held_guard:
            mine.depth -= 1
            if mine.depth == 0:
                del _held[folder]
                mine.release()


def holder(folder: Path) -> Holder | None:
    """Who the lock's file names; None where it names nobody. It may be somebody who is dead."""
    try:
        return msgspec.json.decode(read_bounded(folder / LOCK, 4096), type=Holder)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _busy(folder: Path, who: Holder | None) -> Busy:
    said = str(who) if who else "another engine is working there"
    return Busy(
        f"The project {shortened(folder.name)} is in use: {said}; wait until it is done, or cancel it there.",
        file=folder,
        field="workspace",
    )


def _acquired(folder: Path, what: str) -> _Lock:
    made = [missing for missing in (folder, *folder.parents) if not missing.exists()]
    for _ in range(100):
        lock = _Lock(folder, _locked_file(folder, what), made)
        try:
            lock.check_unmoved()  # whoever had it before may have removed the file between the opening and the locking
            return lock
        except BadInput:
            os.close(lock.descriptor)
    raise _busy(folder, None)


def _locked_file(folder: Path, what: str) -> int:
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise BadInput(f"{path} is not a file of this program's; remove it.", file=path, field="workspace")
        flags = os.O_RDWR | os.O_CREAT
        for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_NOINHERIT"):
            flags |= getattr(os, name, 0)
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        if not _lock_descriptor(descriptor):
            raise _busy(folder, holder(folder))
        said = msgspec.json.encode(Holder(os.getpid(), socket.gethostname(), what, time.time()))
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if os.write(descriptor, said) < len(said):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return descriptor
    except OSError as error:
        os.close(descriptor)
        raise cannot_write(folder, error) from error
    except BaseException:
        os.close(descriptor)
        raise


if sys.platform == "win32":
    import msvcrt

    def _lock_descriptor(descriptor: int) -> bool:
        """Lock one byte of the file; False where another process has it."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock_descriptor(descriptor: int) -> bool:
        """Lock the open file; False where another has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
                return False
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
                return _nobody_alive(descriptor)  # some network disks have no locks
            raise
        return True

    def _nobody_alive(descriptor: int) -> bool:
        """Where the disk has no locks: whether the file names nobody, or a process of this machine that has ended."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            who = msgspec.json.decode(os.read(descriptor, 4096), type=Holder)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return True
        if who.host != socket.gethostname():
            return False
        try:
            os.kill(who.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass
        return who.pid == os.getpid() or who.pid <= 0


def probe(folder: Path) -> None:
    """Raises BadInput where no file can be made in ``folder``, which exists."""
    trial = folder / f".part-{secrets.token_hex(8)}"
    try:
        inside(folder, trial)
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        os.close(descriptor)
        trial.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error
