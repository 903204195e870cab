# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benchmark:

    python -m benchmarks.truth                    # the reporting half at 128 pixels
    python -m benchmarks.truth --smallest         # two scenes, two edits each
    python -m benchmarks.truth --half development --methods "Iterative DU" "first pass"
    python -m benchmarks.truth --size small --strengths 0.5 1 2 --seeds 3

Scenes are rendered where they are not there yet, unedited scenes trained once. Each result is written as soon as it is
there; a run into the same output goes on, and only runs the rows that it lacks.
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
from benchmarks.truth.data import ensure
from benchmarks.truth.edits import SCENES, SMALLEST
from benchmarks.truth.methods import BASELINES, ENDS, OURS, ROWS, SCHEDULES, SIZES, refuse_what_cannot_be
from benchmarks.truth.pool import Processes, cores
from benchmarks.truth.run import recovery
from engine.devices import choose_device, device_named
from engine.editors.catalogue import default_editor
from engine.metrics.perceptual import load_perceptual

PLACES = ("truth", *ROWS)  # the order in which pictures and records are shown


@dataclass
class Options:
    """What to run."""

    half: Literal["reporting", "development", "both"] = "reporting"
    """Methods are chosen on the development half and reported on the other."""
    smallest: bool = False
    """Two scenes, two edits each: a look that takes minutes."""
    size: Literal["small", "quick", "full"] = "quick"
    methods: tuple[str, ...] = ()
    """Rows of the table, the ends of the scale always among them; by default the paper's baselines and ours,
    with simulated editors the schedules."""
    scenes: tuple[str, ...] = ()
    """Only these, whatever their half."""
    edits: tuple[str, ...] = ()
    """Only these."""
    seeds: int = 1
    editor: str = ""
    """A model folder or hub name; the engine's default where not given."""
    strengths: tuple[float, ...] = ()
    """Of simulated editors, in the place of a real one; a table for each."""
    device: str | None = None
    workers: int | None = None
    """Edits that run side by side, each with its share of the cores; one on a GPU."""
    cluster: str | None = None
    """The address of a Ray cluster whose workers run them, a core or a card each, or auto: that of this machine."""
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


def methods_of(options: Options) -> list[str]:
    """The rows to run."""
    usual = SCHEDULES if options.strengths else (*BASELINES, OURS)
    return list(dict.fromkeys([*ENDS, *(options.methods or usual)]))


def main(options: Options) -> None:
    """Run every method on every edit, print the table, write sheet and JSON."""
    began = time.monotonic()
    device = choose_device(options.device)
    editor = None if options.strengths else options.editor or default_editor(device_named(device))
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "results.json"
    earlier = json.loads(results.read_text()) if results.exists() else {"records": [], "seconds": 0}
    records = earlier["records"]
    asked, methods = jobs_of(options), methods_of(options)
    size = "smallest" if options.smallest else options.size
    refuse_what_cannot_be(methods, size)
    processes = options.workers or (min(len(cores()), 4) if device == "cpu" else 1)
    about = {
        "half": options.half, "size": size, "editor": Path(editor).name if editor else "simulated",
        "perceptual": load_perceptual(device).name, "device": device,
        "machine": f"{platform.machine()}, {len(cores())} cores, {processes} processes", "torch": torch.__version__,
    }  # fmt: skip
    for name in dict.fromkeys(name for name, _ in asked):
        ensure(name, SIZES[size].pixels)
    if options.cluster is None:
        made_by = Processes(processes, editor, size, methods, device)
    else:
        from benchmarks.truth.cluster import Cluster

        made_by = Cluster(options.cluster, options.workers, editor, size, methods, device)
    with made_by as workers:
        workers.train(dict.fromkeys((name, seed) for name, _ in asked for seed in range(options.seeds)))
        places = [(s, e, seed) for seed in range(options.seeds) for s, e in asked]
        strengths = options.strengths or (None,)
        for strength, wave in [(strengths[0], ENDS), *((s, methods) for s in strengths)]:
            orders = []
            for place in places:
                known = known_of((*place, strength), records)
                missing = [method for method in wave if method not in known]
                for part in [missing] if wave is ENDS and missing else [[method] for method in missing]:
                    orders.append((*place, known, strength, part))
            for (name, key, seed, *_), (found, shown) in workers.run(orders):
                for record in found:
                    print(described(record), flush=True)
                records += found
                if seed == 0:
                    heading = f"{name}, {key}" + ("" if strength is None else f", {strength:g}")
                    keep(options.output / "pictures", heading, shown)
                write(results, about, records, earlier["seconds"] + time.monotonic() - began)
    tables.sheet(options.output / "pictures", options.output / "sheet.png")
    for strength in strengths_of(records):
        print("" if strength is None else f"\nStrength {strength:g}\n")
        print(tables.markdown(tables.summary(of_strength(records, strength))))
    print(f"{results}\n{time.monotonic() - began:.0f} s")


def described(record: dict) -> str:
    """A record in a line."""
    measures, which = record["measures"], f"seed {record['seed']}"
    if "strength" in record:
        which += f", strength {record['strength']:g}"
    share = recovery(*(of["perceptual"] for of in (record["unedited"], measures, record["oracle"])))
    return (
        f"{record['scene']}, {record['edit']}, {which}: {record['method']}: {measures['psnr']:.1f} dB, perceptual "
        f"{measures['perceptual']:.3f} (recovery {share:.2f}), {measures['seconds']:.0f} s"
    )


def strengths_of(records: list[dict]) -> list[float | None]:
    """The strengths that records are of, rising; None alone, where they are of a real editor."""
    return sorted({r["strength"] for r in records if "strength" in r}) or [None]


def of_strength(records: list[dict], strength: float | None) -> list[dict]:
    """The records of an editor of that strength, and of the ends of the scale, which need none."""
    return [r for r in records if r["method"] in ENDS or r.get("strength") == strength]


def known_of(job: tuple[str, str, int, float | None], records: list[dict]) -> dict[str, dict[str, float]]:
    """The measures of a (scene, edit, seed, strength) by method, as far as ``records`` have them."""
    *place, strength = job
    own = [r for r in of_strength(records, strength) if [r["scene"], r["edit"], r["seed"]] == place]
    return {r["method"]: r["measures"] for r in own}


def place_of(method: str) -> int:
    """Where a row stands among the others; one that is no longer in methods.py after all of them."""
    return PLACES.index(method) if method in PLACES else len(PLACES)


def keep(folder: Path, heading: str, shown: dict[str, np.ndarray]) -> None:
    """Pictures (H, W, 3) uint8 by row's name, in a folder named for the column, so that a run that goes on has them."""
    for row, picture in shown.items():
        path = folder / heading / f"{PLACES.index(row):02d} {row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def write(path: Path, about: dict, records: list[dict], seconds: float) -> None:
    """The results, whole or not at all; ``about`` says what was run, and on what."""
    records.sort(key=lambda r: (r["scene"], r["edit"], r["seed"], r.get("strength", -1), place_of(r["method"])))
    summaries = {s: tables.summary(of_strength(records, s)) for s in strengths_of(records)}
    summary = summaries.get(None) or {f"strength {s:g}": rows for s, rows in summaries.items()}
    data = about | {"seconds": round(seconds), "summary": summary, "records": records}
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1))
    part.replace(path)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
