# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs edits of the benchmark, all methods on one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.truth.data import TruthScene, load, thinned
from benchmarks.truth.methods import ENDS, ROWS, SIZES
from benchmarks.truth.run import Harness, Outcome
from benchmarks.truth.simulated import SimulatedEditor
from engine.editors.catalogue import load_editor
from engine.metrics.clip import load_clip
from engine.metrics.perceptual import load_perceptual
from engine.pictures import to_uint8

TRAINED = Path(__file__).parent / "data" / "unedited"  # unedited scenes, trained


class Worker:
    """What a process that runs edits holds."""

    def __init__(self, editor: str | None, size: str, methods: Sequence[str], device: str):
        """``editor``: a model folder or hub name; None where simulated ones are asked for alone."""
        self.methods, self.size = methods, SIZES[size]
        loaded = load_editor(editor, device) if editor else None
        self.harness = Harness(loaded, load_perceptual(device), self.size, TRAINED, device, load_clip(device))
        self.unedited: dict[tuple[str, int], Outcome] = {}  # the same for all edits

    def train(self, scene: str, seed: int) -> None:
        """Train an unedited scene, where that is not done."""
        self.harness.unedited(self.scene(scene), seed)

    def scene(self, name: str) -> TruthScene:
        """The scene, as much of it as the run's size has."""
        return thinned(load(name, self.size.pixels), self.size.views)

    def run(
        self,
        scene_name: str,
        key: str,
        seed: int,
        known: dict[str, dict[str, float]],
        strength: float | None = None,
        methods: Sequence[str] | None = None,
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """The records of ``methods``, of the run's where none are named, whose measures are not ``known``, and a
        held-out picture (H, W, 3) uint8 of each, the true one first; with the simulated editor of a ``strength``, if
        there is one. The ends of the scale are known, or among the methods."""
        scene, measures = self.scene(scene_name), dict(known)
        if strength is not None:
            self.harness.editor = SimulatedEditor(scene, strength)
        if (scene_name, seed) not in self.unedited:
            self.unedited[scene_name, seed] = self.harness.run(ROWS["unedited"], scene, key, seed)
        outcomes = {"unedited": self.unedited[scene_name, seed]}
        missing = [method for method in methods or self.methods if method not in known]
        for method in missing:
            if method not in outcomes:
                outcomes[method] = self.harness.run(ROWS[method], scene, key, seed)
            measures[method] = self.harness.measure(outcomes[method], outcomes["unedited"], scene, key)
        records = [
            {"scene": scene_name, "edit": key, "seed": seed, "method": method, "measures": measures[method],
             "unedited": measures["unedited"], "oracle": measures["oracle"]}
            | ({} if strength is None or method in ENDS else {"strength": strength})
            for method in missing
        ]  # fmt: skip
        middle = scene.training + len(scene.poses[scene.held_out]) // 2
        shown = {"truth": scene.after[key][middle]}
        for method, outcome in outcomes.items():
            shown[method] = to_uint8(outcome.pictures[middle - scene.training]).cpu().numpy()
        return records, shown
