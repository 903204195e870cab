# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pictures are plain: photos say nothing of each other there, and what is built is mostly flat."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

WINDOW = 5  # pixels: what is looked at about each is a square
PLAIN = 2.0  # of 255: standard deviation, all channels together, of such a square from the ramp that suits it best
BESIDE = 1.0  # pixels that discs reach beyond the middles of plain squares: most is known at the border


def plain_discs(picture: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """(H, W) float32: the radius, in pixels, of the disc about each pixel in which a picture (H, W, 3) uint8 shows
    nothing but smooth shading; 0 where it shows more at the pixel itself. Discs may reach beyond the picture, and hold
    no pixel that is not ``shown`` (H, W) bool; None: all are."""
    half = WINDOW // 2
    if min(picture.shape[:2]) < WINDOW:
        return np.zeros(picture.shape[:2], np.float32)
    plain = np.pad((_off_ramp(picture) < PLAIN**2)[half:-half, half:-half], half, mode="edge")
    if shown is not None:
        reach = 2 * (half + int(BESIDE)) + 1
        plain &= cv2.erode(shown.astype(np.uint8), np.ones((reach, reach), np.uint8), borderValue=1) > 0
    if plain.all():  # there is no nearest other
        return np.full(plain.shape, np.hypot(*plain.shape), np.float32)
    radius = ndimage.distance_transform_edt(plain)
    return np.where(plain, radius + BESIDE, 0).astype(np.float32)


def _off_ramp(picture: np.ndarray) -> np.ndarray:
    """(H, W): the mean square difference of the square about each pixel from the linear ramp that suits it best, summed
    over the channels; of no meaning where a square reaches beyond the picture."""
    values, size = picture.astype(np.float64), (WINDOW, WINDOW)
    mean = cv2.boxFilter(values, -1, size)
    left = cv2.boxFilter(values * values, -1, size) - mean * mean
    even, along = np.full(WINDOW, 1 / WINDOW), np.arange(WINDOW) - (WINDOW - 1) / 2
    for across, down in ((along / WINDOW, even), (even, along / WINDOW)):
        left -= cv2.sepFilter2D(values, -1, across, down) ** 2 / np.square(along).mean()
    return left.sum(axis=-1)
