# SPDX-License-Identifier: GPL-3.0-or-later
"""What is timed: training steps and rendered rays of our NeRFs, of the same without the compiled kernels, and of stock
nerfstudio, all of one scene, on the same rays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from msgspec.structs import replace
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from torch import nn

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.presets import PREVIEW, Preset
from engine.scenes.nerfacto.kernels import without
from engine.scenes.nerfacto.rays import cameras_from, sample_pixels
from engine.scenes.nerfacto.training import Trainer, begin
from engine.scenes.picture_set import PictureSet

Action = Callable[[], object]


@dataclass
class Captured:
    """A capture made for this: a sphere in a painted room, in closed form, seen from a ring."""

    views: list[Viewpoint]
    pictures: PictureSet

    @classmethod
    def of(cls, views: int, long_side: int, device: str = "cpu") -> Captured:
        """``views`` pictures, 16 by 9, ``long_side`` pixels wide."""
        width, height = long_side, long_side * 9 // 16
        intrinsics = Intrinsics(width, height, 0.9 * width, 0.9 * width, width / 2, height / 2)
        cameras = []
        for angle in np.linspace(0, 2 * np.pi, views, endpoint=False):
            back = np.array([np.cos(angle), np.sin(angle), 0.35])
            back /= np.linalg.norm(back)
            right = np.cross([0, 0, 1], back)
            right /= np.linalg.norm(right)
            pose = np.eye(4)
            pose[:3] = np.stack([right, np.cross(back, right), back, 4 * back], axis=1)
            cameras.append(Viewpoint(pose, intrinsics, f"{len(cameras):03d}"))
        return cls(cameras, PictureSet([_painted(camera) for camera in cameras], device))


def _painted(camera: Viewpoint, radius: float = 1.3, room: float = 7.0) -> np.ndarray:
    rays = pixel_directions(camera.intrinsics) @ camera.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = camera.pose[:3, 3]
    along = rays @ eye
    reach = along**2 - (eye @ eye - radius**2)
    ball = eye + (-np.sqrt(np.maximum(reach, 0)) - along)[..., None] * rays
    wall = eye + (np.sqrt(along**2 - (eye @ eye - room**2)) - along)[..., None] * rays
    checks = 0.15 * np.sign(np.sin(9 * ball).prod(axis=-1, keepdims=True))
    color = np.where(reach[..., None] > 0, 0.5 + 0.3 * ball / radius + checks, 0.5 + 0.4 * np.sin(2 * wall + [0, 1, 2]))
    return (np.clip(color, 0, 1) * 255).astype(np.uint8)


def trainer_of(preset: Preset, captured: Captured, rays: int) -> Trainer:
    """A trainer that begins, of the preset's NeRF on so many rays a step."""
    training = replace(preset.train, rays=rays)
    return begin(preset.nerf, captured.views, np.zeros(3), training, 0, "cpu")


class Stock:
    """nerfstudio's NerfactoModel with its own defaults, its losses and its optimisers' settings, in plain PyTorch."""

    def __init__(self, captured: Captured, trainer: Trainer, rays: int):
        import torchmetrics.image.lpip
        from nerfstudio.models.nerfacto import NerfactoModelConfig  # which wants more packages than the engine has

        # Its constructor downloads LPIPS's weights, which neither a step nor a render asks.
        theirs, torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = (
            torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity,
            lambda **kwargs: nn.Identity(),
        )
        try:
            box = SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
            config = NerfactoModelConfig(implementation="torch")
            self.model = config.setup(scene_box=box, num_train_data=len(captured.views)).train()
        finally:
            torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = theirs
        groups = self.model.get_param_groups().values()
        self.optimizers = [torch.optim.Adam(group, lr=1e-2, eps=1e-15) for group in groups]
        self.captured, self.cameras, self.rays = captured, trainer._cameras, rays
        self.frame = trainer.scene.frame
        self.steps = 0

    def step(self) -> None:
        """One step on as many rays, drawn as ours are."""
        self.model.train()
        generator = torch.Generator().manual_seed(self.steps)
        batch = sample_pixels(self.captured.pictures, self.cameras, self.rays, generator)
        target = {"image": batch.colours}
        outputs = self.model(batch.rays)
        losses = self.model.get_loss_dict(outputs, target, self.model.get_metrics_dict(outputs, target))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1

    @torch.no_grad()
    def render(self, rays: RayBundle) -> None:
        """All outputs of some rays, as its evaluation makes them."""
        self.model.eval()
        self.model(rays)


def rays_of(trainer: Trainer, camera: Viewpoint, count: int) -> RayBundle:
    """``count`` rays of a camera, evenly out of its picture."""
    rays = cameras_from([camera], trainer.scene.frame, "cpu").generate_rays(camera_indices=0, keep_shape=True).flatten()
    return rays[torch.linspace(0, len(rays) - 1, count).long()]


@torch.no_grad()
def render_sampled(trainer: Trainer, rays: RayBundle) -> None:
    """What rays see by nerfstudio's parts: the way before the compiled kernels."""
    trainer.nerf.eval()
    with without():
        trainer.nerf(rays)
    trainer.nerf.train()


def step_without_kernels(trainer: Trainer, pictures: PictureSet) -> None:
    """A step of which nerfstudio's parts do all but the hash encoding."""
    with without():
        trainer.step(pictures)


def seen_by(trainer: Trainer, long_side: int) -> Viewpoint:
    """A camera of the trainer's with a picture of another size."""
    camera = trainer.views[0]
    i = camera.intrinsics
    scale = long_side / i.width
    height = round(i.height * scale)
    larger = Intrinsics(long_side, height, i.fx * scale, i.fy * scale, i.cx * scale, i.cy * scale)
    return Viewpoint(camera.pose, larger, camera.name)


__all__ = ["PREVIEW", "Captured", "Stock", "rays_of", "render_sampled", "seen_by", "step_without_kernels", "trainer_of"]
