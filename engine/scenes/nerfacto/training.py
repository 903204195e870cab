# SPDX-License-Identifier: GPL-3.0-or-later
"""One training step of nerfacto, and the optimisers it needs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from engine.errors import BadInput
from engine.scenes.nerfacto.config import LossConfig, OptimiserConfig
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import RayBatch


class Diverged(BadInput):
    """A training whose numbers are none any more; nothing of it is to be saved."""


class Trainer:
    """A NeRF and its optimisers, at some step. Everything that a checkpoint must hold to go on."""

    def __init__(
        self,
        nerf: Nerfacto,
        losses: LossConfig,
        optimiser: OptimiserConfig,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        seed: int = 0,
        earlier_steps: int = 0,
    ):
        """``perceptual``: (N, H, W, 3) twice, 0–1 → (N,); needed where ``losses`` weigh it. ``earlier_steps``: how many
        steps the NeRF had taken when it came here, from another trainer."""
        if losses.perceptual_weight and perceptual is None:
            raise ValueError("these losses need a perceptual measure")
        self.nerf = nerf
        self.losses = losses
        self.config = optimiser
        self.perceptual = perceptual
        self.seed = seed
        self.earlier_steps = earlier_steps
        self.step_index = 0
        cameras = list(nerf.camera_optimizer.parameters())
        scene = [*nerf.field.parameters(), *nerf.proposal_networks.parameters()]
        groups = [{"params": scene, "lr": optimiser.learning_rate}]
        if cameras:
            groups.append({"params": cameras, "lr": optimiser.camera_learning_rate})
        self.optimiser = torch.optim.Adam(groups, eps=1e-15, fused=True)

    def step(self, batch: RayBatch) -> dict[str, float]:
        """One NeRF update on ``batch``; the losses, weighted as they were added. Raises Diverged where they are no
        numbers any more."""
        self._begin_step()
        background, colours = self._background(batch)
        rendered = self.nerf(batch.rays, background)
        terms = self.nerf.regularisers(rendered)
        if batch.seen is not None:  # nothing is known there: whatever is rendered is right
            colours = torch.where(batch.seen[:, None], colours, rendered.rgb.detach())
        difference = rendered.rgb - colours
        terms["colour"] = difference.abs().mean() if self.losses.pixel == "l1" else difference.square().mean()
        if self.losses.perceptual_weight and batch.patch > 1:
            assert self.perceptual is not None
            shape = (-1, batch.patch, batch.patch, 3)
            distance = self.perceptual(rendered.rgb.view(shape), colours.view(shape))
            terms["perceptual"] = self.losses.perceptual_weight * distance.mean()
        if background is not None and self.losses.opacity_weight:
            error = (rendered.opacity[:, 0] - (1 if batch.alpha is None else batch.alpha)).square()
            error = error if batch.seen is None else torch.where(batch.seen, error, 0)
            terms["opacity"] = self.losses.opacity_weight * error.mean()
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
        patches = len(batch.colours) // batch.patch**2
        background = torch.rand(patches, 3, generator=random).repeat_interleave(batch.patch**2, dim=0)
        background = background.to(batch.colours)
        return background, batch.over(self.nerf.background, background)

    def _begin_step(self) -> None:
        """Set all that depends on the position alone: learning rates, anneal, and the samplers' random numbers, so
        that a resumed run and an unbroken one are the same."""
        step, c = self.step_index, self.config
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

    def generator(self) -> torch.Generator:
        """Random numbers for drawing this step's batch (CPU, a function of seed and step)."""
        return torch.Generator().manual_seed(random_seed(self.seed, "batch", self.step_index))


def _decayed(first: float, last: float, step: int, steps: int) -> float:
    return first * (last / first) ** min(step / steps, 1.0)


def random_seed(seed: int, purpose: str, position: int) -> int:
    """A seed for one draw at one place in a run: nothing random then needs saving."""
    import hashlib

    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
