# SPDX-License-Identifier: GPL-3.0-or-later
"""On an NVIDIA GPU, where there is one: what is computed there is what a CPU computes, by both kinds of kernels.
Warp's kernels one by one: test_rays.py, test_warp_kernels.py."""

from __future__ import annotations

from contextlib import nullcontext

import msgspec
import numpy as np
import pytest
import torch

from engine import check, protocol
from engine.capture import Intrinsics
from engine.editors.instruct_pix2pix import InstructPix2Pix, Options, Prepared
from engine.errors import BadInput
from engine.geometry import Viewpoint
from engine.jobs import edit, scene
from engine.metrics.memory import PeakMemory
from engine.metrics.perceptual import load_perceptual
from engine.presets import PAPER, PEAKS, PRESETS, STANDARD
from engine.progress import Job
from engine.scenes.nerfacto import kernels
from engine.scenes.nerfacto import scene as nerfacto_scene
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import open_scene

from . import tiny_editors
from .conftest import PRESET, TINY_NERF, ring, sphere_capture, sphere_picture
from .full_size import build_parts
from .test_nerf import trainer_of, training_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
CUDA = "cuda:0"
GIB = 2**30


@pytest.fixture(params=["Warp", "PyTorch"])
def path(request):
    """By what a NeRF is computed there."""
    if request.param == "Warp" and (why := kernels.why_not(torch.device(CUDA))):
        pytest.fail(why)
    with nullcontext() if request.param == "Warp" else kernels.without():
        yield request.param


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a.cpu() - b.cpu()).square().mean().log10())


def test_the_check_finds_no_problem():
    found = check.check("cuda:0")
    print("\n".join(check.lines(found)))
    steps = {step.name: step for step in found.steps}
    assert {"kernels of Warp", "kernels of PyTorch", "edit one view"} <= set(steps)
    assert not [problem for problem in found.problems if "installed" not in problem and "needed" not in problem]


def test_a_scene_is_learned(sphere, path):
    frame, views, images = sphere
    torch.manual_seed(0)
    nerf = Nerfacto(TINY_NERF, len(views)).to(CUDA)
    trainer = Trainer(nerf, frame, views, training_of(rays=256))
    pictures = PictureSet(images, CUDA)
    for _ in range(500):
        trainer.step(pictures)
    truth = torch.from_numpy(images[4]).float() / 255
    seen = trainer.scene.render(views[4])
    flat = (truth - truth.mean(dim=(0, 1))).square().mean()
    assert (seen.rgb.cpu() - truth).square().mean() < 0.4 * flat
    assert seen.depth[10, 11].item() == pytest.approx(np.linalg.norm(views[4].pose[:3, 3]) - 1.5, rel=0.15)


def test_a_scene_looks_as_on_a_cpu(sphere_set, path, tmp_path, monkeypatch):
    frame, views, pictures = sphere_set
    trainer = trainer_of(frame, views, training=training_of(rays=256))
    for _ in range(200):
        trainer.step(pictures)
    trainer.save(tmp_path / "scene.safetensors")
    near, far = (open_scene(tmp_path / "scene.safetensors").scene(device) for device in ("cpu", CUDA))
    camera = Viewpoint(views[3].pose, Intrinsics(96, 80, 120.0, 124.0, 44.0, 42.0))
    got = far.render(camera)
    monkeypatch.setattr(nerfacto_scene, "can_march", lambda nerf: False)  # which leaves out what makes no difference
    expected = near.render(camera)
    assert got.rgb.device.type == "cuda" and psnr(got.rgb, expected.rgb) > 50
    apart = ((got.depth.cpu() - expected.depth).abs() / expected.depth).median()
    assert apart < 0.005 and (got.opacity.cpu() - expected.opacity).abs().mean() < 0.01


@pytest.mark.parametrize("preset", [STANDARD, PAPER], ids=lambda preset: preset.name)
def test_a_step_is_that_of_pytorch(preset, monkeypatch):
    """Losses and the gradient of every weight, of both kinds of kernels, at the preset's own size of network."""
    lens = Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)
    views = [Viewpoint(pose, lens, str(number)) for number, pose in enumerate(ring(6))]
    pictures = PictureSet([sphere_picture(view.pose, lens) for view in views], CUDA)
    torch.manual_seed(0)
    nerf = Nerfacto(preset.nerf, len(views)).to(CUDA)
    training = msgspec.structs.replace(preset.train, rays=512)
    trainer = Trainer(nerf, NerfFrame.around(ring(6), np.zeros(3)), views, training)
    monkeypatch.setattr(trainer.optimiser, "step", lambda: None)
    found = []
    for way in (nullcontext, kernels.without):
        trainer.step_index = 40
        with way():
            assert kernels.usable(torch.device(CUDA)) is (way is nullcontext)
            losses = trainer.step(pictures)
        found.append((losses, {name: weight.grad.clone() for name, weight in nerf.named_parameters()}))
    (losses, slopes), (expected, expected_slopes) = found
    assert losses == pytest.approx(expected, rel=2e-3, abs=1e-6)
    for name, slope in expected_slopes.items():
        assert float((slopes[name] - slope).norm()) <= 1e-2 * float(slope.norm()) + 1e-9, name


@pytest.mark.parametrize("name", tiny_editors.BUILD)
def test_every_editor_edits_a_whole_scene(name, tmp_path, monkeypatch):
    from engine.jobs import capture

    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    project = sphere_capture(tmp_path, 9) / "project"
    capture.open_into_workspace(protocol.OpenCapture(str(project), str(tmp_path), PRESET.name))
    scene.train_scene(protocol.TrainScene(str(project), PRESET.name, CUDA), Job())
    editor = str(tiny_editors.written(name, tmp_path))
    request = protocol.RunEdit(
        instruction="make it gold", editor=editor, workspace=str(project), preset=PRESET.name, device=CUDA,
        options={"diffusion_steps": 2},
    )  # fmt: skip
    made = edit.run_edit(request, Job())
    assert made.finished and made.steps == PRESET.edit.steps and set(made.images) == set(made.chosen)


@pytest.mark.parametrize("preset", [STANDARD, PAPER], ids=lambda preset: preset.name)
def test_the_memory_is_what_was_counted(preset, path):
    """Two steps of an edit and an image update, at full size, hold no more than the preset says."""
    lens = Intrinsics(512, 341, 500.0, 500.0, 256.0, 170.5)
    views = [Viewpoint(pose, lens, str(number)) for number, pose in enumerate(ring(100))]
    noise = np.random.default_rng(0)
    with PeakMemory(CUDA) as memory:
        pictures = PictureSet([noise.integers(0, 256, (341, 512, 3), np.uint8) for _ in views], CUDA)
        nerf = Nerfacto(preset.nerf, len(views)).to(CUDA)
        trainer = Trainer(
            nerf, NerfFrame.around(ring(100), np.zeros(3)), views, preset.edit.training, 0, load_perceptual(CUDA)
        )
        editor = InstructPix2Pix(build_parts(torch.float16), "full size", CUDA)
        words = torch.randn(3, 77, 768, device=CUDA, dtype=torch.float16)
        told = Prepared(editor, words, Options(diffusion_steps=2))
        for _ in range(2):
            trainer.step(pictures)
        seen = trainer.scene.render(views[0])
        try:
            told.view(pictures.image(0)).edit(seen.rgb, 0.7, torch.Generator())
        except BadInput as problem:  # random networks may give no numbers; their memory is what counts
            print(problem)
    print(f"{preset.name}, {path}: {memory.peak / GIB:.2f} GiB")
    assert memory.peak <= PEAKS[preset.name] * GIB
