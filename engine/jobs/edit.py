# SPDX-License-Identifier: GPL-3.0-or-later
"""Editing the scene: a request in, an edit's folder out, resumable at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from msgspec import UNSET
from msgspec.structs import replace
from torch import Tensor

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.edit.iterative import ImageUpdated
from engine.edit.methods import begin
from engine.edit.prompt import Again, Prompts
from engine.edit.region import region_of
from engine.edit.settings import (
    EditSettings,
    Told,
    changed,
    checked_instruction,
    settings_for,
)
from engine.editors.base import Editor
from engine.editors.catalogue import (
    known_options,
)
from engine.errors import BadInput, Cancelled
from engine.files import remove_file
from engine.jobs.asked import seen_meanwhile
from engine.jobs.capture import edit_message, load_opened
from engine.jobs.depths import Compared
from engine.jobs.edit_stages import EditWatch, edit_stages
from engine.jobs.key_views import check_keys, kept_keys, save_keys
from engine.jobs.like import as_like
from engine.jobs.named_editor import (
    chosen_editor,
    edit_settings,
    opened_editor,
    refuse_one_picture,
    warn_of_unknown,
    with_editor,
)
from engine.jobs.parents import check_parent, original_pictures
from engine.jobs.scene import (
    CHECKPOINT_EVERY,
    ensure_scene,
    is_trained,
    kept_perceptual,
    scene_preset,
    scene_stages,
    training_views,
)
from engine.jobs.tree import standing_on
from engine.jobs.views import Shown, render_views
from engine.metrics.memory import PeakMemory
from engine.output.mesh_files import remove_meshes
from engine.pictures import save_picture
from engine.presets import choose_preset, refuse_days
from engine.progress import Job, Plan
from engine.records import EditRecord
from engine.results import Noted
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import open_scene
from engine.workspace import Workspace, writes


@dataclass(frozen=True)
class _Begun:
    """An edit that has a record, and nothing else yet."""

    workspace: Workspace
    capture: Capture
    record: EditRecord
    device: str
    plan: Plan


@writes("editing")
def run_edit(request: protocol.RunEdit, job: Job) -> protocol.Edit:
    """Train the unedited scene where it is not, edit it by Iterative Dataset Update, and render every view."""
    begun = _begun(request, job)
    try:
        return _edit(begun.workspace, begun.capture, begun.record, begun.device, begun.plan, job)
    except BaseException:
        begun.workspace.forget_unbegun(begun.record.id)
        raise


@writes("editing")
def begin_edit(request: protocol.RunEdit, job: Job) -> EditRecord:
    """As `run_edit`, but for the edit itself, which `resume_edit` then does: here, or wherever the project is."""
    return _begun(request, job).record


def _begun(request: protocol.RunEdit, job: Job) -> _Begun:
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    instruction = checked_instruction(request.instruction)
    device = choose_device(request.device)
    request = with_editor(as_like(workspace, request), device)
    refuse_one_picture(chosen_editor(request))
    chosen = chosen_views(capture, request.views)
    check_keys(request.key_views, chosen, job)
    check_parent(workspace, request.parent, chosen)
    preset = scene_preset(workspace, request.preset, device)
    own = preset if request.preset is None else choose_preset(request.preset, device)  # the scene keeps its own
    region_of(request.region)  # what is wrong with it is said before anything is trained
    for used in (own, preset) if not is_trained(workspace, preset) else (own,):
        refuse_days(used.name, device, request.even_on_cpu)
    settings = edit_settings(own, request)
    asked = Compared(request.depths, request.planes)
    plan = job.plan(
        *scene_stages(workspace, capture, preset, asked=asked),
        *edit_stages(settings, len(chosen), len(capture.views), 0),
    )
    capture = ensure_scene(workspace, capture, preset, device, request.seed, plan, job, asked=asked)
    readable = {view.name for view in capture.views}
    record = EditRecord(
        id="",
        instruction=instruction,
        parent=request.parent,
        preset=own.name,
        editor=chosen_editor(request),
        perceptual="",
        chosen=[view.name for view in chosen if view.name in readable],
        settings=msgspec.to_builtins(settings),
        steps=0,
        region=request.region,
        key_views=[key.view for key in request.key_views],
    )
    record = workspace.create_edit(record)
    warn_of_unknown(record.editor, record.instruction, job)
    try:
        keyed = [capture.view(key.view) for key in request.key_views]
        originals = original_pictures(workspace, keyed, request.parent)
        save_keys(workspace, capture, record, request.key_views, originals, job)
    except BaseException:
        workspace.forget_unbegun(record.id)
        raise
    return _Begun(workspace, capture, record, device, plan)


@writes("editing")
def resume_edit(request: protocol.ResumeEdit, job: Job) -> protocol.Edit:
    """Go on with a cancelled or killed edit where its checkpoint is, or with a finished one that is to have more
    steps."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    record = with_steps(workspace, workspace.edit_record(request.edit), request.steps)
    check_parent(workspace, record.parent, [capture.view(name) for name in record.chosen], record.id)
    settings = settings_for(record.settings, record.editor)
    preset = scene_preset(workspace, record.preset, device)
    refuse_days(record.preset, device, request.even_on_cpu)
    plan = job.plan(
        *scene_stages(workspace, capture, preset),
        *edit_stages(settings, len(record.chosen), len(capture.views), record.steps),
    )
    capture = ensure_scene(workspace, capture, preset, device, 0, plan, job)
    if request.steps is not None:
        remove_meshes(workspace.output(record.id))  # of the edit as it was
        remove_file(workspace.output(record.id) / "splats.ply")
        workspace.save_edit(record)
    return _edit(workspace, capture, record, device, plan, job)


def with_steps(workspace: Workspace, record: EditRecord, steps: int | None) -> EditRecord:
    """An edit's record, to have so many steps in all; None: as many as it was to have. Raises BadInput where it has
    them already, or where others stand on it: what they began with would no longer be there."""
    if steps is None:
        return record
    if steps <= record.steps:
        raise BadInput(f"{record.id} has {record.steps} steps already; ask for more than that.", field="steps")
    if children := standing_on(workspace, record.id):
        who = f"{len(children)} edits stand" if len(children) > 1 else f"The edit {children[0]} stands"
        raise BadInput(
            f"{who} on {record.id} as it is; make another edit like it, with more steps.",
            field="steps",
        )
    settings = msgspec.structs.replace(settings_for(record.settings, record.editor), steps=steps).checked()
    return msgspec.structs.replace(record, settings=msgspec.to_builtins(settings), finished=False)


def _edit(
    workspace: Workspace, capture: Capture, record: EditRecord, device: str, plan: Plan, job: Job
) -> protocol.Edit:
    with PeakMemory(device) as memory:
        run = _Run(workspace, capture, record, device, memory, job)
        with run.talked_to():
            run.edit(EditWatch(plan, job, len(record.chosen)))
            shown = Shown(run.path, True, device, live=run.trainer.scene)  # as it was saved
            for view, seen in render_views(shown, capture.views, plan, job, "after"):
                picture = workspace.views(record.id) / f"{view.name}.png"
                save_picture(picture, seen.rgb)
                job.on_view(view.name, "after", str(picture))
        record = run.save(finished=True)
    job.log(f"Edited in {record.seconds:.0f} s: {record.steps} steps, {record.edits} image updates")
    return edit_message(workspace, record)


class _Run:
    """An edit at work, and all of it that a checkpoint must hold."""

    def __init__(
        self, workspace: Workspace, capture: Capture, record: EditRecord, device: str, memory: PeakMemory, job: Job
    ):
        self.workspace, self.job, self.memory = workspace, job, memory
        self.settings = settings_for(record.settings, record.editor)
        views = [capture.view(name) for name in record.chosen]
        editor = opened_editor(record.editor, device, job)
        perceptual = None
        if self.settings.losses.perceptual_weight:
            perceptual = kept_perceptual(device, job)
        loss = perceptual.name if perceptual else "none"
        job.log(f"Editing {len(views)} views with {editor.name}; perceptual loss: {loss}")
        self.record = msgspec.structs.replace(record, perceptual=loss)

        self.path = workspace.checkpoint(record.id)
        saved = open_scene(self.path) if self.path.exists() else None
        self.pictures = PictureSet.read(
            workspace.images, views, device, original_pictures(workspace, views, record.parent)
        )
        self.prompts = _prompts(editor, self.settings, record, kept_keys(workspace, views, record))
        self.trainer, self.events = begin(
            self.settings,
            open_scene(workspace.checkpoint(record.parent)),
            views,
            self.pictures,
            self.prompts,
            perceptual,
            device,
            job.check,
            saved,
        )
        self.edits = 0  # of this run
        self.edited = set(saved.edited) if saved else set()  # names of views
        self._written = self.record  # as it stands on the disk
        self._began = self._saved = job.clock()
        self._over: float | None = None  # when the last event had come
        if saved is None:
            self.save()  # from here on it can be resumed, whatever happens

    def edit(self, watch: EditWatch) -> None:
        """Run to the end, saving on the way, and where it is cancelled."""
        watch.start()
        try:
            for event in self.events:
                if isinstance(event, ImageUpdated):
                    self.edits += event.edits
                    name = self.record.chosen[event.view]
                    self.edited.add(name)
                    picture = self.workspace.edit(self.record.id) / "images" / f"{name}.png"
                    save_picture(picture, event.image)
                    self.job.on_view(name, "edited", str(picture))
                watch.saw(event)
                if self.job.clock() - self._saved > CHECKPOINT_EVERY:
                    self.save()
        except Cancelled:
            self.save()
            raise
        self._over = self.job.clock()
        self.save()

    def save(self, finished: bool = False) -> EditRecord:
        """Write the checkpoint, and the record that tells of it."""
        images = {
            name: self.pictures.image(index) for index, name in enumerate(self.record.chosen) if name in self.edited
        }
        self.trainer.save(self.path, images)
        now = self.job.clock()
        record = msgspec.structs.replace(
            self.record,
            steps=self.trainer.step_index,
            seconds=self.record.seconds + (now if self._over is None else self._over) - self._began,
            edits=self.record.edits + self.edits,
            peak_bytes=max(self.record.peak_bytes, self.memory.peak),
            finished=finished,
        )
        self.workspace.save_edit(record)
        self._written, self._saved = record, now
        return record

    @contextmanager
    def talked_to(self) -> Iterator[None]:
        """While the block runs, wishes are granted: to see the scene, to be told something else, to edit a view once
        more. What changes the run is written down with its step before it takes effect, so that a resumed run is the
        unbroken one."""
        seen = seen_meanwhile(self.workspace, self.record.id, lambda: self.trainer, self.job)
        with seen, self.job.wishes.granting({protocol.CHANGE: self._change, protocol.REMAKE: self._remake}):
            yield

    def _change(self, wish: protocol.ChangeEdit) -> Noted:
        step, regions = self._step_to_come(), self.record.regions
        if wish.instruction is None and not wish.options and wish.region is UNSET:
            raise BadInput("Say what should change: the instruction, an option or the region.", field="instruction")
        told = changed(self.settings, self.record.editor, self.prompts.told[-1], wish.instruction, wish.options, step)
        number = None
        if wish.region is not UNSET:
            told = replace(told, region=region_of(wish.region))
            number, regions = len(regions), [*regions, wish.region]
            if len(regions) > protocol.MOST_REGIONS:
                raise BadInput(f"An edit is given at most {protocol.MOST_REGIONS} regions.", field="region")
        self._note(protocol.Change(step, told.instruction, told.options, told.keep, region=number), regions)
        self.prompts.change(told)
        self.job.log(f"From step {step} on: “{told.instruction}”" + ("" if number is None else ", in another region"))
        return Noted(step)

    def _remake(self, wish: protocol.RemakeView) -> Noted:
        step = self._step_to_come()
        if wish.view not in self.record.chosen:
            raise BadInput(f"The view {wish.view} is not one that is edited.", field="view")
        view = self.record.chosen.index(wish.view)
        if wish.captured and view in self.prompts.keys_at(step):
            raise BadInput(f"{wish.view} is a key view: it stays as it was approved.", field="view")
        self._note(protocol.Change(step, view=wish.view, captured=wish.captured))
        self.prompts.edit_again(view, step, wish.captured)
        return Noted(step)

    def _step_to_come(self) -> int:
        if self._over is not None:
            raise BadInput("The edit has taken its last step; start another one.", field="job")
        return self.trainer.step_index

    def _note(self, change: protocol.Change, regions: list[protocol.Region | None] | None = None) -> None:
        changes = [*self.record.changes, change]
        regions = self.record.regions if regions is None else regions
        self.record = replace(self.record, changes=changes, regions=regions)
        self._written = replace(self._written, changes=changes, regions=regions)
        self.workspace.save_edit(self._written)


def _prompts(editor: Editor, settings: EditSettings, record: EditRecord, keys: dict[int, Tensor]) -> Prompts:
    """What the editor is told, and was told before the run was stopped. Raises BadInput."""
    region, told, again = region_of(record.region), [], []
    first = replace(settings.told(record.instruction), region=region)
    for c in record.changes:
        if c.view is not None:
            again.append(Again(record.chosen.index(c.view), c.step, c.captured))
            continue
        if c.region is not None:
            region = region_of(record.regions[c.region])
        told.append(Told(c.instruction, known_options(record.editor, c.options), c.keep, c.step, region))
    return Prompts(editor, first, told, again, keys)


def chosen_views(capture: Capture, names: list[str] | None) -> list[View]:
    """The views to edit and train on: the named ones, or all that are not held out. Raises BadInput."""
    if names is None:
        return training_views(capture)
    chosen = [capture.view(name) for name in dict.fromkeys(names)]
    if len(chosen) < 2:
        raise BadInput(f"{len(chosen)} view is chosen; an edit needs at least 2 that see the scene.", field="views")
    return chosen
