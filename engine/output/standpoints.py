# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras between those that pictures were taken with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation, Slerp

from engine.geometry import Camera, Viewpoint

NEIGHBOURS = 2  # that each camera is paired with
WIDEST = 60.0  # degrees between two cameras that something between them can be said of


def between(cameras: Sequence[Camera]) -> list[Viewpoint]:
    """Half way, in place and direction, between each camera and those nearest to it, each pair once; with the lens of
    the first of the two."""
    places = np.array([camera.pose[:3, 3] for camera in cameras]).reshape(-1, 3)
    wanted = min(NEIGHBOURS + 1, len(cameras))
    if wanted < 2:
        return []
    _, nearest = cKDTree(places).query(places, k=wanted)
    pairs = {(min(one, other), max(one, other)) for one, row in enumerate(nearest.tolist()) for other in row}
    found = []
    for one, other in sorted((one, other) for one, other in pairs if one != other):
        turns = Rotation.from_matrix(np.stack([cameras[index].pose[:3, :3] for index in (one, other)]))
        if np.degrees((turns[0].inv() * turns[1]).magnitude()) <= WIDEST:
            pose = np.eye(4)
            pose[:3, :3] = Slerp([0.0, 1.0], turns)(0.5).as_matrix()
            pose[:3, 3] = (places[one] + places[other]) / 2
            found.append(Viewpoint(pose, cameras[one].intrinsics))
    return found
