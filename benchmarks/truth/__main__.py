# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benchmark:

    python -m benchmarks.truth                    # the reporting half at 128 pixels
    python -m benchmarks.truth --smallest         # two scenes, two edits each
    python -m benchmarks.truth --half development --methods "Iterative DU" "first pass"

Scenes are rendered where they are not there yet, unedited scenes trained once. Each result is written as soon as it is
there, and a run that was stopped goes on.
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
from PIL import Image

from benchmarks.truth import tables
from benchmarks.truth.data import load
from benchmarks.truth.edits import SCENES, SMALLEST
from benchmarks.truth.methods import BASELINES, OURS, ROWS, SIZES
from benchmarks.truth.run import Harness, Outcome, recovery
from engine.devices import choose_device
from engine.editors.catalogue import default_editor
from engine.editors.instruct_pix2pix import load_editor
from engine.metrics.clip import load_clip
from engine.metrics.perceptual import load_perceptual
from engine.nerf.rendering import to_uint8


@dataclass
class Options:
    """What to run."""

    half: Literal["reporting", "development", "both"] = "reporting"
    """Methods are chosen on the development half and reported on the other."""
    smallest: bool = False
    """Two scenes, two edits each: a look that takes minutes."""
    size: Literal["quick", "full"] = "quick"
    methods: tuple[str, ...] = (*BASELINES, OURS)
    """Rows of the table; the unedited scene and the oracle are always among them."""
    scenes: tuple[str, ...] = ()
    """Only these, whatever their half."""
    edits: tuple[str, ...] = ()
    """Only these."""
    seeds: int = 1
    editor: str = ""
    """A model folder or hub name; the engine's default where not given."""
    device: str | None = None
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = field(
        default_factory=lambda: Path("benchmarks/truth/results") / time.strftime("%Y%m%d-%H%M%S")
    )


def jobs_of(options: Options) -> list[tuple[str, str]]:
    """(scene, edit) pairs."""
    chosen = SMALLEST if options.smallest else {
        name: edits for name, (half, edits) in SCENES.items() if options.half in {half, "both"}
    }  # fmt: skip
    if options.scenes:
        chosen = {name: SCENES[name][1] for name in options.scenes}
    return [(s, e) for s, edits in chosen.items() for e in edits if not options.edits or e in options.edits]


def main(options: Options) -> None:
    """Run every method on every edit, print the table, write sheet and JSON."""
    began = time.monotonic()
    device = choose_device(options.device)
    chosen = options.editor or default_editor(device)
    editor = load_editor(chosen, device)
    size = SIZES[options.size]
    perceptual = load_perceptual(device)
    trained = Path("benchmarks/truth/data/unedited")
    harness = Harness(editor, perceptual, size, trained, device, load_clip(device), chosen)
    names = list(dict.fromkeys(["unedited", "oracle", *options.methods]))
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "results.json"
    records = json.loads(results.read_text())["records"] if results.exists() else []
    unedited: dict[tuple[str, int], Outcome] = {}  # the same for all edits
    done = {(r["scene"], r["edit"], r["seed"]) for r in records}
    for name, key in jobs_of(options):
        scene = load(name, size.pixels)
        for seed in range(options.seeds):
            if (name, key, seed) in done:
                continue
            if (name, seed) not in unedited:
                unedited[name, seed] = harness.run(ROWS["unedited"], scene, key, seed)
            outcomes = {"unedited": unedited[name, seed]}
            measures = {}
            for method in names:
                if method not in outcomes:
                    outcomes[method] = harness.run(ROWS[method], scene, key, seed)
                measures[method] = harness.measure(outcomes[method], outcomes["unedited"], scene, key)
                share = recovery(
                    measures["unedited"]["perceptual"], measures[method]["perceptual"],
                    measures.get("oracle", measures[method])["perceptual"],
                )  # fmt: skip
                print(
                    f"{name}, {key}, seed {seed}: {method}: {measures[method]['psnr']:.1f} dB, perceptual "
                    f"{measures[method]['perceptual']:.3f} (recovery {share:.2f}), {outcomes[method].seconds:.0f} s",
                    flush=True,
                )
            for method in names:
                records.append(
                    {"scene": name, "edit": key, "seed": seed, "method": method, "measures": measures[method],
                     "unedited": measures["unedited"], "oracle": measures["oracle"]}
                )  # fmt: skip
            if seed == 0:
                middle = len(outcomes["oracle"].pictures) // 2
                shown = {"truth": scene.after[key][scene.held_out][middle]}
                shown |= {m: to_uint8(outcomes[m].pictures[middle]).cpu().numpy() for m in names}
                keep(options.output / "pictures", f"{name}, {key}", shown)
            write(results, options, records, editor.name, perceptual.name, device, time.monotonic() - began)
    tables.sheet(options.output / "pictures", options.output / "sheet.png")
    print(tables.markdown(tables.summary(records)))
    print(f"{results}\n{time.monotonic() - began:.0f} s")


def keep(folder: Path, heading: str, shown: dict[str, np.ndarray]) -> None:
    """Pictures (H, W, 3) uint8 by row's name, in a folder named for the column, so that a run that goes on has them."""
    for number, (row, picture) in enumerate(shown.items()):
        path = folder / heading / f"{number:02d} {row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def write(
    path: Path, options: Options, records: list[dict], editor: str, perceptual: str, device: str, seconds: float
) -> None:
    """The results, whole or not at all."""
    data = {
        "half": options.half, "size": options.size, "editor": Path(editor).name, "perceptual": perceptual,
        "device": device, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__, "seconds": round(seconds), "summary": tables.summary(records), "records": records,
    }  # fmt: skip
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1))
    part.replace(path)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
