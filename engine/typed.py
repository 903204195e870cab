# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON and plain values as structs, from any thread. msgspec looks into a struct's types when they are first read, with
Python's help: another thread that reads the same struct in that moment finds them half made, and the process dies."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_making = threading.Lock()
_made: set[Any] = set()  # types that msgspec has looked into to the end


def decode(data: bytes | str, kind: type[T]) -> T:
    """``data``, JSON, as ``kind``. Raises msgspec.DecodeError, of which ValidationError is one where it is another kind
    of thing, UnicodeDecodeError or RecursionError."""
    _make(kind)
    return msgspec.json.decode(data, type=kind)


def convert(value: Any, kind: type[T], strict: bool = True) -> T:
    """``value``, of dicts, lists and plain values, as ``kind``. Raises msgspec.ValidationError."""
    _make(kind)
    return msgspec.convert(value, kind, strict=strict)


def _make(kind: Any) -> None:
    if kind not in _made:
        with _making:
            msgspec.json.Decoder(kind)
            _made.add(kind)
