# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets: every number of a job, for a CPU, a consumer GPU, and as in the paper."""

from __future__ import annotations

import msgspec

from engine.devices import find_devices
from engine.edit.settings import EditSettings
from engine.errors import BadInput
from engine.protocol import Device, PresetInfo
from engine.scenes.nerfacto.config import NerfactoConfig, ProposalConfig
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig


class Preset(msgspec.Struct, frozen=True):
    """A way to do the whole job."""

    name: str
    label: str
    description: str
    long_side: int  # pixels, of the working images
    nerf: NerfactoConfig
    train: TrainingConfig  # of the unedited scene
    edit: EditSettings
    mesh_resolution: int  # voxels along the longest edge
    min_views: int = 8  # fewer chosen views than this seldom hold a scene together


def _on_a_gpu(peak: float) -> str:
    """What a preset says of its memory: ``peak`` in GiB, which tests/engine/test_peaks.py counts."""
    return (
        f"On a GPU an edit with InstructPix2Pix holds at most {peak:.1f} GiB in tensors of 512-pixel pictures; this is "
        "counted, not measured, and CUDA itself takes about 1 GiB more"
    )


PAPER = Preset(
    name="paper",
    label="Paper",
    description=f"The paper's own numbers. {_on_a_gpu(4.8)}",
    long_side=512,
    nerf=NerfactoConfig(),
    train=TrainingConfig(steps=30_000, rays=4096),
    edit=EditSettings(),
    mesh_resolution=320,
)

STANDARD = Preset(
    name="standard",
    label="Standard",
    description=f"Smaller batches of rays than the paper's and a third of its steps. {_on_a_gpu(3.0)}",
    long_side=512,
    nerf=NerfactoConfig(),
    train=TrainingConfig(
        steps=10_000, rays=4096, optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=10_000)
    ),
    edit=EditSettings(
        steps=5000,
        patches=4,
        optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=5000),
    ),
    mesh_resolution=256,
)

PREVIEW = Preset(
    name="preview",
    label="Preview",
    description="Small pictures and a small NeRF: minutes on a CPU",
    long_side=192,
    nerf=NerfactoConfig(
        levels=8,
        features_per_level=4,
        table_log2=17,
        max_resolution=1024,
        proposal_samples=(64, 32),
        nerf_samples=24,
        proposals=(ProposalConfig(128), ProposalConfig(256)),
        proposal_warmup=500,
        anneal_steps=300,
        initial_density=0.1,  # thinner, and a thousand steps are too few to fill it; thicker, and views overfit
        gradient_scaling=True,
        appearance=0,
        optimise_cameras=False,
    ),
    train=TrainingConfig(steps=1000, rays=1024, optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=1000)),
    edit=EditSettings(
        steps=300,
        steps_per_round=5,  # 60 image updates, after the first pass over all views
        # From here to the losses as the truth benchmark says of so few steps (docs/benchmark.md).
        first_pass=True,
        agreed_relevance=0.5,
        patches=1,
        single_rays=0.6,
        losses=LossConfig("l1", 0.3),
        optimiser=OptimiserConfig(learning_rate=5e-3, final_learning_rate=1e-3, decay_steps=300),
    ),
    mesh_resolution=160,
)

PRESETS = {preset.name: preset for preset in (PREVIEW, STANDARD, PAPER)}


PAPER_BYTES = 15 * 2**30  # of a GPU, for Paper


def preset_for(device: Device) -> Preset:
    """The preset that suits a device by its memory: the one default of panel, command line and engine."""
    if device.name == "cpu":
        return PREVIEW
    return PAPER if device.total_bytes >= PAPER_BYTES else STANDARD


def choose_preset(name: str | None, device: str) -> Preset:
    """The preset of that name, or the one for the device. Raises BadInput."""
    if name is None:
        found = next((d for d in find_devices() if d.name == device), Device(device, "", 0, 0))
        return preset_for(found)
    if name not in PRESETS:
        raise BadInput(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.", field="preset")
    return PRESETS[name]


def preset_infos(devices: list[Device]) -> list[PresetInfo]:
    """The presets for the wire; the default is the one that suits the first of ``devices``, which computes where none
    is named."""
    default = preset_for(devices[0]) if devices else PREVIEW
    return [
        PresetInfo(
            name=p.name,
            label=p.label,
            description=p.description,
            default=p is default,
            long_side=p.long_side,
            min_views=p.min_views,
        )
        for p in PRESETS.values()
    ]
