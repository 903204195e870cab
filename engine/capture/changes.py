# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a capture's photos still show what a project's pictures, and the scene trained on them, were made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from engine.capture.fingerprint import digest_of
from engine.capture.images import find_hidden, make_picture, photo_of
from engine.capture.photos import SkipView, inside
from engine.capture.types import Capture, SourceView
from engine.files import open_file
from engine.pictures import UNREADABLE


def changed_photos(
    before: Capture, after: Capture, folder: Path, check: Callable[[], None] = lambda: None
) -> Iterator[SourceView]:
    """Those of `after`'s photos that show something else than the pictures in `folder`, made when the capture was
    opened as `before`; the views of both are the same ones.

    A photo of the same size in bytes and time of change is the same. Else its content is compared with that of the
    photo that the picture was made of and, where it differs (its EXIF may alone), the picture made of it now with the
    picture that is there.
    """
    hidden = before.hidden or find_hidden(before)
    for view, old, new in zip(after.views, before.sources, after.sources, strict=True):
        check()
        if (old.file_bytes, old.modified_ns) == (new.file_bytes, new.modified_ns):
            continue
        image = folder / view.image
        try:
            if digest_of(inside(after.root, new.file), check) == photo_of(image):
                continue
            with open_file(image) as file, Image.open(file, formats=("PNG",)) as picture:
                there = np.asarray(picture.convert("RGB"))
        except SkipView:  # it cannot be read, which is said when its picture is made
            continue
        except UNREADABLE:
            there = None
        if there is None:
            if old.file_bytes != new.file_bytes:
                yield new
            continue
        try:
            now, _, _ = make_picture(after, view, new, hidden)
        except SkipView:
            continue
        if now.shape != there.shape or _differ(there, now):
            yield new


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether pictures show something else, and not the same with other rounding."""
    off = one.astype(np.float32) - other
    blocks = cv2.resize(off, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA) if min(off.shape[:2]) >= 8 else off
    return bool(np.abs(off).mean() > 1 or np.abs(blocks).max() > 6)
