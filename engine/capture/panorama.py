# SPDX-License-Identifier: GPL-3.0-or-later
"""Which photos are 360° panoramas, whose pixels no flat camera saw."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from engine.capture.photos import SkipView, open_picture
from engine.files import open_file
from engine.pictures import UNREADABLE

GOES_ON = (
    0.5  # of the likeness of two columns side by side, the first and the last have in panoramas; flat photos: none
)
_ALIKE = 0.25  # correlation, at least
_ASKED = 15  # photos, spread over all
_LOOKED_AT = 1024  # pixels, the longer side of what is compared
_DETAIL = 2.0  # levels, standard deviation: less is an even background, which says nothing
_EXIF_IFD, _CUSTOM_RENDERED, _PANORAMA = 0x8769, 0xA401, 6


def panoramas(photos: Sequence[Path], check: Callable[[], None] = lambda: None) -> list[Path]:
    """Those of the photos that are panoramas: by what each says of itself (XMP's GPano, EXIF's CustomRendered), and all
    that are twice as wide as high where most of them go on at the right where they begin at the left. What cannot be
    read is none. `check` is called before each and may raise."""
    said, wide = [], []
    for photo in photos:
        check()
        says, twice = _told(photo)
        if says:
            said.append(photo)
        elif twice:
            wide.append(photo)
    if wide:
        some = [wide[index] for index in np.unique(np.linspace(0, len(wide) - 1, _ASKED).astype(int))]
        found = []
        for photo in some:
            check()
            found.append(_seam(photo))
        seams = [seam for seam in found if seam is not None]
        if len(seams) * 3 >= len(some) and np.median(seams) > GOES_ON:
            said += wide
    return said


def seam(pixels: np.ndarray) -> float | None:
    """How well the last column of a picture, (H, W, 3) uint8, goes on in the first: about 1 where it does as columns
    side by side do, about 0 where it does not; None where there is nothing to tell it by."""
    columns = np.stack([_fine(pixels[:, at].astype(np.float32)) for at in (-2, -1, 0, 1)])
    if columns.std(axis=1).min() < _DETAIL:
        return None
    before, across, after = (float(np.corrcoef(columns[i], columns[i + 1])[0, 1]) for i in range(3))
    beside = (before + after) / 2
    if beside < _ALIKE:  # noise alone
        return None
    return across / beside if across > _ALIKE / 2 else 0.0


def _fine(column: np.ndarray) -> np.ndarray:
    """(3 H,) of a column (H, 3): its detail. Slow changes from top to bottom, a sky's or a studio's, are alike at both
    edges of flat photos too."""
    size = max(3, len(column) // 4 | 1)
    return (column - cv2.GaussianBlur(column, (1, size), len(column) / 40).reshape(column.shape)).ravel()


def _told(path: Path) -> tuple[bool, bool]:
    """Whether a photo says that it is a panorama, and whether it is twice as wide as high."""
    try:
        with open_file(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(stream, path) as picture:
                xmp = picture.info.get("xmp") or b""
                xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
                says = b"GPano:" in xmp and (b"equirectangular" in xmp or b"cylindrical" in xmp)
                says = says or picture.getexif().get_ifd(_EXIF_IFD).get(_CUSTOM_RENDERED) == _PANORAMA
                width, height = picture.size
    except (SkipView, KeyError, AttributeError, *UNREADABLE):
        return False, False
    return says, abs(width - 2 * height) <= 0.01 * width


def _seam(path: Path) -> float | None:
    try:
        with open_file(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(stream, path) as picture:
                picture.draft("RGB", (_LOOKED_AT, _LOOKED_AT // 2))
                small = picture.convert("RGB")
                small = small.reduce(max(1, small.width // _LOOKED_AT))
    except (SkipView, *UNREADABLE):
        return None
    return seam(np.asarray(small))
