# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying an instruction on one view, editing the scene, and going on with an edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bpy

from . import asking, choices, key_views, knobs, messages, session, wire
from .jobs import known, ready, region_params, scene_for, show_again
from .opening import open_capture, read_workspace, reconnect
from .project import device_name, is_trained, other_size, project_of, root_of, too_slow
from .scene import cameras

Params = Callable[[], dict[str, Any]]


def edit_params(scene: bpy.types.Scene, workspace: str, **more: object) -> Params:
    """What is asked of an edit: gathered now, named as the engine names it once it has said what it offers.

    Raises ``ValueError``; so does what is returned, where the editor meant cannot be used.
    """
    settings = scene.instruct_nerf
    if not settings.instruction.strip():
        raise ValueError("Type what the scene shall become, such as “make it night”.")
    model = session.own_editor(scene)
    wanted, device = settings.editor, settings.device
    gathered: dict[str, Any] = {
        "workspace": workspace, "instruction": settings.instruction.strip(), "seed": settings.seed,
        "region": region_params(scene, root_of(scene)), **more,
    }  # fmt: skip
    uid = scene.session_uid

    def params() -> dict[str, Any]:
        info = session.get().info
        editor, asking = choices.editor_of(info, wanted, device, model), cameras.scene_by_uid(uid)
        if editor is not None and editor.offer.missing:
            raise ValueError(f"“{editor.label}” is not on this computer yet: press Download Editor, under Edit.")
        if editor is not None and not editor.available:
            raise ValueError(f"The editor “{editor.label}” cannot be used: {editor.reason or 'it is not installed'}")
        found = choices.device_of(info, device)
        named = {"editor": model or (editor.name if editor else ""), "device": found.name if found else ""}
        options = knobs.options_of(asking, editor) if asking is not None and editor is not None else {}
        return known(gathered | named | {"options": options or None})

    return params


def start_edit(scene: bpy.types.Scene, even_on_cpu: bool = False) -> None:
    """Edit the scene: the unedited NeRF is trained first where there is none, on pictures of the preset's size.

    Raises ``ValueError`` where that takes days on a CPU and was not asked for ``even_on_cpu``.
    """
    workspace = ready(scene)
    params = edit_params(scene, workspace)
    project, info = project_of(scene), session.get().info
    again = partial(start_edit, even_on_cpu=even_on_cpu)
    if info is None or not info.settled or project is None:
        reconnect(scene, then=again)
        return
    refuse_days(too_slow(scene), even_on_cpu)
    params()  # what cannot be asked for is said before anything is prepared
    settings = scene.instruct_nerf
    if other_size(scene) and not is_trained(scene) and project.capture and Path(settings.source).exists():
        open_capture(
            scene, settings.source, stand_upright=settings.opened_upright, workspace=settings.workspace,
            opened_before=project.capture.source, then=again,
        )  # fmt: skip
        return
    root = root_of(scene)
    chosen = cameras.chosen_views(root) if root else []
    wanted, device, steps, compared = settings.preset, settings.device, settings.steps, settings.compare_photos
    depths = None if compared else False
    planes = None if settings.flat_surfaces or not compared else False
    parent, followed = standing_on(scene), key_views.asked(scene, chosen)

    def all_params() -> dict[str, Any]:
        preset = choices.preset_of(session.get().info, wanted, device)
        more = {"preset": preset.name if preset else "", "steps": steps or None}
        more |= {"even_on_cpu": even_on_cpu or None, "depths": depths, "planes": planes}
        return params() | known(more | followed | {"parent": parent})

    run_edit(wire.EDIT_RUN, all_params, scene, workspace, settings.instruction.strip())


def standing_on(scene: bpy.types.Scene) -> str:
    """The id of the edit that the next one is to stand on; empty: the captured scene. Raises ``ValueError`` where it is
    gone or not finished."""
    parent, found = scene.instruct_nerf.parent, project_of(scene)
    if not parent or found is None:
        return parent
    edit = next((e for e in found.edits if e.id == parent), None)
    if edit is None or not edit.finished:
        why = "is gone" if edit is None else f"(“{edit.title}”) is not finished"
        raise ValueError(f"The edit that this one is to stand on {why}: choose another under Stands On.")
    return parent


def refuse_days(sentence: str, even_on_cpu: bool) -> None:
    """Raise ``ValueError`` where something takes days, as a sentence says, and was not asked for all the same."""
    if sentence and not even_on_cpu:
        raise ValueError(f"{sentence} Choose another preset, or press the button again and confirm.")


def resume_edit(scene: bpy.types.Scene, edit: str, even_on_cpu: bool = False) -> None:
    """Go on with an edit that was cancelled or cut off. Raises ``ValueError`` as :func:`start_edit` does."""
    workspace = ready(scene)
    refuse_days(too_slow(scene, edit), even_on_cpu)
    uid = scene.session_uid

    def params() -> dict[str, Any]:
        found = cameras.scene_by_uid(uid)
        device = device_name(found) if found is not None else ""
        return known({"workspace": workspace, "edit": edit, "device": device, "even_on_cpu": even_on_cpu or None})

    run_edit(wire.EDIT_RESUME, params, scene, workspace, "the edit, resumed")


def run_edit(method: str, params: Params, scene: bpy.types.Scene, workspace: str, title: str) -> None:
    """Have an edit run, and the scene show it at its end; ``params`` are gathered once the engine is there."""
    uid = scene.session_uid
    asking.run_job(
        method, params, edit_done(workspace, uid), failed=partial(reread, workspace), panel="edit", title=title,
        workspace=workspace, scene=uid,
    )  # fmt: skip
    forget_live(workspace)


def edit_done(workspace: str, uid: int) -> Callable[[object], None]:
    """What follows the answer to an edit: the scene that asked shows it."""

    def edited(edit: messages.Edit) -> None:
        forget_live(workspace)
        found = scene_for(workspace, uid, f"“{edit.instruction}”")
        if found is not None:
            found.instruct_nerf.edit = edit.id
            found.instruct_nerf.shown = wire.VIEW_AFTER  # shows them, too
        keep_edit(workspace, edit)
        reread(workspace)

    return edited


def reread(workspace: str, _failure: object = None) -> None:
    """Know what a project holds by now, and show it, where an engine is there to say."""

    def shown_again() -> None:
        forget_live(workspace)  # it is in what was read
        show_again(workspace)

    if session.get().state == "ready":
        read_workspace(workspace, shown_again)


def forget_live(workspace: str) -> None:
    """Let go of the pictures that came while a job ran: they are in its results by now."""
    for kind in (wire.VIEW_BEFORE, wire.VIEW_EDITED, wire.VIEW_AFTER):
        session.get().live.get(workspace, {}).pop(kind, None)


def keep_edit(workspace: str, edit: messages.Edit) -> None:
    """Know an edit's newest state."""
    project = session.get().projects.get(workspace) or messages.Project(None, None, ())
    edits = tuple(edit if e.id == edit.id else e for e in project.edits)
    edits = edits if edit in edits else (*edits, edit)
    session.get().projects[workspace] = replace(project, edits=edits)
    show_again(workspace)
