# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edit's parts take on an NVIDIA GPU, by both kinds of kernels, measured there.

    python -m benchmarks.speed.card [--output docs/speed-card] [--device cuda:0]

Writes OUTPUT.json and OUTPUT.md, and prints the table. The editor is InstructPix2Pix at its full size with random
weights, which take as long as learned ones. Times are medians, of work that was waited for; launches are counted by
PyTorch's profiler; memory is what tensors held at most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.subjects import Captured, seen_by
from engine.editors.base import edit_together
from engine.editors.instruct_pix2pix import InstructPix2Pix, Options, Prepared
from engine.errors import BadInput
from engine.metrics.perceptual import load_perceptual
from engine.presets import PAPER, PREVIEW, STANDARD, Preset
from engine.scenes.nerfacto import kernels
from engine.scenes.nerfacto.training import Trainer, begin
from tests.engine.full_size import build_parts

TRAINED = 300  # steps before anything is rendered, so that there are things to see
ROUNDS = 12
FRAME = 640  # pixels wide
DIFFUSION_STEPS = 20


def launched(act: Callable[[], object]) -> int:
    """How many kernels ``act`` starts on the card, copies and fills among them."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        act()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in seen.events())


def measured(act: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Median, least and greatest seconds, gigabytes at most, and launches of ``act``."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(3):
        act()
    wait()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        wait()
        seconds.append(time.perf_counter() - began)
    on_card = torch.cuda.is_available()
    return {
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "greatest": max(seconds),
        "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if on_card else 0.0,
        "launches": launched(act) if on_card else 0,
    }


@contextmanager
def by(path: str) -> Iterator[None]:
    """Compute by that kind of kernels."""
    with kernels.without() if path == "PyTorch" else nullcontext():
        yield


def trained(preset: Preset, captured: Captured, device: str) -> Trainer:
    """A trainer of the preset's scene that has begun to know it."""
    trainer = begin(preset.nerf, captured.views, np.zeros(3), preset.train, 0, device)
    for _ in range(TRAINED):
        trainer.step(captured.pictures)
    return trainer


def of_preset(preset: Preset, device: str, paths: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """A step of training, one of an edit, and a picture, each by every path."""
    captured = Captured.of(24, preset.long_side, device)
    trainer = trained(preset, captured, device)
    training = replace(preset.edit.training, single_rays=0.0)  # patches, which are most of the paper's
    editing = Trainer(
        trainer.nerf, trainer.scene.frame, captured.views, training, 0, load_perceptual(device), trainer.age
    )
    camera = seen_by(trainer, FRAME)
    acts = {
        f"step of training, {preset.train.rays} rays": lambda: trainer.step(captured.pictures),
        f"step of an edit, {training.patches} patches": lambda: editing.step(captured.pictures),
        f"picture of {FRAME} × {FRAME * 9 // 16}": lambda: trainer.scene.render(camera),
    }
    for name, act in acts.items():
        for path in paths:
            with by(path):
                yield f"{preset.label}: {name}, {path}", measured(act, 3 if "picture" in name else ROUNDS)


def of_editor(device: str, dtype: torch.dtype) -> Iterator[tuple[str, dict[str, float]]]:
    """An image update of the full-size InstructPix2Pix, one view and four together, but for the text."""
    torch.manual_seed(0)
    with torch.device(device):
        editor = InstructPix2Pix(build_parts(dtype), "full size", device)
        words = torch.randn(3, 77, 768, dtype=dtype)
        picture = torch.rand(341, 512, 3)
    told = Prepared(editor, words, Options(diffusion_steps=DIFFUSION_STEPS))
    view = told.view(picture)
    size = "512 × 341, InstructPix2Pix in half precision"

    def one() -> Any:
        return attempted(lambda: view.edit(picture, 0.98, torch.Generator().manual_seed(0)))

    yield f"image update of {DIFFUSION_STEPS} diffusion steps, {size}", measured(one, 5)

    def four() -> Any:
        draws = [torch.Generator().manual_seed(number) for number in range(4)]
        return attempted(lambda: edit_together(told, [view] * 4, [picture] * 4, 0.98, draws, lambda: None))

    yield f"four image updates together, {size}", measured(four, 3)


def attempted(act: Callable[[], Any]) -> Any:
    """``act``, whose random networks may give no numbers: their time is what counts."""
    try:
        return act()
    except BadInput:
        return None


def pace(device: str) -> dict[str, float]:
    """What the card does at best: bytes a second copied, read and written, and operations of 16 and 32 bits."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = measured(lambda: target.copy_(source))["least"]
    half, full = (torch.rand(4096, 4096, device=device, dtype=kind) for kind in (torch.float16, torch.float32))
    return {
        "gigabytes_a_second": 2 * source.numel() / copied / 1e9,
        "teraflops_16": 2 * 4096**3 / measured(lambda: half @ half)["least"] / 1e12,
        "teraflops_32": 2 * 4096**3 / measured(lambda: full @ full)["least"] / 1e12,
    }


def table(result: dict) -> str:
    """The figures as Markdown."""
    m = result["machine"]
    lines = [
        f"{m['card']}, {m['gigabytes_a_second']:.0f} GB/s copied, {m['teraflops_16']:.0f} TFLOP/s of 16 bits and "
        f"{m['teraflops_32']:.0f} of 32 measured; PyTorch {m['torch']}, Warp {m['warp']}.",
        "",
        "| | median | least to greatest | launches | held at most |",
        "|---|---|---|---|---|",
    ]
    for name, f in result["figures"].items():
        lines.append(
            f"| {name} | {f['seconds'] * 1e3:.1f} ms | {f['least'] * 1e3:.1f} to {f['greatest'] * 1e3:.1f} | "
            f"{f['launches']:.0f} | {f['gigabytes']:.2f} GB |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, write; what fails is said and left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/speed-card"), help="files to write, without ends")
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    device = torch.device(options.device)
    why = kernels.why_not(device)
    paths = ["PyTorch"] if why else ["Warp", "PyTorch"]
    on_card = device.type == "cuda"
    dtype = torch.float16 if on_card else torch.float32
    result: dict[str, Any] = {
        "machine": {
            "card": torch.cuda.get_device_name(device) if on_card else "CPU",
            "torch": torch.__version__,
            "warp": why or __import__("warp").__version__,
            **pace(options.device),
        },
        "figures": {},
    }
    parts = [of_preset(preset, options.device, [path]) for path in paths for preset in (PAPER, STANDARD, PREVIEW)]
    for part in (*parts, of_editor(options.device, dtype)):
        for name, figures in part:
            result["figures"][name] = figures
            options.output.with_suffix(".json").write_text(
                json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8"
            )
            print(name, json.dumps({key: round(value, 5) for key, value in figures.items()}), flush=True)
    options.output.with_suffix(".md").write_text(table(result), "utf-8")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
