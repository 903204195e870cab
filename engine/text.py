# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that UTF-8 cannot hold: names of files in other encodings, which Python has as lone surrogates. In records they
come back as they were; for people, and on the wire, they are written out."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from engine import typed

T = TypeVar("T")
_SURROGATE = re.compile(rb"\\u[dD][cC][89a-fA-F]")  # as JSON has what is no UTF-8 in a file's name


def to_json(record: msgspec.Struct) -> bytes:
    """A struct as readable JSON."""
    try:
        return msgspec.json.format(msgspec.json.encode(record), indent=2)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(record), indent=2).encode()


def from_json(data: bytes, kind: type[T]) -> T:
    """What `to_json` made. Raises msgspec.MsgspecError, ValueError or RecursionError."""
    if _SURROGATE.search(data):
        return typed.convert(json.loads(data, parse_constant=_refused), kind)
    return typed.decode(data, kind)


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def cleaned(value: Any) -> Any:
    """``value``, of dicts, lists and plain values, with every lone surrogate written out: `caf\\udce9.jpg`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {cleaned(key): cleaned(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(entry) for entry in value]
    return value
