# SPDX-License-Identifier: GPL-3.0-or-later
"""EXIF's orientation: how a camera was held, and whether the poses were made for the photos turned by it.

Programs differ: some read the pixels as they are stored, some turn them first. What they state of a camera, its size or
its center, fits one of the two. Pixels are turned only where the poses were made that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from engine.capture.lens import Lens
from engine.capture.photos import Photo, same_shape

# Orientation: where up is in the picture as stored, (right, up). The even ones below 5 and the odd ones from 5 on are
# mirrored besides, which does not matter here.
TOPS = {1: (0, 1), 2: (0, 1), 3: (0, -1), 4: (0, -1), 5: (-1, 0), 6: (-1, 0), 7: (1, 0), 8: (1, 0)}
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # the others undo themselves
_OFF_CENTER, _CENTERED = 0.1, 0.03  # of a side


class Described(Protocol):
    """A photo and its camera, as a reader describes them (`reading.Shot`)."""

    @property
    def photo(self) -> Photo: ...
    @property
    def lens(self) -> Lens: ...
    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """A picture as stored, turned to stand as its EXIF orientation says."""
    return picture.transpose(_TURN[orientation]) if orientation in _TURN else picture


def turned_back(picture: Image.Image, orientation: int) -> Image.Image:
    """The opposite of `turned`."""
    return turned(picture, _BACK.get(orientation, orientation))


def turns(shots: Sequence[Described]) -> list[bool]:
    """Whether each shot's photo is to be turned as its EXIF says before its camera fits; else it is used as stored.

    A photo whose camera tells nothing (turned upside down, or square) is turned where others of the capture are and
    none is not.
    """
    told = [_was_turned(shot) for shot in shots]
    rest = True in told and False not in told
    return [
        shot.photo.orientation > 1 and (rest if answer is None else answer)
        for shot, answer in zip(shots, told, strict=True)
    ]


def _was_turned(shot: Described) -> bool | None:
    """Whether the camera is one of the photo turned by its EXIF; None where that makes no difference to be seen."""
    photo = shot.photo
    stored, upright = (photo.width, photo.height), (photo.height, photo.width)
    if photo.orientation < 5 or photo.width == photo.height or min(shot.width, shot.height) <= 0:
        return None
    if (shot.width, shot.height) == stored:
        # Perhaps the reader's own, where a format states none: then the center tells.
        across, down = shot.lens.cx, shot.lens.cy
        off = max(abs(across / stored[0] - 0.5), abs(down / stored[1] - 0.5))
        off_turned = max(abs(across / upright[0] - 0.5), abs(down / upright[1] - 0.5))
        return off > _OFF_CENTER and off_turned < _CENTERED
    stated = (shot.width, shot.height)
    fits, fits_turned = same_shape(stored, stated), same_shape(upright, stated)
    return fits_turned if fits != fits_turned else None
