# SPDX-License-Identifier: GPL-3.0-or-later
"""What a region does, on a scene whose right answer is known:

    python -m benchmarks.truth.region                     # still life, gold, in minutes
    python -m benchmarks.truth.region --scene figure --edit red --size quick

A box is laid around the subject, as an artist would, and the same edit made with it and without. At held-out cameras:
outside, how many dB to the capture are lost against the unedited scene; inside, how much of the true edit is recovered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
import tyro

from benchmarks.truth.data import TruthScene, load
from benchmarks.truth.edits import SCENES
from benchmarks.truth.methods import OURS, ROWS, SIZES, refuse_what_cannot_be
from benchmarks.truth.run import Harness, Outcome, cameras_of
from benchmarks.truth.worker import TRAINED
from engine import protocol
from engine.devices import choose_device, device_named
from engine.edit.region import Region
from engine.editors.catalogue import default_editor, load_editor
from engine.geometry import unproject
from engine.metrics.perceptual import load_perceptual
from engine.scenes.base import RenderedView

FACES = [0, 1, 3, 0, 3, 2, 4, 7, 5, 4, 6, 7, 0, 4, 5, 0, 5, 1, 2, 3, 7, 2, 7, 6, 0, 2, 6, 0, 6, 4, 1, 5, 7, 1, 7, 3]


@dataclass
class Options:
    """What to run."""

    scene: str = "still life"
    edit: str = "gold"
    size: Literal["small", "smallest", "quick", "full"] = "smallest"
    method: str = OURS
    seed: int = 0
    margin: float = 0.03
    """Around the subject, as a share of the box's diagonal."""
    device: str | None = None


def box_around(points: np.ndarray, margin: float) -> protocol.Region:
    """A region that is a box along the axes around points (n, 3), but for the outermost of them."""
    low, high = np.percentile(points, (0.5, 99.5), axis=0)
    room = margin * float(np.linalg.norm(high - low))
    sides = [(a - room, b + room) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    vertices = [value for corner in product(*sides) for value in corner]
    return protocol.Region(solids=[protocol.Solid(vertices=vertices, triangles=FACES)], softness=room)


def subject_points(scene: TruthScene) -> np.ndarray:
    """(n, 3) where the training cameras see the subject."""
    cameras = cameras_of(scene, slice(scene.training))
    seen = zip(scene.depth, scene.subject, cameras, strict=False)
    return np.concatenate([unproject(torch.from_numpy(d), c).numpy()[s & np.isfinite(d)] for d, s, c in seen])


def measure(outcome: Outcome, oracle: Outcome, unedited: Outcome, scene: TruthScene, key: str, region: Region) -> dict:
    """Means over the held-out cameras."""
    errors: dict[str, list[torch.Tensor]] = {}
    held = scene.held_out
    for number, (depth, camera) in enumerate(zip(scene.depth[held], cameras_of(scene, held), strict=True)):
        depth = torch.from_numpy(depth)
        mask = region.mask(RenderedView(depth, depth, torch.isfinite(depth).float()), camera)[..., 0]
        before, after = (torch.from_numpy(p[held][number]).float() / 255 for p in (scene.before, scene.after[key]))
        for name, made in (("own", outcome), ("oracle", oracle), ("unedited", unedited)):
            picture = made.pictures[number].cpu()
            errors.setdefault(f"{name} outside", []).append((picture - before).square()[mask == 0])
            errors.setdefault(f"{name} inside", []).append((picture - after).square()[mask == 1])
    mse = {name: float(torch.cat(parts).mean()) for name, parts in errors.items()}
    decibels = {name: -10 * np.log10(mse[f"{name} outside"]) for name in ("own", "unedited")}
    whole = mse["unedited inside"] - mse["oracle inside"]
    return {
        "psnr outside": round(decibels["own"], 2),
        "lost outside, dB": round(decibels["unedited"] - decibels["own"], 2),
        "recovery inside": round((mse["unedited inside"] - mse["own inside"]) / whole, 3),
        "seconds": round(outcome.seconds, 1),
    }


def main(options: Options) -> None:
    """Run the edit with the region and without, and print both."""
    refuse_what_cannot_be([options.method], options.size)
    device = choose_device(options.device)
    size = SIZES[options.size]
    harness = Harness(
        load_editor(default_editor(device_named(device)), device), load_perceptual(device), size, TRAINED, device
    )
    scene = load(options.scene, size.pixels)
    assert options.edit in SCENES[options.scene][1], SCENES[options.scene]
    asked = box_around(subject_points(scene), options.margin)
    made = {
        name: harness.run(ROWS[row], scene, options.edit, options.seed, region)
        for name, row, region in (
            ("unedited", "unedited", None),
            ("oracle", "oracle", None),
            ("without a region", options.method, None),
            ("with a region", options.method, Region(asked)),
        )
    }
    for name in ("without a region", "with a region"):
        found = measure(made[name], made["oracle"], made["unedited"], scene, options.edit, Region(asked))
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
