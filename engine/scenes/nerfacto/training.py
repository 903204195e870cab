# SPDX-License-Identifier: GPL-3.0-or-later
"""One training step of nerfacto, and the optimisers it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from engine.geometry import Camera, Viewpoint
from engine.randomness import random_seed
from engine.scenes.base import Perceptual
from engine.scenes.health import Diverged, Health
from engine.scenes.nerfacto.beginnings import begun_again
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.depth_loss import termination_loss
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import (
    RayBatch,
    cameras_from,
    rays_through,
    sample_confined,
    sample_patches,
    sample_pixels,
)
from engine.scenes.nerfacto.saving import FORMAT, CheckpointHeader, save_checkpoint
from engine.scenes.nerfacto.scene import NerfactoScene, pixel_angle
from engine.scenes.nerfacto.triples import flatness_loss
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import TrainingConfig

SETTLING = 0.85  # share of the steps of a confined edit after which its patches end
FLAT_FROM = 0.3  # share of the steps from which on flatness is taught, more and more to the last
LOOKED_AT = 2048  # rays, for a training's health


def begin(
    config: NerfactoConfig,
    views: Sequence[Camera],
    centre: np.ndarray,
    training: TrainingConfig,
    seed: int,
    device: str,
    background: tuple[float, float, float] | None = None,
    attempt: int = 0,
) -> Trainer:
    """The trainer of a nerfacto that knows nothing yet, of a scene about ``centre`` (3, capture frame) that stands in
    empty space before a ``background``, where there is one; the ``attempt``-th to learn it."""
    frame = NerfFrame.around(np.stack([view.pose for view in views]), centre)
    if background is not None:
        config = replace(config, background=background)
    # Of a training that is shorter than the preset's, too, the last half sees all samples.
    config = replace(config, coarse_steps=min(config.coarse_steps, training.steps // 2))
    config, optimiser, seed = begun_again(config, training.optimiser, seed, attempt)
    torch.manual_seed(random_seed(seed, "weights", 0))
    nerf = Nerfacto(config, len(views)).to(device)
    return Trainer(nerf, frame, views, replace(training, optimiser=optimiser), seed)


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
        self.scene = NerfactoScene(nerf, frame, pixel_angle(views))
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
        correction = optimiser(torch.tensor([view], device=self._cameras.device))[0].cpu().double().numpy()
        pose = camera.pose.copy()
        pose[:3, :3] = correction[:, :3] @ pose[:3, :3]
        pose[:3, 3] += self.scene.frame.capture_from_nerf_distance(correction[:, 3])
        return Viewpoint(pose, camera.intrinsics, camera.name)

    def step(self, pictures: PictureSet) -> dict[str, float]:
        """One NeRF update, on rays of all views or, after the share of ``single_rays``, of patches. Where edits are
        confined, patches are of what may change, beside half as many single rays of all views, and the last of the
        steps have single rays again: patches alone, of one view a step, blur what is to stay."""
        c, generator = self.training, self._generator()
        step, confined = self.step_index, pictures.confined
        single = c.single_rays >= 1 or step < c.single_rays * c.steps
        if confined is not None:
            single = single or step >= SETTLING * c.steps or not len(confined)
        if single:
            return self._update(sample_pixels(pictures, self._cameras, c.rays, generator, self._flat_weight() > 0))
        if confined is None:
            return self._update(sample_patches(pictures, self._cameras, c.patches, c.patch, generator))
        patches, singles = max(1, c.patches // 2), max(1, c.rays // 2)
        return self._update(sample_confined(pictures, self._cameras, patches, c.patch, singles, generator))

    def step_towards(self, view: int, target: Tensor, generator: torch.Generator) -> dict[str, float]:
        """One NeRF update on rays through pixels of ``view`` drawn by ``generator``, towards ``target`` (H, W, 3)."""
        height, width = target.shape[:2]
        flat = torch.randint(height * width, (self.training.rays,), generator=generator).to(target.device)
        y = torch.div(flat, width, rounding_mode="floor")
        rays = rays_through(self._cameras, torch.full_like(flat, view), y, flat - y * width)
        return self._update(RayBatch(rays, target.view(-1, 3)[flat]), before_own=True)

    @torch.no_grad()
    def health(self, pictures: PictureSet) -> Health:
        """How the scene fits some pixels, drawn by seed and step alone; changes nothing that a step uses."""
        random = torch.Generator().manual_seed(random_seed(self.seed, "health", self.step_index))
        batch = sample_pixels(pictures, self._cameras, LOOKED_AT, random)
        was_training = self.nerf.training
        self.nerf.eval()
        try:
            rendered = self.nerf(batch.rays)
        finally:
            self.nerf.train(was_training)
        solid = None
        if batch.alpha is not None and self.nerf.background is not None:
            opacity, full, empty = rendered.opacity[:, 0], batch.alpha > 0.5, batch.alpha < 0.5
            if full.any() and empty.any():
                solid = float(opacity[full].mean() - opacity[empty].mean())
        return Health(
            error=float((rendered.rgb - batch.colours).square().mean()),
            constant=float((batch.colours - batch.colours.mean(dim=0)).square().mean()),
            solid=solid,
        )

    def save(self, path: Path, images: Mapping[str, Tensor] | None = None) -> None:
        """Write a checkpoint; ``images``: edited training pictures, (H, W, 3) uint8, by the view's name."""
        views = [view.name for view in self.views]
        header = CheckpointHeader(
            FORMAT, self.nerf.config, self.scene.frame, views, self.step_index, self.age, self.scene.learned
        )
        save_checkpoint(path, header, self.nerf, self.optimiser, images)

    def _update(self, batch: RayBatch, before_own: bool = False) -> dict[str, float]:
        """One NeRF update on ``batch``, whose colours are before the scene's own background or, unless ``before_own``,
        before any; the losses, weighted as they were added. Raises Diverged where they are
        no numbers any more."""
        self._begin_step()
        weights = self.training.losses
        background, colours = (None, batch.colours) if before_own else self._background(batch)
        rendered = self.nerf(batch.rays, background)
        terms = self.nerf.regularisers(rendered)
        if batch.seen is not None:  # nothing is known there: whatever is rendered is right
            colours = torch.where(batch.seen[:, None], colours, rendered.rgb.detach())
        difference = rendered.rgb - colours
        errors = difference.abs() if weights.pixel == "l1" else difference.square()
        # Beside single rays, patches are weighed as if they were alone, and so are the single rays.
        parts = [part for part in errors.tensor_split([batch.of_patches]) if len(part)]
        terms["colour"] = torch.stack([part.mean() for part in parts]).sum()
        if weights.perceptual_weight and batch.patch > 1:
            assert self.perceptual is not None
            shape, first = (-1, batch.patch, batch.patch, 3), slice(batch.of_patches)
            distance = self.perceptual(rendered.rgb[first].view(shape), colours[first].view(shape))
            terms["perceptual"] = weights.perceptual_weight * distance.mean()
        weight = weights.solid_weight if background is None else weights.opacity_weight
        if weight and not before_own:
            error = (rendered.opacity[:, 0] - (1 if batch.alpha is None else batch.alpha)).square()
            error = error if batch.seen is None else torch.where(batch.seen, error, 0)
            terms["opacity"] = weight * error.mean()
        if batch.known is not None and weights.depth_weight:
            distances, sure = batch.known
            distances, last = self.scene.frame.nerf_from_capture_distance(distances), slice(-len(distances), None)
            ends = termination_loss(rendered.weights[-1].flatten(1)[last], rendered.along()[last], distances, sure)
            terms["depth"] = weights.depth_weight * ends
        if batch.slants is not None and batch.slants.numel():
            first = slice(batch.slants.numel())
            bends = flatness_loss(rendered.weights[-1].flatten(1)[first], rendered.along()[first], batch.slants)
            terms["flat"] = self._flat_weight() * bends
        self.optimiser.zero_grad(set_to_none=True)
        losses = torch.stack([term.reshape(()) for term in terms.values()])
        losses.sum().backward()
        self.optimiser.step()
        self.step_index += 1
        self.nerf.at_age(self.age)  # so that it renders as it will when it is loaded again
        values = losses.tolist()  # all at once: a GPU is waited for once a step
        if not all(map(math.isfinite, values)):
            wrong = ", ".join(name for name, value in zip(terms, values, strict=True) if not math.isfinite(value))
            raise Diverged(
                f"The training broke down at step {self.step_index}: {wrong} is not a number any more (NaN). What was "
                "saved before is kept; try another seed, or another preset or device."
            )
        return dict(zip(terms, values, strict=True))

    def _background(self, batch: RayBatch) -> tuple[Tensor | None, Tensor]:
        """A background for each ray, and the batch's colours over it: where a scene has one, a random one for each ray,
        or patch, that nothing but empty space can look like. Else none, and the colours as they are."""
        if self.nerf.background is None:
            return None, batch.colours
        random = torch.Generator().manual_seed(random_seed(self.seed, "background", self.step_index))
        patches = batch.of_patches // batch.patch**2
        singles = len(batch.colours) - batch.of_patches
        background = torch.rand(patches + singles, 3, generator=random)
        times = torch.tensor([batch.patch**2] * patches + [1] * singles)
        background = background.repeat_interleave(times, dim=0)
        background = background.to(batch.colours)
        return background, batch.over(self.nerf.background, background)

    def _flat_weight(self) -> float:
        """Of flatness in this step: what is flat too early stays where it happens to be."""
        steps, begin = self.training.steps, FLAT_FROM * self.training.steps
        grown = min(max((self.step_index - begin) / max(steps - begin, 1), 0.0), 1.0)
        return grown * self.training.losses.flat_weight

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
