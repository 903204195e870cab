# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of edits: choosing one, naming, muting and deleting it, and beginning another on it or like it.

Like :mod:`jobs`: functions that return at once and raise ``ValueError`` or ``RuntimeError`` with a sentence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy

from . import asking, knobs, lineage, messages, session, wire
from .editing import forget_live, keep_edit, refuse_days, run_edit
from .jobs import ready, show_again, start_engine
from .opening import read_workspace
from .project import (
    apply_pictures,
    chosen_edit,
    device_name,
    edit_of,
    edits_of,
    project_of,
    root_of,
    scenes_of,
    too_slow,
    workspace_of,
)
from .scene import cameras, mesh
from .words import t

PANEL = "tree"


def wanted_edit(scene: bpy.types.Scene, edit: str = "") -> messages.Edit:
    """The edit of an id or, without one, the chosen. Raises ``ValueError`` where there is none."""
    found = lineage.find(edits_of(scene), edit) if edit else chosen_edit(scene)
    if found is None:
        raise ValueError(f"There is no edit {edit} in this project." if edit else "Choose an edit in the list first.")
    return found


def choose(scene: bpy.types.Scene, edit: str) -> None:
    """Take results from an edit (``lineage.ROOT``: from the unedited scene): its views stand behind the cameras, and of
    the meshes that are here its own is seen."""
    settings, job = scene.instruct_nerf, session.get().job
    if edit != lineage.ROOT:
        wanted_edit(scene, edit)
    settings.edit = edit
    if job is None or not job.active:  # else what comes in is to be seen
        forget_live(workspace_of(scene))
    if settings.shown == wire.VIEW_IMAGE:
        settings.shown = wire.VIEW_AFTER
    show(scene)


def show(scene: bpy.types.Scene) -> None:
    """See to it that views and meshes are those of the chosen edit, or of what is left where it is muted."""
    root, seen = root_of(scene), edit_of(scene)
    if root is not None:
        mesh.show_only(scene, root, seen.id if seen is not None else "")
    apply_pictures(scene)


# -- names and muting --------------------------------------------------------------------------------------------


def rename(scene: bpy.types.Scene, edit: str, name: str) -> None:
    """Call an edit something else; an empty name calls it by its instruction again."""
    found = wanted_edit(scene, edit)
    name = " ".join(name.split())
    if name == found.said:
        name = ""
    if name != found.name:
        _label(scene, found, name=name)


def mute(scene: bpy.types.Scene, edit: str, muted: bool) -> None:
    """Leave an edit, and what stands on it, out of what is shown and taken from the tree; or no longer."""
    _label(scene, wanted_edit(scene, edit), muted=muted)


def _label(scene: bpy.types.Scene, edit: messages.Edit, **label: Any) -> None:
    workspace = workspace_of(scene)
    start_engine()

    def labelled(changed: messages.Edit) -> None:
        _known(workspace, changed)

    def refused(_failure: object) -> None:
        _known(workspace, edit)
        _read_again(workspace)

    asking.request(
        wire.EDIT_LABEL, {"workspace": workspace, "edit": edit.id, **label}, labelled, panel=PANEL, failed=refused
    )
    _known(workspace, replace(edit, **label))  # at once; if the engine refuses, it is as it was


def _read_again(workspace: str) -> None:
    if session.get().state == "ready":
        read_workspace(workspace, lambda: show_again(workspace))


def _known(workspace: str, edit: messages.Edit) -> None:
    keep_edit(workspace, edit)
    for scene in scenes_of(workspace):
        show(scene)


# -- the trash ---------------------------------------------------------------------------------------------------


def going(scene: bpy.types.Scene, edit: str) -> list[messages.Edit]:
    """What goes when an edit is deleted: itself, and all that stands on it."""
    found = wanted_edit(scene, edit)
    return [found, *lineage.standing_on(edits_of(scene), found.id)]


def delete(scene: bpy.types.Scene, edit: str, name: str = "") -> None:
    """Move an edit, with all that stands on it, to the trash; ``name`` of a damaged one, of which nothing else is
    known."""
    workspace, uid = ready(scene), scene.session_uid
    gone = [] if name else going(scene, edit)
    params = {"workspace": workspace, "edit": name or gone[0].id}
    if len(gone) > 1:
        params["with_children"] = True
    below = gone[0].parent if gone else ""

    def deleted(gone: tuple[tuple[str, ...], str]) -> None:
        names, folder = gone
        project = session.get().projects.get(workspace)
        if project is not None:
            left = tuple(e for e in project.edits if e.id not in names)
            damaged = tuple(d for d in project.damaged if d[0] not in names)
            session.get().projects[workspace] = replace(project, edits=left, damaged=damaged)
        for found in scenes_of(workspace):
            if found.instruct_nerf.edit in names:
                found.instruct_nerf.edit = below or lineage.ROOT
            if found.instruct_nerf.parent in names:
                found.instruct_nerf.parent = below
            show(found)
        one, several = t("The edit is in {folder}."), t("{count} edits are in {folder}.")
        where = folder or t("the system trash")
        session.say(PANEL, (one if len(names) == 1 else several).format(count=len(names), folder=where))
        _read_again(workspace)

    asking.run_job(
        wire.EDIT_DELETE, params, deleted, panel=PANEL, title="Deleting", workspace=workspace, scene=uid,
        failed=lambda _failure: _read_again(workspace),
    )  # fmt: skip


# -- on it, like it, further -------------------------------------------------------------------------------------


def stand_on(scene: bpy.types.Scene, edit: str) -> None:
    """Have the next edit stand on one; on the captured scene for ``lineage.ROOT``."""
    if edit == lineage.ROOT:
        scene.instruct_nerf.parent = ""
        return
    found = wanted_edit(scene, edit)
    if not found.finished:
        raise ValueError(f"“{found.title}” is not finished: resume it before another stands on it.")
    scene.instruct_nerf.parent = found.id


def more_steps(scene: bpy.types.Scene, edit: str, steps: int, even_on_cpu: bool = False) -> None:
    """Go on with a finished edit until it has so many steps in all."""
    workspace, found, uid = ready(scene), wanted_edit(scene, edit), scene.session_uid
    above = lineage.standing_on(edits_of(scene), found.id)
    if above:
        raise ValueError(f"“{above[0].title}” stands on it as it is: duplicate it, with more steps.")
    if steps <= found.steps:
        raise ValueError(f"It has {found.steps} steps already: ask for more.")
    refuse_days(too_slow(scene, found.id), even_on_cpu)
    params = {"workspace": workspace, "edit": found.id, "steps": steps}
    run_edit(wire.EDIT_RESUME, lambda: _asked(uid, params, even_on_cpu), scene, workspace, found.title)


def duplicate(
    scene: bpy.types.Scene, edit: str, instruction: str, seed: int, steps: int = 0, even_on_cpu: bool = False
) -> None:
    """Make another edit like one: on the same, with its views, editor, knobs, region and key views, but for what is
    said here. ``steps`` 0: as many."""
    workspace, found, uid = ready(scene), wanted_edit(scene, edit), scene.session_uid
    if not instruction.strip():
        raise ValueError("Type what the scene shall become, such as “make it night”.")
    refuse_days(too_slow(scene, found.id), even_on_cpu)
    params: dict[str, Any] = {
        "workspace": workspace, "instruction": instruction.strip(), "seed": seed, "like": found.id,
    }  # fmt: skip
    if steps:
        params["steps"] = steps
    run_edit(wire.EDIT_RUN, lambda: _asked(uid, params, even_on_cpu), scene, workspace, instruction.strip())


def _asked(uid: int, params: dict[str, Any], even_on_cpu: bool) -> dict[str, Any]:
    scene = cameras.scene_by_uid(uid)
    device = device_name(scene) if scene is not None else ""
    return params | ({"device": device} if device else {}) | ({"even_on_cpu": True} if even_on_cpu else {})


def take_settings(scene: bpy.types.Scene, edit: str) -> None:
    """Set the panel as it was for an edit, but for its region: to change whatever is to be another, and start."""
    found, settings, info = wanted_edit(scene, edit), scene.instruct_nerf, session.get().info
    root, project = root_of(scene), project_of(scene)
    settings.instruction, settings.seed, settings.steps = found.instruction, max(0, found.seed), found.of
    settings.preset, settings.parent = found.preset, found.parent
    offered = {editor.name: editor for editor in info.editors} if info is not None else {}
    if found.editor in offered:
        settings.editor, settings.editor_model = found.editor, ""
    elif found.editor:
        settings.editor_model = found.editor
    editor = offered.get(found.editor)
    group = knobs.group_of(scene, editor) if editor is not None else None
    for knob in knobs.usable(editor) if group is not None else ():
        value = _value(found, knob)
        if value is None:
            group.property_unset(knob.name)
        else:
            try:
                setattr(group, knob.name, value)
            except TypeError:  # another version of the editor had other words
                group.property_unset(knob.name)
    if root is not None and project is not None and project.capture is not None:
        trained = {view.name for view in project.capture.views if not view.held_out}
        cameras.choose(root, () if set(found.chosen) == trained else found.chosen)


def _value(edit: messages.Edit, knob: messages.Knob) -> bool | int | float | str | None:
    if knob.name == wire.KEEP_BACKGROUND:
        return "on" if edit.keep else None
    if knob.name == wire.RELEVANCE:
        return edit.keep or None
    return edit.options.get(knob.name)
