# SPDX-License-Identifier: GPL-3.0-or-later
"""What a nerfacto's configuration may be: a checkpoint may come from another person, and its header says what is built
before a single weight is read. Imports no torch."""

from __future__ import annotations

from engine.scenes.nerfacto.config import NerfactoConfig

MOST_TABLE = 2**30  # bytes of all tables together; the paper's take 70 MB
# Field → least and most; both may be had.
_RANGES: dict[str, tuple[float, float]] = {
    "levels": (1, 32),
    "features_per_level": (1, 16),
    "table_log2": (1, 24),
    "max_resolution": (16, 2**17),
    "hidden": (1, 1024),
    "nerf_samples": (1, 4096),
    "coarse_steps": (0, 10**7),
    "proposal_warmup": (1, 10**7),
    "proposal_interval": (1, 10**4),
    "anneal_steps": (1, 10**7),
    "appearance": (0, 1024),
    "initial_density": (1e-9, 1e6),
    "near": (1e-6, 1e6),
    "far": (1e-6, 1e9),
    "interlevel_weight": (0, 1e6),
    "distortion_weight": (0, 1e6),
}
_PROPOSAL = ("levels", "table_log2", "max_resolution", "hidden")
PROPOSAL_FEATURES = 2  # of nerfstudio's proposal networks


def problem_of(config: NerfactoConfig, file_bytes: int) -> str | None:
    """What is wrong with a configuration read from a file of that size; None where it can be built."""
    for name, (least, most) in _RANGES.items():
        if not least <= getattr(config, name) <= most:
            return f"its {name} is {getattr(config, name):g}, where {least:g} to {most:g} can be"
    if config.background is not None and not all(0 <= channel <= 1 for channel in config.background):
        return "its background is no color"
    if config.near >= config.far:
        return "it ends nearer than it begins"
    if not 1 <= len(config.proposals) <= 4 or len(config.proposal_samples) != len(config.proposals):
        return "it has not one number of samples for each of 1 to 4 proposals"
    if not all(2 <= count <= 4096 for count in config.proposal_samples):
        return "its proposal_samples are not each 2 to 4096"
    tables = config.levels * 2**config.table_log2 * config.features_per_level
    for proposal in config.proposals:
        for name in _PROPOSAL:
            least, most = _RANGES[name]
            if not least <= getattr(proposal, name) <= most:
                return f"a proposal's {name} is {getattr(proposal, name)}, where {least:g} to {most:g} can be"
        tables += proposal.levels * 2**proposal.table_log2 * PROPOSAL_FEATURES
    if 4 * tables > min(file_bytes, MOST_TABLE):
        return "it tells of larger tables than the file holds"
    return None
