# SPDX-License-Identifier: GPL-3.0-or-later
"""The full-size InstructPix2Pix on a CPU: random weights, in the very files in which it lies on the hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import hub_folder
from .full_size import build_parts

ROOT = Path(__file__).parents[2]
GIB = 2**30

EDIT = """
import json, sys, time

import torch

from engine.editors.catalogue import load_editor
from engine.metrics.memory import PeakMemory

with PeakMemory("cpu") as memory:
    began = time.monotonic()
    editor = load_editor(sys.argv[1], "cpu")
    loaded = time.monotonic()
    after_loading = memory.peak
    told = editor.prepare("make it night", {"diffusion_steps": 2})
    picture = torch.rand(341, 512, 3, generator=torch.Generator().manual_seed(0))
    edited = told.view(picture).edit(picture, 0.98, torch.Generator().manual_seed(0))
    ended = time.monotonic()
weights = sum(p.numel() for part in (editor.unet, editor.vae, editor.text_encoder) for p in part.parameters())
print(json.dumps({
    "size": editor.size, "weights": weights, "loading": loaded - began, "editing": ended - loaded,
    "held": after_loading, "peak": memory.peak, "shape": list(edited.shape), "finite": bool(edited.isfinite().all()),
    "range": [float(edited.min()), float(edited.max())],
}))
"""


@pytest.fixture
def folder(tmp_path):
    """2.1 GB, gone after the test."""
    if shutil.disk_usage(tmp_path).free < 6 * GIB:
        pytest.skip("the disk has too little room for the full-size model")
    torch.manual_seed(0)
    parts = build_parts(torch.float16)
    built = {name: getattr(parts, name) for name in hub_folder.PARTS}
    yield hub_folder.write(tmp_path / "instruct-pix2pix", (hub_folder.HALF,), built)
    shutil.rmtree(tmp_path / "instruct-pix2pix")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # above the subprocess's own, which says what it waited for
def test_it_loads_and_edits_on_a_cpu(folder):
    ran = subprocess.run(
        [sys.executable, "-c", EDIT, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=1500
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    print(said)
    assert said["size"] == 512 and said["shape"] == [341, 512, 3] and said["finite"]
    assert said["weights"] > 1.06e9  # 860, 84 and 123 million
    assert said["range"][0] >= 0 and said["range"][1] <= 1 and said["range"][1] > said["range"][0]
    assert said["peak"] < 9 * GIB
