# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying an instruction on one view, editing the scene, and going on with an edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from . import asking, choices, knobs, messages, session, wire
from .jobs import known, ready, scene_for, show_again
from .opening import open_capture, read_workspace, reconnect
from .project import device_name, is_trained, other_size, project_of, root_of
from .scene import cameras

Params = Callable[[], dict[str, Any]]


def edit_params(scene: bpy.types.Scene, workspace: str, **more: object) -> Params:
    """What is asked of an edit: gathered now, named as the engine names it once it has said what it offers.

    Raises ``ValueError``; so does what is returned, where the editor meant cannot be used.
    """
    settings = scene.instruct_nerf
    if not settings.instruction.strip():
        raise ValueError("Type what the scene shall become, such as “make it night”.")
    model = settings.editor_model.strip()
    model = cameras.absolute(model) if model.startswith("//") else model
    wanted, device = settings.editor, settings.device
    gathered: dict[str, Any] = {
        "workspace": workspace, "instruction": settings.instruction.strip(), "seed": settings.seed, **more,
    }  # fmt: skip
    uid = scene.session_uid

    def params() -> dict[str, Any]:
        info = session.get().info
        editor, asking = choices.editor_of(info, wanted, device), cameras.scene_by_uid(uid)
        if editor is not None and editor.offer.missing and not model:
            raise ValueError(f"“{editor.label}” is not on this computer yet: press Download Editor, under Edit.")
        if editor is not None and not editor.available and not model:
            raise ValueError(f"The editor “{editor.label}” cannot be used: {editor.reason or 'it is not installed'}")
        found = choices.device_of(info, device)
        named = {
            "editor": model or (editor.name if editor else ""),
            "device": device if found is not None and found.name == device else "",
        }
        options = knobs.options_of(asking, editor) if asking is not None and editor is not None else {}
        return known(gathered | named | {"options": options or None})

    return params


def try_edit(scene: bpy.types.Scene, view: str) -> None:
    """Edit one view's photo alone, so that guidance can be tuned before the scene is touched."""
    params = edit_params(scene, ready(scene), view=view)
    workspace = cameras.absolute(scene.instruct_nerf.workspace)

    def tried(result: object) -> None:
        session.get().tried[workspace] = (wire.parse_path(result, "before"), wire.parse_path(result, "after"))

    asking.run_job(
        wire.EDIT_TRY, params, tried, panel="instruction", title=f"Trying on {view}", workspace=workspace,
        scene=scene.session_uid,
    )  # fmt: skip


def start_edit(scene: bpy.types.Scene) -> None:
    """Edit the scene: the unedited NeRF is trained first where there is none, on pictures of the preset's size."""
    workspace = ready(scene)
    params = edit_params(scene, workspace)
    project = project_of(scene)
    if session.get().info is None or project is None:
        reconnect(scene, then=start_edit)
        return
    params()  # what cannot be asked for is said before anything is prepared
    settings = scene.instruct_nerf
    if other_size(scene) and not is_trained(scene) and project.capture and Path(settings.source).exists():
        open_capture(
            scene, settings.source, stand_upright=settings.opened_upright, workspace=settings.workspace,
            opened_before=project.capture.source, then=start_edit,
        )  # fmt: skip
        return
    root = root_of(scene)
    chosen = cameras.chosen_views(root) if root else []
    wanted, device, steps = settings.preset, settings.device, settings.steps

    def all_params() -> dict[str, Any]:
        preset = choices.preset_of(session.get().info, wanted, device)
        more = {"preset": preset.name if preset else "", "views": chosen or None, "steps": steps or None}
        return params() | known(more)

    _run_edit(wire.EDIT_RUN, all_params, scene, workspace, settings.instruction.strip())


def resume_edit(scene: bpy.types.Scene, edit: str) -> None:
    """Go on with an edit that was cancelled or cut off."""
    workspace = ready(scene)
    params = known({"workspace": workspace, "edit": edit, "device": device_name(scene)})
    _run_edit(wire.EDIT_RESUME, lambda: params, scene, workspace, "the edit, resumed")


def _run_edit(method: str, params: Params, scene: bpy.types.Scene, workspace: str, title: str) -> None:
    live, uid = session.get().live.setdefault(workspace, {}), scene.session_uid

    def edited(result: object) -> None:
        edit = wire.parse_edit(result)
        live.pop(wire.VIEW_EDITED, None)
        live.pop(wire.VIEW_AFTER, None)
        found = scene_for(workspace, uid, f"“{edit.instruction}”")
        if found is not None:
            found.instruct_nerf.edit = edit.id
            found.instruct_nerf.shown = wire.VIEW_AFTER  # shows them, too
        keep_edit(workspace, edit)
        reread()

    def reread(_failure: object = None) -> None:
        if session.get().state == "ready":
            read_workspace(workspace, lambda: show_again(workspace))

    asking.run_job(method, params, edited, failed=reread, panel="edit", title=title, workspace=workspace, scene=uid)
    live.pop(wire.VIEW_EDITED, None)
    live.pop(wire.VIEW_AFTER, None)


def keep_edit(workspace: str, edit: messages.Edit) -> None:
    """Know an edit's newest state."""
    project = session.get().projects.get(workspace) or messages.Project(None, None, ())
    others = tuple(e for e in project.edits if e.id != edit.id)
    session.get().projects[workspace] = replace(project, edits=(*others, edit))
    show_again(workspace)
