# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens whatever the artist chose: finds the format, reads it, makes a Capture."""

from __future__ import annotations

from pathlib import Path

from engine.capture import transforms_json
from engine.capture.reading import Reading, make_capture
from engine.capture.types import Capture, CaptureError


def open_capture(source: Path, long_side: int, held_out_every: int = 8) -> Capture:
    """Opens a capture's folder or file without decoding a pixel.

    Views get pinhole cameras whose longer side is at most `long_side` pixels, never more than the picture as stored;
    every `held_out_every`-th view is held out of training (0 or 1: none). Raises CaptureError.
    """
    if long_side < 16:
        raise CaptureError(f"A working size of {long_side} pixels is too small; choose 16 or more.", field="long_side")
    try:
        source = Path(source).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, links in a circle
        raise CaptureError(f"{str(source)[:200]!r} is not a path of a capture.", file=source) from None
    try:
        reading = _read(source)
    except OSError as problem:
        raise CaptureError(f"{source} cannot be read: {problem.strerror or problem}.", file=source) from None
    return make_capture(source, reading, long_side, held_out_every)


def _read(source: Path) -> Reading:
    if source.is_dir():
        path = source / transforms_json.NAME
        if path.is_file():
            return transforms_json.read(path)
        raise CaptureError(
            f"The folder {source.name} holds no transforms.json; choose the folder that a capture program wrote.",
            file=source,
        )
    if source.is_file() and source.suffix.lower() == ".json":
        return transforms_json.read(source)
    if source.exists():
        raise CaptureError(f"{source.name} is not a capture; choose a folder or a transforms.json.", file=source)
    raise CaptureError(f"{source} does not exist.", file=source)
