# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto's rays by way of kernels, Warp's on a GPU, numba's on a CPU: the values of `Nerfacto`'s own path, which is
nerfstudio's, in a fraction of the launches and the memory traffic."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.losses import _GradientScaler
from torch import Tensor, nn

from engine.scenes.nerfacto import networks
from engine.scenes.nerfacto.along import HARMONICS, Along
from engine.scenes.nerfacto.kernels import are_off, usable


def kernels_for(nerf: Any, rays: RayBundle) -> Along | None:
    """What computes such rays: Warp's kernels, numba's, or None where nerfstudio's parts do."""
    origins = rays.origins
    if usable(origins.device):
        from engine.scenes.nerfacto import warp_rays

        return warp_rays.ALONG
    if (
        origins.device.type == "cpu"
        and not are_off()
        and origins.dtype == nerf.field.mlp_head.layers[0].weight.dtype == torch.float32
        and type(origins.data) is Tensor  # a fake tensor has no memory to read
        and not origins.requires_grad  # a camera that is corrected while training moves its samples
    ):
        from engine.scenes.nerfacto import numba_rays

        return numba_rays.ALONG
    return None


def render_rays(
    nerf: Any, rays: RayBundle, background: Tensor | None, kernels: Along
) -> tuple[tuple[Tensor, Tensor, Tensor], list[Tensor], list[Tensor], Tensor]:
    """What R rays with ends see of a Nerfacto: rgb (R, 3), depth (R,) and opacity (R,); and of the proposals, then of
    the field, the weights (R, S) and the edges (R, S + 1) of the samples; and the distances (R, S) of the field's.
    ``background`` (R, 3): what is behind, None: the last sample."""
    config, sampler = nerf.config, nerf.sampler
    count = len(rays.origins)
    assert rays.nears is not None and rays.fars is not None
    ends = rays.nears[:, 0].contiguous(), rays.fars[:, 0].contiguous()
    origins, directions = rays.origins.contiguous(), rays.directions.contiguous()
    learn = sampler._steps_since_update > sampler.update_sched(sampler._step) or sampler._step < 10

    of_proposals, of_field = nerf.samples()
    all_edges, all_weights = [_first_edges(nerf, of_proposals[0], origins)], []
    for number, network in enumerate(nerf.proposal_networks):
        if number:
            all_edges.append(_next_edges(nerf, all_edges[-1], all_weights[-1], of_proposals[number], kernels))
        with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
            points, deltas, _ = kernels.placed(origins, directions, all_edges[-1], *ends)
            raw = _network(network.mlp_base, points.view(-1, 3), kernels).view(count, -1)
            all_weights.append(kernels.weighed(raw, deltas, config.initial_density))
    if learn:
        sampler._steps_since_update = 0

    all_edges.append(_next_edges(nerf, all_edges[-1], all_weights[-1], of_field, kernels))
    points, deltas, middles = kernels.placed(origins, directions, all_edges[-1], *ends)
    raw, colors = _field(nerf, points, rays, kernels)
    if config.gradient_scaling:
        scaling = middles.square().clamp(0, 1)
        raw, _ = _GradientScaler.apply(raw, scaling)
        colors, _ = _GradientScaler.apply(colors, scaling[..., None])
    all_weights.append(kernels.weighed(raw, deltas, config.initial_density))
    if background is not None:
        background = background.expand(count, 3).contiguous()
    rgb, opacity, depth = kernels.composited(all_weights[-1], colors, middles, background)
    if not nerf.training:
        rgb = rgb.clamp(0, 1)
    return (rgb, depth, opacity), all_weights, all_edges, middles


def _jitter(nerf: Any, origins: Tensor) -> Tensor:
    """(R, 1): how far samples lie within their shares, 0–1: at random while training, drawn as nerfstudio does."""
    shape = (len(origins), 1)
    return torch.rand(shape, device=origins.device) if nerf.training else origins.new_full(shape, 0.5)


def _first_edges(nerf: Any, samples: int, origins: Tensor) -> Tensor:
    """(R, samples + 1): evenly spaced, while training each moved within the halves of the shares beside it."""
    edges = torch.linspace(0.0, 1.0, samples + 1, device=origins.device)
    if not nerf.training:
        return edges.expand(len(origins), -1).contiguous()
    middles = (edges[1:] + edges[:-1]) / 2
    return torch.lerp(torch.cat([edges[:1], middles]), torch.cat([middles, edges[-1:]]), _jitter(nerf, origins))


def _next_edges(nerf: Any, edges: Tensor, weights: Tensor, samples: int, kernels: Along) -> Tensor:
    jitter = _jitter(nerf, edges)[:, 0].contiguous()
    return kernels.resampled(weights.detach(), nerf.sampler._anneal, edges, jitter, samples)


def _network(base: Any, points: Tensor, kernels: Along) -> Tensor:
    """(N, J): what a hash encoding and its network say of points (N, 3) of the unit cube."""
    if not kernels.compiled_networks:
        return base(points)
    encoder, network = base if isinstance(base, nn.Sequential) else base.model
    return networks.geometry(encoder, network, points)


def _field(nerf: Any, points: Tensor, rays: RayBundle, kernels: Along) -> tuple[Tensor, Tensor]:
    """Density before its exponential (R, S) and colors (R, S, 3) at points (R, S, 3). What is the same all along a ray,
    direction and appearance, goes through its part of the first layer once."""
    field, (count, samples) = nerf.field, points.shape[:2]
    made, harmonics = _network(field.mlp_base, points.view(-1, 3), kernels), kernels.harmonics(rays.directions)
    if field.embedding_appearance is None and kernels.compiled_networks:
        colors = networks.colors(field.mlp_head, harmonics, made)
        return made[:, 0].view(count, samples), colors.view(count, samples, 3)
    raw, shape = made.split([1, field.geo_feat_dim], dim=-1)
    first, *others = field.mlp_head.layers
    of_ray = [harmonics]
    if field.embedding_appearance is not None:
        if nerf.training:
            assert rays.camera_indices is not None
            of_ray.append(field.embedding_appearance(rays.camera_indices[:, 0]))
        else:
            of_ray.append(field.embedding_appearance.mean(dim=0).expand(count, -1))
    at = [0, HARMONICS, HARMONICS + field.geo_feat_dim]
    by_direction, by_shape, by_appearance = (first.weight[:, a:b] for a, b in zip(at, [*at[1:], None], strict=True))
    once = torch.cat([by_direction, by_appearance], dim=1) if len(of_ray) > 1 else by_direction
    hidden = F.linear(shape, by_shape).view(count, samples, -1)
    hidden = hidden + F.linear(torch.cat(of_ray, dim=1), once, first.bias)[:, None]
    hidden = F.relu_(hidden).view(count * samples, -1)
    for layer in others[:-1]:
        hidden = F.relu_(layer(hidden))
    return raw.view(count, samples), torch.sigmoid(others[-1](hidden)).view(count, samples, 3)
