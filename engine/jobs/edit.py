# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying an instruction on one view, and editing the scene."""

from __future__ import annotations

import time

import msgspec
import torch

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.edit.iterative import ImageUpdated, ViewUnderstood
from engine.edit.methods import begin
from engine.edit.settings import EditSettings, settings_from
from engine.editors.catalogue import about_subject, default_editor, recommended
from engine.editors.guidance import Guidance
from engine.editors.instruct_pix2pix import InstructPix2Pix, load_editor
from engine.errors import BadInput, Cancelled
from engine.jobs.capture import edit_message, ensure_images, load_opened
from engine.jobs.scene import (
    CHECKPOINT_EVERY,
    SECONDS_A_RENDER,
    SECONDS_A_STEP,
    ensure_scene,
    load_dataset,
    render_views,
    scene_preset,
    scene_stages,
    training_views,
)
from engine.metrics.memory import PeakMemory
from engine.metrics.perceptual import load_perceptual
from engine.pictures import load_picture, save_picture
from engine.presets import Preset, choose_preset
from engine.progress import Job, Plan, Stage
from engine.scenes.nerfacto.checkpoint import Checkpoint, save_checkpoint
from engine.scenes.nerfacto.training import random_seed
from engine.workspace import EditRecord, Workspace, writes

SECONDS_AN_IMAGE_UPDATE = 3.0
SECONDS_A_RELEVANCE = 0.5
TRY_NOISE = 0.98  # noise level of a try: the whole edit, as the loop's largest t


class Tried(msgspec.Struct, frozen=True):
    """A view before and after the instruction, as pictures on disk."""

    before: str
    after: str


@writes("trying an instruction")
def try_edit(request: protocol.TryEdit, job: Job) -> Tried:
    """Edit one captured view, the NeRF untouched. The picture goes to the workspace's folder `tries`."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    view = capture.view(request.view)
    instruction = checked_instruction(request.instruction)
    device = choose_device(request.device)
    preset = scene_preset(workspace, None, device)
    settings = edit_settings(preset, request, request.editor or default_editor(device)).checked()
    plan = Plan(Stage("try", "Trying on one view", settings.diffusion_steps, 0.1))
    stage = plan.begin("try")
    path = workspace.images / view.image
    if not path.exists():
        images = Plan(Stage("images", "Preparing pictures", len(capture.views), 0.1))
        ensure_images(workspace, capture, images, job)
    editor = opened_editor(request.editor, device, job)
    picture = load_picture(path).to(device).float() / 255

    def check() -> None:
        job.check()
        plan.advance(min(stage.done + 1, stage.units))
        job.report(plan, stage)

    after = edit_picture(editor, picture, instruction, settings, check)
    target = workspace.below("tries", f"{view.name}.png")
    save_picture(target, after)
    job.on_view(view.name, "edited", str(target))
    return Tried(before=str(path), after=str(target))


def edit_picture(
    editor: InstructPix2Pix, picture: torch.Tensor, instruction: str, settings: EditSettings, check=lambda: None
) -> torch.Tensor:
    """Plain InstructPix2Pix on one picture (H, W, 3), 0–1, from (almost) pure noise."""
    generator = torch.Generator().manual_seed(random_seed(settings.seed, "try", 0))
    embedding = editor.embed(instruction)
    condition = editor.condition(picture, embedding, settings.guidance)
    return editor.edit(
        picture,
        condition,
        embedding,
        TRY_NOISE,
        settings.guidance,
        generator,
        settings.diffusion_steps,
        check,
        settings.sampler,
    )


@writes("editing")
def run_edit(request: protocol.RunEdit, job: Job) -> protocol.Edit:
    """Train the unedited scene where it is not, edit it by Iterative Dataset Update, and render every view."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    instruction = checked_instruction(request.instruction)
    device = choose_device(request.device)
    chosen = chosen_views(capture, request.views)
    preset = scene_preset(workspace, request.preset, device)
    editor = request.editor or default_editor(device)
    settings = edit_settings(choose_preset(request.preset, device), request, editor).checked()
    plan = Plan(
        *scene_stages(workspace, capture, preset),
        *edit_stages(capture, settings, len(chosen), 0),
    )
    capture = ensure_scene(workspace, capture, preset, device, request.seed, plan, job)
    readable = {view.name for view in capture.views}
    record = EditRecord(
        id="",
        instruction=instruction,
        parent=None,
        preset=preset.name,
        editor=editor,
        perceptual="",
        chosen=[view.name for view in chosen if view.name in readable],
        settings=msgspec.to_builtins(settings),
        steps=0,
    )
    record = workspace.create_edit(record)
    try:
        return _edit(workspace, capture, record, device, plan, job)
    except BaseException:
        workspace.forget_unbegun(record.id)
        raise


@writes("editing")
def resume_edit(request: protocol.ResumeEdit, job: Job) -> protocol.Edit:
    """Go on with a cancelled or killed edit where its checkpoint is."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    record = workspace.edit_record(request.edit)
    settings = settings_of(record)
    preset = scene_preset(workspace, record.preset, device)
    plan = Plan(
        *scene_stages(workspace, capture, preset),
        *edit_stages(capture, settings, len(record.chosen), record.steps),
    )
    capture = ensure_scene(workspace, capture, preset, device, 0, plan, job)
    return _edit(workspace, capture, record, device, plan, job)


def edit_stages(capture: Capture, settings: EditSettings, views: int, done: int) -> list[Stage]:
    """The stages of an edit of ``views`` views that has taken ``done`` NeRF updates."""
    updates = settings.image_updates if settings.method == "iterative" else 0
    step = SECONDS_A_STEP * 1.5 + SECONDS_AN_IMAGE_UPDATE * updates / settings.steps
    return [
        Stage("understand", "Finding the subject", settings.agreed_first(views), SECONDS_A_RELEVANCE),
        Stage(
            "first", "Editing every view", settings.updates_first(views) if done == 0 else 0, SECONDS_AN_IMAGE_UPDATE
        ),
        Stage("edit", "Editing", settings.steps, step, done=min(done, settings.steps)),
        Stage("after", "Rendering edited views", len(capture.views), SECONDS_A_RENDER),
    ]


def _edit(
    workspace: Workspace, capture: Capture, record: EditRecord, device: str, plan: Plan, job: Job
) -> protocol.Edit:
    with PeakMemory(device) as memory:
        return _edit_within(memory, workspace, capture, record, device, plan, job)


def _edit_within(
    memory: PeakMemory,
    workspace: Workspace,
    capture: Capture,
    record: EditRecord,
    device: str,
    plan: Plan,
    job: Job,
) -> protocol.Edit:
    settings = settings_of(record)
    views = [capture.view(name) for name in record.chosen]
    editor = opened_editor(record.editor, device, job)
    perceptual = job.wait_for(lambda: load_perceptual(device)) if settings.losses.perceptual_weight else None
    loss = perceptual.name if perceptual else "none"
    job.log(f"Editing {len(views)} views with {editor.name}; perceptual loss: {loss}")
    record = msgspec.structs.replace(record, perceptual=loss)

    folder = workspace.edit(record.id)
    path = workspace.checkpoint(record.id)
    begun = path.exists()
    checkpoint = Checkpoint(path if begun else workspace.checkpoint(record.parent))
    frame = checkpoint.header.frame
    dataset = load_dataset(workspace, views, frame, device)
    trainer, events = begin(
        settings, checkpoint, dataset, editor, record.instruction, perceptual, device, record.chosen, job.check
    )
    edited: set[int] = set()
    if begun:
        checkpoint.restore_optimiser(trainer)
        sizes = {view.name: (view.intrinsics.height, view.intrinsics.width) for view in views}
        for name, image in checkpoint.images(sizes).items():
            index = record.chosen.index(name)
            dataset.replace(index, image)
            edited.add(index)

    first = trainer.step_index == 0 and settings.updates_first(len(views)) > 0
    updating = "first" if first else "edit"
    stage = plan.begin("understand" if settings.agreed_first(len(views)) else updating)
    earlier = record.seconds
    began = saved = time.monotonic()

    def save(finished: bool = False) -> EditRecord:
        images = {record.chosen[index]: dataset.image(index) for index in edited}
        save_checkpoint(path, trainer, frame, record.chosen, images)
        now = msgspec.structs.replace(
            record,
            steps=trainer.step_index,
            seconds=earlier + time.monotonic() - began,
            peak_bytes=max(record.peak_bytes, memory.peak),
            finished=finished,
        )
        workspace.save_edit(now)
        return now

    if not begun:
        save()  # from here on it can be resumed, whatever happens
    try:
        for event in events:
            if isinstance(event, ViewUnderstood):
                plan.advance(event.view + 1)
                job.report(plan, stage)
            elif isinstance(event, ImageUpdated):
                if stage.name == "understand":
                    stage = plan.begin(updating)
                edited.add(event.view)
                name = record.chosen[event.view]
                picture = folder / "images" / f"{name}.png"
                save_picture(picture, event.image)
                job.on_view(name, "edited", str(picture))
                if stage.name == "first":
                    plan.advance(min(stage.done + 1, stage.units))
                    job.report(plan, stage)
            else:
                if stage.name != "edit":
                    stage = plan.begin("edit")
                plan.advance(event.step)
                job.report(plan, stage, event.losses)
            if time.monotonic() - saved > CHECKPOINT_EVERY:
                save()
                saved = time.monotonic()
    except Cancelled:
        save()
        raise
    save()
    for view, render in render_views(trainer.nerf, frame, capture.views, device, plan, job, stage="after"):
        picture = workspace.views(record.id) / f"{view.name}.png"
        save_picture(picture, render.rgb)
        job.on_view(view.name, "after", str(picture))
    record = save(finished=True)
    job.log(f"Edited in {record.seconds:.0f} s: {settings.steps} steps, {settings.image_updates} image updates")
    return edit_message(workspace, record)


def opened_editor(name: str | None, device: str, job: Job) -> InstructPix2Pix:
    """The named editor, or the device's default, loaded while the job can still be cancelled."""
    return job.wait_for(lambda: load_editor(name or default_editor(device), device))


def checked_instruction(instruction: str) -> str:
    """The instruction without surrounding space. Raises BadInput where nothing is left."""
    instruction = " ".join(instruction.split())
    if not instruction:
        raise BadInput("The instruction is empty; say what should change.", field="instruction")
    if len(instruction) > 500:
        raise BadInput(
            "The instruction is longer than 500 characters; the editor reads one sentence.", field="instruction"
        )
    return instruction


def chosen_views(capture: Capture, names: list[str] | None) -> list[View]:
    """The views to edit and train on: the named ones, or all that are not held out. Raises BadInput."""
    if names is None:
        return training_views(capture)
    chosen = [capture.view(name) for name in dict.fromkeys(names)]
    if len(chosen) < 2:
        raise BadInput(f"{len(chosen)} view is chosen; an edit needs at least 2 that see the scene.", field="views")
    return chosen


def edit_settings(preset: Preset, request: protocol.TryEdit | protocol.RunEdit, editor: str) -> EditSettings:
    """The preset's settings with what the editor recommends (guidance, sampler steps) and what the request says."""
    steps = getattr(request, "steps", None) or preset.edit.steps
    settings = msgspec.structs.replace(preset.edit, seed=request.seed, steps=steps)
    return with_editor(
        settings, editor, request.instruction, request.text_guidance, request.image_guidance, request.keep_background
    )


def with_editor(
    settings: EditSettings,
    editor: str,
    instruction: str,
    text_guidance: float | None = None,
    image_guidance: float | None = None,
    keep_background: bool | None = None,
) -> EditSettings:
    """The settings with the guidance, and the sampler's steps, that the editor recommends for the instruction.

    What is given goes before. keep_background: hold the original where the instruction matters little; None: where the
    editor's vocabulary says that the instruction is about the subject alone.
    """
    own = recommended(editor)
    keep = about_subject(editor, instruction) if keep_background is None else keep_background
    guidance = Guidance(
        own.text if text_guidance is None else text_guidance,
        own.image if image_guidance is None else image_guidance,
        own.relevance if keep else 0.0,
        own.tethered,
        own.guided_above,
    )
    steps = own.steps or settings.diffusion_steps
    return msgspec.structs.replace(settings, guidance=guidance, diffusion_steps=steps)


def settings_of(record: EditRecord) -> EditSettings:
    return settings_from(record.settings)
