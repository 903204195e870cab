# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth benchmark's scenes before any edit, with their exact surfaces."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.truth.data import CACHE, ensure
from engine.capture import Intrinsics
from engine.geometry import Viewpoint


@dataclass(frozen=True, eq=False)
class ExactScene:
    """A scene's photos, cameras and triangles, in Blender's metres; the first ``training`` views are trained on.

    ``pictures`` (N, H, W, 3) uint8; ``vertices`` (V, 3), ``faces`` (F, 3), ``subject`` (F,) bool.
    """

    name: str
    training: int
    centre: np.ndarray
    cameras: list[Viewpoint]
    pictures: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    subject: np.ndarray


def load(name: str, size: int, cache: Path = CACHE) -> ExactScene:
    """The scene at ``size`` pixels, rendered where it is not there yet."""
    folder = ensure(name, size, cache, unedited=True)
    meta = json.loads((folder / "unedited.json").read_text())
    pinhole = Intrinsics(size, size, meta["focal"], meta["focal"], size / 2, size / 2)
    cameras = [Viewpoint(np.array(pose), pinhole, f"{k:04d}") for k, pose in enumerate(meta["poses"])]
    files = [folder / "before" / f"{k:04d}.png" for k in range(len(cameras))]
    with np.load(folder / "geometry.npz", allow_pickle=False) as stored:
        vertices, faces, subject = stored["vertices"], stored["faces"], stored["subject"]
    return ExactScene(
        name, meta["training"], np.array(meta["centre"]), cameras,
        np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]), vertices, faces, subject,
    )  # fmt: skip
