# SPDX-License-Identifier: GPL-3.0-or-later
"""Trainings that collapse are noticed and begun again; numbers that are none end them, with what was good kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from engine import presets, protocol
from engine.capture import Intrinsics
from engine.errors import BadInput, Cancelled
from engine.jobs import scene as jobs
from engine.jobs.capture import open_into_workspace, write_images
from engine.progress import Job
from engine.records import SceneRecord
from engine.scenes import health
from engine.scenes.health import Diverged, Health, is_looked_at
from engine.scenes.nerfacto.beginnings import begun_again
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import cameras_from, sample_pixels
from engine.scenes.nerfacto.scene import NerfactoScene
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import OptimiserConfig, TrainingConfig
from engine.workspace import Workspace

from .conftest import TINY_NERF, ring, sphere_picture

WIDE, HIGH = 64, 48  # pixels, of the photos


def trainer_of(frame, views, seed: int = 0) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(Nerfacto(TINY_NERF, len(views)), frame, views, TrainingConfig(1000, 64), seed)


def weights(nerf: Nerfacto) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in nerf.parameters()])


# -- what is a collapse ------------------------------------------------------------------------------------------------


def test_trainings_are_looked_at_at_doubling_steps() -> None:
    looked_at = [step for step in range(2000) if is_looked_at(step)]
    assert looked_at == [150, 300, 600, 1200]


@pytest.mark.parametrize(
    ("health", "collapsed"),
    [
        (Health(0.02, 0.06, None), False),
        (Health(0.058, 0.06, None), True),  # no better than one color
        (Health(math.nan, 0.06, None), True),
        (Health(5e-5, 5e-5, None), False),  # a wall of one color is learnt
        (Health(0.02, 0.06, 0.9), False),
        (Health(0.0, 0.0, 0.01), True),  # a white object before white: nothing is there
        (Health(0.0, 0.0, math.nan), True),
    ],
)
def test_what_has_collapsed(health: Health, collapsed: bool) -> None:
    assert health.collapsed is collapsed


def test_a_look_changes_nothing(sphere_set) -> None:
    frame, views, data = sphere_set

    def run(look: bool) -> torch.Tensor:
        trainer = trainer_of(frame, views)
        for _ in range(8):
            trainer.step(data)
            if look:
                assert trainer.health(data) == trainer.health(data)
        return weights(trainer.nerf)

    assert torch.equal(run(True), run(False))


def test_each_beginning_is_another_and_the_first_as_asked() -> None:
    nerf, optimiser = presets.PREVIEW.nerf, presets.PREVIEW.train.optimiser
    begun = [begun_again(nerf, optimiser, 7, attempt) for attempt in range(health.ATTEMPTS)]
    assert begun[0] == (nerf, optimiser, 7) and begun == [
        begun_again(nerf, optimiser, 7, attempt) for attempt in range(health.ATTEMPTS)
    ]
    assert len({seed for *_, seed in begun}) == health.ATTEMPTS == len({msgspec.json.encode(b[:2]) for b in begun})
    assert begun_again(nerf, optimiser, 7, 99)[:2] == begun[-1][:2]


# -- the job -----------------------------------------------------------------------------------------------------------


class Cheap:
    name = "cheap"

    def __call__(self, a, b):
        return (a - b).abs().mean(dim=(1, 2, 3))

    def of_seen(self, a, b, seen):
        return (a - b).abs()[seen].mean()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a project of the sphere's views, with a preset that trains it in seconds, looked at every other step."""
    tiny = msgspec.structs.replace(
        presets.PREVIEW,
        long_side=WIDE,
        nerf=TINY_NERF,
        train=TrainingConfig(steps=12, rays=32, optimiser=OptimiserConfig()),
    )
    monkeypatch.setitem(presets.PRESETS, "preview", tiny)
    monkeypatch.setattr(jobs, "load_perceptual", lambda device: Cheap())
    monkeypatch.setattr(health, "FIRST", 4)

    def make(name: str, views: int = 6, masks: list[np.ndarray] | None = None) -> Path:
        import json

        i, frames = Intrinsics(WIDE, HIGH, 80.0, 82.0, 31.0, 25.0), []
        source = tmp_path / f"{name}-source"
        (source / "images").mkdir(parents=True)
        for k, pose in enumerate(ring(views)):
            Image.fromarray(sphere_picture(pose, i)).save(source / f"images/{k}.png")
            frames.append({"file_path": f"images/{k}.png", "transform_matrix": pose.tolist()})
            if masks is not None:
                Image.fromarray(masks[k]).save(source / f"mask{k}.png")
                frames[-1]["mask_path"] = f"mask{k}.png"
        lens = {"fl_x": i.fx, "fl_y": i.fy, "cx": i.cx, "cy": i.cy}
        meta = {"w": WIDE, "h": HIGH, "frames": frames} | lens
        (source / "transforms.json").write_text(json.dumps(meta))
        folder = tmp_path / name
        open_into_workspace(protocol.OpenCapture(str(folder), str(source), "preview"))
        write_images(protocol.WriteImages(str(folder)), Job())
        return folder

    return make


def train(folder: Path, job: Job | None = None, **values) -> protocol.Scene:
    return jobs.train_scene(protocol.TrainScene(str(folder), "preview", "cpu", **values), job or Job())


def collapses(monkeypatch: pytest.MonkeyPatch, *steps: tuple[int, int]) -> None:
    """Trainings collapse at such (attempt, step), as the health of real ones would have it."""
    seeds = {begun_again(TINY_NERF, OptimiserConfig(), 0, attempt)[2]: attempt for attempt in range(health.ATTEMPTS)}

    def found(self: Trainer, pictures: PictureSet) -> Health:
        return Health(1.0 if (seeds[self.seed], self.step_index) in steps else 0.0, 1.0, None)

    monkeypatch.setattr(Trainer, "health", found)


def test_a_collapse_begins_again_and_a_resumed_run_is_the_unbroken_one(project, monkeypatch) -> None:
    collapses(monkeypatch, (0, 8), (1, 4))
    said: list[str] = []
    whole = project("whole")
    scene = train(whole, Job(log=said.append))
    assert scene.steps == 12 and not scene.notes
    assert [line for line in said if "begins again" in line] == [
        "The training had collapsed after 8 steps and begins again from other values, attempt 2 of 3",
        "The training had collapsed after 4 steps and begins again from other values, attempt 3 of 3",
    ]
    record = Workspace(whole).scene_record()
    assert record is not None and record.attempt == 2 and record.seed == 0 and not record.collapsed
    expected = weights(Checkpoint(Workspace(whole).checkpoint(None)).nerf("cpu"))

    for stop_after in (9, 15):  # in the second attempt, and in the third
        broken = project(f"broken{stop_after}")
        seen = 0

        def cancelled(last: int = stop_after + 8) -> bool:  # the images' checks come first
            nonlocal seen
            seen += 1
            return seen > last

        with pytest.raises(Cancelled):
            train(broken, Job(cancelled=cancelled))
        train(broken)
        assert torch.equal(weights(Checkpoint(Workspace(broken).checkpoint(None)).nerf("cpu")), expected)


def test_a_collapse_that_cannot_be_helped_is_said(project, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "health", lambda *_: Health(1.0, 1.0, None))
    said: list[str] = []
    folder = project("lost")
    scene = train(folder, Job(log=said.append))
    assert scene.steps == 12 and len(scene.notes) == 1 and scene.notes[0] in said
    assert "collapsed" in scene.notes[0] and "masks" in scene.notes[0]


# -- how many steps ----------------------------------------------------------------------------------------------------


def test_a_cancelled_target_is_not_every_later_jobs(project) -> None:
    record = SceneRecord("preview", "cpu", 0, 5, 900)
    preset = presets.PRESETS["preview"]
    assert jobs._target(None, preset, None) == 12 and jobs._target(None, preset, 3) == 3
    assert jobs._target(record, preset, None) == 12  # cancelled on its way to 900: the preset's
    assert jobs._target(msgspec.structs.replace(record, of=8), preset, None) == 8  # to 8: that
    assert jobs._target(msgspec.structs.replace(record, steps=40), preset, None) == 40  # beyond the preset's: as it is
    assert jobs._target(msgspec.structs.replace(record, steps=5, of=5), preset, None) == 5  # finished: as it is
    folder = project("long")
    checks = iter(range(1000))
    with pytest.raises(Cancelled):
        train(folder, Job(cancelled=lambda: next(checks) > 35), steps=1_000_000)
    assert Workspace(folder).scene_record().of == 1_000_000
    assert train(folder).steps == max(12, Workspace(folder).scene_record().steps) and train(folder).finished
    for steps in (0, -1, 10**9):
        with pytest.raises(BadInput, match="steps"):
            train(folder, steps=steps)


def test_a_longer_training_renders_its_views_anew(project) -> None:
    """With views held out for measuring, and without."""
    for views in (6, 9):
        folder = project(f"of{views}", views)
        assert (train(folder, steps=2).measures is None) == (views == 6)

        def pictures(folder: Path = folder) -> list[bytes]:
            return [file.read_bytes() for file in sorted((folder / "scene/views").glob("*.png"))]

        def times(folder: Path = folder) -> list[int]:
            return [file.stat().st_mtime_ns for file in sorted((folder / "scene/views").glob("*.png"))]

        before, then = pictures(), times()
        train(folder, steps=2)
        assert times() == then and len(then) == views  # nothing to do
        train(folder, steps=10)
        assert all(a != b for a, b in zip(before, pictures(), strict=True))
        (folder / "scene/views/3.png").unlink()
        train(folder)
        assert len(pictures()) == views


# -- not a number ------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_training(sphere_set) -> None:
    frame, views, data = sphere_set
    trainer = trainer_of(frame, views)
    batch = sample_pixels(data, cameras_from(views, frame, "cpu"), 64, torch.Generator().manual_seed(0))
    batch.colours[3, 1] = math.nan
    with pytest.raises(Diverged, match=r"broke down at step 1: .*colour.*NaN"):
        trainer._update(batch)


def test_weights_that_are_no_numbers_are_not_saved(sphere_set, tmp_path: Path) -> None:
    frame, views, data = sphere_set
    trainer = trainer_of(frame, views)
    trainer.step(data)
    path = tmp_path / "c.safetensors"
    trainer.save(path)
    good = path.read_bytes()
    for spoil in (
        lambda t: next(t.nerf.field.parameters()),
        lambda t: t.optimiser.state_dict()["state"][0]["exp_avg_sq"],
    ):
        spoiled = trainer_of(frame, views)
        spoiled.step(data)
        with torch.no_grad():
            spoil(spoiled).view(-1)[0] = math.inf
        with pytest.raises(Diverged, match=r"before step 1: .*not numbers"):
            spoiled.save(path)
        assert path.read_bytes() == good and list(tmp_path.iterdir()) == [path]


def test_a_job_that_breaks_down_keeps_what_was_good(project, monkeypatch) -> None:
    folder = project("nan")
    checkpoint = Workspace(folder).checkpoint(None)
    train(folder, steps=4)
    good = checkpoint.read_bytes()
    update = Trainer._update

    def spoiled(self: Trainer, batch):
        if self.step_index == 7:
            batch.colours[:] = math.nan
        return update(self, batch)

    monkeypatch.setattr(Trainer, "_update", spoiled)
    with pytest.raises(BadInput, match="broke down at step 8"):
        train(folder, steps=10)
    assert checkpoint.read_bytes() == good and Workspace(folder).scene_record().steps == 4
    monkeypatch.setattr(Trainer, "_update", update)
    assert train(folder, steps=10).finished


# -- measures ----------------------------------------------------------------------------------------------------------


def test_hidden_pixels_are_not_measured(project, monkeypatch) -> None:
    """The job's figures are those of the pixels that masks show, whatever is rendered where they hide."""
    masks = [np.full((HIGH, WIDE), 255, np.uint8) for _ in range(9)]
    masks[7][10:30, 16:46] = 0  # the held-out one
    found = {}
    for name, hidden in (("black", 0), ("white", 255)):
        folder = project(name, 9, masks)
        render = NerfactoScene.render

        def spoiled(self, camera, check=lambda: None, render=render, value=hidden):
            out = render(self, camera, check)
            out.rgb[10:30, 16:46] = value
            return out

        with monkeypatch.context() as patch:
            patch.setattr(NerfactoScene, "render", spoiled)
            found[name] = train(folder, steps=3).measures
    assert found["black"] == found["white"] and found["black"].views == 1 and found["black"].psnr_object is None
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "view_layers", lambda *_: (None, None))
        whole = project("whole", 9)
        assert train(whole, steps=3).measures.psnr != found["black"].psnr


def test_a_trained_scene_keeps_what_its_masks_mean(project) -> None:
    masks = [np.zeros((HIGH, WIDE), np.uint8) for _ in range(6)]
    for k, mask in enumerate(masks):
        mask[10 + k % 3 * 3 : 37, 20 : 44 + k % 4 * 3] = 255
    folder = project("masked", 6, masks)
    train(folder, steps=1)

    def reopened(**values) -> protocol.Capture:
        source = str(folder.with_name("masked-source"))
        return open_into_workspace(protocol.OpenCapture(str(folder), source, "preview", **values))

    for field, value in (("masks", "unknown"), ("background", (0, 0, 0))):
        with pytest.raises(BadInput, match=f"trained with the setting {field}") as caught:
            reopened(**{field: value})
        assert caught.value.field == field
    reopened()
    assert Checkpoint(Workspace(folder).checkpoint(None)).header.nerf.background == (1, 1, 1)


def test_an_edit_records_the_preset_that_its_settings_are_of(project, monkeypatch) -> None:
    """The scene keeps its own, the edit has the one asked for; where none is, the scene's."""
    from engine.jobs import edit

    folder = project("presets")
    train(folder, steps=1)
    monkeypatch.setattr(edit, "ensure_scene", lambda workspace, capture, *_, **__: capture)
    monkeypatch.setattr(edit, "_edit", lambda workspace, capture, record, *_: record)
    for asked, expected in (("standard", presets.STANDARD), (None, presets.PRESETS["preview"])):
        request = protocol.RunEdit(
            workspace=str(folder), instruction="make it night", preset=asked, device="cpu", even_on_cpu=True
        )
        record = edit.run_edit(request, Job())
        assert record.preset == expected.name and record.settings["steps"] == expected.edit.steps
        assert record.settings["patches"] == expected.edit.patches
    assert Workspace(folder).scene_record().preset == "preview"
