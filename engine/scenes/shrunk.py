# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos made smaller before they are compared, and what that tells of the photos themselves."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry import Camera, Viewpoint
from engine.scenes.known_depth import KnownDepth

MOST = 320  # pixels along a photo's longer side: more take longer by their number, and surfaces are as exact as these


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A photo as it is compared: (h, w, 3) uint8 ``photo`` of ``camera``, of which ``shown`` (h, w) bool show
    something, None where all do; made of one of ``size`` (H, W) pixels."""

    camera: Camera
    photo: np.ndarray
    shown: np.ndarray | None
    size: tuple[int, int]

    @classmethod
    def of(cls, camera: Camera, photo: np.ndarray, shown: np.ndarray | None, most: int = MOST) -> Shrunk:
        """The photo (H, W, 3) uint8 with ``most`` pixels along its longer side, or as it is where it has no more."""
        height, width = photo.shape[:2]
        share = most / max(height, width)
        if share >= 1:
            return cls(camera, photo, shown, (height, width))
        small = max(1, round(width * share)), max(1, round(height * share))
        lens = Viewpoint(camera.pose, camera.intrinsics.scaled_to(*small), camera.name)
        if shown is not None:  # what shows something all over
            shown = cv2.resize(shown.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.999
        return cls(lens, cv2.resize(photo, small, interpolation=cv2.INTER_AREA), shown, (height, width))

    def depth_of_photo(self, depth: KnownDepth) -> KnownDepth:
        """What is known of the photo's own pixels, of those on which the middles of the smaller ones lie."""
        (height, width), (h, w) = self.size, self.photo.shape[:2]
        row, column = np.divmod(depth.pixels, w)
        row, column = ((2 * row + 1) * height) // (2 * h), ((2 * column + 1) * width) // (2 * w)
        return KnownDepth(row * width + column, depth.distances, depth.sure)

    def mask_of_photo(self, mask: np.ndarray) -> np.ndarray:
        """A mask (h, w) bool of the smaller photo as one of the photo, (H, W) bool."""
        height, width = self.size
        return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0
