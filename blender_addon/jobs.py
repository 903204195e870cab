# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine itself: starting and installing it, and what every request to it has in common.

Functions of this module, of :mod:`opening`, :mod:`editing` and :mod:`results` are what operators call, with a scene;
the settings are that scene's ``instruct_nerf`` properties. All return at once and raise ``ValueError`` or
``RuntimeError`` with a sentence where they cannot begin. Answers arrive in :func:`session.pump`, look up the scene that
asked, and say so where it is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from . import chores, engine_home, install, messages, rows, session, wire
from .conversion import matrix_from_rows
from .project import (
    addon_folder,
    apply_pictures,
    bundled_wheel,
    engine_command,
    engine_line,
    engine_outlives,
    offline,
    preferences,
    root_of,
    scene_of,
    scenes_of,
    user_folder,
    workspace_of,
)
from .scene import cameras, images, region
from .words import t

ENGINE_ARGUMENTS = ["-m", "engine", "serve"]

# -- engine ------------------------------------------------------------------------------------------------------


def start_engine() -> None:
    """Start the engine where it does not run yet."""
    command = engine_command(ENGINE_ARGUMENTS)
    if command is None:
        raise RuntimeError("The engine is not installed: press Install Engine in the Engine panel, or name one there.")
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"There is no program “{command[0]}” to start the engine with: see the Engine panel.")
    session.start(engine_line(command), user_folder() / "run", engine_outlives())
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
    if offline(repair):
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


# -- what requests share -----------------------------------------------------------------------------------------


def known(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters without those that are left to the engine."""
    return {key: value for key, value in params.items() if value not in ("", None)}


def region_params(scene: bpy.types.Scene, root: bpy.types.Object | None) -> dict[str, Any] | None:
    """Where alone the scene is to change, as it is asked for; None where everywhere. Raises ``ValueError``."""
    settings = scene.instruct_nerf
    if root is None or not settings.use_region:
        return None
    return wire.region_object(
        region.solids(scene, settings.region), settings.region_softness, settings.region_invert,
        matrix_from_rows(root.evaluated_get(cameras.depsgraph_of(scene)).matrix_world),
    )  # fmt: skip


def ready(scene: bpy.types.Scene) -> str:
    """See to it that something can be asked about the scene's capture; its workspace."""
    if root_of(scene) is None:
        raise ValueError("Open a capture first.")
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    start_engine()
    return workspace_of(scene)


def scene_for(workspace: str, asked: int, what: str) -> bpy.types.Scene | None:
    """The scene that a result goes to, the one that asked; where none shows the workspace any more, that is said."""
    scene = scene_of(workspace, asked)
    if scene is None:
        said = t(
            "{what} is ready in {folder}, which no scene of this file shows: open the file that it was made for, or "
            "name that folder under Project."
        )
        session.say("capture", said.format(what=what, folder=workspace))
    return scene


def show_again(workspace: str) -> None:
    """Show pictures and the list of edits as they are now, in every scene that shows a workspace."""
    for scene in scenes_of(workspace):
        rows.follow(scene)
        apply_pictures(scene)


# -- pictures ----------------------------------------------------------------------------------------------------


def _view_written(written: messages.ViewWritten) -> None:
    """A picture came while a job runs: show it where its kind is being shown. Of a view that comes again before it was
    shown, the newest is."""
    job = session.get().job
    if job is not None:
        workspace = job.workspace
        chores.do(("live", workspace, written.view), lambda: _showing(workspace, written), "edit")


def _showing(workspace: str, written: messages.ViewWritten) -> Iterator[float]:
    for scene in scenes_of(workspace):
        root, settings = root_of(scene), scene.instruct_nerf
        if root is None or written.kind != settings.shown:
            continue
        camera = cameras.camera_of(root, written.view)
        if camera is not None:
            images.show(camera, written.image, settings.opacity, settings.in_front)
        yield 1.0
