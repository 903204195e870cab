# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a scene shows pictures that it does not learn from, looked at again and again while it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.capture import Intrinsics
from engine.geometry import Camera, Viewpoint
from engine.scenes.base import Check, Scene

PIXELS = 4096  # that are looked at, of all pictures together
VIEWS = 8  # pictures that they are of
SHARE = 0.02  # of the time that looking may take


@dataclass(frozen=True, eq=False)
class _Sparse:
    """Every so many-th pixel of every so many-th row of a picture, by a camera whose rays are just theirs."""

    camera: Viewpoint
    picture: np.ndarray  # (h, w, 3), 0–1
    known: np.ndarray  # (h, w) bool


class HeldOut:
    """Some pixels of pictures (H, W, 3) uint8 that ``views`` took; ``masks``: (H, W) bool where anything is known of
    one, None where all of it is."""

    def __init__(
        self,
        views: Sequence[Camera],
        pictures: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        clock: Callable[[], float],
    ):
        pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
        apart = max(1, math.ceil(math.sqrt(pixels / PIXELS)))
        self._looked_at = [_sparse(*parts, apart) for parts in zip(views, pictures, masks, strict=True)]
        self._looked_at = [part for part in self._looked_at if part.known.any()]
        self._clock = clock
        self._next = -math.inf

    def decibels(self, scene: Scene, check: Check = lambda: None) -> float | None:
        """PSNR over the pixels, in dB; None where there are none, or where looking again so soon would take more than
        its share of the time. Changes nothing of the scene."""
        began = self._clock()
        if not self._looked_at or began < self._next:
            return None
        errors = []
        with torch.no_grad():
            for part in self._looked_at:
                shown = scene.render(part.camera, check).rgb.cpu().numpy()
                errors.append(((shown - part.picture) ** 2)[part.known])
        ended = self._clock()
        self._next = ended + (ended - began) / SHARE
        error = float(np.concatenate(errors).mean())
        return -10 * math.log10(max(error, 1e-10)) if math.isfinite(error) else None


def _sparse(view: Camera, picture: np.ndarray, mask: np.ndarray | None, apart: int) -> _Sparse:
    i = view.intrinsics
    first = min(apart, i.width, i.height) // 2
    pixels = picture[first::apart, first::apart].astype(np.float32) / 255
    height, width = pixels.shape[:2]
    # The middle of its k-th pixel is that of the picture's (first + k · apart)-th.
    shift = (first + 0.5) / apart - 0.5
    fewer = Intrinsics(width, height, i.fx / apart, i.fy / apart, i.cx / apart - shift, i.cy / apart - shift)
    known = np.ones((height, width), bool) if mask is None else mask[first::apart, first::apart]
    return _Sparse(Viewpoint(view.pose, fewer), pixels, known)
