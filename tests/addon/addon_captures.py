# SPDX-License-Identifier: GPL-3.0-or-later
"""Small captures for the add-on's tests."""

from __future__ import annotations

import json
import math
from pathlib import Path

from blender_addon import trajectories


def ring(folder: Path, count: int = 12, missing: int = 2, radius: float = 4.0) -> Path:
    """A transforms.json of cameras on a ring around the origin, off-centre and with unequal focal lengths; the last
    ``missing`` frames say that their picture does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(count + missing):
        angle = 2 * math.pi * index / (count + missing)
        pose = trajectories.looking_at((radius * math.cos(angle), radius * math.sin(angle), 1.5), (0.0, 0.0, 0.0))
        frames.append({"file_path": f"images/{index:04d}.jpg", "transform_matrix": pose, "missing": index >= count})
    data = {"w": 60, "h": 80, "fl_x": 70.0, "fl_y": 77.0, "cx": 33.0, "cy": 35.5, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder
