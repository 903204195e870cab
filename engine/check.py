# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the engine works on this machine: what is installed, what computes, and each kind of work done once, small.

For an artist to paste into a bug report: it names no file and no capture of theirs.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import engine
from engine import protocol
from engine.capture.types import Intrinsics
from engine.devices import Machine, choose_device, cpu, find_devices
from engine.pictures import save_picture
from engine.presets import PAPER, STANDARD, Preset, described
from engine.progress import Job

log = logging.getLogger(__name__)

SIZE = (96, 72)  # pixels of the photos that the work is tried on
VIEWS = 10
CAMERA = {"w": SIZE[0], "h": SIZE[1], "fl_x": 100.0, "fl_y": 100.0, "cx": SIZE[0] / 2, "cy": SIZE[1] / 2}
LARGE = (STANDARD, PAPER)  # presets whose need of memory is measured on a GPU
# The kernels sum in another order than the reference.
TOLERANCE = 1e-3


class Step(msgspec.Struct, frozen=True):
    """One kind of work: what it took, of the device's memory (of the process's on a CPU), or why it failed."""

    name: str
    seconds: float
    peak_bytes: int = 0
    error: str = ""


class Check(msgspec.Struct, frozen=True):
    """What was found; ``problems`` is empty where all is well."""

    engine: str
    python: str
    system: str
    torch: str
    cuda: str
    driver: str
    device: str
    computing: str
    devices: list[protocol.Device]
    packages: dict[str, str]
    steps: list[Step]
    problems: list[str]


def check(device: str | None = None, quick: bool = False) -> Check:
    """Look at the installation and, unless ``quick``, try each kind of work on ``device``, the best where not given."""
    packages, problems = look_at_packages()
    steps: list[Step] = []
    torch_version = cuda = chosen = ""
    machine = Machine([cpu()], "PyTorch cannot be used: nothing can be computed.")
    try:
        import torch

        torch_version, cuda = str(torch.__version__), torch.version.cuda or ""
        machine = find_devices()
        chosen = choose_device(device)
    except Exception as error:
        problems.append(f"PyTorch cannot be used: {error}")
    if chosen == "cpu":
        steps.append(_timed("compiled kernels", chosen, compile_kernels))
    if chosen:
        paths = paths_on(chosen)
        steps += [_timed(name, chosen, partial(within, path, compare_kernels, chosen)) for name, path in paths.items()]
        if not quick:
            with tempfile.TemporaryDirectory(prefix="instruct-nerf-check-") as folder:
                steps += work(Path(folder), chosen)
            if chosen != "cpu":
                steps += [
                    _timed(f"a step of an edit, {p.label}, {name}", chosen, partial(within, path, one_step, p, chosen))
                    for name, path in paths.items()
                    for p in LARGE
                ]
    problems += [f"{step.name}: {step.error}" for step in steps if step.error]
    return Check(
        engine=engine.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        torch=torch_version,
        cuda=cuda,
        driver=machine.driver,
        device=chosen,
        computing=machine.computing,
        devices=described(machine.devices),
        packages=packages,
        steps=steps,
        problems=problems,
    )


def look_at_packages(name: str = "instruct-nerf-engine") -> tuple[dict[str, str], list[str]]:
    """Versions of the packages that the engine asks for, and a sentence for each that is missing or does not fit."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:
        return {}, [f"{name} runs from a folder and is not installed: its packages were not looked at."]
    found: dict[str, str] = {}
    problems = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found[requirement.name] = version(requirement.name)
        except PackageNotFoundError:
            problems.append(f"{requirement.name} is not installed.")
            continue
        if not requirement.specifier.contains(found[requirement.name], prereleases=True):
            problems.append(f"{requirement.name} is {found[requirement.name]}, and {requirement.specifier} is needed.")
    return found, problems


def compile_kernels() -> None:
    """Compile what a CPU trains, renders and makes meshes and splats with, which takes most of a minute the first time
    and is kept."""
    from engine.output import fusing, splat_fit, texels
    from engine.scenes import many_photos, patch_match
    from engine.scenes.nerfacto import compiled

    compiled.compile_kernels()
    patch_match.compile_kernels()
    many_photos.compile_kernels()
    fusing.compile_kernels()
    texels.compile_kernels()
    splat_fit.compile_kernels()


def paths_on(device: str) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """By what a NeRF can be computed on ``device``, by name: the way that is taken, and on an NVIDIA GPU the other."""
    import torch

    from engine.scenes.nerfacto import kernels

    on = torch.device(device)
    if on.type != "cuda":
        return {"kernels": nullcontext}
    if why := kernels.why_not(on):
        return {f"kernels of PyTorch ({why.rstrip('.')})": nullcontext}
    return {"kernels of Warp": nullcontext, "kernels of PyTorch": kernels.without}


def within(path: Callable[[], AbstractContextManager[None]], act: Callable[..., None], *arguments: Any) -> None:
    """Do ``act`` by that path."""
    with path():
        act(*arguments)


def compare_kernels(device: str) -> None:
    """Encode points as training does on ``device``, forward and backward, beside nerfstudio's plain PyTorch on the
    CPU. Raises ``ArithmeticError`` where they differ."""
    import torch
    from nerfstudio.field_components.encodings import HashEncoding

    from engine.scenes.nerfacto.hash_encoding import use_fused_hash_encoding

    torch.manual_seed(0)
    plain = HashEncoding(8, 16, 256, 12, 4, hash_init_scale=1.0, implementation="torch")
    ours = torch.nn.Sequential(HashEncoding(8, 16, 256, 12, 4, implementation="torch"))
    ours.load_state_dict({f"0.{name}": value for name, value in plain.state_dict().items()})
    use_fused_hash_encoding(ours)
    ours.to(device)
    points, weight = torch.rand(4096, 3), torch.randn(4096, 32)
    expected, got = plain(points), ours(points.to(device))
    (expected * weight).sum().backward()
    (got * weight.to(device)).sum().backward()
    pairs = {"values": (expected, got), "gradients": (plain.hash_table.grad, ours[0].hash_table.grad)}
    for name, (a, b) in pairs.items():
        worst = float(((a - b.to("cpu")).abs().max() / a.abs().max()).detach())
        if not worst < TOLERANCE:
            raise ArithmeticError(f"the hash encoding's {name} are wrong by {worst:.2g} of the largest on {device}")


def work(folder: Path, device: str) -> list[Step]:
    """Train one step of a capture made for it, render its views, and edit one of them with the editor that ships."""
    from engine.editors.catalogue import BUNDLED
    from engine.jobs.capture import open_into_workspace, write_images
    from engine.jobs.scene import train_scene
    from engine.jobs.trying import try_edit

    workspace = str(folder / "workspace")
    steps: list[Step] = []
    clock = StageClock()

    def prepare() -> None:
        make_capture(folder / "capture")
        open_into_workspace(protocol.OpenCapture(workspace, str(folder / "capture")))
        write_images(protocol.WriteImages(workspace), Job())

    def train() -> None:
        job = Job(on_progress=clock.at, every=0.0)
        train_scene(protocol.TrainScene(workspace, device=device, steps=1), job)

    def edit() -> None:
        view = sorted(path.stem for path in (folder / "capture").glob("*.png"))[0]
        wish = "turn everything into gold"
        request = protocol.TryEdit(workspace=workspace, view=view, instruction=wish, editor=BUNDLED, device=device)
        try_edit(request, Job())

    for name, act in (("open a capture", prepare), ("train one step and render", train), ("edit one view", edit)):
        steps.append(_timed(name, device, act))
        if steps[-1].error:
            break
    if clock.seconds:
        steps += [Step(f"of that, {name}", seconds) for name, seconds in clock.seconds.items()]
    return steps


def one_step(preset: Preset, device: str) -> None:
    """Train a scene of the preset's size on noise for a step of an edit, whose batches are the largest: what it needs
    of memory, but for the editor and the perceptual loss."""
    from engine.geometry import Viewpoint
    from engine.scenes.picture_set import PictureSet
    from engine.scenes.registry import begin_scene
    from engine.scenes.settings import LossConfig

    width, height = preset.long_side, preset.long_side * SIZE[1] // SIZE[0]
    scale = preset.long_side / SIZE[0]
    lens = Intrinsics(width, height, 100 * scale, 100 * scale, width / 2, height / 2)
    views = [Viewpoint(np.array(pose, float), lens, str(index)) for index, pose in enumerate(ring())]
    rng = np.random.default_rng(0)
    pictures = PictureSet([rng.integers(0, 256, (height, width, 3), np.uint8) for _ in views], device)
    training = msgspec.structs.replace(preset.edit.training, losses=LossConfig(perceptual_weight=0.0))
    trainer = begin_scene(preset.nerf, views, np.zeros(3), training, 0, device, None)
    loss = trainer.step(pictures)
    if not all(map(math.isfinite, loss.values())):
        raise ArithmeticError(f"a training step gave {loss}")


class StageClock:
    """How long each stage of a job took, by its progress messages."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self.seconds: dict[str, float] = {}

    def at(self, progress: protocol.Progress) -> None:
        """A message came: what passed since the last one belongs to its stage."""
        now = self._now()
        self.seconds[progress.label] = self.seconds.get(progress.label, 0.0) + now - self._last
        self._last = now


def ring() -> list[list[list[float]]]:
    """Poses of cameras in a ring, that look at its middle."""
    poses = []
    for index in range(VIEWS):
        angle = 2 * math.pi * index / VIEWS
        c, s = math.cos(angle), math.sin(angle)
        poses.append([[-s, 0.0, c, 3 * c], [c, 0.0, s, 3 * s], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return poses


def make_capture(folder: Path) -> None:
    """A capture of a ring of cameras around nothing in particular: smooth noise, which is enough to compute with."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    frames = []
    for index, pose in enumerate(ring()):
        coarse = rng.random((6, 8, 3)).repeat(SIZE[1] // 6, 0).repeat(SIZE[0] // 8, 1)
        save_picture(folder / f"{index:02d}.png", (coarse * 255).astype(np.uint8))
        frames.append({"file_path": f"{index:02d}.png", "transform_matrix": pose})
    (folder / "transforms.json").write_text(json.dumps({"camera_model": "PINHOLE", **CAMERA, "frames": frames}))


def _timed(name: str, device: str, act: Callable[[], None]) -> Step:
    from engine.metrics.memory import PeakMemory

    began = time.monotonic()
    error = ""
    with PeakMemory(device) as memory:
        try:
            act()
        except Exception as problem:
            log.debug("check failed", exc_info=True)
            error = f"{type(problem).__name__}: {problem}"
    return Step(name, round(time.monotonic() - began, 2), memory.peak, error)


def lines(found: Check) -> list[str]:
    """The result for people, problems last."""
    text = [
        f"Instruct NeRF engine {found.engine}, Python {found.python}, {found.system}",
        f"PyTorch {found.torch or 'missing'}, CUDA {found.cuda or 'none'}, NVIDIA driver {found.driver or 'none'}",
        found.computing,
        f"Checked: {found.device or 'nothing'}",
    ]
    for device in found.devices:
        free, total = device.free_bytes / 2**30, device.total_bytes / 2**30
        defaults = f"by default {device.preset}, {device.editor}"
        text.append(f"  {device.name}: {device.label}, {free:.1f} of {total:.1f} GiB free; {defaults}")
    text += [
        f"  {step.name}: {'FAILED' if step.error else f'{step.seconds:.1f} s'}"
        + (f", peak {step.peak_bytes / 2**30:.2f} GiB" if step.peak_bytes else "")
        for step in found.steps
    ]
    text.append(" ".join(f"{name} {number}" for name, number in sorted(found.packages.items())))
    return [*text, *(found.problems or ["No problem was found."])]
