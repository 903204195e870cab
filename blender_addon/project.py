# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the scene's workspace, root and edit, the preferences, what the engine said of its choices.

Lookups only; nothing here changes anything but the pictures shown behind the cameras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy

from . import choices, chores, engine_home, lineage, messages, session, trajectories, wire
from .scene import cameras, images
from .words import t

PHOTOGRAPHS = "source"  # in a workspace: photographs of a Blender scene


def preferences() -> Any:
    """The add-on's preferences, or None where it runs without being enabled."""
    addon = bpy.context.preferences.addons.get(__package__)
    return addon.preferences if addon else None


def user_folder() -> Path:
    """The folder for projects of unsaved files."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, create=True))
    except ValueError:  # not installed as an extension
        return Path(bpy.utils.user_resource("CONFIG", path="instruct_nerf", create=True))


def bundled_wheel() -> Path | None:
    """The engine's wheel inside the extension, or None."""
    return engine_home.wheel_in(addon_folder() / "engine")


def addon_folder() -> Path:
    """Where this copy of the add-on lies; who uses which environment is remembered by it."""
    return Path(__file__).parent


def locks() -> engine_home.Locks | None:
    """What the extension's locks name for this machine, or None where there are none."""
    try:
        return engine_home.read_locks(addon_folder() / "locks")
    except engine_home.InstallError:
        return None


def engine_command(arguments: Sequence[str]) -> list[str] | None:
    """What starts the engine: the one named in the preferences, else the installed one, else None.

    ``arguments`` are what its Python is given, the last of them the engine's own command.
    """
    chosen = getattr(preferences(), "engine_python", "").strip()
    if chosen:
        return engine_home.elsewhere(bpy.path.abspath(chosen), arguments)
    python = engine_home.installed_python(engine_home.root(), locks(), bundled_wheel())
    return [str(python), *arguments] if python else None


def engine_line(command: Sequence[str]) -> list[str]:
    """What is started for a command of `engine_command`: the command, or what sends files to where it leads."""
    folder = getattr(preferences(), "folder_there", "").strip()
    return engine_home.relayed(command, folder, addon_folder()) if folder and engine_outlives() else list(command)


def engine_outlives() -> bool:
    """Whether what the engine does goes on where the line to it is cut: where a command leads to it."""
    return engine_home.is_command(bpy.path.abspath(getattr(preferences(), "engine_python", "").strip()))


def missing_packages() -> list[engine_home.Package]:
    """What is downloaded where the engine is installed now."""
    here = locks()
    return engine_home.missing(engine_home.root(), here) if here else []


def offline(repair: bool = False, missing: Sequence[engine_home.Package] | None = None) -> bool:
    """Whether the engine cannot be installed, or repaired, because that downloads packages and Blender is not allowed
    to. ``missing``: what `missing_packages` said, where that was asked already."""
    if bpy.app.online_access or getattr(preferences(), "wheels_folder", ""):
        return False
    here = locks()
    known = here is not None and engine_home.read_marker(engine_home.root() / "e" / here.name) is not None
    return repair or not known or bool(missing_packages() if missing is None else missing)


def installation() -> str:
    """A sentence on the installed engine: what it computes on; empty where none is installed."""
    here = locks()
    marker = engine_home.read_marker(engine_home.root() / "e" / here.name) if here else None
    return str(marker.get("outcome", "") or "The engine is installed.") if marker else ""


def workspace_of(scene: bpy.types.Scene) -> str:
    """The scene's workspace as an absolute path; empty before a capture was opened."""
    return cameras.absolute(scene.instruct_nerf.workspace)


def photographed_here(scene: bpy.types.Scene) -> bool:
    """Whether the scene's capture is photographs of a Blender scene, whose frame is Blender's world."""
    return cameras.absolute(scene.instruct_nerf.source) == str(Path(workspace_of(scene)) / PHOTOGRAPHS)


def scenes_of(workspace: str) -> list[bpy.types.Scene]:
    """This file's own scenes that show a workspace."""
    return [s for s in bpy.data.scenes if s.library is None and workspace and workspace_of(s) == workspace]


def scene_of(workspace: str, asked: int = 0) -> bpy.types.Scene | None:
    """The scene that shows a workspace, or None: of several, the one that asked (its ``session_uid``), else the
    current one."""
    found = scenes_of(workspace)
    asking = next((s for s in found if s.session_uid == asked), None)
    current = next((s for s in found if s == bpy.context.scene), None)
    return asking or current or (found[0] if found else None)


def root_of(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The scene's capture root, or None."""
    return cameras.root_of(scene, scene.instruct_nerf.workspace) if scene.instruct_nerf.workspace else None


def project_of(scene: bpy.types.Scene) -> messages.Project | None:
    """What the engine said is in the scene's workspace, or None where it was not asked since Blender started."""
    return session.get().projects.get(workspace_of(scene))


def edits_of(scene: bpy.types.Scene) -> tuple[messages.Edit, ...]:
    """The edits of the scene's project, oldest first; none where the engine was not asked."""
    project = project_of(scene)
    return project.edits if project is not None else ()


def chosen_edit(scene: bpy.types.Scene) -> messages.Edit | None:
    """The edit that is chosen in the panel, else the newest; None where there is none, or the unedited scene is."""
    edits, wanted = edits_of(scene), scene.instruct_nerf.edit
    return None if wanted == lineage.ROOT or not edits else lineage.find(edits, wanted) or edits[-1]


def edit_of(scene: bpy.types.Scene) -> messages.Edit | None:
    """The edit that results are taken from: the chosen one or, where it is muted, what is left of what it stands on;
    None for the unedited scene."""
    chosen = chosen_edit(scene)
    return lineage.shown(edits_of(scene), chosen.id) if chosen is not None else None


def parent_of(scene: bpy.types.Scene, edit: messages.Edit | None) -> messages.Edit | None:
    """The edit that one stands on; None for the unedited scene."""
    return lineage.find(edits_of(scene), edit.parent) if edit is not None and edit.parent else None


def preset_of(scene: bpy.types.Scene) -> messages.Preset | None:
    """What the engine said of the preset that the scene's settings mean, or None before it said anything."""
    settings = scene.instruct_nerf
    return choices.preset_of(session.get().info, settings.preset, settings.device)


def preset_name(scene: bpy.types.Scene) -> str:
    """The name of that preset; before the engine has said what it offers, the one that the scene keeps, which may be
    empty (the engine then decides)."""
    preset = preset_of(scene)
    return preset.name if preset else scene.instruct_nerf.preset


def editor_of(scene: bpy.types.Scene) -> messages.Editor | None:
    """What the engine said of the editor that the scene's settings mean, or None before it said anything."""
    settings = scene.instruct_nerf
    return choices.editor_of(session.get().info, settings.editor, settings.device, session.own_editor(scene))


def device_name(scene: bpy.types.Scene) -> str:
    """The name of the device that computes for the scene; before the engine knows what can, empty: its choice."""
    info = session.get().info
    device = choices.device_of(info, scene.instruct_nerf.device)
    return device.name if info is not None and info.settled and device else ""


def too_slow(scene: bpy.types.Scene, edit: str = "") -> str:
    """A sentence where what is to be computed takes hours or days on the scene's device, so that the artist is asked
    again: an edit that is gone on with, or a new one; else empty."""
    project, settings, preset = project_of(scene), scene.instruct_nerf, preset_of(scene)
    begun = next((e.preset for e in project.edits if e.id == edit), None) if project and edit else None
    presets = [begun] if begun else [preset.name] if preset else []
    if project is not None and project.scene is not None and not project.scene.finished:
        presets.append(project.scene.preset)
    return choices.too_slow(session.get().info, presets, settings.device)


def cost_of_edit(scene: bpy.types.Scene) -> str:
    """A sentence on what *Start* takes; empty before the engine said anything, and where nobody has measured."""
    info, settings, project = session.get().info, scene.instruct_nerf, project_of(scene)
    preset, device = preset_of(scene), choices.device_of(info, settings.device)
    if info is None or not info.settled or preset is None or device is None or project is None or not project.capture:
        return ""
    root = root_of(scene)
    chosen = cameras.chosen_views(root) if root else []
    photos = sum(not view.held_out for view in project.capture.views)
    learn = 0.0
    if project.scene is None or not project.scene.finished:
        compared, flat = settings.compare_photos, settings.flat_surfaces
        learn = choices.learning(preset, photos, len(project.capture.views), compared, flat)
    return choices.cost(preset, device, editor_of(scene), len(chosen) or photos, learn, settings.steps)


def wanted_size(scene: bpy.types.Scene) -> int:
    """The long side in pixels at which the scene's capture is to be worked on; 0 before the engine said anything."""
    preset = preset_of(scene)
    return scene.instruct_nerf.long_side or (preset.long_side if preset else 0)


def other_size(scene: bpy.types.Scene) -> int:
    """The wanted size, where the pictures were prepared at another and are to be prepared anew; else 0."""
    wanted, opened = wanted_size(scene), scene.instruct_nerf.opened_size
    return wanted if wanted and opened and wanted != opened else 0


def is_trained(scene: bpy.types.Scene) -> bool:
    """Whether a NeRF was begun of the scene's capture, which keeps its pictures as they are."""
    project = project_of(scene)
    return project is not None and (project.scene is not None or bool(project.edits))


def warnings_of_settings(scene: bpy.types.Scene) -> tuple[str, ...]:
    """Sentences on what the settings name and the engine does not have, and on pictures of another size."""
    info, settings, found = session.get().info, scene.instruct_nerf, []
    if info is None or not info.settled:
        return ()
    editor, preset, device = editor_of(scene), preset_of(scene), choices.device_of(info, settings.device)
    named = (
        (t("The editor “{name}” is not here any more: {other} is used."), choices.editor_id(settings.editor), editor),
        (t("The preset “{name}” is not here any more: {other} is used."), settings.preset, preset),
        (t("The device “{name}” is not here any more: {other} is used."), settings.device, device),
    )
    for said, wanted, used in named[1:] if session.own_editor(scene) else named:
        if wanted and used is not None and wanted not in {used.name, choices.editor_id(used.name)}:
            found.append(said.format(name=wanted, other=used.label or used.name))
    opened, wanted_now = settings.opened_size, other_size(scene)
    if wanted_now and is_trained(scene):
        said = t(
            "This project's NeRF was trained on pictures of {opened} px and goes on with them: to work at {wanted} px, "
            "name another folder under Project and open the capture again."
        )
        found.append(said.format(opened=opened, wanted=wanted_now))
    elif wanted_now:
        said = t("The pictures are prepared anew at the start, at {wanted} px (now {opened}).")
        found.append(said.format(opened=opened, wanted=wanted_now))
    return tuple(found)


def warnings_of_choice(scene: bpy.types.Scene) -> tuple[str, ...]:
    """Sentences on why the chosen views may not hold the scene together: the last known, while they are looked at."""
    root, project, preset = root_of(scene), project_of(scene), preset_of(scene)
    if root is None or project is None or project.capture is None:
        return ()
    capture, names = project.capture, frozenset(cameras.chosen_views(root))
    least, workspace = preset.min_views if preset else 0, workspace_of(scene)
    held = _looked_at.get(workspace)
    if held is not None and held[0] is capture and held[1:3] == (names, least):
        return held[3]
    before = held[3] if held is not None else ()
    _looked_at[workspace] = (capture, names, least, before)

    def look() -> Iterator[float]:
        everything = [v.camera.pose for v in capture.views]
        chosen = [v.camera.pose for v in capture.views if not names or v.name in names]
        yield 0.0
        found = yield from trajectories.looking_at_choice(chosen, everything, capture.centre, least)
        _looked_at[workspace] = (capture, names, least, found)

    chores.do(("warnings", workspace), look, "capture")
    return _looked_at[workspace][3]


# By workspace: the capture, the chosen names and the fewest views that were looked at, and what was found.
_looked_at: dict[str, tuple[messages.Capture, frozenset[str], int, tuple[str, ...]]] = {}


def picture(scene: bpy.types.Scene, kind: str, view: str) -> str:
    """The path of one of a view's pictures: ``image``, ``before``, ``edited`` or ``after``; empty where none is."""
    live = session.get().live.get(workspace_of(scene), {}).get(kind, {}).get(view, "")
    if live:
        return live
    if kind == wire.VIEW_IMAGE:
        project = project_of(scene)
        views = project.capture.views if project is not None and project.capture is not None else ()
        return next((v.image for v in views if v.name == view), "")
    return _pictures(scene, kind).get(view, "")


def _pictures(scene: bpy.types.Scene, kind: str) -> Mapping[str, str]:
    """The paths of all views' pictures of a kind, without what came while a job runs."""
    project = project_of(scene)
    if project is None:
        return {}
    if kind == wire.VIEW_IMAGE:
        return {v.name: v.image for v in project.capture.views} if project.capture else {}
    unedited, edit = project.scene.views if project.scene else {}, edit_of(scene)
    if kind == wire.VIEW_BEFORE:
        below = parent_of(scene, edit)
        return below.views if below is not None else unedited
    if edit is None:
        return unedited if kind == wire.VIEW_AFTER else {}
    return edit.images if kind == wire.VIEW_EDITED else edit.views


def apply_pictures(scene: bpy.types.Scene) -> None:
    """See to it that every camera shows the kind of picture that the settings name, or the photo where there is none;
    the camera that the artist looks through first."""
    uid = scene.session_uid

    def steps() -> Iterator[float]:
        found = cameras.scene_by_uid(uid)
        root = root_of(found) if found is not None else None
        if root is None:
            return
        settings = found.instruct_nerf
        photos = _pictures(found, wire.VIEW_IMAGE)
        paths = photos if settings.shown == wire.VIEW_IMAGE else _pictures(found, settings.shown)
        live = session.get().live.get(workspace_of(found), {}).get(settings.shown, {})
        yield from images.showing(
            _seen_first(found, root), lambda view: live.get(view) or paths.get(view, ""),
            lambda view: photos.get(view, ""), settings.opacity, settings.in_front,
        )  # fmt: skip

    chores.do(("pictures", uid), steps, "results")


def dress_pictures(scene: bpy.types.Scene) -> None:
    """See to it that the pictures that are there are drawn as the settings say."""
    uid = scene.session_uid

    def steps() -> Iterator[float]:
        found = cameras.scene_by_uid(uid)
        root = root_of(found) if found is not None else None
        if root is not None:
            settings = found.instruct_nerf
            yield from images.dressing(_seen_first(found, root), settings.opacity, settings.in_front)

    chores.do(("dress", uid), steps, "results")


def _seen_first(scene: bpy.types.Scene, root: bpy.types.Object) -> list[bpy.types.Object]:
    """The capture's cameras, the scene's own first."""
    return sorted(cameras.cameras_of(root), key=lambda item: item != scene.camera)


def active_view(context: bpy.types.Context) -> bpy.types.Object | None:
    """The capture's camera that the artist means: the active object, else the scene's camera, else None."""
    active = context.view_layer.objects.active
    return next((item for item in (active, context.scene.camera) if cameras.is_view(item)), None)


def undo_step(message: str) -> None:
    """What arrives later than the operator that asked for it gets an undo step of its own."""
    windows = bpy.context.window_manager.windows
    if not bpy.app.background and len(windows):
        with bpy.context.temp_override(window=bpy.context.window or windows[0]):
            bpy.ops.ed.undo_push(message=message)
