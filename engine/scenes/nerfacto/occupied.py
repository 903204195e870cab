# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept beside a nerfacto to render it fast on a CPU: the grid of what is occupied, and the networks' weights as
the compiled kernels want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor, nn

from engine.scenes.nerfacto.march import fill_grid, march
from engine.scenes.nerfacto.nerfacto import Nerfacto

FINEST = 64  # cells along an edge of the grid, at most
HARMONICS = 16  # of a direction
COLOURS = 6  # asked of a ray, at most


@dataclass(frozen=True)
class Occupied:
    """The grid and the weights of a nerfacto at one moment; a function of its weights alone."""

    grid: np.ndarray  # (G, G, G) the first proposal's greatest density about each cell of the contracted cube
    proposals: tuple[tuple[Any, ...], tuple[Any, ...]]  # the first and the last
    field: tuple[Any, ...]
    head: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, nerf: Nerfacto) -> Occupied:
        """Of a nerfacto on a CPU."""
        proposals = [_density_network(p.encoding, p.mlp_base[1], p) for p in nerf.proposal_networks]
        finest = max(p.max_resolution for p in nerf.config.proposals[:1])
        grid = np.empty((min(FINEST, finest),) * 3, np.float32)
        fill_grid(proposals[0], grid)
        encoder, network = nerf.field.mlp_base.model
        head = [part for layer in nerf.field.mlp_head.layers for part in _layer(layer)]
        if nerf.field.embedding_appearance is not None:  # the mean of all views' is a constant: part of the bias
            geometry = HARMONICS + nerf.field.geo_feat_dim
            mean = nerf.field.embedding_appearance.mean(dim=0).detach().numpy()
            weights = nerf.field.mlp_head.layers[0].weight.detach().numpy()
            head[1][: len(weights)] += weights[:, geometry:] @ mean
            head[0] = _padded(weights[:, :geometry])
        return cls(
            _greatest_around(grid),
            (proposals[0], proposals[-1]),
            _density_network(encoder, network, nerf.field),
            tuple(head),
        )


def can_march(nerf: Nerfacto) -> bool:
    """Whether the compiled kernels can render it: its weights are 32-bit floats in a CPU's memory, its parts ours."""
    weights = next(nerf.parameters())
    return (
        isinstance(nerf, Nerfacto)
        and weights.device.type == "cpu"
        and weights.dtype == torch.float32
        and type(weights.data) is Tensor  # a fake tensor has no memory to read
        and len(nerf.config.proposals) <= 2
    )


def march_rays(
    nerf: Nerfacto, occupied: Occupied, origins: Tensor, directions: Tensor, shares: Sequence[float] = ()
) -> Tensor:
    """(R, 5 + S) what rays (R, 3) of the NeRF frame see: color, median distance, opacity, the distances by which S
    ``shares`` of that are met."""
    config = nerf.config
    counts = (config.proposal_samples[0], config.proposal_samples[1] if len(config.proposals) == 2 else 0)
    rays = (origins, directions, nerf.field.direction_encoding((directions + 1) / 2))
    out = torch.empty(len(origins), 5 + len(shares))
    march(
        tuple(tensor.contiguous().numpy() for tensor in rays),
        occupied.grid,
        *occupied.proposals,
        occupied.field,
        occupied.head,
        np.empty(0, np.float32) if nerf.background is None else nerf.background.numpy(),
        (*counts, config.nerf_samples),
        np.float32(config.far / 2 if config.far < 1 else 1 - 1 / (2 * config.far)),
        np.float32(nerf.sampler._anneal),
        COLOURS,
        np.array(shares, np.float32),
        out.numpy(),
    )
    return out


def _density_network(encoder: HashEncoding, network: nn.Module, owner: nn.Module) -> tuple[Any, ...]:
    """(table (L, T, F), scalings, weights and biases of two layers, the density of an output of zero)."""
    levels = encoder.num_levels
    table = encoder.hash_table.detach().view(levels, -1, encoder.features_per_level).numpy()
    layers = [part for layer in network.layers for part in _layer(layer)]
    return (table, encoder.scalings.numpy().astype(np.float32), *layers, np.float32(owner.average_init_density))


def _layer(layer: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias, with rows and columns of zeros up to a multiple of four."""
    bias = layer.bias.detach().numpy()
    return _padded(layer.weight.detach().numpy()), np.concatenate([bias, np.zeros(-len(bias) % 4, np.float32)])


def _padded(weights: np.ndarray) -> np.ndarray:
    rows, columns = weights.shape
    return np.ascontiguousarray(np.pad(weights, ((0, -rows % 4), (0, -columns % 4))))


def _greatest_around(grid: np.ndarray) -> np.ndarray:
    """The greatest value of each cell and its 26 neighbours."""
    for axis in range(3):
        low, high = grid.copy(), grid.copy()
        to, of = [slice(None)] * 3, [slice(None)] * 3
        to[axis], of[axis] = slice(1, None), slice(None, -1)
        low[tuple(to)] = grid[tuple(of)]
        high[tuple(of)] = grid[tuple(to)]
        grid = np.maximum(grid, np.maximum(low, high))
    return grid
