# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures for tests: small ones written to a folder, and the real ones where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.capture import Capture

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared(path: str) -> Path:
    """A folder of real captures or fixtures beside the repository; the test is skipped where it is absent."""
    if not (SHARED / path).exists():
        pytest.skip(f"no ../shared/{path}")
    return SHARED / path


def looking_at(position: Any, target: Any = (0, 0, 0), up: Any = (0, 0, 1)) -> np.ndarray:
    """(4, 4) camera to world, OpenGL axes."""
    back = np.asarray(position, float) - np.asarray(target, float)
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, np.asarray(position, float)], axis=1)
    return pose


def ring(count: int) -> list[np.ndarray]:
    """Poses around the origin, all looking at it."""
    angles = 2 * np.pi * np.arange(count) / count
    return [looking_at((4 * np.cos(a), 4 * np.sin(a), 1 + 0.3 * np.sin(3 * a))) for a in angles]


def photo(path: Path, width: int = 64, height: int = 48, **saving: Any) -> None:
    """A picture of nothing in particular."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **saving)


def transforms(count: int = 3, **values: Any) -> dict[str, Any]:
    """The content of a transforms.json that opens."""
    meta: dict[str, Any] = {"w": 64, "h": 48, "fl_x": 60.0, "fl_y": 61.0, "cx": 31.0, "cy": 25.0}
    meta["frames"] = [
        {"file_path": f"images/{index}.png", "transform_matrix": pose.tolist()}
        for index, pose in enumerate(ring(count))
    ]
    return meta | values


def write(folder: Path, meta: Any, pictures: bool = True) -> Path:
    """Writes transforms.json and the pictures that it lists; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")
    if pictures:
        for frame in meta["frames"]:
            photo(folder / frame["file_path"])
    return folder


def reasons(capture: Capture) -> str:
    """Why views were left out, in one text."""
    return " ".join(left.reason for left in capture.left_out)


def pixels(capture: Capture, index: int, points: np.ndarray) -> np.ndarray:
    """Where a source's lens sees points (N, 3) of the capture frame: (N, 2)."""
    pose = capture.views[index].pose
    return capture.sources[index].lens.project((points - pose[:3, 3]) @ pose[:3, :3] * (1, -1, -1))


def change(path: Path, what: Any) -> None:
    """Change a JSON file by a function of what is in it."""
    whole = json.loads(path.read_text())
    what(whole)
    path.write_text(json.dumps(whole))
