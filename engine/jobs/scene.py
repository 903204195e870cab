# SPDX-License-Identifier: GPL-3.0-or-later
"""Training the unedited scene, measuring it, and rendering its views."""

from __future__ import annotations

import msgspec
import numpy as np
import torch
from torch import Tensor

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.errors import BadInput, Cancelled
from engine.jobs.asked import seen_meanwhile
from engine.jobs.capture import COLLAPSED, SECONDS_AN_IMAGE, ensure_images, load_opened, scene_message
from engine.jobs.depths import PHOTOS, Compared, compared_for, depths_stages, learn_depths
from engine.jobs.kept_depths import forget_depths
from engine.jobs.views import Shown, render_views, scene_at
from engine.metrics.held_out import VIEWS, HeldOut
from engine.metrics.image import psnr, ssim
from engine.metrics.perceptual import Perceptual, load_perceptual
from engine.pictures import load_picture, read_picture, save_picture
from engine.pieces import Keep
from engine.presets import SECONDS_A_RENDER, SECONDS_A_STEP, Preset, choose_preset, refuse_days
from engine.progress import Job, Plan, Stage
from engine.protocol import Measures
from engine.records import MOST_STEPS, SceneRecord
from engine.scenes.base import Scene
from engine.scenes.health import ATTEMPTS, is_looked_at
from engine.scenes.picture_set import PictureSet, view_layers
from engine.scenes.registry import begin_scene, open_scene
from engine.workspace import Workspace, writes

CHECKPOINT_EVERY = 60.0  # seconds


@writes("training the scene")
def train_scene(request: protocol.TrainScene, job: Job) -> protocol.Scene:
    """Train the unedited NeRF of the workspace's capture, or go on with it, and render every view."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    preset = scene_preset(workspace, request.preset, device)
    if request.steps is not None and not 1 <= request.steps <= MOST_STEPS:
        raise BadInput(f"The setting steps must be 1 to {MOST_STEPS:,}.", field="steps")
    if not -(2**63) <= request.seed < 2**63:
        raise BadInput("The setting seed must be a number of 64 bits.", field="seed")
    refuse_days(preset.name, device, request.even_on_cpu)
    asked = Compared(request.depths, request.planes)
    plan = job.plan(*scene_stages(workspace, capture, preset, request.steps, asked))
    ensure_scene(workspace, capture, preset, device, request.seed, plan, job, request.steps, asked)
    record = workspace.scene_record()
    assert record is not None
    return scene_message(workspace, record)


def scene_preset(workspace: Workspace, name: str | None, device: str) -> Preset:
    """The preset that the workspace's scene was begun with, if it was; else the one asked for."""
    record = workspace.scene_record()
    return choose_preset(record.preset if record else name, device)


def is_trained(workspace: Workspace, preset: Preset) -> bool:
    """Whether the unedited scene has all the steps that an edit would train it for."""
    record = workspace.scene_record()
    return record is not None and record.steps >= _target(record, preset, None)


def _target(record: SceneRecord | None, preset: Preset, steps: int | None) -> int:
    """How many steps the scene is to have: what is asked now; else what was asked before and not reached, but no more
    than the preset's, or a longer training that was cancelled would be every later job's; else what it has."""
    if steps:
        return steps
    if record is None:
        return preset.train.steps
    return record.of if record.finished else min(record.of, max(preset.train.steps, record.steps))


def scene_stages(
    workspace: Workspace,
    capture: Capture,
    preset: Preset,
    steps: int | None = None,
    asked: Compared = PHOTOS,
) -> list[Stage]:
    """The stages of `ensure_scene`, with what of them is done already."""
    record = workspace.scene_record()
    steps = _target(record, preset, steps)
    done = record.steps if record else 0
    renders = len(capture.views) if done < steps else len(_unrendered(workspace, capture))
    compared = compared_for(record, preset, asked) if done < steps else Compared(photos=False)
    return [
        Stage("images", "Preparing pictures", len(capture.views), SECONDS_AN_IMAGE),
        *depths_stages(sum(not v.held_out for v in capture.views), compared),
        Stage("train", "Learning the scene", steps, SECONDS_A_STEP, done=min(done, steps)),
        Stage("before", "Rendering views", renders, SECONDS_A_RENDER),
    ]


def _unrendered(workspace: Workspace, capture: Capture) -> list[View]:
    """The views of which there is no picture of the scene as it is, or all where it is not measured."""
    record, folder = workspace.scene_record(), workspace.views(None)
    if record is None:
        return list(capture.views)
    rendered = record.rendered == record.steps
    if record.rendered is None:  # by an engine that did not note it
        rendered = record.finished and record.measures is not None
    return [view for view in capture.views if not (rendered and (folder / f"{view.name}.png").exists())]


def ensure_scene(
    workspace: Workspace,
    capture: Capture,
    preset: Preset,
    device: str,
    seed: int,
    plan: Plan,
    job: Job,
    steps: int | None = None,
    asked: Compared = PHOTOS,
) -> Capture:
    """The stages `images`, `depths` (and `planes`), `train` and `before`: the unedited scene is trained, measured
    and rendered afterwards. Returns the capture without unreadable views."""
    capture = ensure_images(workspace, capture, plan, job)
    record = workspace.scene_record()
    steps = _target(record, preset, steps)
    if record is None or record.steps < steps:
        record = _train(workspace, capture, preset, device, seed, steps, asked, plan, job)
    elif not record.finished:  # it has what is asked of it now
        record = msgspec.structs.replace(record, of=steps)
        workspace.save_scene(record)
    if _unrendered(workspace, capture):
        _measure_and_render(workspace, capture, record, device, plan, job)
    return capture


def _train(
    workspace: Workspace,
    capture: Capture,
    preset: Preset,
    device: str,
    seed: int,
    steps: int,
    asked: Compared,
    plan: Plan,
    job: Job,
) -> SceneRecord:
    views = training_views(capture)
    path = workspace.checkpoint(None)
    before = workspace.scene_record()
    saved_scene = open_scene(path) if before is not None and path.exists() else None
    if saved_scene is not None and list(saved_scene.views) != [view.name for view in views]:
        raise BadInput(
            f"The scene in {workspace.folder.name} was begun on other views; choose another project folder.",
            file=path,
            field="workspace",
        )
    attempt = 0
    if before is not None and saved_scene is not None:
        seed, attempt = before.seed, before.attempt
    training = msgspec.structs.replace(preset.train, steps=steps)
    pictures = PictureSet.read(workspace.images, views, device)
    compared = compared_for(before, preset, asked)
    if compared.photos:
        learn_depths(pictures, capture, views, compared.planes, workspace.scene, plan, job)
    if training.losses.flat_weight:
        pictures.find_plain(job.check)
    stage = plan.begin("train")
    red, green, blue = (channel / 255 for channel in capture.background)
    background = None if pictures.alpha is None else (red, green, blue)
    if saved_scene is not None:
        trainer = saved_scene.trainer(views, training, seed, device, resume=True, attempt=attempt)
    else:
        trainer = begin_scene(preset.nerf, views, capture.centre, training, seed, device, background)
    job.log(
        f"Training on {len(views)} views, {len(capture.views) - len(views)} held out, on {device}, preset {preset.name}"
    )

    held_out = _held_out(workspace, capture, job)
    earlier = before.seconds if before else 0.0
    began = saved = job.clock()

    def save(collapsed: bool = False) -> SceneRecord:
        trainer.save(path)
        seconds = earlier + job.clock() - began
        record = SceneRecord(
            preset.name,
            device,
            seed,
            trainer.step_index,
            steps,
            seconds,
            attempt=attempt,
            collapsed=collapsed,
            depths=compared.photos,
            planes=compared.planes,
        )
        workspace.save_scene(record)
        return record

    try:
        with seen_meanwhile(workspace, None, lambda: trainer, job):
            while trainer.step_index < steps:
                job.check()
                losses = trainer.step(pictures)
                if attempt + 1 < ATTEMPTS and is_looked_at(trainer.step_index) and trainer.health(pictures).collapsed:
                    attempt += 1
                    job.log(
                        f"The training had collapsed after {trainer.step_index} steps and begins again from other "
                        f"values, attempt {attempt + 1} of {ATTEMPTS}"
                    )
                    trainer = begin_scene(
                        preset.nerf, views, capture.centre, training, seed, device, background, attempt
                    )
                plan.advance(trainer.step_index)
                job.report(plan, stage, losses, held_out=held_out.decibels(trainer.scene, job.check))
                if job.clock() - saved > CHECKPOINT_EVERY:
                    save()
                    saved = job.clock()
    except Cancelled:
        save()
        raise
    record = save(collapsed=trainer.health(pictures).collapsed)
    forget_depths(workspace.scene)
    job.log(f"Trained {record.steps} steps in {record.seconds:.0f} s")
    if record.collapsed:
        job.log(COLLAPSED)
    return record


def _held_out(workspace: Workspace, capture: Capture, job: Job) -> HeldOut:
    """What is looked at while the scene is learned, to see how well it does."""
    views = [view for view in capture.views if view.held_out]
    views = views[:: -(-len(views) // VIEWS) or 1]
    pictures = [read_picture(workspace.images / view.image) for view in views]
    return HeldOut(views, pictures, [view_layers(workspace.images, view)[0] for view in views], job.clock)


def _measure_and_render(
    workspace: Workspace, capture: Capture, record: SceneRecord, device: str, plan: Plan, job: Job
) -> None:
    scene = shown_scene(workspace, None, device)
    perceptual = kept_perceptual(device, job)
    folder = workspace.views(None)
    figures = []
    for view, seen in render_views(scene, capture.views, plan, job, "before"):
        path = folder / f"{view.name}.png"
        save_picture(path, seen.rgb)
        job.on_view(view.name, "before", str(path))
        if view.held_out:
            truth = load_picture(workspace.images / view.image).to(device).float() / 255
            mask, alpha = view_layers(workspace.images, view)
            if mask is None or mask.any():
                figures.append(_figures(seen.picture(device), truth, mask, alpha, perceptual))
    measures = None
    if figures:
        means = [float(x) for x in np.mean([figure[:3] for figure in figures], axis=0)]
        of_objects = [figure[3] for figure in figures if figure[3] is not None]
        of_object = float(np.mean(of_objects)) if of_objects else None
        measures = Measures(means[0], means[1], means[2], perceptual.name, len(figures), of_object)
        inside = "" if of_object is None else f" ({of_object:.2f} dB of the object alone)"
        job.log(
            f"Held-out views ({len(figures)}): PSNR {means[0]:.2f} dB{inside}, SSIM {means[1]:.3f}, "
            f"{perceptual.name} {means[2]:.3f}, after {record.steps} steps and {record.seconds:.0f} s of training"
        )
    workspace.save_scene(msgspec.structs.replace(record, measures=measures, rendered=record.steps))


def _figures(
    rgb: Tensor, truth: Tensor, mask: np.ndarray | None, alpha: np.ndarray | None, perceptual: Perceptual
) -> tuple[float, float, float, float | None]:
    """PSNR, SSIM and perceptual distance over the pixels that the mask does not hide, and PSNR over those of them that
    show an object, where it was cut out."""
    known = np.ones(rgb.shape[:2], bool) if mask is None else mask
    full = known & (alpha > 127) if alpha is not None else np.zeros_like(known)
    of_object = float(psnr(rgb, truth, full)) if full.any() else None
    if known.all():
        distance = float(perceptual(rgb[None], truth[None]))
        return float(psnr(rgb, truth)), float(ssim(rgb, truth)), distance, of_object
    seen = torch.from_numpy(known).to(rgb.device)
    distance = float(perceptual.of_seen(rgb, truth, seen))
    return float(psnr(rgb, truth, seen)), float(ssim(rgb, truth, seen)), distance, of_object


def kept_perceptual(device: str, job: Job) -> Perceptual:
    """The perceptual measure; it stays loaded for the next job."""
    return perceptual_at(device, job.keep)


def perceptual_at(device: str, keep: Keep) -> Perceptual:
    """The perceptual measure, which ``keep`` keeps loaded."""
    return keep("perceptual measure", device, lambda: load_perceptual(device))


def shown_scene(workspace: Workspace, edit: str | None, device: str) -> Shown:
    """The scene of an edit, or the unedited one, to be looked at in pieces. Raises BadInput where there is none."""
    path = workspace.checkpoint(edit)
    open_scene(path)
    return Shown(path, edit is not None, device)


def kept_scene(workspace: Workspace, edit: str | None, device: str, job: Job) -> Scene:
    """The scene of an edit, or the unedited one, to render from; it stays loaded for the next job. Raises BadInput
    where there is none."""
    return scene_at(workspace.checkpoint(edit), edit is not None, device, job.keep)


def training_views(capture: Capture) -> list[View]:
    """The views that the unedited scene is trained on. Raises BadInput where there are too few to train at all."""
    views = [view for view in capture.views if not view.held_out]
    if len(views) < 2:
        raise BadInput(
            f"{capture.source.name} has {len(views)} views to train on; a scene needs at least 2.", field="views"
        )
    return views
