# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether neighbouring pictures show the same scene: one warped into the other by depth, and compared."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from engine.geometry import Camera, warp


def warping_error(pictures: Sequence[Tensor], depths: Sequence[Tensor], cameras: Sequence[Camera]) -> float:
    """Root mean square of what neighbours in a sequence of pictures (H, W, 3), 0–1, differ by where both see the same
    surface: each picture against the one after it, warped into it. ``depths`` are those of the true (or the unedited)
    scene, so that all methods are compared over the same pixels. NaN where no two neighbours see the same."""
    squares, count = 0.0, 0
    for k in range(len(pictures) - 1):
        warped = warp(depths[k], cameras[k], pictures[k + 1], depths[k + 1], cameras[k + 1])
        if warped.known.any():
            squares += float((pictures[k] - warped.rgb)[warped.known].square().sum())
            count += 3 * int(warped.known.sum())
    return (squares / count) ** 0.5 if count else float("nan")
