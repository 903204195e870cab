# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist can have done, as plain functions: each asks the engine and puts the answer into the scene.

Operators call these with a scene; the settings are that scene's ``instruct_nerf`` properties. All return at once and
raise ``ValueError`` or ``RuntimeError`` with a sentence where they cannot begin. Answers arrive in
:func:`session.pump` and look the scene up by workspace, for the one that asked may be gone by then.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from . import engine_home, install, messages, session, wire
from .project import (
    addon_folder,
    apply_pictures,
    bundled_wheel,
    default_workspace,
    editor_of,
    engine_command,
    preferences,
    preset_name,
    root_of,
    scene_of,
    undo_step,
    user_folder,
    workspace_of,
)
from .scene import cameras, images, points

ENGINE_ARGUMENTS = ["-m", "engine", "serve"]

# -- engine ------------------------------------------------------------------------------------------------------


def start_engine() -> None:
    """Start the engine where it does not run yet."""
    command = engine_command(ENGINE_ARGUMENTS)
    if command is None:
        raise RuntimeError("The engine is not installed: press Install in the Engine panel, or name one there.")
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"There is no program “{command[0]}” to start the engine with: see the Engine panel.")
    session.start(command, user_folder() / "run")
    watchers = session.get().watchers
    if _view_written not in watchers:
        watchers.append(_view_written)


def install_engine(*, repair: bool = False) -> None:
    """Begin to install the bundled engine, or to mend what is installed; the session's installer shows how it goes."""
    wheel = bundled_wheel()
    if wheel is None:
        raise RuntimeError("This copy of the add-on carries no engine; name one that is installed elsewhere instead.")
    if session.get().state != "stopped":
        raise RuntimeError("Stop the engine first: its files are about to be replaced.")
    chosen = preferences()
    wheels = bpy.path.abspath(getattr(chosen, "wheels_folder", ""))
    if wheels and not Path(wheels).is_dir():
        raise RuntimeError(f"There is no folder of wheels at {wheels}: see the add-on's preferences.")
    if not wheels and not bpy.app.online_access:
        raise RuntimeError(
            "Installing downloads packages: turn on Allow Online Access in Preferences, System, or name a folder of "
            "wheels in the add-on's preferences."
        )
    order = install.Order(
        engine_home.root(),
        wheel,
        addon_folder() / "locks",
        user=str(addon_folder()),
        python=bpy.path.abspath(getattr(chosen, "base_python", "")),
        index=getattr(chosen, "package_index", "").strip(),
        wheels=wheels,
    )
    session.get().installer = install.Installer(order, repair)
    session.get().installer.start()
    session.notice("engine", "")
    session.wake()


def remove_engine() -> None:
    """Remove the installed engine with everything that was downloaded for it; projects stay."""
    if session.get().state != "stopped" or session.get().installer is not None:
        raise RuntimeError("Stop the engine first.")
    engine_home.remove_everything(engine_home.root())
    session.notice("engine", "")


# -- capture -----------------------------------------------------------------------------------------------------


def open_capture(scene: bpy.types.Scene, source: str, *, stand_upright: bool = True) -> None:
    """Open a capture: read its poses, put its cameras into the scene, then write its pinhole pictures.

    Photos without cameras, or a video, get theirs first.
    """
    path = Path(bpy.path.abspath(source))
    if not path.exists():
        raise ValueError(f"There is nothing at {path}.")
    settings = scene.instruct_nerf
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    if not settings.workspace or cameras.absolute(settings.source) != str(path.resolve()):
        settings.workspace = default_workspace(str(path))
    settings.source = str(path.resolve())
    workspace = workspace_of(scene)
    start_engine()

    def opened(result: object) -> None:
        capture = wire.parse_capture(result)
        session.get().projects[workspace] = messages.Project(capture, None, ())
        show_capture(workspace, capture, stand_upright)
        read_workspace(workspace)
        write_images(workspace)

    def without_cameras(failure: messages.Failure) -> None:
        if failure.field == wire.PHOTOS:
            session.run_job(
                wire.CAPTURE_REGISTER, {"workspace": workspace, "source": str(path.resolve())},
                lambda result: ask(wire.parse_path(result, "source")),
                panel="capture", title="Finding the cameras of the photos", workspace=workspace,
            )  # fmt: skip

    params = {"workspace": workspace, "preset": preset_name(scene)}
    if settings.long_side:
        params["long_side"] = settings.long_side
    params["background"] = [round(255 * channel) for channel in settings.background]
    if settings.all_pixels:
        params["all_pixels"] = True

    def ask(capture: str, failed: Callable[[messages.Failure], None] | None = None) -> None:
        session.run_job(
            wire.CAPTURE_OPEN, _known(params) | {"source": capture}, opened, failed=failed,
            panel="capture", title="Opening the capture", workspace=workspace,
        )  # fmt: skip

    ask(settings.source, without_cameras)


def _known(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters without those that are left to the engine."""
    return {key: value for key, value in params.items() if value not in ("", None)}


def show_capture(workspace: str, capture: messages.Capture, stand_upright: bool) -> None:
    """Put an opened capture's cameras into the scene that shows its workspace."""
    scene = scene_of(workspace)
    if scene is None:
        return
    name = Path(workspace).name
    root = cameras.build(
        scene, name, scene.instruct_nerf.workspace, [(view.name, view.camera) for view in capture.views],
        capture.up, capture.centre, capture.radius, stand_upright=stand_upright,
    )  # fmt: skip
    try:
        points.show(root, capture.points)
    except ValueError as problem:
        session.notice("capture", str(problem))
    apply_pictures(scene)
    undo_step("Open Capture")


def write_images(workspace: str) -> None:
    """Have the pinhole pictures written; each appears behind its camera when it is there."""

    def written(result: object) -> None:
        capture, project = wire.parse_capture(result), session.get().projects.get(workspace)
        old = project.capture if project else None
        session.get().projects[workspace] = replace(project or messages.Project(None, None, ()), capture=capture)
        scene = scene_of(workspace)
        if old is None or [view.name for view in old.views] != [view.name for view in capture.views]:
            show_capture(workspace, capture, stand_upright=True)  # without views whose photo turned out unreadable
        elif scene is not None:
            apply_pictures(scene)

    session.run_job(
        wire.CAPTURE_IMAGES, {"workspace": workspace}, written,
        panel="capture", title="Preparing pictures", workspace=workspace,
    )  # fmt: skip


def read_workspace(workspace: str, then: Callable[[], None] = lambda: None) -> None:
    """Ask what is in a workspace, and know it from then on."""

    def read(result: object) -> None:
        session.get().projects[workspace] = wire.parse_project(result)
        then()

    session.request(wire.WORKSPACE_READ, {"workspace": workspace}, read, panel="capture")


def reconnect(scene: bpy.types.Scene) -> None:
    """After a .blend file was loaded: start the engine and read the scene's workspace again."""
    workspace = workspace_of(scene)
    if not workspace:
        raise ValueError("This scene has no capture yet; open one.")
    start_engine()

    def read() -> None:
        project, found = session.get().projects[workspace], scene_of(workspace)
        if project.capture is None:
            session.notice("capture", "The workspace holds no capture; open the capture again.")
        elif found is not None:
            if root_of(found) is None:
                show_capture(workspace, project.capture, stand_upright=True)
            apply_pictures(found)

    read_workspace(workspace, read)


# -- pictures ----------------------------------------------------------------------------------------------------


def _view_written(written: messages.ViewWritten) -> None:
    """A picture came while a job runs: show it where its kind is being shown."""
    job = session.get().job
    scene = scene_of(job.workspace) if job else None
    root = root_of(scene) if scene else None
    if scene is None or root is None or written.kind != scene.instruct_nerf.shown:
        return
    camera = cameras.camera_of(root, written.view)
    if camera is not None:
        images.show(camera, written.image, scene.instruct_nerf.opacity, scene.instruct_nerf.in_front)


# -- editing -----------------------------------------------------------------------------------------------------


def _edit_settings(scene: bpy.types.Scene) -> dict[str, Any]:
    settings = scene.instruct_nerf
    if not settings.instruction.strip():
        raise ValueError("Type what the scene shall become, such as “make it night”.")
    editor, model = editor_of(scene), settings.editor_model.strip()
    if model.startswith("//"):
        model = bpy.path.abspath(model)
    if not model and editor is not None and not editor.available:
        raise ValueError(f"The editor “{editor.label}” cannot be used: {editor.reason or 'it is not installed'}")
    params: dict[str, Any] = {
        "workspace": workspace_of(scene), "instruction": settings.instruction.strip(), "seed": settings.seed,
        "device": settings.device, "editor": model or settings.editor,
    }  # fmt: skip
    options: dict[str, Any] = {}
    if settings.use_guidance:
        options |= {"text_guidance": settings.text_guidance, "image_guidance": settings.image_guidance}
    if settings.keep_background != "AUTO":
        options["keep_background"] = "on" if settings.keep_background == "KEEP" else "off"
    return _known(params) | {"options": options}


def ready(scene: bpy.types.Scene) -> str:
    if root_of(scene) is None:
        raise ValueError("Open a capture first.")
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    start_engine()
    return workspace_of(scene)


def try_edit(scene: bpy.types.Scene, view: str) -> None:
    """Edit one view's photo alone, so that guidance can be tuned before the scene is touched."""
    params = _edit_settings(scene) | {"view": view}
    workspace = ready(scene)

    def tried(result: object) -> None:
        session.get().tried[workspace] = (wire.parse_path(result, "before"), wire.parse_path(result, "after"))

    session.run_job(wire.EDIT_TRY, params, tried, panel="instruction", title=f"Trying on {view}", workspace=workspace)


def start_edit(scene: bpy.types.Scene) -> None:
    """Edit the scene: the unedited NeRF is trained first where there is none."""
    params = _edit_settings(scene) | _known({"preset": preset_name(scene)})
    workspace = ready(scene)
    root = root_of(scene)
    chosen = cameras.chosen_views(root) if root else []
    if chosen:
        params["views"] = chosen
    if scene.instruct_nerf.steps:
        params["steps"] = scene.instruct_nerf.steps
    _run_edit(wire.EDIT_RUN, params, workspace, params["instruction"])


def resume_edit(scene: bpy.types.Scene, edit: str) -> None:
    """Go on with an edit that was cancelled or cut off."""
    workspace = ready(scene)
    params = _known({"workspace": workspace, "edit": edit, "device": scene.instruct_nerf.device})
    _run_edit(wire.EDIT_RESUME, params, workspace, "the edit, resumed")


def _run_edit(method: str, params: dict[str, Any], workspace: str, title: str) -> None:
    live = session.get().live.setdefault(workspace, {})

    def edited(result: object) -> None:
        edit = wire.parse_edit(result)
        live.pop(wire.VIEW_EDITED, None)
        live.pop(wire.VIEW_AFTER, None)
        scene = scene_of(workspace)
        if scene is not None:
            scene.instruct_nerf.edit = edit.id
            scene.instruct_nerf.shown = wire.VIEW_AFTER  # shows them, too
        keep_edit(workspace, edit)
        reread()

    def reread(_failure: object = None) -> None:
        if session.get().state == "ready":
            read_workspace(workspace, lambda: _show_again(workspace))

    session.run_job(method, params, edited, failed=reread, panel="edit", title=title, workspace=workspace)
    live.pop(wire.VIEW_EDITED, None)
    live.pop(wire.VIEW_AFTER, None)


def _show_again(workspace: str) -> None:
    scene = scene_of(workspace)
    if scene is not None:
        apply_pictures(scene)


def keep_edit(workspace: str, edit: messages.Edit) -> None:
    """Know an edit's newest state."""
    project = session.get().projects.get(workspace) or messages.Project(None, None, ())
    others = tuple(e for e in project.edits if e.id != edit.id)
    session.get().projects[workspace] = replace(project, edits=(*others, edit))
    _show_again(workspace)
