# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a capture, in plain values: for the table that `python -m engine open` prints, and for programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.capture.types import Capture


def describe(capture: Capture) -> dict[str, Any]:
    """A capture as values that JSON can hold; what `python -m engine open --json` prints.

    `cameras` are the distinct ones, each with its lens at the size as stored and how many views have it;
    `bounding_size` is the extent along the capture's axes, in its units, of the cameras and of the middle 98 % of the
    sparse points.
    """
    cameras: dict[tuple, int] = {}
    for source in capture.sources:
        key = (source.lens, source.width, source.height)
        cameras[key] = cameras.get(key, 0) + 1
    points = capture.points
    low, high = capture.positions.min(axis=0), capture.positions.max(axis=0)
    if points is not None and len(points):
        near, far = np.percentile(points.positions, (1, 99), axis=0)
        low, high = np.minimum(low, near), np.maximum(high, far)
    return {
        "format": capture.format,
        "source": str(capture.source),
        "root": str(capture.root),
        "views": [
            {
                "name": view.name,
                "file": source.file,
                "size": [source.width, source.height],
                "held_out": view.held_out,
                "pose": view.pose.tolist(),
                "working_size": [view.intrinsics.width, view.intrinsics.height],
                "fx": view.intrinsics.fx,
                "fy": view.intrinsics.fy,
                "cx": view.intrinsics.cx,
                "cy": view.intrinsics.cy,
                "mask": source.mask,
            }
            for view, source in zip(capture.views, capture.sources, strict=True)
        ],
        "cameras": [
            {
                "model": lens.model,
                "width": width,
                "height": height,
                "fx": lens.fx,
                "fy": lens.fy,
                "cx": lens.cx,
                "cy": lens.cy,
                "params": list(lens.params),
                "views": count,
            }
            for (lens, width, height), count in cameras.items()
        ],
        "left_out": [{"name": left.name, "reason": left.reason} for left in capture.left_out],
        "notes": capture.notes,
        "sparse_points": 0 if points is None else len(points),
        "bounding_size": (high - low).tolist(),
        "centre": capture.centre.tolist(),
        "radius": capture.radius,
        "up": capture.up.tolist(),
        "origin": list(capture.origin),
        "gravity_up": None if capture.gravity_up is None else capture.gravity_up.tolist(),
    }
