# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths and files that may come from another person: what no path can be is said, no link leads out of a folder, and
only regular files of a bounded size are read, never a pipe or a device. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from engine.errors import BadInput, cannot_read
from engine.text import from_json

T = TypeVar("T")
LARGEST_RECORD = 64 * 2**20  # bytes; an edit of 50,000 views takes 3 MB


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


class NotAFile(OSError):
    """A pipe, socket, device or folder where a file is expected, or a file that is too large."""

    def __init__(self, why: str, path: Path, code: int = errno.EINVAL) -> None:
        super().__init__(code, why, str(path))

    def __reduce__(self):
        return type(self), (self.strerror, Path(self.filename), self.errno)


# What stands in a file's place where a repository was copied without its large files.
_POINTERS = {
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file itself; run “git lfs pull” in its folder",
    b"version https://hawser": "it is a pointer of Git LFS, not the file itself; run “git lfs pull” in its folder",
    b"/annex/objects/": "it is a pointer of git-annex, not the file itself; run “git annex get .” in its folder",
}
_LARGEST_POINTER = 1024  # bytes


def is_pointer(path: Path) -> bool:
    """Whether a pointer of Git LFS, or of git-annex, stands in a file's place."""
    try:
        open_file(path).close()
    except NotAFile as problem:
        return problem.strerror in _POINTERS.values()
    except OSError:
        return False
    return False


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

    Raises NotAFile (an OSError) for anything else, for a file larger than ``limit`` bytes, and for one that is not
    there itself: a pointer of Git LFS, or of git-annex; OSError.
    """
    require_file(path, limit)  # before it is opened: opening alone can set a device in motion
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        _require_file(status, path)
        if limit is not None and status.st_size > limit:
            raise NotAFile(f"it is larger than {_size(limit)}", path, errno.EFBIG)
        if status.st_size < _LARGEST_POINTER:
            start = os.read(descriptor, 64)
            os.lseek(descriptor, 0, os.SEEK_SET)
            for first, why in _POINTERS.items():
                if start.startswith(first):
                    raise NotAFile(why, path)
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
