# SPDX-License-Identifier: GPL-3.0-or-later
"""Which view shows most of what all views show, by the cameras alone: before any scene was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from engine.capture.types import Intrinsics

FACING = 0.5  # cosine of the angle within which two cameras see the same side of what is between them


class _Camera(Protocol):
    """A capture's View, or any other camera."""

    @property
    def pose(self) -> np.ndarray: ...

    @property
    def intrinsics(self) -> Intrinsics: ...


Camera = TypeVar("Camera", bound=_Camera)


def central_view(views: Sequence[Camera], centre: np.ndarray, radius: float) -> Camera:
    """The view that sees, from about the same side, what most of the others look at: a point ahead of each, as far as
    the ``centre`` (3,) of the capture is, or ``radius`` where that is behind it. The first of equals."""
    poses = np.stack([view.pose for view in views])
    places, ahead = poses[:, :3, 3], -poses[:, :3, 2]
    distance = np.einsum("ni,ni->n", centre - places, ahead)
    looked_at = places + ahead * np.where(distance > 0.1 * radius, distance, radius)[:, None]
    counts = []
    for view, pose in zip(views, poses, strict=True):
        local = (looked_at - pose[:3, 3]) @ pose[:3, :3]
        forward = np.maximum(-local[:, 2], 1e-9)
        i = view.intrinsics
        x, y = local[:, 0] / forward * i.fx + i.cx, i.cy - local[:, 1] / forward * i.fy
        inside = (local[:, 2] < 0) & (x > 0) & (x < i.width) & (y > 0) & (y < i.height)
        counts.append(int((inside & (ahead @ -pose[:3, 2] > FACING)).sum()))
    return views[int(np.argmax(counts))]
