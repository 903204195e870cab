# SPDX-License-Identifier: GPL-3.0-or-later
"""What represents a scene: it learns pictures and renders cameras, everything in the capture frame.

A new representation is one folder beside nerfacto/ and one row in registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.geometry import Camera
from engine.scenes.health import Health
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import TrainingConfig

Check = Callable[[], None]
"""Called before every step of anything; may raise Cancelled."""
Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(N, H, W, 3) twice, 0–1 → (N,)."""


@dataclass
class RenderedView:
    """A camera's view of a scene."""

    rgb: Tensor  # (H, W, 3), 0–1, display-referred
    depth: Tensor  # (H, W) median distance along the normalised ray, capture frame
    opacity: Tensor  # (H, W), 0–1
    background: Tensor | None = None  # (3,), what shows through the rest; None: what is farthest in the scene, drawn on
    # (H, W, S) distances, as depth's, by which the shares that were asked for of a pixel are met, anything where its
    # opacity is less; None where none were, or where a scene knows its surfaces by their median alone.
    met: Tensor | None = None

    @property
    def before_black(self) -> Tensor:
        """(H, W, 3) the colors with nothing behind them: premultiplied by the opacity."""
        if self.background is None:
            return self.rgb * self.opacity[..., None]
        return (self.rgb - (1 - self.opacity[..., None]) * self.background).clamp(min=0)


class Scene(Protocol):
    """A scene that can be looked at."""

    def render(self, camera: Camera, check: Check = ..., shares: Sequence[float] = ()) -> RenderedView:
        """What ``camera`` sees, and where along its rays ``shares`` (0–1, rising) of that lie, if any are asked for.
        ``check`` is called between parts of the picture."""
        ...


class SceneTrainer(Protocol):
    """A scene that learns, at some step of a run. A run is a function of its seed and its steps alone."""

    scene: Scene
    views: Sequence[Camera]  # whose pictures it learns, in the order of the PictureSet
    step_index: int  # steps of this run

    def camera(self, view: int) -> Camera:
        """Where a training picture was really taken from, as far as the scene has learnt it."""
        ...

    def step(self, pictures: PictureSet) -> dict[str, float]:
        """One update on a batch of ``pictures``, which it draws itself; the losses, weighted as they were added."""
        ...

    def step_towards(self, view: int, target: Tensor, generator: torch.Generator) -> dict[str, float]:
        """One update on rays of a single view alone, towards ``target`` (H, W, 3), of any values."""
        ...

    def health(self, pictures: PictureSet) -> Health:
        """How it fits some of the pixels; changes nothing that a step uses."""
        ...

    def save(self, path: Path, images: Mapping[str, Tensor] | None = None) -> None:
        """Write everything that is needed to go on, atomically; ``images``: edited training pictures, (H, W, 3) uint8,
        by the view's name."""
        ...


class SavedScene(Protocol):
    """A scene on disk, opened and checked; tensors are read when asked for."""

    views: Sequence[str]  # names of those that it was trained on
    edited: Sequence[str]  # and of those whose edited pictures it holds

    def images(self, sizes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Tensor]:
        """Edited training pictures, (H, W, 3) uint8, by the view's name. Raises BadInput where one is of no view of
        ``sizes`` (height, width), or of another size."""
        ...

    def scene(self, device: str) -> Scene: ...

    def trainer(
        self,
        views: Sequence[Camera],
        training: TrainingConfig,
        seed: int,
        device: str,
        perceptual: Perceptual | None = None,
        resume: bool = False,
        attempt: int = 0,
    ) -> SceneTrainer:
        """A trainer of this scene on ``views``: a new run or, to ``resume``, the one that was saved, which was the
        ``attempt``-th to learn it."""
        ...
