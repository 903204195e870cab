# SPDX-License-Identifier: GPL-3.0-or-later
"""One engine at a time works in a project's folder. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine import typed
from engine.errors import BadInput, Busy, cannot_write
from engine.paths import inside, read_bounded, shortened

LOCK = ".engine.lock"
_LOCKED_BYTE = 2**30  # far behind the text, which others may then read while the byte is locked (Windows)


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


class Lock:
    """A lock that this process has on a project's folder."""

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


_held: dict[Path, Lock] = {}
_held_guard = threading.Lock()


def held_above(path: Path) -> list[Lock]:
    """The locks of this process on folders that ``path`` lies in."""
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
        if mine.depth == 1:  # what moved after the last write is no success either
            mine.check_unmoved()
    finally:
        with _held_guard:
            mine.depth -= 1
            if mine.depth == 0:
                del _held[folder]
                mine.release()


def holder(folder: Path) -> Holder | None:
    """Who the lock's file names; None where it names nobody. It may be somebody who is dead."""
    try:
        return typed.decode(read_bounded(folder / LOCK, 4096), Holder)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _busy(folder: Path, who: Holder | None) -> Busy:
    said = str(who) if who else "another engine is working there"
    return Busy(
        f"The project {shortened(folder.name)} is in use: {said}; wait until it is done, or cancel it there.",
        file=folder,
        field="workspace",
    )


def _acquired(folder: Path, what: str) -> Lock:
    made = [missing for missing in (folder, *folder.parents) if not missing.exists()]
    for _ in range(100):
        lock = Lock(folder, _locked_file(folder, what), made)
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
            who = typed.decode(os.read(descriptor, 4096), Holder)
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
