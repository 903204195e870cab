# SPDX-License-Identifier: GPL-3.0-or-later
"""One training step of nerfacto, and the optimisers it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.geometry import Camera, Viewpoint
from engine.randomness import random_seed
from engine.scenes.base import Perceptual
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import RayBatch, cameras_from, rays_through, sample_patches, sample_pixels
from engine.scenes.nerfacto.scene import NerfactoScene
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import TrainingConfig


def begin(
    config: NerfactoConfig,
    views: Sequence[Camera],
    centre: np.ndarray,
    training: TrainingConfig,
    seed: int,
    device: str,
) -> Trainer:
    """The trainer of a nerfacto that knows nothing yet, of a scene about ``centre`` (3, capture frame)."""
    frame = NerfFrame.around(np.stack([view.pose for view in views]), centre)
    torch.manual_seed(random_seed(seed, "weights", 0))
    return Trainer(Nerfacto(config, len(views)).to(device), frame, views, training, seed)


class Trainer:
    """A nerfacto and its optimisers, at some step (a SceneTrainer). Everything that a checkpoint must hold to go on."""

    def __init__(
        self,
        nerf: Nerfacto,
        frame: NerfFrame,
        views: Sequence[Camera],
        training: TrainingConfig,
        seed: int = 0,
        perceptual: Perceptual | None = None,
        earlier_steps: int = 0,
    ):
        """``perceptual`` is needed where the losses weigh it. ``earlier_steps``: how many steps the NeRF had taken when
        it came here, from another trainer."""
        if training.losses.perceptual_weight and perceptual is None:
            raise ValueError("these losses need a perceptual measure")
        self.nerf = nerf
        self.scene = NerfactoScene(nerf, frame)
        self.views = views
        self.training = training
        self.perceptual = perceptual
        self.seed = seed
        self.earlier_steps = earlier_steps
        self.step_index = 0
        self._cameras = cameras_from(views, frame, next(nerf.parameters()).device)
        cameras = list(nerf.camera_optimizer.parameters())
        scene = [*nerf.field.parameters(), *nerf.proposal_networks.parameters()]
        groups = [{"params": scene, "lr": training.optimiser.learning_rate}]
        if cameras:
            groups.append({"params": cameras, "lr": training.optimiser.camera_learning_rate})
        self.optimiser = torch.optim.Adam(groups, eps=1e-15, fused=True)

    @torch.no_grad()
    def camera(self, view: int) -> Camera:
        """A training camera as the camera optimiser has moved it: where its picture was really taken from."""
        camera, optimiser = self.views[view], self.nerf.camera_optimizer
        if optimiser.config.mode == "off":
            return camera
        correction = optimiser(torch.tensor([view], device=self._cameras.device))[0].double().cpu().numpy()
        pose = camera.pose.copy()
        pose[:3, :3] = correction[:, :3] @ pose[:3, :3]
        pose[:3, 3] += self.scene.frame.capture_from_nerf_distance(correction[:, 3])
        return Viewpoint(pose, camera.intrinsics, camera.name)

    def step(self, pictures: PictureSet) -> dict[str, float]:
        """One NeRF update, on rays of all views or, after the share of ``single_rays``, of patches."""
        c, generator = self.training, self._generator()
        if c.single_rays >= 1 or self.step_index < c.single_rays * c.steps:
            return self._update(sample_pixels(pictures, self._cameras, c.rays, generator))
        return self._update(sample_patches(pictures, self._cameras, c.patches, c.patch, generator))

    def step_towards(self, view: int, target: Tensor, generator: torch.Generator) -> dict[str, float]:
        """One NeRF update on rays through pixels of ``view`` drawn by ``generator``, towards ``target`` (H, W, 3)."""
        height, width = target.shape[:2]
        flat = torch.randint(height * width, (self.training.rays,), generator=generator).to(target.device)
        y = torch.div(flat, width, rounding_mode="floor")
        rays = rays_through(self._cameras, torch.full_like(flat, view), y, flat - y * width)
        return self._update(RayBatch(rays, target.view(-1, 3)[flat]))

    def save(self, path: Path, images: Mapping[str, Tensor] | None = None) -> None:
        """Write a checkpoint; ``images``: edited training pictures, (H, W, 3) uint8, by the view's name."""
        from engine.scenes.nerfacto.checkpoint import save_checkpoint

        save_checkpoint(path, self, images)

    def _update(self, batch: RayBatch) -> dict[str, float]:
        """One NeRF update on ``batch``; the losses, weighted as they were added."""
        self._begin_step()
        losses = self.training.losses
        rendered = self.nerf(batch.rays)
        terms = self.nerf.regularisers(rendered)
        colours = batch.colours
        if batch.seen is not None:  # nothing is known there: whatever is rendered is right
            colours = torch.where(batch.seen[:, None], colours, rendered.rgb.detach())
        difference = rendered.rgb - colours
        terms["colour"] = difference.abs().mean() if losses.pixel == "l1" else difference.square().mean()
        if losses.perceptual_weight and batch.patch > 1:
            assert self.perceptual is not None
            shape = (-1, batch.patch, batch.patch, 3)
            distance = self.perceptual(rendered.rgb.view(shape), colours.view(shape))
            terms["perceptual"] = losses.perceptual_weight * distance.mean()
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([term.reshape(()) for term in terms.values()]).sum().backward()
        self.optimiser.step()
        self.step_index += 1
        self.nerf.at_age(self.age)  # so that it renders as it will when it is loaded again
        return {name: float(term.detach()) for name, term in terms.items()}

    def _begin_step(self) -> None:
        """Set all that depends on the position alone: learning rates, anneal, and the samplers' random numbers, so
        that a resumed run and an unbroken one are the same."""
        step, c = self.step_index, self.training.optimiser
        self.nerf.train()
        self.nerf.at_age(self.age)
        torch.manual_seed(random_seed(self.seed, "samples", step))
        scene, *cameras = self.optimiser.param_groups
        scene["lr"] = _decayed(c.learning_rate, c.final_learning_rate, step, c.decay_steps)
        for group in cameras:
            group["lr"] = _decayed(c.camera_learning_rate, c.camera_final_learning_rate, step, c.camera_decay_steps)

    @property
    def age(self) -> int:
        """Steps that the NeRF has taken in all."""
        return self.earlier_steps + self.step_index

    def _generator(self) -> torch.Generator:
        """Random numbers for drawing this step's batch (CPU, a function of seed and step)."""
        return torch.Generator().manual_seed(random_seed(self.seed, "batch", self.step_index))


def _decayed(first: float, last: float, step: int, steps: int) -> float:
    return first * (last / first) ** min(step / steps, 1.0)
