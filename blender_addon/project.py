# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the scene's workspace, root and edit, the preferences, what the engine said of its choices.

Lookups only; nothing here changes anything but the pictures shown behind the cameras.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from . import engine_home, messages, session, trajectories, wire
from .scene import cameras, images


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


def installation() -> str:
    """A sentence on the installed engine: what it computes on; empty where none is installed."""
    here = locks()
    marker = engine_home.read_marker(engine_home.root() / "e" / here.name) if here else None
    return str(marker.get("outcome", "") or "The engine is installed.") if marker else ""


def workspace_of(scene: bpy.types.Scene) -> str:
    """The scene's workspace as an absolute path; empty before a capture was opened."""
    return cameras.absolute(scene.instruct_nerf.workspace)


def scene_of(workspace: str) -> bpy.types.Scene | None:
    """The scene that shows a workspace, or None."""
    return next((s for s in bpy.data.scenes if workspace and workspace_of(s) == workspace), None)


def root_of(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The scene's capture root, or None."""
    return cameras.root_of(scene, scene.instruct_nerf.workspace) if scene.instruct_nerf.workspace else None


def project_of(scene: bpy.types.Scene) -> messages.Project | None:
    """What the engine said is in the scene's workspace, or None where it was not asked since Blender started."""
    return session.get().projects.get(workspace_of(scene))


def edit_of(scene: bpy.types.Scene) -> messages.Edit | None:
    """The edit that results are taken from: the one chosen in the panel, else the newest."""
    project = project_of(scene)
    if project is None or not project.edits:
        return None
    wanted = scene.instruct_nerf.edit
    return next((e for e in project.edits if e.id == wanted), project.edits[-1])


def default_workspace(source: str) -> str:
    """Where a capture's workspace goes: beside the .blend file, or, while that is unsaved, in the user folder."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    name = re.sub(r"[^\w.-]+", "_", folder.name or "capture")
    if bpy.data.filepath:
        return f"//instruct_nerf/{name}"
    base = getattr(preferences(), "workspaces", "")
    # Two captures in folders of one name must not share a workspace.
    unique = f"{name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    return str((Path(bpy.path.abspath(base)) if base else user_folder() / "unsaved") / unique)


def preset_name(scene: bpy.types.Scene) -> str:
    """The preset's name: the scene's, else the engine's default, else empty (the engine then decides)."""
    info = session.get().info
    if info is None:
        return scene.instruct_nerf.preset or "preview"
    names = [p.name for p in info.presets]
    if scene.instruct_nerf.preset in names:
        return scene.instruct_nerf.preset
    return next((p.name for p in info.presets if p.default), names[0] if names else "")


def preset_of(scene: bpy.types.Scene) -> messages.Preset | None:
    """What the engine said of the scene's preset, or None."""
    info = session.get().info
    return next((p for p in info.presets if p.name == preset_name(scene)), None) if info else None


def editor_of(scene: bpy.types.Scene) -> messages.Editor | None:
    """What the engine said of the scene's editor (its first one where none was chosen), or None."""
    info = session.get().info
    if info is None or not info.editors:
        return None
    usable = next((e for e in info.editors if e.available), info.editors[0])
    return next((e for e in info.editors if e.name == scene.instruct_nerf.editor), usable)


def warnings_of_choice(scene: bpy.types.Scene) -> tuple[str, ...]:
    """Sentences on why the chosen views may not hold the scene together."""
    root, project, preset = root_of(scene), project_of(scene), preset_of(scene)
    if root is None or project is None or project.capture is None:
        return ()
    capture, names = project.capture, set(cameras.chosen_views(root))
    everything = [v.camera.pose for v in capture.views]
    chosen = [v.camera.pose for v in capture.views if not names or v.name in names]
    return trajectories.warnings_of_choice(chosen, everything, capture.centre, preset.min_views if preset else 0)


def picture(scene: bpy.types.Scene, kind: str, view: str) -> str:
    """The path of one of a view's pictures: ``image``, ``before``, ``edited`` or ``after``; empty where none is."""
    live = session.get().live.get(workspace_of(scene), {}).get(kind, {}).get(view, "")
    project, edit = project_of(scene), edit_of(scene)
    if live or project is None:
        return live
    if kind == wire.VIEW_IMAGE:
        if project.capture is None:
            return ""
        return next((v.image for v in project.capture.views if v.name == view), "")
    if kind == wire.VIEW_BEFORE:
        return project.scene.views.get(view, "") if project.scene else ""
    if edit is None:
        return ""
    return (edit.images if kind == wire.VIEW_EDITED else edit.views).get(view, "")


def apply_pictures(scene: bpy.types.Scene) -> int:
    """Show behind every camera the kind of picture that the settings name, the photo where there is none; how many
    cameras show that kind."""
    root, settings = root_of(scene), scene.instruct_nerf
    if root is None:
        return 0
    project = project_of(scene)
    photos = {v.name: v.image for v in project.capture.views} if project and project.capture else {}
    return images.show_all(
        root,
        lambda view: (
            photos.get(view, "") if settings.shown == wire.VIEW_IMAGE else picture(scene, settings.shown, view)
        ),
        lambda view: photos.get(view, ""),
        settings.opacity,
        settings.in_front,
    )


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
