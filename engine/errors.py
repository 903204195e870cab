# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that reach the artist; the server maps each class to one code of the wire (docs/protocol.md).

What the system and the libraries raise becomes one of them here, for the server and the command line alike.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import traceback
from pathlib import Path

log = logging.getLogger(__name__)

_LONGEST = 1000  # characters of a sentence: what it quotes, a library's words or a file's, may have no end
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # ends of lines, and what turns a terminal's colors


class BadInput(Exception):
    """A capture, file, model folder or setting that cannot be used.

    `message` is one sentence that the artist can act on; `file` and `field` name what is at fault, where known.
    """

    def __init__(self, message: str, *, file: Path | str | None = None, field: str | None = None) -> None:
        message = _NOT_SHOWN.sub(" ", message)
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST * 2 // 3]} … {message[-_LONGEST // 3 :]}"
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.field = field


class Busy(BadInput):
    """Another engine, or another job of this one, works in the project."""


class Cancelled(Exception):
    """The job was asked to stop; what it had made so far is saved."""


class OutOfMemory(Exception):
    """The device has too little memory; the message says what to lower."""


MEMORY = (
    "The device has too little memory: choose a smaller preset or editor, or lower the size of the pictures or of the "
    "mesh; or close other programs that use it. What was saved before is kept."
)
# What torch, CUDA, OpenCV, glibc and others call it, whatever class of error they raise.
_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|not enough memory|insufficient memory|"
    r"failed to allocate|unable to allocate|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|bad_alloc|bad allocation",
    re.IGNORECASE,
)
_RUST = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust (safetensors, tokenizers) end such a message
_WINDOWS = {5: errno.EACCES, 19: errno.EROFS, 39: errno.ENOSPC, 112: errno.ENOSPC, 206: errno.ENAMETOOLONG}


def os_error_of(error: BaseException) -> OSError | None:
    """The system's error that ``error`` is, or wraps as safetensors does; None where it is none."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, Exception) and not isinstance(error, BadInput) and (found := _RUST.search(str(error))):
        code = int(found[1])
        code = _WINDOWS.get(code, code) if os.name == "nt" else code
        return OSError(code, os.strerror(code))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library says, in whatever way, that memory ran out."""
    if isinstance(error, (OutOfMemory, MemoryError)) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    named = type(error).__module__.partition(".")[0]
    library = isinstance(error, RuntimeError) or named in ("cv2", "torch", "numba", "safetensors")
    return library and not isinstance(error, BadInput) and bool(_NO_MEMORY.search(str(error)))


def cannot_write(path: Path, error: OSError) -> BadInput:
    """The sentence for a file or folder that could not be written."""
    folder = path if path.is_dir() else path.parent
    return _of_the_system(error, folder) or BadInput(
        f"{_short(path)} cannot be written: {error.strerror or error}.", file=path
    )


def cannot_read(path: Path, error: OSError) -> BadInput:
    """The sentence for a file that could not be read, though it is there."""
    why = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        why = "you have no permission to read it"
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ENOMEM) and (
        known := _of_the_system(error, path)
    ):
        return known
    return BadInput(f"{_short(path)} cannot be read: {why}.", file=path)


def explained(error: BaseException) -> BadInput | OutOfMemory | Cancelled | None:
    """What the artist is told about ``error``: itself where it is meant for them, the sentence for what disk, system or
    memory did; None where it is a defect of ours."""
    if isinstance(error, (BadInput, Cancelled)) or (isinstance(error, OutOfMemory) and str(error)):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(MEMORY)
    problem = os_error_of(error)
    if problem is None:
        return _of_a_model(error)
    if problem.errno in (errno.EACCES, errno.EPERM) and problem.filename is None:
        return None  # not a file's
    name = problem.filename
    return _of_the_system(problem, Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) and name else None)


def _of_a_model(error: BaseException) -> BadInput | None:
    """The sentence for what an editor's networks raised while they computed: their configurations hold hundreds of
    values that nobody vouches for. None for any other error."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = next((number for number, name in enumerate(modules) if name.startswith("engine.editors.")), len(modules))
    if not any(name.startswith(("diffusers.", "transformers.")) for name in modules[ours:]):
        return None
    log.error("%s", "".join(traceback.format_exception(error)))
    why = (str(error).strip().splitlines() or [""])[0][:300]
    return BadInput(
        f"The editor's networks cannot compute ({type(error).__name__}: {why}): its files may be damaged, or made for "
        "another program. Download it again, or choose another editor.",
        field="editor",
    )


def _of_the_system(error: OSError, path: Path | None) -> BadInput | None:
    """The sentence for what the disk or the system did, whatever was being written; None for any other error."""
    where = _short(path) if path else "the project"
    if error.errno == errno.ENOSPC:
        text = f"The disk with {where} is full; make room and start again: what was made is kept."
    elif error.errno == getattr(errno, "EDQUOT", -1):
        text = f"Your quota on the disk with {where} is used up; make room and start again: what was made is kept."
    elif error.errno == errno.EFBIG:
        text = f"The disk with {where} holds no file that large; put the project on another disk."
    elif error.errno == errno.EROFS:
        text = f"The disk with {where} is read-only; choose a project folder that can be written."
    elif error.errno in (errno.EACCES, errno.EPERM):
        text = f"You have no permission to write in {where}; change its permissions, or choose another folder."
    elif error.errno == errno.ENAMETOOLONG:
        text = f"The path {where} is too long; choose a folder with a shorter name."
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        text = "Too many files are open for this system; close other programs and start again: what was made is kept."
    elif error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV, getattr(errno, "ESTALE", errno.EIO)):
        text = f"The disk with {where} fails ({error.strerror}); check it, and start again: what was made is kept."
    else:
        return None
    return BadInput(text, file=path)


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 160 else f"{text[:80]}…{text[-60:]}"
