# SPDX-License-Identifier: GPL-3.0-or-later
"""The rendered scenes, made where they are not there yet."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.truth.edits import EDITS
from engine.capture import Intrinsics

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(__file__).parent / "data"


@dataclass(frozen=True)
class TruthScene:
    """One scene from all its cameras, N of them, the training ones first.

    ``poses`` (N, 4, 4) camera to world, OpenGL axes; ``before`` (N, H, W, 3) uint8; ``after`` the same by edit;
    ``depth`` (N, H, W) float32 along the rays, in Blender's metres; ``subject`` (N, H, W) bool.
    """

    name: str
    training: int
    centre: np.ndarray
    poses: np.ndarray
    intrinsics: Intrinsics
    before: np.ndarray
    after: dict[str, np.ndarray]
    depth: np.ndarray
    subject: np.ndarray

    @property
    def held_out(self) -> slice:
        return slice(self.training, len(self.poses))


def thinned(scene: TruthScene, views: int) -> TruthScene:
    """The scene with ``views`` of its training cameras, each next one the farthest from those before, in their order;
    as it is where it has no more than that. The held-out ones stay."""
    if views >= scene.training:
        return scene
    places = scene.poses[: scene.training, :3, 3]
    chosen = [0]
    while len(chosen) < views:
        apart = np.linalg.norm(places[:, None] - places[chosen][None], axis=-1).min(axis=1)
        chosen.append(int(apart.argmax()))
    kept = np.array([*sorted(chosen), *range(scene.training, len(scene.poses))])
    return replace(
        scene,
        training=views,
        poses=scene.poses[kept],
        before=scene.before[kept],
        after={key: pictures[kept] for key, pictures in scene.after.items()},
        depth=scene.depth[kept],
        subject=scene.subject[kept],
    )


def ensure(scene: str, size: int, cache: Path = CACHE, unedited: bool = False) -> Path:
    """The scene's folder, rendered first where it is not complete; ``unedited``: its unedited pictures and its
    triangles are enough (see `benchmarks.truth.render`)."""
    folder = cache / str(size) / scene.replace(" ", "-")
    if not (folder / ("unedited.json" if unedited else "cameras.json")).exists():
        print(f"Rendering {scene} at {size} pixels …", flush=True)
        command = [sys.executable, "-m", "benchmarks.truth.render", scene, str(size), str(folder)]
        command += ["--unedited"] if unedited else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"The scene {scene} could not be rendered:\n{done.stderr[-2000:]}")
    return folder


def load(scene: str, size: int, cache: Path = CACHE) -> TruthScene:
    """The scene with all its pictures in memory."""
    folder = ensure(scene, size, cache)
    meta = json.loads((folder / "cameras.json").read_text())
    poses = np.array(meta["poses"])

    def pictures(name: str) -> np.ndarray:
        files = (folder / name / f"{number:04d}.png" for number in range(len(poses)))
        return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])

    return TruthScene(
        name=scene,
        training=meta["training"],
        centre=np.array(meta["centre"]),
        poses=poses,
        intrinsics=Intrinsics(size, size, meta["focal"], meta["focal"], size / 2, size / 2),
        before=pictures("before"),
        after={key: pictures(key) for key in meta["edits"] if key in EDITS},
        depth=np.load(folder / "depth.npy", allow_pickle=False),
        subject=np.load(folder / "subject.npy", allow_pickle=False),
    )
