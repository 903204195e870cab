# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of JSON in and out: the transport under the protocol. Whatever comes in, there is a next line; whatever goes
out is one whole line of valid UTF-8."""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from engine import typed
from engine.protocol import Ident
from engine.text import cleaned

LONGEST_LINE = 64 * 2**20  # bytes of a request; 200,000 cameras
_HEAD, _TAIL = 64 * 2**10, 4 * 2**10  # bytes kept of a longer line, to answer it by

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
_ID_AT_END = re.compile(
    rb'[,{]\s*"id"\s*:\s*(-?\d{1,18}|"(?:[^"\\]|\\.)*")\s*(?:,\s*"(?:method|jsonrpc)"\s*:\s*"[^"]*"\s*)*\}\s*$',
    re.DOTALL,
)


@dataclass(frozen=True)
class TooLong:
    """A line of more than the limit, of which only both ends were kept."""

    size: int  # bytes
    head: bytes
    tail: bytes


def read_lines(stream: BinaryIO, limit: int = LONGEST_LINE) -> Iterator[bytes | TooLong]:
    """The lines of ``stream`` until it ends, blank ones left out. A longer one than ``limit`` bytes is read past, in
    little memory."""
    while line := stream.readline(limit + 1):
        if len(line) <= limit:
            if line.strip():
                yield line
            continue
        size, head, tail = len(line), line[:_HEAD], line[-_TAIL:]
        del line
        while not tail.endswith(b"\n") and (more := stream.readline(2**20)):
            size, tail = size + len(more), (tail + more)[-_TAIL:]
        yield TooLong(size, head, tail)


def write_all(out: BinaryIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered ``out``, which may take less at a time. Raises OSError."""
    left = memoryview(data)
    while left:
        count = out.write(left)
        if count is None:  # a pipe that does not block, and is full
            if os.name == "posix":
                select.select([], [out], [], 1.0)
            else:
                time.sleep(0.01)
        else:
            left = left[count:]


def claim_stdout() -> BinaryIO:
    """Standard output for this program alone, unbuffered: whatever a library prints from now on goes to standard
    error."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out


def encode(message: Any) -> bytes:
    """A message as a line. Text that UTF-8 cannot hold (file names in other encodings) is cleaned."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(cleaned(msgspec.to_builtins(message))) + b"\n"


def decode(line: bytes, kind: type) -> Any:
    """A line as ``kind``; text that UTF-8 cannot hold is cleaned. Raises msgspec.ValidationError where it is another
    kind of thing, ValueError or RecursionError where it is no JSON."""
    try:
        return typed.decode(line, kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):  # a lone surrogate, perhaps
        loose = json.loads(line.decode("utf-8", "replace"))
        return typed.decode(encode(cleaned(loose)), kind)


def ident_of(head: bytes, tail: bytes = b"") -> int | str | None:
    """The id of a request that cannot be decoded, of which ``head`` is the beginning and ``tail`` the end; None where
    it cannot be told."""
    depth, key, before = 0, b"", b""
    for match in _TOKEN.finditer(head[:_HEAD]):
        token = match.group()
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif depth == 1 and before == b":" and key == b'"id"':
            return _plain(token) if match.end() < len(head) else None  # else some of it may be missing
        elif depth == 1 and token not in b",:":
            key = token
        before = token
    if not tail and len(head) <= _HEAD:  # all was looked at
        return None
    found = _ID_AT_END.search(tail or head[-_TAIL:])
    return _plain(found.group(1)) if found else None


def _plain(token: bytes) -> int | str | None:
    try:
        return typed.decode(token, Ident)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
