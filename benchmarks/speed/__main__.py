# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast training and rendering are: one command, one run, everything in turns.

    python -m benchmarks.speed [--output docs/speed] [--rounds 5]

Writes OUTPUT.json and OUTPUT-table.md, and prints the table. Times are medians over the rounds, with the least and the
greatest; subjects take turns within a round, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import torch

from benchmarks.speed.limits import Machine, ray_cost, step_cost
from benchmarks.speed.subjects import (
    Captured,
    Stock,
    rays_of,
    render_sampled,
    seen_by,
    step_without_kernels,
    trainer_of,
)
from engine.presets import PAPER, PREVIEW
from engine.process import keep_freed_memory
from engine.scenes.nerfacto.occupied import COLOURS

RAYS = 1024  # of a step
TRAINED = 300  # steps before anything is rendered, so that there are things to see
SAMPLED = 2048  # rays, where a whole picture would take minutes
AUTHORS_STEPS = PAPER.train.steps, PAPER.edit.steps


class Clock:
    """Actions timed in turns, wall and process time."""

    def __init__(self) -> None:
        self.actions: dict[str, tuple[Callable[[], object], float]] = {}
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def add(self, name: str, action: Callable[[], object], units: float = 1.0) -> None:
        """``units`` of what is counted are done in one go."""
        self.actions[name] = action, units

    def run(self, rounds: int) -> None:
        """Every action once to warm it, then in turns."""
        for action, _ in self.actions.values():
            action()
        for _ in range(rounds):
            for name, (action, units) in self.actions.items():
                wall, cpu = time.perf_counter(), time.process_time()
                action()
                self.cpu.setdefault(name, []).append((time.process_time() - cpu) / units)
                self.wall.setdefault(name, []).append((time.perf_counter() - wall) / units)

    def figures(self, name: str) -> dict[str, float]:
        """Seconds a unit: median, least and greatest of the wall clock, and the process's own time."""
        wall = self.wall[name]
        return {
            "seconds": statistics.median(wall),
            "least": min(wall),
            "greatest": max(wall),
            "cpu_seconds": statistics.median(self.cpu[name]),
        }


def measure(rounds: int) -> dict:
    """All figures, as one JSON value."""
    captured = Captured.of(24, 192)
    preview, paper = trainer_of(PREVIEW, captured, RAYS), trainer_of(PAPER, captured, RAYS)
    plain = trainer_of(PREVIEW, captured, RAYS)
    stock = Stock(captured, paper, RAYS)
    for _ in range(TRAINED):
        preview.step(captured.pictures)
    plain.nerf.load_state_dict(preview.nerf.state_dict())
    plain.nerf.at_age(preview.age)

    clock = Clock()
    clock.add("step, stock nerfstudio", stock.step)
    clock.add("step, ours at its size", lambda: paper.step(captured.pictures))
    clock.add("step, preview without the kernels", lambda: step_without_kernels(plain, captured.pictures))
    clock.add("step, preview", lambda: [preview.step(captured.pictures) for _ in range(3)], 3)
    some = rays_of(preview, captured.views[0], SAMPLED)
    clock.add("ray, stock nerfstudio", lambda: stock.render(some), SAMPLED)
    clock.add("ray, ours at its size", lambda: paper.scene.render(seen_by(paper, 64)), 64 * 36)
    clock.add("ray, preview without the kernels", lambda: render_sampled(plain, some), SAMPLED)
    picture = seen_by(preview, 320)
    clock.add("ray, preview", lambda: preview.scene.render(picture), 320 * 180)
    for side in (160, 640, 1280):
        camera = seen_by(preview, side)
        clock.add(f"picture of {side} × {side * 9 // 16}", lambda camera=camera: preview.scene.render(camera))
    clock.run(rounds)

    machine = Machine.measured()
    growth = _growth(rounds)
    figures = {name: clock.figures(name) for name in clock.actions}
    limits = {
        "step, preview": machine.seconds(step_cost(PREVIEW.nerf, RAYS)),
        "step, ours at its size": machine.seconds(step_cost(PAPER.nerf, RAYS)),
        "ray, preview": machine.seconds(ray_cost(PREVIEW.nerf, COLOURS)),
        "ray, ours at its size": machine.seconds(ray_cost(PAPER.nerf, COLOURS)),
    }
    stock_step, our_step = figures["step, stock nerfstudio"]["seconds"], figures["step, preview"]["seconds"]
    return {
        "machine": {
            "processor": _processor(),
            "cores": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numba": numba.__version__,
            "gigabytes_a_second": machine.bytes_a_second / 1e9,
            "gigaflops": machine.operations_a_second / 1e9,
        },
        "rounds": rounds,
        "rays_a_step": RAYS,
        "figures": figures,
        "limits": limits,
        "growth": growth,
        "schedules": {
            # NeRF steps alone, on this machine, at RAYS rays a step.
            "authors', stock nerfstudio, hours": sum(AUTHORS_STEPS) * stock_step / 3600,
            "preview's, ours, hours": (PREVIEW.train.steps + PREVIEW.edit.steps) * our_step / 3600,
        },
    }


def _growth(rounds: int) -> dict[str, dict[str, float]]:
    """How a step's cost grows with views, pixels and rays, and a film's with its cameras."""
    clock = Clock()
    for views, side in ((8, 192), (64, 192), (24, 640)):
        captured = Captured.of(views, side)
        trainer = trainer_of(PREVIEW, captured, RAYS)
        clock.add(
            f"step, {views} views of {side} pixels",
            lambda trainer=trainer, captured=captured: trainer.step(captured.pictures),
        )
    for rays in (256, 4096):
        captured = Captured.of(24, 192)
        trainer = trainer_of(PREVIEW, captured, rays)
        clock.add(f"step, {rays} rays", lambda trainer=trainer, captured=captured: trainer.step(captured.pictures))
    camera = seen_by(trainer, 160)
    for cameras in (1, 8):
        clock.add(
            f"{cameras} cameras of 160 × 90",
            lambda cameras=cameras: [trainer.scene.render(camera) for _ in range(cameras)],
        )
    clock.run(rounds)
    return {name: clock.figures(name) for name in clock.actions}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(result: dict) -> str:
    """The figures as Markdown."""
    machine, figures, limits = result["machine"], result["figures"], result["limits"]
    lines = [
        f"{machine['processor']}, {machine['cores']} threads, {machine['gigabytes_a_second']:.0f} GB/s and "
        f"{machine['gigaflops']:.0f} GFLOP/s measured; Python {machine['python']}, PyTorch {machine['torch']}, numba "
        f"{machine['numba']}. {result['rounds']} rounds in turns, {result['rays_a_step']} rays a step.",
        "",
        "| Training step | median | least to greatest | process time | machine's limit | times stock |",
        "|---|---|---|---|---|---|",
    ]
    for kind, unit, scale in (("step, ", "ms", 1e3), ("ray, ", "µs", 1e6)):
        stock = figures[f"{kind}stock nerfstudio"]["seconds"]
        if kind == "ray, ":
            lines += ["", "| Rendered ray | median | least to greatest | rays/s | machine's limit | times stock |",
                      "|---|---|---|---|---|---|"]  # fmt: skip
        for name, f in figures.items():
            if not name.startswith(kind):
                continue
            limit = f"{limits[name] * scale:.2f} {unit}" if name in limits else ""
            third = f"{f['cpu_seconds'] * scale:.1f} {unit}" if kind == "step, " else f"{1 / f['seconds']:,.0f}"
            lines.append(
                f"| {name.removeprefix(kind)} | {f['seconds'] * scale:.1f} {unit} | {f['least'] * scale:.1f} to "
                f"{f['greatest'] * scale:.1f} | {third} | {limit} | {stock / f['seconds']:.1f} |"
            )
    lines += ["", "| Growth | median | least to greatest |", "|---|---|---|"]
    pictures = {name: f for name, f in figures.items() if name.startswith("picture")}
    for name, f in {**pictures, **result["growth"]}.items():
        lines.append(f"| {name} | {f['seconds'] * 1e3:.0f} ms | {f['least'] * 1e3:.0f} to {f['greatest'] * 1e3:.0f} |")
    lines += ["", "| Schedule, NeRF steps alone | hours |", "|---|---|"]
    lines += [f"| {name.removesuffix(', hours')} | {hours:.2f} |" for name, hours in result["schedules"].items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/speed"), help="files to write, without their ends")
    parser.add_argument("--rounds", type=int, default=5, help="goes of each subject")
    options = parser.parse_args()
    keep_freed_memory()
    result = measure(options.rounds)
    options.output.with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    written = table(result)
    options.output.with_name(options.output.name + "-table.md").write_text(written, "utf-8")
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
