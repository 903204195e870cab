# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a camera path's frames: which of its pictures an earlier run made, so that only those ever go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from engine.errors import BadInput
from engine.files import is_link, read_record, remove_file, write_record

SIDES = ("before", "after")
MANIFEST = "frames.json"
_FRAME = re.compile(r"-?\d{3,7}\.(png|exr)")


class _Made(msgspec.Struct, frozen=True):
    """frames.json: the names of the frames, each in `before` and in `after`."""

    frames: Annotated[list[str], Meta(max_length=1_000_000)]


class FrameFolder:
    """`frames/<name>/` while its frames are rendered.

    What will be made is written down before any of it is: a killed run's frames are known to the next. Pictures that no
    run wrote down are the artist's and stay.
    """

    def __init__(self, folder: Path, numbers: Sequence[int], kind: str = "png"):
        """``numbers`` of the frames, and the ``kind`` of file that they are. Raises BadInput where the folder cannot be
        written."""
        self.folder = folder
        self._names = [f"{number:04d}.{kind}" for number in numbers]
        try:
            made = read_record(folder / MANIFEST, _Made)
        except BadInput:  # then nothing is known to be ours
            made = None
        self._earlier = [name for name in made.frames if _FRAME.fullmatch(name)] if made else []
        write_record(folder / MANIFEST, _Made(sorted({*self._earlier, *self._names})))

    def path(self, side: str, index: int) -> Path:
        """Where the ``index``-th frame goes."""
        return self.folder / side / self._names[index]

    def finish(self) -> None:
        """Remove what earlier runs made and this one did not. Raises BadInput."""
        for name in set(self._earlier) - set(self._names):
            for side in SIDES:
                if not is_link(self.folder / side):
                    remove_file(self.folder / side / name)
        write_record(self.folder / MANIFEST, _Made(sorted(self._names)))
