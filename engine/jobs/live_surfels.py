# SPDX-License-Identifier: GPL-3.0-or-later
"""Surfels of a scene that still learns: coarse, and renewed a few views at a time, so that the job that is asked for
them is not held up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.capture import Intrinsics
from engine.geometry import Camera, Viewpoint
from engine.output.splats import Splats, splats_of
from engine.output.surfels import write_surfels
from engine.output.volume import DepthView
from engine.scenes.base import RenderedView, Scene

MOST_VIEWS = 24
LONG_SIDE = 96  # pixels of a view, each a surfel
SECONDS = 0.25  # for a call, after which it renews no further view
JUMP = 0.05  # of the distance, between neighboring pixels: what lies between them is no surface


class LiveSurfels:
    """Surfels of what some of the training views show; each call renews those that are oldest."""

    def __init__(self, views: Sequence[Camera], path: Path):
        picked = np.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS)).round().astype(int)
        self._cameras = [_smaller(views[index]) for index in dict.fromkeys(picked.tolist())]
        self._shown: dict[int, Splats] = {}
        self._next = 0
        self.path = path

    def renew(self, scene: Scene, check: Callable[[], None]) -> Path:
        """Look at the scene and write the file anew. Raises BadInput where it cannot be written."""
        until = time.monotonic() + SECONDS
        for _ in self._cameras:
            camera = self._cameras[self._next]
            self._shown[self._next] = _surface(camera, scene.render(camera, check))
            self._next = (self._next + 1) % len(self._cameras)
            if time.monotonic() > until:
                break
        write_surfels(Splats.together(list(self._shown.values())), self.path)
        return self.path


def _smaller(camera: Camera) -> Viewpoint:
    i = camera.intrinsics
    share = min(1.0, LONG_SIDE / max(i.width, i.height))
    width, height = (max(1, round(side * share)) for side in (i.width, i.height))
    across, down = width / i.width, height / i.height
    lens = Intrinsics(width, height, i.fx * across, i.fy * down, i.cx * across, i.cy * down)
    return Viewpoint(camera.pose, lens)


def _surface(camera: Viewpoint, render: RenderedView) -> Splats:
    opacity, depth = render.opacity.cpu().numpy(), render.depth.cpu().numpy()
    colors = render.rgb.cpu().numpy()
    if render.background is not None:
        colors = render.before_black.cpu().numpy() / np.maximum(opacity, 0.5)[..., None]
    return splats_of(DepthView(camera.pose, camera.intrinsics, depth, colors, np.where(_broken(depth), 0, opacity)))


def _broken(depth: np.ndarray) -> np.ndarray:
    """Where a depth map (H, W) shows an edge rather than a surface: a neighbor on either side lies much nearer."""
    found = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        for way in (1, -1):
            other = np.roll(depth, way, axis=axis)
            edge = np.arange(depth.shape[axis]) == (0 if way == 1 else depth.shape[axis] - 1)
            found |= (depth - other > JUMP * depth) & ~np.expand_dims(edge, 1 - axis)
    return found
