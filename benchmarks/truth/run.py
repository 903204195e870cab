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

DISK = 0.1  # of the picture's width, the radius of what is painted over a key picture
PINK = (255, 20, 147)


@dataclass
class Outcome:
    """What a method made: held-out pictures (H, W, 3), 0–1, and what it took."""

    pictures: list[Tensor]
    seconds: float  # of the edit: the unedited scene is there, and what was made is not looked at yet
    edits: int  # runs of the editor
    peak_bytes: int
    key: Tensor | None = None  # (H, W, 3), what the first key camera sees of the edited scene


@dataclass
class Harness:
    """Everything that all methods share, so that they differ in nothing else."""

    editor: Any  # InstructPix2Pix, a simulated one, or what a test puts in its place
    perceptual: Perceptual | Callable[[Tensor, Tensor], Tensor]  # (N, H, W, 3) twice → (N,)
    size: Size
    folder: Path  # of unedited scenes
    device: str = "cpu"
    clip: Clip | None = None

    def unedited(self, scene: TruthScene, seed: int) -> Path:
        """The checkpoint of the unedited scene, trained once for all methods."""
        train, path = self.size.train, self.folder / unedited_name(self.size, scene, seed)
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
        keys = {view: approved_picture(scene, key, view, row.drawn) for view in key_views(scene, row.keys)}
        prompts = Prompts(self.editor, settings.told(instruction), keys=keys)
        saved = open_scene(self.unedited(scene, seed))
        shown = scene.after[key] if row.kind == "oracle" else scene.before
        data = PictureSet(list(shown[: scene.training]), self.device)
        views = cameras_of(scene, slice(scene.training))
        with PeakMemory(self.device) as memory:
            edits, rendered = 0, saved.scene(self.device)
            if row.kind == "unedited":
                seconds, pictures = 0.0, self._held_out(rendered, scene)
            elif row.kind == "per-frame":
                frames = self._held_out(rendered, scene)
                began = time.monotonic()
                pictures = list(edited_frames(self.editor, prompts.at(0), frames, settings))
                seconds, edits = time.monotonic() - began, len(pictures)
            else:
                began = time.monotonic()
                trainer, events = begin(
                    settings, saved, views, data, prompts, self.perceptual, self.device, region=region
                )
                if row.kind == "oracle":
                    while trainer.step_index < settings.steps:
                        trainer.step(data)
                else:
                    edits = sum(event.edits for event in events if isinstance(event, ImageUpdated))
                    edits += settings.steps if settings.method == "sds" else 0
                seconds, rendered = time.monotonic() - began, trainer.scene
                pictures = self._held_out(rendered, scene)
            key_view = None if row.kind == "per-frame" else rendered.render(views[key_views(scene, 1)[0]]).rgb
        return Outcome(pictures, seconds, edits, memory.peak, key_view)

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
        if (embed := embedding(self.perceptual)) is not None:
            consistency = direction_consistency(embed(unedited.pictures), embed(outcome.pictures))
            measures["direction_consistency"] = float(consistency.mean())
        if outcome.key is not None:
            first = key_views(scene, 1)[0]
            for name, drawn in (("key_true", False), ("key_drawn", True)):
                approved = approved_picture(scene, key, first, drawn).float().to(self.device) / 255
                with torch.no_grad():
                    measures[name] = float(self.perceptual(outcome.key[None], approved[None]).mean())
        if self.clip is not None:
            before, after = self.clip.captions([CAPTION, EDITS[key].caption])
            original, edited = self.clip.pictures(unedited.pictures), self.clip.pictures(outcome.pictures)
            measures["clip_direction"] = float(direction_similarity(original, edited, before, after).mean())
            measures["clip_consistency"] = float(direction_consistency(original, edited).mean())
        return measures


def unedited_name(size: Size, scene: TruthScene, seed: int) -> str:
    """The file name of an unedited scene's checkpoint, which says how it is trained, and on what."""
    recipe = repr((size.nerf, size.train, seed)).encode()
    pictures = scene.poses.tobytes() + scene.before.tobytes()
    name = hashlib.blake2b(recipe + pictures, digest_size=8).hexdigest()
    return f"{scene.name.replace(' ', '-')}-{name}.safetensors"


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


def approved_picture(scene: TruthScene, key: str, view: int, drawn: bool) -> Tensor:
    """The approved picture of a key view, (H, W, 3) uint8: its true edit or, ``drawn`` over, that with a pink disk
    painted onto the middle of the subject, where there is one."""
    picture = torch.from_numpy(scene.after[key][view]).clone()
    if drawn:
        rows, columns = np.nonzero(scene.subject[view])
        height, width = picture.shape[:2]
        y, x = (rows.mean(), columns.mean()) if len(rows) else (height / 2, width / 2)
        down, right = np.mgrid[:height, :width]
        disk = (down - y) ** 2 + (right - x) ** 2 < (DISK * width) ** 2
        picture[torch.from_numpy(disk)] = torch.tensor(PINK, dtype=torch.uint8)
    return picture


def embedding(perceptual: Any) -> Callable[[list[Tensor]], Tensor] | None:
    """Pictures (H, W, 3), 0–1 → (N, D): the means over the picture of the unit features of the perceptual distance's
    AlexNet, for the paper's consistency of directions where CLIP is not to be had; None of a distance without one."""
    network = getattr(perceptual, "network", None)
    if network is None:
        return None

    @torch.no_grad()
    def embed(pictures: list[Tensor]) -> Tensor:
        features = network.net(network.scaling_layer(torch.stack(pictures).permute(0, 3, 1, 2) * 2 - 1))
        return torch.cat([torch.nn.functional.normalize(f, dim=1).mean(dim=(2, 3)) for f in features], dim=1)

    return embed


def recovery(unedited: float, method: float, oracle: float) -> float:
    """How much of what an edit is to change a method changed rightly: 0 as the unedited scene, 1 as the oracle. NaN
    where the oracle is no better than the unedited scene."""
    return (unedited - method) / (unedited - oracle) if unedited > oracle else float("nan")
