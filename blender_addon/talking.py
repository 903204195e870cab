# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to the job that runs: pausing it, telling an edit something else, having a view edited once more or left as
captured, looking at what the NeRF has learned so far. The engine does it between two steps; answers arrive in
:func:`session.pump`.

All functions return at once and raise ``ValueError`` or ``RuntimeError`` with a sentence where they cannot ask.
"""

from __future__ import annotations

import time
from typing import Any

import bpy

from . import asking, choices, knobs, messages, session, wire
from .jobs import region_params
from .project import edit_of, project_of, root_of, workspace_of
from .state import Job
from .words import t

NOW = "now"  # the kind of picture that was asked for, beside those that the engine sends by itself


def heard(*methods: str) -> Job | None:
    """The job that runs and hears what it is asked, where it is one of these ``methods``; else None."""
    state = session.get()
    job = state.job
    listens = job is not None and job.status == "running" and state.unsent is None and job.method in methods
    return job if listens else None


def edit_heard(scene: bpy.types.Scene) -> Job | None:
    """The edit that runs of the scene's capture; None where there is none."""
    job = heard(*wire.EDITS)
    return job if job is not None and job.workspace == workspace_of(scene) else None


def pause(paused: bool) -> None:
    """Have the job that runs wait at its next step, or go on."""
    job = _wanted(heard(*wire.PAUSABLE), "Nothing runs that can pause.")

    def done(waits: bool) -> None:
        job.paused = waits
        job.rested = job.rested or job.paused
        job.due = None  # told anew with the next step

    method = wire.JOB_PAUSE if paused else wire.JOB_CONTINUE
    asking.request(method, {"job": job.id}, done, panel=job.panel)


def changes(scene: bpy.types.Scene) -> dict[str, Any]:
    """What the panel says and the running edit was not told, as the engine takes it: an instruction, options, or
    nothing. Options are those of the edit's own editor alone."""
    job = edit_heard(scene)
    if job is None:
        return {}
    found: dict[str, Any] = {}
    instruction = scene.instruct_nerf.instruction.strip()
    if instruction and instruction != _told(scene, job):
        found["instruction"] = instruction
    settings = scene.instruct_nerf
    editor = choices.editor_of(session.get().info, settings.editor, settings.device)
    if editor is not None and job.sent.get("editor", editor.name) == editor.name:
        own = {knob.name: knob.default for knob in knobs.usable(editor)}
        told = own | dict(job.sent.get("options") or {})
        wanted = own | knobs.options_of(scene, editor)
        if options := {name: value for name, value in wanted.items() if value != told[name]}:
            found["options"] = options
    return found


def change(scene: bpy.types.Scene) -> None:
    """Tell the running edit what the panel says by now; it holds from the step that it is about to take."""
    job = _wanted(edit_heard(scene), "No edit of this capture runs.")
    asked = changes(scene)
    if not asked:
        raise ValueError("The edit was told this already: type another instruction, or turn a knob, first.")

    def done(step: int) -> None:
        options = {**(job.sent.get("options") or {}), **asked.get("options", {})}
        job.sent = {**job.sent, "options": options}
        if "instruction" in asked:
            job.sent = {**job.sent, "instruction": asked["instruction"]}
        said = [f"“{asked['instruction']}”"] if "instruction" in asked else []
        said += [f"{name.replace('_', ' ')} {value}" for name, value in asked.get("options", {}).items()]
        session.say(job.panel, t("From step {step} on: {what}").format(step=step, what=", ".join(said)))

    asking.request(wire.JOB_CHANGE, {"job": job.id, **asked}, done, panel=job.panel)


def has_region(scene: bpy.types.Scene) -> bool:
    """Whether the panel confines edits to a region, or the running edit is confined to one."""
    job = edit_heard(scene)
    return job is not None and bool(scene.instruct_nerf.use_region or job.sent.get("region"))


def change_region(scene: bpy.types.Scene) -> None:
    """Have the running edit keep to the region as it is now, or to none any more; outside all is as captured at
    once."""
    job = _wanted(edit_heard(scene), "No edit of this capture runs.")
    region = region_params(scene, root_of(scene))
    if "region" in job.sent and job.sent["region"] == region:
        raise ValueError("The edit keeps to this region already: move it, or turn it off, first.")

    def done(step: int) -> None:
        job.sent = {**job.sent, "region": region}
        what = t("the whole scene") if region is None else t("inside the region alone")
        session.say(job.panel, t("From step {step} on: {what}").format(step=step, what=what))

    asking.request(wire.JOB_CHANGE, {"job": job.id, "region": region}, done, panel=job.panel)


def edit_again(scene: bpy.types.Scene, view: str, captured: bool = False) -> None:
    """Have a view edited once more, beside those whose turn it is; or (``captured``) have its own picture put back, and
    left until it is asked for."""
    job = _wanted(edit_heard(scene), "No edit of this capture runs.")

    def done(step: int) -> None:
        back = t("{view} is as captured, from step {step} on")
        said = back if captured else t("{view} is edited once more, at step {step}")
        session.say(job.panel, said.format(view=view, step=step))

    asked = {"job": job.id, "view": view} | ({"captured": True} if captured else {})
    asking.request(wire.JOB_REMAKE, asked, done, panel=job.panel)


def look(scene: bpy.types.Scene, view: str) -> None:
    """See what the NeRF shows of a view now, in the panel of what runs."""
    job = _wanted(heard(*wire.LOOKED_AT), "No NeRF is being trained.")
    project = project_of(scene)
    camera = next((v.camera for v in project.capture.views if v.name == view), None) if project.capture else None
    if camera is None:
        raise ValueError(f"The engine has not told of a view {view}: open the capture again.")

    def done(rendered: messages.Rendered) -> None:
        job.view, job.kind, job.image, job.pictured = view, NOW, rendered.image, time.monotonic()
        session.say(job.panel, t("{view} after step {step}").format(view=view, step=rendered.step))

    asking.request(wire.JOB_RENDER, {"job": job.id, "camera": wire.camera_object(camera)}, done, panel=job.panel)


def _told(scene: bpy.types.Scene, job: Job) -> str:
    """What the running edit is doing: as it was asked or, resumed, as its record has it."""
    if "instruction" in job.sent:
        return str(job.sent["instruction"])
    project = project_of(scene)
    edits = project.edits if project is not None else ()
    edit = next((e for e in edits if e.id == job.sent.get("edit")), edit_of(scene))
    if edit is None:
        return ""
    return next((c.instruction for c in reversed(edit.changes) if c.instruction), edit.instruction)


def _wanted(job: Job | None, sentence: str) -> Job:
    if job is None:
        raise RuntimeError(sentence)
    return job
