# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that go on by themselves: letting one go with the engine that does it, and following one to its end.

Functions return at once and raise ``ValueError`` or ``RuntimeError`` with a sentence where they cannot begin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import bpy

from . import asking, editing, meshes, messages, opening, session, talking, wire
from .jobs import ready, start_engine
from .project import project_of, workspace_of
from .words import t

_PANELS = {wire.CAPTURE_IMAGES: "capture", wire.CAPTURE_REGISTER: "capture"} | dict.fromkeys(
    (wire.OUTPUT_MESH, wire.OUTPUT_SPLATS, wire.OUTPUT_FRAMES, wire.OUTPUT_REPORT), "results"
)
_TITLES = {
    wire.CAPTURE_IMAGES: "Preparing pictures",
    wire.CAPTURE_REGISTER: "Finding the cameras of the photos",
    wire.SCENE_TRAIN: "Learning the scene",
    wire.EDIT_TRY: "Trying the instruction",
    wire.OUTPUT_MESH: "Making the mesh",
    wire.OUTPUT_SPLATS: "Making splats",
    wire.OUTPUT_FRAMES: "Rendering frames",
    wire.OUTPUT_REPORT: "Report card",
}


def jobs_of(scene: bpy.types.Scene) -> tuple[messages.Detached, ...]:
    """The detached jobs of the scene's project, oldest first, as far as the engine told of them."""
    found = project_of(scene)
    return found.jobs if found is not None else ()


def title_of(job: messages.Detached) -> str:
    """What a detached job does, for the artist."""
    return job.title or _TITLES.get(job.method, job.method)


def detach(scene: bpy.types.Scene) -> None:
    """Let the job that runs go on by itself, and the engine with it; another one is started for what comes."""
    job = talking.heard(*wire.DETACHABLE)
    if job is None:
        raise RuntimeError("Nothing runs that can go on by itself.")
    panel, workspace = job.panel, job.workspace

    def let_go(ident: str) -> None:
        said = t("“{title}” goes on by itself, also without Blender; Attach finds it again.")
        session.say(panel, said.format(title=t(job.title)))
        if job.attached:
            return  # it was by itself already, and this engine only followed it
        asking.let_go(job)
        print(f"Instruct NeRF: {ident} in {workspace}")
        start_engine()
        opening.read_workspace(workspace)

    asking.request(wire.JOB_DETACH, {"job": job.id}, let_go, panel=panel)


def attach(scene: bpy.types.Scene, ident: str = "") -> None:
    """Follow a detached job of the scene's project, the newest where none is named, to its end."""
    found = [job for job in jobs_of(scene) if ident in ("", job.id)]
    if not found:
        raise ValueError("There is no such job any more.")
    job, workspace, uid = found[-1], ready(scene), scene.session_uid
    panel = _PANELS.get(job.method, "edit")
    done = _handler(job, workspace, uid)
    asking.run_job(
        wire.JOB_ATTACH, {"workspace": workspace, "id": job.id}, done,
        failed=partial(editing.reread, workspace), panel=panel, title=title_of(job), workspace=workspace, scene=uid,
        acts_as=job.method,
    )  # fmt: skip


def _handler(job: messages.Detached, workspace: str, uid: int) -> Callable[[object], None]:
    """What follows the answer of a detached job, as if it had been begun here."""
    if job.method in wire.EDITS:
        return editing.edit_done(workspace, uid)
    imported = meshes.mesh_made(workspace, uid, job.edit) if job.method == wire.OUTPUT_MESH else None

    def done(result: Any) -> None:
        editing.reread(workspace)
        if imported is not None:
            imported(result)
        else:
            said = t("“{title}” is done; it lies in {folder}.").format(title=t(title_of(job)), folder=workspace)
            session.say(_PANELS.get(job.method, "edit"), said)

    return done


def look_again(scene: bpy.types.Scene) -> None:
    """Ask how far the detached jobs are."""
    if session.get().state != "ready":
        raise RuntimeError("The engine is not running.")
    opening.read_workspace(workspace_of(scene))
