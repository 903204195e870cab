# SPDX-License-Identifier: GPL-3.0-or-later
"""How a camera was held, by the orientation that it wrote into its photos. Pixels are never turned by it."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

from engine.capture.photos import UNREADABLE

_ORIENTATION = 0x0112
# Orientation: where up is in the picture as stored, (right, up). The even ones below 5 and the odd ones from 5 on are
# mirrored besides, which does not matter here.
_TOPS = {1: (0, 1), 2: (0, 1), 3: (0, -1), 4: (0, -1), 5: (-1, 0), 6: (-1, 0), 7: (1, 0), 8: (1, 0)}


def top_of(path: Path) -> tuple[int, int]:
    """Where up is in a stored photo, (right, up): (0, 1), its upper edge, where it does not say."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".tif", ".tiff"):
        return (0, 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with the rest of its EXIF is no matter
            with Image.open(path, formats=("JPEG", "TIFF")) as picture:
                found = picture.getexif().get(_ORIENTATION, 1)
    except (*UNREADABLE, KeyError, AttributeError):
        return (0, 1)
    return _TOPS.get(found, (0, 1)) if isinstance(found, int) else (0, 1)
