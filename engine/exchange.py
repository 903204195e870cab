# SPDX-License-Identifier: GPL-3.0-or-later
"""Files to and from a Blender on another machine, over the same line as everything else: photos come, and what was made
of them goes. All of it in one folder that `initialize` names; no name leads out of it. Imports no torch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from engine import files, protocol
from engine.errors import BadInput, cannot_read, cannot_write
from engine.results import FilePart, FileState, LookedAt, Written

LARGEST = 2**36  # bytes of one file: 64 GiB
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FORBIDDEN = re.compile(r'[\\:*?"<>|\x00-\x1f]' if os.name == "nt" else r"[\\\x00-\x1f]")  # in a part of a name


class Exchange:
    """The folder in which the files of another machine's Blenders lie."""

    def __init__(self, named: str):
        """``named``: from the root, or from this user's home on; made where it is not there. Raises BadInput."""
        path = Path(named).expanduser() if named.startswith("~") else Path.home() / named
        self.folder = files.checked_path(path, "files")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def look(self, request: protocol.LookAtFiles) -> LookedAt:
        """What is there under each name."""
        return LookedAt([self._state(self._path(name)) for name in request.names])

    def write(self, request: protocol.WriteFile) -> Written:
        """Take a part of a file, the first at 0 and each where the one before ended; with the last the file is there,
        whole, or BadInput is raised and it is as it was. Where it is there already, by its digest, the first part is
        all that is needed."""
        path = self._path(request.name)
        end = request.offset + len(request.data)
        if not 0 <= request.offset <= end <= request.size <= LARGEST:
            raise BadInput(f"A part of {path} does not fit it.", file=path)
        if not _DIGEST.fullmatch(request.digest):
            raise BadInput(f"What {path} is to be is no SHA-256.", field="digest")
        temporary = path.with_name(f".part-{request.digest[:16]}")
        try:
            if request.offset == 0:
                if self._is_there(path, request):
                    os.utime(path, ns=(request.changed, request.changed))
                    return Written(request.size, whole=True)
                path.parent.mkdir(parents=True, exist_ok=True)
                files.inside(self.folder, path.parent)
            with open(temporary, "wb" if request.offset == 0 else "r+b") as file:
                if file.seek(0, os.SEEK_END) != request.offset:
                    raise BadInput(f"The parts of {path} came out of order; send it again.", file=path)
                file.write(request.data)
                if end == request.size:
                    file.flush()
                    os.fsync(file.fileno())
            if end < request.size:
                return Written(end, whole=False)
            if _digest(temporary) != request.digest:
                raise BadInput(f"{path} did not arrive as it was sent; send it again.", file=path)
            os.utime(temporary, ns=(request.changed, request.changed))
            os.replace(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise cannot_write(path, error) from error
            raise
        return Written(end, whole=True)

    def read(self, request: protocol.ReadFile) -> FilePart:
        """A part of a file, and how large and old that is now. Raises BadInput."""
        path = self._path(request.name)
        try:
            with files.open_file(path, LARGEST) as file:
                found = os.fstat(file.fileno())
                file.seek(request.offset)
                data = file.read(request.length)
        except OSError as error:
            raise cannot_read(path, error) from None
        return FilePart(data, found.st_size, found.st_mtime_ns)

    def _is_there(self, path: Path, request: protocol.WriteFile) -> bool:
        state = self._state(path)
        return state is not None and state.size == request.size and _digest(path) == request.digest

    def _state(self, path: Path) -> FileState | None:
        with contextlib.suppress(OSError):
            files.require_file(path)
            found = path.stat()
            return FileState(found.st_size, found.st_mtime_ns)
        return None

    def _path(self, name: str) -> Path:
        """Where a file of that name lies. Raises BadInput where it is none of this folder's."""
        parts = name.split("/")
        if any(part.startswith(".") or not part or _FORBIDDEN.search(part) for part in parts):
            raise BadInput(f"{files.shortened(name)!r} names no file of {self.folder}.", field="name")
        return files.inside(self.folder, self.folder.joinpath(*parts))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
