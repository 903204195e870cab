# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying instructions on one view: alone or as a contact sheet, what was tried, and going back to it.

What was tried lies in the project, with all settings, and the engine tells of it. All functions return at once and
raise ``ValueError`` or ``RuntimeError`` with a sentence where they cannot begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import bpy

from . import asking, choices, costs, key_views, knobs, messages, session, sheet_settings, wire
from .editing import edit_params, standing_on
from .jobs import ready, scene_for
from .opening import read_workspace
from .project import device_name, editor_of, project_of, root_of, undo_step, workspace_of
from .scene import cameras, sheet_view
from .words import t

PANEL = "instruction"
LARGEST_SEED = 2**31 - 1  # Blender's whole numbers
RECENT = 20  # instructions that are remembered


def try_edit(scene: bpy.types.Scene, view: str) -> None:
    """Edit one view's photo alone, so that the instruction can be tuned before the scene is touched."""
    _ask(scene, view, {}, f"Trying on {view}")


def make_sheet(scene: bpy.types.Scene, view: str) -> None:
    """Edit one view's photo once for every cell of a contact sheet, and show that in an image editor."""
    _ask(scene, view, sheet_settings.asked(scene), f"Contact sheet of {view}")


def _ask(scene: bpy.types.Scene, view: str, axes: dict[str, Any], title: str) -> None:
    workspace = ready(scene)
    params = edit_params(scene, workspace, view=view, parent=standing_on(scene), **axes)
    uid = scene.session_uid

    def done(made: messages.Tried) -> None:
        _keep(workspace, made)
        found = scene_for(workspace, uid, t("What was tried on {view}").format(view=made.view))
        if found is not None:
            show(found, made.id)

    def failed(_failure: messages.Failure) -> None:
        if axes and session.get().state == "ready":  # of a sheet that was cancelled, the cells that were made
            read_workspace(workspace)

    asking.run_job(wire.EDIT_TRY, params, done, failed=failed, panel=PANEL, title=title, workspace=workspace, scene=uid)


def _keep(workspace: str, made: messages.Tried) -> None:
    project = session.get().projects.get(workspace) or messages.Project(None, None, ())
    others = tuple(tried for tried in project.tries if tried.id != made.id)
    session.get().projects[workspace] = replace(project, tries=(*others, made))


# -- what was tried ----------------------------------------------------------------------------------------------


def tries_of(scene: bpy.types.Scene) -> list[messages.Tried]:
    """What was tried in the scene's project, the newest first."""
    project = project_of(scene)
    return list(reversed(project.tries)) if project is not None else []


def shown(scene: bpy.types.Scene) -> messages.Tried | None:
    """The try that the panel shows: the one that was clicked, else the newest."""
    found = tries_of(scene)
    return next((tried for tried in found if tried.id == scene.instruct_nerf.tried), found[0] if found else None)


def wanted(scene: bpy.types.Scene, tried: str) -> messages.Tried:
    """A try by its id, the shown one where that is empty. Raises ``ValueError``."""
    found = next((entry for entry in tries_of(scene) if entry.id == tried), None) if tried else shown(scene)
    if found is None:
        raise ValueError("That try is not there any more." if tried else "Nothing was tried yet: press Try.")
    return found


def cell_of(tried: messages.Tried, number: int) -> messages.Cell:
    """One of a try's edits. Raises ``ValueError``."""
    if not 0 <= number < len(tried.cells):
        raise ValueError(f"That contact sheet has {len(tried.cells)} pictures.")
    return tried.cells[number]


def shown_cell(scene: bpy.types.Scene) -> int:
    """The cell of the shown try that is meant."""
    tried = shown(scene)
    return min(scene.instruct_nerf.tried_cell, len(tried.cells) - 1) if tried is not None else 0


def show(scene: bpy.types.Scene, tried: str, cell: int = 0) -> None:
    """Have the panel show a try; a contact sheet in an image editor, too, where there is one."""
    scene.instruct_nerf.tried, scene.instruct_nerf.tried_cell = tried, cell
    sheet_view.redraw()
    found = shown(scene)
    if found is not None and len(found.cells) > 1:
        image = sheet_view.load(found.id, found.after)
        if image is not None:
            sheet_view.show(image)


def take(scene: bpy.types.Scene, tried: str, number: int) -> str:
    """Set the panel to what made an edit that was tried; a sentence on what of it could not be, else empty."""
    found = wanted(scene, tried)
    cell, settings, info = cell_of(found, number), scene.instruct_nerf, session.get().info
    settings.instruction = cell.instruction
    settings.seed = min(max(cell.seed, 0), LARGEST_SEED)
    left = [] if settings.seed == cell.seed else [f"seed {cell.seed}"]
    settings.tried, settings.tried_cell = found.id, number
    sheet_view.redraw()
    project = project_of(scene)
    if not found.parent or any(edit.id == found.parent for edit in (project.edits if project else ())):
        settings.parent = found.parent
    else:
        left.append("the edit that it stands on")
    editor = editor_of(scene)
    if info is None or editor is None:
        return "The engine has not said which editors there are: start it, and click again."
    if choices.editor_id(editor.name) != choices.editor_id(found.editor):
        offered = next((e for e in info.editors if choices.editor_id(e.name) == choices.editor_id(found.editor)), None)
        if offered is None:
            return (
                f"The editor of that try, {found.editor}, is not offered now: choose it under Model, and click again."
            )
        settings.editor_model, settings.editor = "", offered.name
        editor = offered
    left += [name.replace("_", " ") for name in knobs.take(scene, editor, cell.options)]
    return f"Not taken, for it is not there any more: {', '.join(left)}." if left else ""


def delete(scene: bpy.types.Scene, tried: str) -> None:
    """Delete what was tried, with its pictures. Raises ``ValueError`` where one of them is a key view's."""
    found, workspace = wanted(scene, tried), workspace_of(scene)
    pictures = [cell.image for cell in found.cells]
    for other in bpy.data.scenes:
        if workspace_of(other) == workspace and key_views.is_used(other, pictures):
            raise ValueError(f"That picture of {found.view} is a key view: remove it there first.")

    def deleted(_result: object) -> None:
        project = session.get().projects.get(workspace)
        if project is not None:
            left = tuple(entry for entry in project.tries if entry.id != found.id)
            session.get().projects[workspace] = replace(project, tries=left)
        sheet_view.remove(found.id)

    asking.request(wire.EDIT_DELETE_TRY, {"workspace": workspace, "id": found.id}, deleted, panel=PANEL)


def recent(scene: bpy.types.Scene) -> list[str]:
    """Instructions that were tried or edited with in the scene's project, the newest first, then those of other
    projects that this Blender knows."""
    own, found = workspace_of(scene), {}
    projects = session.get().projects
    for workspace in sorted(projects, key=lambda name: name != own):
        for said in _said(projects[workspace]):
            found[said] = None
            if len(found) == RECENT:
                return list(found)
    return list(found)


def _said(project: messages.Project) -> Iterator[str]:
    for tried in reversed(project.tries[-10 * RECENT :]):  # panels ask at every redraw
        for cell in reversed(tried.cells):
            yield cell.instruction
    for edit in reversed(project.edits):
        yield edit.instruction


def cost(scene: bpy.types.Scene, edits: int = 1) -> str:
    """A sentence on how long so many edits of one picture take; empty where nobody can tell."""
    info, editor = session.get().info, editor_of(scene)
    if info is None or not info.settled or editor is None:
        return ""
    axes = {"across": {"values": range(edits)}} if edits > 1 else {}
    asked = {"editor": editor.name, "device": device_name(scene), **axes}
    took = session.get().took
    return costs.sentence(costs.work_of(wire.EDIT_TRY, asked, info, project_of(scene)), took)


def propose_key_view(scene: bpy.types.Scene) -> None:
    """Ask the engine which view makes a good first key view, and make its camera the active object."""
    workspace, uid = ready(scene), scene.session_uid

    def proposed(view: str) -> None:
        found = cameras.scene_by_uid(uid)
        root = root_of(found) if found is not None else None
        camera = cameras.camera_of(root, view) if root is not None else None
        layer = next((entry for entry in found.view_layers if camera.name in entry.objects), None) if camera else None
        if layer is not None:
            for other in list(layer.objects.selected):
                other.select_set(False, view_layer=layer)
            camera.select_set(True, view_layer=layer)
            layer.objects.active = camera
            undo_step("Propose View")
        said = t("{view} sees most of what the others see: try on it, and use what you like as key view.")
        session.say("edit", said.format(view=view))

    asking.request(wire.EDIT_KEY, {"workspace": workspace}, proposed, panel="edit")
