# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure meshes against the truth:

    python -m benchmarks.geometry                # the reporting half, as the Preview preset makes it
    python -m benchmarks.geometry --smallest     # one scene of the development half, few steps: a few minutes
    python -m benchmarks.geometry --half development --rows oracle preview

Scenes are rendered where they are not there yet and trained once for each row. Each result is written as soon as it is
there; a run into the same output goes on.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from benchmarks.geometry import pictures
from benchmarks.geometry.data import load
from benchmarks.geometry.measures import Truth, measure
from benchmarks.geometry.run import ROWS, make
from benchmarks.truth.edits import SCENES
from engine.devices import choose_device
from engine.output.mesh import write_ply
from engine.presets import PREVIEW

TRAINED = Path(__file__).parent / "data"
SMALLEST = ("still life",)
OWN = {"cabin": "development"}  # scenes with their halves that are made for this benchmark alone
COLUMNS = {
    "f_score": ("F-score", "{:.3f}"),
    "subject_f_score": ("… of the subject", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "subject_precision": ("subject's precision", "{:.3f}"),
    "subject_recall": ("subject's recall", "{:.3f}"),
    "chamfer": ("Chamfer, % of the radius", "{:.2f}"),
    "subject_chamfer": ("… of the subject", "{:.2f}"),
    "normals": ("normals, degrees", "{:.1f}"),
    "subject_normals": ("… of the subject", "{:.1f}"),
    "covered": ("silhouette covered", "{:.3f}"),
    "parts": ("parts", "{:.0f}"),
    "faces": ("faces", "{:,.0f}"),
    "psnr": ("held out, dB", "{:.2f}"),
    "seconds": ("seconds", "{:.0f}"),
}
PRINTED = ("f_score", "subject_f_score", "covered", "psnr", "seconds")


@dataclass
class Options:
    """What to run."""

    half: Literal["reporting", "development", "both"] = "reporting"
    """Ways are chosen on the development half and reported on the other."""
    smallest: bool = False
    """One scene of the development half at 128 pixels, 300 steps of 256 rays."""
    scenes: tuple[str, ...] = ()
    """Only these, whatever their half."""
    rows: tuple[str, ...] = ("oracle", "preview")
    """Rows of the table."""
    steps: int | None = None
    """Of training; the preset's where not given."""
    rays: int | None = None
    """A step; the preset's where not given."""
    size: int | None = None
    """Pixels of the photos; Preview's where not given."""
    seed: int = 0
    device: str | None = None
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = field(
        default_factory=lambda: Path("benchmarks/geometry/results") / time.strftime("%Y%m%d-%H%M%S")
    )


def scenes_of(options: Options) -> list[str]:
    """Names of the scenes to run."""
    if options.scenes:
        return list(options.scenes)
    if options.smallest:
        return list(SMALLEST)
    halves = {name: half for name, (half, _) in SCENES.items()} | OWN
    return [name for name, half in halves.items() if options.half in {half, "both"}]


def length_of(row: str, options: Options) -> tuple[int, int]:
    """Steps and rays a step of a row's training: its preset's where nothing else is asked."""
    own = ROWS[row].preset.train
    steps, rays = (300, 256) if options.smallest else (own.steps, own.rays)
    return options.steps or steps, options.rays or rays


def table(records: list[dict]) -> str:
    """Markdown: a line for each scene and row, and the means of each row over its scenes."""
    lines = ["| scene | row | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |"]
    lines.append("|---|---|" + "---:|" * len(COLUMNS))
    rows = [(r["scene"], r["row"], r["measures"]) for r in records]
    if len({scene for scene, _, _ in rows}) > 1:
        for row in dict.fromkeys(row for _, row, _ in rows):
            own = [measures for _, other, measures in rows if other == row]
            rows.append(("mean", row, {key: float(np.mean([m[key] for m in own])) for key in COLUMNS}))
    for scene, row, measures in rows:
        cells = ["–" if np.isnan(measures[key]) else form.format(measures[key]) for key, (_, form) in COLUMNS.items()]
        lines.append(f"| {scene} | {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Run every row on every scene; print the table; write meshes, pictures and JSON."""
    device = choose_device(options.device)
    size = options.size or (128 if options.smallest else PREVIEW.long_side)
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "results.json"
    records = json.loads(results.read_text())["records"] if results.exists() else []
    done = {(r["scene"], r["row"], r["steps"], r["rays"], r["size"], r["seed"]) for r in records}
    for name in scenes_of(options):
        missing = [row for row in options.rows if (name, row, *length_of(row, options), size, options.seed) not in done]
        if not missing:
            continue
        scene = load(name, size)
        cameras = scene.cameras[: scene.training]
        truth = Truth.of(scene.vertices, scene.faces, scene.subject, cameras, np.asarray(scene.centre))
        shown = options.output / name.replace(" ", "-")
        pictures.of_truth(scene, truth, shown / "0 photos and truth.png")
        for row in missing:
            steps, rays = length_of(row, options)
            made = make(ROWS[row], scene, steps, rays, options.seed, TRAINED, device)
            measures = measure(made.mesh, truth) | {"seconds": made.seconds, "psnr": made.psnr}
            how = {"steps": steps, "rays": rays, "size": size, "seed": options.seed}
            records.append({"scene": name, "row": row} | how | {"measures": measures})
            print(name, row, *(f"{key} {measures[key]:.3f}" for key in PRINTED), flush=True)
            write_ply(made.mesh, shown / f"{row}.ply")
            pictures.of_mesh(made.mesh, scene, shown / f"{1 + options.rows.index(row)} {row}.png")
            about = {"device": device, "machine": platform.machine(), "torch": torch.__version__}
            part = results.with_name("results.json.part")
            part.write_text(json.dumps(about | {"records": records}, indent=1))
            part.replace(results)
        pictures.sheet(shown, options.output / f"{name.replace(' ', '-')}.png")
    print(table(records))
    print(results)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
