# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets: every number of a job, for a CPU, a consumer GPU, and as in the paper."""

from __future__ import annotations

import msgspec
import psutil

from engine.devices import device_named
from engine.edit.settings import EditSettings
from engine.editors.catalogue import default_editor
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
    min_views: int = 8  # fewer chosen views than this seldom hold a scene together


def _on_a_gpu(peak: float) -> str:
    """What a preset says of its memory: ``peak`` in GiB, which tests/engine/test_peaks.py counts."""
    return (
        f"On a GPU an edit with InstructPix2Pix holds at most {peak:.1f} GiB in tensors of 512-pixel pictures, "
        "as counted and compared with one card, and CUDA itself takes about 1 GiB more"
    )


# GiB: of Standard 2.84 are counted; of Paper an H100 held 4.88 by PyTorch's kernels, 0.08 more than is counted, and of
# Standard, when its cameras moved, 3.04, as much more.
PEAKS = {"standard": 3.0, "paper": 4.9}

# Of a NeRF whose views look like their photos, and which lies where the cameras say (docs/geometry.md, Standard).
TRUE_TO_PHOTOS = {
    "initial_density": 0.1,  # thinner, and Preview's steps are too few to fill it; thicker, and views overfit
    "gradient_scaling": True,
    "appearance": 0,
    "optimise_cameras": False,
}
SURFACES = LossConfig(depth_weight=0.01, solid_weight=0.1, flat_weight=1.0)  # instead of fog (docs/geometry.md)

PAPER = Preset(
    name="paper",
    label="Paper",
    description=(
        "The paper's own numbers; the cameras are moved while it learns, by a few pixels, and what is learned with "
        f"them. {_on_a_gpu(PEAKS['paper'])}"
    ),
    long_side=512,
    nerf=NerfactoConfig(),
    train=TrainingConfig(steps=30_000, rays=4096),
    edit=EditSettings(),
)

STANDARD = Preset(
    name="standard",
    label="Standard",
    description=f"Larger pictures, a larger NeRF and more steps than Preview's. {_on_a_gpu(PEAKS['standard'])}",
    long_side=512,
    nerf=NerfactoConfig(**TRUE_TO_PHOTOS),
    train=TrainingConfig(
        steps=10_000,
        rays=4096,
        losses=SURFACES,
        optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=10_000),
    ),
    edit=EditSettings(
        steps=5000,
        patches=4,
        optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=5000),
    ),
)

PREVIEW = Preset(
    name="preview",
    label="Preview",
    description="Small pictures and a small NeRF: minutes on a CPU",
    long_side=320,
    nerf=NerfactoConfig(
        levels=8,
        features_per_level=4,
        table_log2=17,
        max_resolution=1024,
        # One proposal and 16 samples take two thirds of the time and cost a decibel or two (docs/speed.md).
        proposal_samples=(64, 32),
        nerf_samples=24,
        proposals=(ProposalConfig(128), ProposalConfig(256)),
        proposal_warmup=500,
        anneal_steps=300,
        **TRUE_TO_PHOTOS,
    ),
    train=TrainingConfig(
        steps=1500,
        rays=1024,
        losses=SURFACES,
        optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=1500),
    ),
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
)

PRESETS = {preset.name: preset for preset in (PREVIEW, STANDARD, PAPER)}


BESIDE_BYTES = 3 * 2**29  # that a GPU must have free beside a preset's peak: CUDA's own share, and some to spare
MOST_CORES = 16  # of a CPU, that a step still uses well
# Of one core of a CPU and a training step: 4,096 rays of Paper's, whose cameras move, took 2.5 to 2.7 s; 1,024 of
# Standard's 0.19 to 0.21 s.
SECONDS_A_RAY = {"paper": 2.6 / 4096, "standard": 0.2 / 1024}
FOR_GPUS = (STANDARD, PAPER)
# First guesses of what a unit of Preview takes on two CPU cores, seconds; a job's plan scales them by what it sees.
SECONDS_A_STEP = 0.06
SECONDS_A_RENDER = 0.6
SECONDS_AN_IMAGE_UPDATE = 0.8  # of the small editor
SECONDS_A_RELEVANCE = 0.2
SECONDS_A_COMPARED_PHOTO, SECONDS_A_FLAT_PHOTO = 1.5, 0.6  # compared with others; its flat surfaces found
MOST_COMPARED = 150  # photos that are compared: more take long and tell little that is new
STEP_OF_EDIT = 1.5  # of a step of training: what its patches and their loss add


def preset_for(device: Device) -> Preset:
    """The preset that suits a device by its free memory: the one default of panel, command line and engine. Paper is
    for who asks for it: it takes longer, and what it learns lies beside the cameras. A Mac's GPU gets the small one:
    nobody has measured another there."""
    if not device.name.startswith("cuda"):
        return PREVIEW
    return STANDARD if device.free_bytes >= PEAKS["standard"] * 2**30 + BESIDE_BYTES else PREVIEW


def choose_preset(name: str | None, device: str) -> Preset:
    """The preset of that name, or the one for the device. Raises BadInput."""
    if name is None:
        return preset_for(device_named(device))
    if name not in PRESETS:
        raise BadInput(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.", field="preset")
    return PRESETS[name]


def refuse_days(preset: str, device: str, even_on_cpu: bool) -> None:
    """Raise BadInput, with an estimate of the time, where a preset made for a GPU is to run on a CPU and that was not
    asked for a second time."""
    sentence = slow_on(device).get(preset)
    if sentence and not even_on_cpu:
        raise BadInput(f"{sentence} Choose Preview, or ask for it even on a CPU.", field="preset")


def slow_on(device: str) -> dict[str, str]:
    """The presets that are refused on a device unless asked for twice, each with a sentence on the time it takes."""
    if device != "cpu":
        return {}
    return {preset.name: _too_slow(preset) for preset in FOR_GPUS}


def _too_slow(preset: Preset) -> str:
    rays = sum(training.steps * training.rays for training in (preset.train, preset.edit.training))
    cores = min(max(psutil.cpu_count(logical=False) or 1, 1), MOST_CORES)
    hours = rays * SECONDS_A_RAY[preset.name] / cores / 3600
    if hours < 0.75:
        took = f"{max(10, 10 * round(6 * hours))} minutes"
    else:
        took = "an hour" if hours < 1.5 else f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
    return (
        f"{preset.label} takes about {took} on this CPU for the NeRF alone, reckoned from the time of one step; the "
        "image editor's share comes on top."
    )


def described(devices: list[Device]) -> list[Device]:
    """The devices with the names of their defaults, and with what is slow on them: as the wire has them."""
    return [
        msgspec.structs.replace(d, preset=preset_for(d).name, editor=default_editor(d), slow=slow_on(d.name))
        for d in devices
    ]


def preset_infos(device: Device) -> list[PresetInfo]:
    """The presets for the wire; the default is the one that suits the device."""
    default = preset_for(device)
    return [
        PresetInfo(
            name=p.name,
            label=p.label,
            description=p.description,
            default=p is default,
            long_side=p.long_side,
            min_views=p.min_views,
            **_cost(p),
        )
        for p in PRESETS.values()
    ]


def _cost(preset: Preset) -> dict[str, float]:
    """What a preset's work takes, as the wire has it. A view is edited once before all others' turn, where the preset
    says so, and rendered before and after."""
    nerf, edit = preset.nerf, preset.edit
    tables = nerf.levels * nerf.features_per_level * 2**nerf.table_log2
    tables += sum(2 * proposal.levels * 2**proposal.table_log2 for proposal in nerf.proposals)
    cost: dict[str, float] = {"bytes": 3 * 4 * tables}  # each number of 32 bits, and Adam's two moments of it
    if preset not in FOR_GPUS:
        once = edit.updates_first(1) * SECONDS_AN_IMAGE_UPDATE + (SECONDS_A_RELEVANCE if edit.agreed_relevance else 0)
        cost["train_seconds"] = preset.train.steps * SECONDS_A_STEP
        if preset.train.losses.depth_weight > 0:
            cost["compare_seconds"], cost["flat_seconds"] = SECONDS_A_COMPARED_PHOTO, SECONDS_A_FLAT_PHOTO
            cost["most_compared"] = MOST_COMPARED
        cost["edit_seconds"] = (
            edit.steps * STEP_OF_EDIT * SECONDS_A_STEP + edit.updates_later(1) * SECONDS_AN_IMAGE_UPDATE
        )
        cost["view_seconds"] = once + SECONDS_A_RENDER
        cost["try_seconds"] = SECONDS_AN_IMAGE_UPDATE + SECONDS_A_RELEVANCE
        cost["render_seconds"] = SECONDS_A_RENDER
    return cost
