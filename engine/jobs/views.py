# SPDX-License-Identifier: GPL-3.0-or-later
"""What cameras see of a scene: each a piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from engine.geometry import Camera
from engine.pieces import Keep, Place
from engine.progress import Job, Plan
from engine.scenes.base import RenderedView, Scene
from engine.scenes.registry import open_scene

SomeCamera = TypeVar("SomeCamera", bound=Camera)
Part = Literal["depth", "opacity", "background"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a camera sees of a scene, as `RenderedView` has it, float32: as much of it as was asked for."""

    rgb: np.ndarray
    depth: np.ndarray | None = None
    opacity: np.ndarray | None = None
    background: np.ndarray | None = None

    def own(self) -> Seen:
        """The same, to be written in: what was sent to this process may be shared with others."""
        parts = (self.rgb, self.depth, self.opacity, self.background)
        return Seen(*(part if part is None or part.flags.writeable else part.copy() for part in parts))

    def picture(self, device: str) -> Tensor:
        """(H, W, 3), 0–1."""
        return torch.tensor(self.rgb).to(device)

    def rendered(self) -> RenderedView:
        """All that was seen, on the CPU; of a view whose depth and opacity were asked for."""
        parts = (self.rgb, self.depth, self.opacity, self.background)
        return RenderedView(*(None if part is None else torch.tensor(part) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Shown:
    """A scene to look at: its checkpoint and whether it is an edited one; ``live``: itself, where this process has
    loaded it."""

    checkpoint: Path
    edited: bool
    device: str
    live: Scene | None = None


def scene_at(path: Path, edited: bool, device: str, keep: Keep) -> Scene:
    """The scene of a checkpoint, which ``keep`` keeps loaded. Raises BadInput where there is none."""
    saved = open_scene(path)
    state = path.stat()
    key = (str(path), state.st_size, state.st_mtime_ns, device)
    return keep("edited scene" if edited else "scene", key, lambda: saved.scene(device))


def seen_by(shared: tuple[bool, tuple[Part, ...]], camera: Camera, place: Place) -> Seen:
    """A piece: what a camera sees of the scene of the place's one checkpoint. ``shared``: whether that is an edited
    one, and what is wanted of it besides its colors."""
    edited, parts = shared
    render = scene_at(place.files[0], edited, place.device, place.keep).render(camera, place.check)
    values = {part: getattr(render, part) for part in parts}
    return Seen(_array(render.rgb), **{part: None if v is None else _array(v) for part, v in values.items()})


def render_views(
    scene: Shown, cameras: Sequence[SomeCamera], plan: Plan, job: Job, stage: str, *parts: Part
) -> Iterator[tuple[SomeCamera, Seen]]:
    """A stage in which the scene is rendered from each camera; the stage's units before those of these cameras stay
    done. Raises BadInput."""
    current = plan.begin(stage)
    done = current.done
    place = job.place(scene.device, scene.checkpoint)
    if scene.live is not None:
        place = replace(place, keep=lambda kind, key, work: scene.live)
    seen = job.pieces.map(seen_by, (scene.edited, parts), cameras, place)
    for number, (camera, what) in enumerate(zip(cameras, seen, strict=True)):
        yield camera, what.own()
        plan.advance(done + number + 1)
        job.report(plan, current)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
