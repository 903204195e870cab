# SPDX-License-Identifier: GPL-3.0-or-later
"""One method on one edit of one scene: what it made at the held-out cameras, and how far that is from the truth."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.truth.data import TruthScene
from benchmarks.truth.edits import CAPTION, EDITS
from benchmarks.truth.methods import Row, Size
from engine.capture.central import central_view
from engine.edit.baselines import edited_frames
from engine.edit.iterative import ImageUpdated
from engine.edit.methods import begin
from engine.edit.prompt import Prompts
from engine.edit.region import Region
from engine.edit.settings import with_options
from engine.geometry import Viewpoint
from engine.metrics.clip import Clip, direction_consistency, direction_similarity
from engine.metrics.consistency import warping_error
from engine.metrics.image import psnr, ssim
from engine.metrics.memory import PeakMemory
from engine.metrics.perceptual import Perceptual
from engine.scenes.base import Scene
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import begin_scene, open_scene


@dataclass
class Outcome:
    """What a method made: held-out pictures (H, W, 3), 0–1, and what it took."""

    pictures: list[Tensor]
    seconds: float
    edits: int  # runs of the editor
    peak_bytes: int


@dataclass
class Harness:
    """Everything that all methods share, so that they differ in nothing else."""

    editor: Any  # InstructPix2Pix, or what a test puts in its place
    perceptual: Perceptual | Callable[[Tensor, Tensor], Tensor]  # (N, H, W, 3) twice → (N,)
    size: Size
    folder: Path  # of unedited scenes
    device: str = "cpu"
    clip: Clip | None = None

    def unedited(self, scene: TruthScene, seed: int) -> Path:
        """The checkpoint of the unedited scene, trained once for all methods."""
        train = self.size.train
        recipe = repr((self.size.nerf, train, seed)).encode()
        pictures = scene.poses.tobytes() + scene.before.tobytes()
        name = hashlib.blake2b(recipe + pictures, digest_size=8).hexdigest()
        path = self.folder / f"{scene.name.replace(' ', '-')}-{name}.safetensors"
        if not path.exists():
            trainer = begin_scene(
                self.size.nerf, cameras_of(scene, slice(scene.training)), scene.centre, train, seed, self.device
            )
            pictures = PictureSet(list(scene.before[: scene.training]), self.device)
            for _ in range(train.steps):
                trainer.step(pictures)
            path.parent.mkdir(parents=True, exist_ok=True)
            trainer.save(path)
        return path

    def run(self, row: Row, scene: TruthScene, key: str, seed: int, region: Region | None = None) -> Outcome:
        """Let a method edit the scene, within a region alone where there is one."""
        instruction = EDITS[key].instruction
        base = with_options(self.size.edit, self.editor.name, instruction)
        settings = row.settings(base, seed)
        keys = {view: torch.from_numpy(scene.after[key][view]) for view in key_views(scene, row.keys)}
        prompts = Prompts(self.editor, settings.told(instruction), keys=keys)
        saved = open_scene(self.unedited(scene, seed))
        with PeakMemory(self.device) as memory:
            began, edits = time.monotonic(), 0
            if row.kind in {"unedited", "per-frame"}:
                pictures = self._held_out(saved.scene(self.device), scene)
                if row.kind == "per-frame":
                    pictures = list(edited_frames(self.editor, prompts.at(0), pictures, settings))
                    edits = len(pictures)
            else:
                shown = scene.after[key] if row.kind == "oracle" else scene.before
                data = PictureSet(list(shown[: scene.training]), self.device)
                views = cameras_of(scene, slice(scene.training))
                trainer, events = begin(
                    settings, saved, views, data, prompts, self.perceptual, self.device, region=region
                )
                if row.kind == "oracle":
                    while trainer.step_index < settings.steps:
                        trainer.step(data)
                else:
                    edits = sum(isinstance(event, ImageUpdated) for event in events)
                    edits += settings.steps if settings.method == "sds" else 0
                pictures = self._held_out(trainer.scene, scene)
            seconds = time.monotonic() - began
        return Outcome(pictures, seconds, edits, memory.peak)

    def _held_out(self, rendered: Scene, scene: TruthScene) -> list[Tensor]:
        return [rendered.render(camera).rgb for camera in cameras_of(scene, scene.held_out)]

    def measure(self, outcome: Outcome, unedited: Outcome, scene: TruthScene, key: str) -> dict[str, float]:
        """Means over the held-out cameras, against the true edited pictures."""
        truth = [torch.from_numpy(p).float().to(self.device) / 255 for p in scene.after[key][scene.held_out]]
        pairs = list(zip(outcome.pictures, truth, strict=True))
        depths = [torch.from_numpy(d).to(self.device) for d in scene.depth[scene.held_out]]
        cameras = cameras_of(scene, scene.held_out)
        own = warping_error(truth, depths, cameras)
        with torch.no_grad():
            distance = self.perceptual(torch.stack(outcome.pictures), torch.stack(truth))
        measures = {
            "mse": float(np.mean([float((a - b).square().mean()) for a, b in pairs])),
            "psnr": float(np.mean([float(psnr(a, b)) for a, b in pairs])),
            "ssim": float(np.mean([float(ssim(a, b)) for a, b in pairs])),
            "perceptual": float(distance.mean()),
            "inconsistency": warping_error(outcome.pictures, depths, cameras) - own,
            "seconds": outcome.seconds,
            "edits": float(outcome.edits),
            "peak_megabytes": outcome.peak_bytes / 2**20,
        }
        if self.clip is not None:
            before, after = self.clip.captions([CAPTION, EDITS[key].caption])
            original, edited = self.clip.pictures(unedited.pictures), self.clip.pictures(outcome.pictures)
            measures["clip_direction"] = float(direction_similarity(original, edited, before, after).mean())
            measures["clip_consistency"] = float(direction_consistency(original, edited).mean())
        return measures


def cameras_of(scene: TruthScene, part: slice) -> list[Viewpoint]:
    """Some of the scene's cameras, named by their number."""
    return [Viewpoint(pose, scene.intrinsics, str(k)) for k, pose in enumerate(scene.poses)][part]


def key_views(scene: TruthScene, count: int) -> list[int]:
    """Numbers of ``count`` training views to approve: the one that is proposed to an artist, then each the farthest
    from those before."""
    if not count:
        return []
    cameras = cameras_of(scene, slice(scene.training))
    radius = float(np.linalg.norm(scene.poses[: scene.training, :3, 3] - scene.centre, axis=1).mean())
    chosen = [int(central_view(cameras, scene.centre, radius).name)]
    places = scene.poses[: scene.training, :3, 3]
    while len(chosen) < count:
        apart = np.linalg.norm(places[:, None] - places[chosen][None], axis=-1).min(axis=1)
        chosen.append(int(apart.argmax()))
    return chosen


def recovery(unedited: float, method: float, oracle: float) -> float:
    """How much of what an edit is to change a method changed rightly: 0 as the unedited scene, 1 as the oracle. NaN
    where the oracle is no better than the unedited scene."""
    return (unedited - method) / (unedited - oracle) if unedited > oracle else float("nan")
