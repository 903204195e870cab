# SPDX-License-Identifier: GPL-3.0-or-later
"""A representation small enough for a test: a dense grid of density and color, marched through in plain torch. One
file, and one row (``ROW``) for engine/scenes/registry.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import BadInput
from engine.files import replacing
from engine.geometry import Camera, pixel_directions
from engine.randomness import random_seed
from engine.scenes.base import Check, Perceptual, RenderedView
from engine.scenes.health import Health
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import TrainingConfig

ROW = (f"{__name__}:begin", f"{__name__}:SavedVoxels")


class VoxelConfig(msgspec.Struct, frozen=True):
    """A cube about the capture's centre, in the capture frame."""

    representation: ClassVar[str] = "voxels"

    edge: int = 12  # voxels
    radius: float = 2.0  # half the cube's edge
    samples: int = 16  # a ray, over ``near`` to ``far``
    near: float = 2.0
    far: float = 7.0


class Header(msgspec.Struct, frozen=True):
    """What a saved scene's tensors belong to."""

    config: VoxelConfig
    centre: tuple[float, float, float]
    views: list[str]
    step: int


def rays_of(camera: Camera) -> tuple[Tensor, Tensor]:
    """Origins and unit directions (H·W, 3) of a camera's rays, capture frame."""
    rays = torch.from_numpy(pixel_directions(camera.intrinsics) @ camera.pose[:3, :3].T).float().view(-1, 3)
    return torch.from_numpy(camera.pose[:3, 3]).float().expand_as(rays), F.normalize(rays, dim=-1)


class VoxelScene:
    """The grid, to be looked at; what lies beyond it is one color."""

    def __init__(self, config: VoxelConfig, centre: Sequence[float], grid: Tensor, beyond: Tensor):
        self.config = config
        self.centre = tuple(float(c) for c in centre)
        self.grid = grid  # (1, 4, edge, edge, edge): density and color, before softplus and sigmoid
        self.beyond = beyond  # (3,), before sigmoid

    def march(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(R, 3) color, (R,) median distance, (R,) opacity."""
        c = self.config
        length = (c.far - c.near) / c.samples
        distances = c.near + (torch.arange(c.samples) + 0.5) * length
        points = origins[:, None] + directions[:, None] * distances[:, None]
        place = (points - torch.tensor(self.centre)) / c.radius
        values = F.grid_sample(self.grid, place[None, None], align_corners=False)[0, :, 0]
        inside = (place.abs() < 1).all(-1)
        alpha = 1 - torch.exp(-F.softplus(values[0]) * length * inside)
        left = torch.cumprod(1 - alpha, dim=1)
        weights = alpha * torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], dim=1)
        color = (weights[..., None] * values[1:].permute(1, 2, 0).sigmoid()).sum(1)
        color = color + left[:, -1:] * self.beyond.sigmoid()
        median = (left > 0.5).sum(1).clamp(max=c.samples - 1)
        return color, distances[median], 1 - left[:, -1]

    @torch.no_grad()
    def render(self, camera: Camera, check: Check = lambda: None, shares: Sequence[float] = ()) -> RenderedView:
        check()
        height, width = camera.intrinsics.height, camera.intrinsics.width
        color, distance, opacity = self.march(*rays_of(camera))
        return RenderedView(color.view(height, width, 3), distance.view(height, width), opacity.view(height, width))


class VoxelTrainer:
    """A grid that learns; single rays only, by the mean square."""

    def __init__(self, scene: VoxelScene, views: Sequence[Camera], training: TrainingConfig, seed: int):
        self.scene, self.views, self.training, self.seed = scene, views, training, seed
        self.step_index = 0
        self.weights = {"grid": scene.grid.requires_grad_(), "beyond": scene.beyond.requires_grad_()}
        self.optimiser = torch.optim.Adam(self.weights.values(), lr=training.optimiser.learning_rate)
        self._rays = [rays_of(view) for view in views]
        self._origins, self._directions = (torch.cat(some) for some in zip(*self._rays, strict=True))

    def camera(self, view: int) -> Camera:
        return self.views[view]

    def step(self, pictures: PictureSet) -> dict[str, float]:
        random = torch.Generator().manual_seed(random_seed(self.seed, "batch", self.step_index))
        flat = torch.randint(len(pictures.pixels), (self.training.rays,), generator=random)
        return self._update(self._origins[flat], self._directions[flat], pictures.pixels[flat].float() / 255)

    def step_towards(self, view: int, target: Tensor, generator: torch.Generator) -> dict[str, float]:
        flat = torch.randint(target[..., 0].numel(), (self.training.rays,), generator=generator)
        origins, directions = self._rays[view]
        return self._update(origins[flat], directions[flat], target.view(-1, 3)[flat])

    def _update(self, origins: Tensor, directions: Tensor, colors: Tensor) -> dict[str, float]:
        loss = (self.scene.march(origins, directions)[0] - colors).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step_index += 1
        return {"colour": loss.item()}

    @torch.no_grad()
    def health(self, pictures: PictureSet) -> Health:
        random = torch.Generator().manual_seed(random_seed(self.seed, "health", self.step_index))
        flat = torch.randint(len(pictures.pixels), (500,), generator=random)
        colors = pictures.pixels[flat].float() / 255
        rendered = self.scene.march(self._origins[flat], self._directions[flat])[0]
        constant = (colors - colors.mean(dim=0)).square().mean()
        return Health(float((rendered - colors).square().mean()), float(constant), None)

    def save(self, path: Path, images: Mapping[str, Tensor] | None = None) -> None:
        tensors = {f"weights.{name}": tensor.detach().clone() for name, tensor in self.weights.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value.clone() for name, value in moments.items()}
        tensors |= {f"image.{name}": image.clone() for name, image in (images or {}).items()}
        views = [view.name for view in self.views]
        header = Header(self.scene.config, self.scene.centre, views, self.step_index)
        metadata = {"representation": "voxels", "header": msgspec.json.encode(header).decode()}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)


class SavedVoxels:
    """A grid on disk."""

    def __init__(self, path: Path):
        self.path = path
        with safe_open(path, framework="pt") as file:
            self._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.header = msgspec.json.decode(file.metadata()["header"], type=Header)

    @property
    def views(self) -> list[str]:
        return self.header.views

    @property
    def edited(self) -> list[str]:
        return list(self._of("image."))

    def _of(self, prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t.clone() for n, t in self._tensors.items() if n.startswith(prefix)}

    def images(self, sizes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Tensor]:
        images = self._of("image.")
        if sizes is not None and any(image.shape != (*sizes[name], 3) for name, image in images.items()):
            raise BadInput("A picture in it is of another size than its view.", file=self.path)
        return images

    def scene(self, device: str) -> VoxelScene:
        return VoxelScene(self.header.config, self.header.centre, **self._of("weights."))

    def trainer(
        self,
        views: Sequence[Camera],
        training: TrainingConfig,
        seed: int,
        device: str,
        perceptual: Perceptual | None = None,
        resume: bool = False,
        attempt: int = 0,
    ) -> VoxelTrainer:
        trainer = VoxelTrainer(self.scene(device), views, training, seed)
        if resume:
            trainer.step_index = self.header.step
            state = trainer.optimiser.state_dict()
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in self._of("adam.").items():
                index, _, part = name.partition(".")
                moments.setdefault(int(index), {})[part] = tensor
            trainer.optimiser.load_state_dict(state | {"state": moments})
        return trainer


def begin(
    config: VoxelConfig,
    views: Sequence[Camera],
    centre: np.ndarray,
    training: TrainingConfig,
    seed: int,
    device: str,
    background: tuple[float, float, float] | None = None,
    attempt: int = 0,
) -> VoxelTrainer:
    """What registry.py calls. Voxels know no empty space, and begin again with other numbers alone."""
    if training.losses.perceptual_weight:
        raise BadInput("Voxels learn without a perceptual loss.", field="losses")
    random = torch.Generator().manual_seed(random_seed(seed, "weights", attempt))
    grid = 0.1 * torch.randn(1, 4, config.edge, config.edge, config.edge, generator=random)
    return VoxelTrainer(VoxelScene(config, centre, grid, torch.zeros(3)), views, training, seed)
