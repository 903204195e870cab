# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that reach the artist; the server maps each class to one code of the wire (docs/protocol.md)."""

from __future__ import annotations

from pathlib import Path


class BadInput(Exception):
    """A capture, file, model folder or setting that cannot be used.

    `message` is one sentence that the artist can act on; `file` and `field` name what is at fault, where known.
    """

    def __init__(self, message: str, *, file: Path | str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.field = field


class Cancelled(Exception):
    """The job was asked to stop; what it had made so far is saved."""


class OutOfMemory(Exception):
    """The device has too little memory; the message says what to lower."""
