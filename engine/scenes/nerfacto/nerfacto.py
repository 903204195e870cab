# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto, assembled from nerfstudio's parts.

nerfstudio's own NerfactoModel builds an LPIPS that downloads weights when it is constructed, and hides the training
step behind callbacks; the parts below are the same, and their parameters carry the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField
from nerfstudio.model_components.losses import (
    distortion_loss,
    interlevel_loss,
    scale_gradients_by_distance_squared,
)
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.model_components.scene_colliders import NearFarCollider
from torch import Tensor, nn

from engine.scenes.nerfacto.along import Along
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.fused import kernels_for, render_rays
from engine.scenes.nerfacto.hash_encoding import use_fused_hash_encoding


@dataclass
class Rendered:
    """What rays see. R rays; colours in display-referred RGB, 0–1."""

    rgb: Tensor  # (R, 3)
    depth: Tensor  # (R, 1) median distance along the normalised ray, NeRF frame
    opacity: Tensor  # (R, 1)
    weights: list[Tensor]  # (R, S, 1) of the proposals, then of the field
    samples: list[RaySamples]
    kernels: Along | None = None  # what computed it; None: nerfstudio's parts
    edges: list[Tensor] | None = None  # (R, S + 1) in the place of samples, and weights (R, S), where kernels made them
    middles: Tensor | None = None  # (R, S) distances of the field's samples, where there are edges

    def along(self) -> Tensor:
        """(R, S) the distances of the field's samples, NeRF frame."""
        if self.middles is not None:
            return self.middles
        frustums = self.samples[-1].frustums
        return ((frustums.starts + frustums.ends) / 2)[..., 0]

    def met(self, shares: Sequence[float]) -> Tensor:
        """(R, len(shares)) the distances by which so much of each ray is met, of the last sample where never."""
        weights, middles = self.weights[-1].detach().flatten(1), self.along()
        wanted = weights.new_tensor(list(shares)).expand(len(weights), -1).contiguous()
        first = torch.searchsorted(weights.cumsum(dim=-1), wanted).clamp(max=weights.shape[1] - 1)
        return middles.gather(1, first)


class CubeContraction(SceneContraction):
    """nerfstudio's contraction of all space into a cube of side 4 (order ∞), several times as fast on a CPU, where
    torch's vector norm along a short axis is slow."""

    def forward(self, positions: Tensor) -> Tensor:
        size = positions.abs().amax(dim=-1, keepdim=True)
        return torch.where(size < 1, positions, (2 - 1 / size) * (positions / size))


class Nerfacto(nn.Module):
    """A scene: density and colour fields, two proposal networks, and a correction of each camera."""

    def __init__(self, config: NerfactoConfig, views: int):
        super().__init__()
        self.config = config
        contraction = CubeContraction(order=float("inf"))
        box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
        self.field = NerfactoField(
            box,
            num_images=views,
            hidden_dim=config.hidden,
            hidden_dim_color=config.hidden,
            num_levels=config.levels,
            max_res=config.max_resolution,
            log2_hashmap_size=config.table_log2,
            features_per_level=config.features_per_level,
            appearance_embedding_dim=config.appearance,
            use_average_appearance_embedding=True,
            spatial_distortion=contraction,
            average_init_density=config.initial_density,
            implementation="torch",
        )
        self.proposal_networks = nn.ModuleList(
            HashMLPDensityField(
                box,
                spatial_distortion=contraction,
                hidden_dim=p.hidden,
                num_levels=p.levels,
                max_res=p.max_resolution,
                log2_hashmap_size=p.table_log2,
                average_init_density=config.initial_density,
                implementation="torch",
            )
            for p in config.proposals
        )
        mode = "SO3xR3" if config.optimise_cameras else "off"
        self.camera_optimizer = CameraOptimizer(CameraOptimizerConfig(mode=mode), num_cameras=views, device="cpu")
        self.collider = NearFarCollider(config.near, config.far)
        self.sampler = ProposalNetworkSampler(
            num_nerf_samples_per_ray=config.nerf_samples,
            num_proposal_samples_per_ray=config.proposal_samples,
            num_proposal_network_iterations=len(config.proposals),
            single_jitter=True,
            update_sched=lambda step: np.clip(
                step / config.proposal_warmup * config.proposal_interval, 1, config.proposal_interval
            ),
        )
        self.render_rgb = RGBRenderer(background_color="last_sample")
        self.render_opacity = AccumulationRenderer()
        self.render_depth = DepthRenderer(method="median")  # expected depth floats between surfaces at edges
        background = None if config.background is None else torch.tensor(config.background)
        self.register_buffer("background", background, persistent=False)  # (3,) of the config; no weight
        use_fused_hash_encoding(self)
        self.age = 0  # steps that it has taken in all

    def samples(self) -> tuple[list[int], int]:
        """How many samples a ray has: of each proposal, and of the field. Half as many while a scene is young: blurred
        at first, it learns faster in every sense."""
        c = self.config
        halves = 2 if self.training and self.age < c.coarse_steps else 1
        return [-(-count // halves) for count in c.proposal_samples], -(-c.nerf_samples // halves)

    def at_age(self, step: int) -> None:
        """Set what depends on how many steps the scene has taken in all: how sharply the proposals steer, and whether
        they learn in this step.

        Both are functions of ``step`` alone, so that a resumed training goes on exactly as an unbroken one, and an edit
        begins with proposals as sharp as the scene's.
        """
        self.age = step
        x = min(step / self.config.anneal_steps, 1.0)
        slope = 10.0
        self.sampler.set_anneal(slope * x / ((slope - 1) * x + 1))  # Mip-NeRF 360, eq. 18
        interval = int(self.sampler.update_sched(step))
        self.sampler.step_cb(step)
        self.sampler._steps_since_update = interval + 1 if step % interval == 0 else 0

    def forward(self, rays: RayBundle, background: Tensor | None = None) -> Rendered:
        """Render R rays given in the NeRF frame, with the camera corrections while training. ``background`` (R, 3),
        0–1: behind a scene that stands in empty space, in the place of its own."""
        if self.training:
            self.camera_optimizer.apply_to_raybundle(rays)
        rays = self.collider(rays)
        kernels = kernels_for(self, rays)
        if kernels is not None:
            own = self.background if background is None else background
            (rgb, depth, opacity), weights, edges, middles = render_rays(self, rays, own, kernels)
            return Rendered(rgb, depth[:, None], opacity[:, None], weights, [], kernels, edges, middles)
        self.sampler.num_proposal_samples_per_ray, self.sampler.num_nerf_samples_per_ray = self.samples()
        samples, weights, sample_list = self.sampler(rays, density_fns=[p.density_fn for p in self.proposal_networks])
        outputs = self.field(samples)
        if self.config.gradient_scaling:
            outputs = scale_gradients_by_distance_squared(outputs, samples)
        weight = samples.get_weights(outputs[FieldHeadNames.DENSITY])
        return Rendered(
            rgb=self.render_rgb(
                rgb=outputs[FieldHeadNames.RGB],
                weights=weight,
                background_color=self.background if background is None else background,
            ),
            depth=self.render_depth(weights=weight, ray_samples=samples),
            opacity=self.render_opacity(weights=weight),
            weights=[*weights, weight],
            samples=[*sample_list, samples],
        )

    def regularisers(self, rendered: Rendered) -> dict[str, Tensor]:
        """nerfacto's own losses, weighted: interlevel, distortion, and how far the cameras were moved."""
        interlevel, distortion = _losses(rendered)
        losses = {
            "interlevel": self.config.interlevel_weight * interlevel,
            "distortion": self.config.distortion_weight * distortion,
        }
        cameras: dict[str, Tensor] = {}
        self.camera_optimizer.get_loss_dict(cameras)
        return losses | {"cameras": sum(cameras.values())} if cameras else losses


def _losses(rendered: Rendered) -> tuple[Tensor, Tensor]:
    """Interlevel and distortion loss, unweighted."""
    kernels = rendered.kernels
    if kernels is None or rendered.edges is None:
        return (
            interlevel_loss(rendered.weights, rendered.samples),
            distortion_loss(rendered.weights, rendered.samples),
        )
    *coarse, fine = zip(rendered.edges, rendered.weights, strict=True)
    between = [kernels.interlevel(*fine, *each) for each in coarse]
    return torch.stack(between).sum(), kernels.distortion(*fine)
