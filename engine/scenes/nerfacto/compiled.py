# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiling the CPU kernels ahead of the first step that needs them; numba keeps what it compiled on the disk."""

from __future__ import annotations

import numpy as np
import torch

from engine.capture import Intrinsics
from engine.geometry import Viewpoint
from engine.scenes.nerfacto.config import NerfactoConfig, ProposalConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.hash_encoding import compile_kernels as compile_encoding
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import cameras_from
from engine.scenes.nerfacto.scene import NerfactoScene

FEATURES = (2, 4)  # a level: the proposals' and the full-size field's, and the preview field's


def compile_kernels() -> None:
    """Compile what training and rendering on a CPU use, or load it from numba's cache."""
    for features in FEATURES:
        compile_encoding(features)
    small = ProposalConfig(max_resolution=16, levels=2, table_log2=4)
    config = NerfactoConfig(
        levels=2, table_log2=4, max_resolution=16, hidden=8, appearance=0, optimise_cameras=False,
        proposals=(small, small), proposal_samples=(4, 4), nerf_samples=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # nothing that a job draws depends on it
        nerf = Nerfacto(config, 1)
    scene = NerfactoScene(nerf, NerfFrame(1.0, (0.0, 0.0, 0.0)))
    camera = Viewpoint(np.eye(4), Intrinsics(2, 2, 2.0, 2.0, 1.0, 1.0))
    scene.render(camera)
    rays = cameras_from([camera], scene.frame, "cpu").generate_rays(camera_indices=0).flatten()
    rendered = nerf.train()(rays)
    (rendered.rgb.sum() + sum(nerf.regularisers(rendered).values())).backward()
