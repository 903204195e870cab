# SPDX-License-Identifier: GPL-3.0-or-later
"""What a nerfacto is made of, as plain values: importable without torch."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class ProposalConfig(msgspec.Struct, frozen=True):
    """One proposal network: a small hash grid that says where along a ray to look."""

    max_resolution: int
    levels: int = 5
    table_log2: int = 17
    hidden: int = 16


class NerfactoConfig(msgspec.Struct, frozen=True):
    """nerfacto's size. The defaults are nerfstudio's."""

    representation: ClassVar[str] = "nerfacto"

    levels: int = 16
    features_per_level: int = 2
    table_log2: int = 19  # log2 of the rows in a level's table
    max_resolution: int = 2048  # cells along an edge at the finest level
    hidden: int = 64
    proposal_samples: tuple[int, ...] = (256, 96)  # samples a ray, of each proposal network
    nerf_samples: int = 48  # samples a ray
    coarse_steps: int = 0  # of its first steps, in which rays have half as many samples
    proposals: tuple[ProposalConfig, ...] = (ProposalConfig(128), ProposalConfig(256))
    proposal_warmup: int = 5000  # steps over which the proposals' update interval grows to proposal_interval
    proposal_interval: int = 5
    anneal_steps: int = 1000  # steps over which the proposal weights are annealed (Mip-NeRF 360, eq. 18)
    appearance: int = 32  # length of each view's appearance embedding; 0: none
    optimise_cameras: bool = True
    initial_density: float = 0.01  # of the field before training: a thin fog, or views paint screens before themselves
    gradient_scaling: bool = False  # weaken gradients near cameras (Philip & Deschaintre 2023), against floaters
    near: float = 0.05  # NeRF frame
    far: float = 1000.0
    interlevel_weight: float = 1.0
    distortion_weight: float = 0.002
    # The color (0–1) behind a scene; it is learned on random ones, so that its opacity is that of its pictures: of
    # objects that were cut out of theirs, which stand in empty space, or full. None: what the farthest samples are.
    background: tuple[float, float, float] | None = None
