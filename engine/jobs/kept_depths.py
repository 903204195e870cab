# SPDX-License-Identifier: GPL-3.0-or-later
"""What photos were found to know of depth, kept beside the scene: comparing them takes minutes, and a training that was
ended goes on with the very same."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from engine.errors import BadInput
from engine.files import replacing
from engine.geometry import Camera
from engine.scenes.known_depth import KnownDepth
from engine.scenes.stored import TensorFile

METHOD = 2  # raised when what photos are found to know changes
NEAREST, FARTHEST = 1e-4, 1e6  # times how far cameras are from what they look at: what lies beyond is no distance
_VALUES = {"pixels": torch.int32, "distances": torch.float32, "sure": torch.float32}


NAMES = ("depths", "planes")


def forget_depths(folder: Path) -> None:
    """Remove what is kept in a folder: of no use once the scene is learned, and up to 24 bytes a pixel."""
    for name in NAMES:
        with contextlib.suppress(OSError):
            (folder / f"{name}.safetensors").unlink(missing_ok=True)


@dataclass(frozen=True)
class KeptDepths:
    """Files in ``folder``, each of which says in its header what it was made ``of``, where cameras are so far (mean,
    capture's units) from what they look at."""

    folder: Path
    of: str
    far: float

    @classmethod
    def made_of(
        cls, folder: Path, views: Sequence[Camera], pictures: Sequence[np.ndarray],
        shown: Sequence[np.ndarray | None], centre: np.ndarray, up: np.ndarray,
    ) -> KeptDepths:  # fmt: skip
        """Of photos (H, W, 3) uint8, their cameras, and which pixels (H, W) bool show anything, None where all do."""
        digest = hashlib.blake2b(repr((METHOD, [view.intrinsics for view in views])).encode(), digest_size=16)
        poses = [np.asarray(view.pose, np.float64) for view in views]
        for part in (*poses, np.asarray(centre, np.float64), np.asarray(up, np.float64), *pictures):
            digest.update(np.ascontiguousarray(part).tobytes())
        for where in shown:
            digest.update(b"all" if where is None else np.ascontiguousarray(where).tobytes())
        far = float(np.mean([np.linalg.norm(pose[:3, 3] - centre) for pose in poses])) or 1.0
        return cls(folder, digest.hexdigest(), far)

    def read(self, name: str, sizes: Sequence[int]) -> list[KnownDepth] | None:
        """Of each view, which has so many pixels, what was kept under ``name``; None where that is nothing, of
        something else, or damaged: it is found anew then."""
        try:
            file = TensorFile(self._path(name), "it is made anew")
            if file.metadata.get("of") != self.of:
                return None
            file.require("counts", (len(sizes),), torch.int64)
            counts = file.read(["counts"])["counts"].numpy()
            if (counts < 0).any() or (counts > np.array(sizes)).any():
                return None
            for value, kind in _VALUES.items():
                file.require(value, (int(counts.sum()),), kind)
            pixels, distances, sure = (tensor.numpy() for tensor in file.read(_VALUES).values())
        except (FileNotFoundError, BadInput):
            return None
        if (pixels < 0).any() or (pixels >= np.repeat(sizes, counts)).any():
            return None
        view = np.repeat(np.arange(len(sizes)), counts)
        if ((np.diff(pixels) <= 0) & (np.diff(view) == 0)).any():  # each is there once
            return None
        possible = (distances > NEAREST * self.far) & (distances < FARTHEST * self.far) & (sure >= 0) & (sure <= 1)
        if not possible.all():
            return None
        ends = np.cumsum(counts)[:-1]
        parts = zip(*(np.split(value, ends) for value in (pixels.astype(np.int64), distances, sure)), strict=True)
        return [KnownDepth(*part) for part in parts]

    def write(self, name: str, depths: Sequence[KnownDepth]) -> None:
        """Keep what is known of each view."""
        tensors = {"counts": torch.tensor([len(depth.pixels) for depth in depths])}
        for value, kind in _VALUES.items():
            whole = np.concatenate([getattr(depth, value) for depth in depths])
            tensors[value] = torch.from_numpy(whole).to(kind)
        with replacing(self._path(name)) as temporary:
            save_file(tensors, temporary, metadata={"of": self.of})

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
