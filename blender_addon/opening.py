# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening captures, and reading again what a project holds.

A scene takes on another capture only when the engine has opened it: until then its settings, its root and its cameras
are those of the capture before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bpy

from . import asking, choices, chores, messages, session, state, wire, workspaces
from .jobs import known, show_again, start_engine
from .project import apply_pictures, root_of, scene_of, undo_step, workspace_of
from .scene import cameras, points
from .words import t

Then = Callable[[bpy.types.Scene], None]
PANEL = "capture"


def open_capture(
    scene: bpy.types.Scene,
    source: str,
    *,
    stand_upright: bool = True,
    workspace: str = "",
    opened_before: str = "",
    find_cameras: bool = False,
    then: Then = lambda _scene: None,
) -> None:
    """Open a capture: read its poses, put its cameras into the scene, then write its pinhole pictures.

    Photos without cameras, or a video, wait for the button that finds these, unless ``find_cameras`` at once. Without
    ``workspace`` its project goes where the artist has said, where this file or that folder has it already, or into a
    folder of its own. ``opened_before`` is what the engine opened the last time, where that is not the source itself
    (photos whose cameras were found).
    """
    path = Path(bpy.path.abspath(source))
    if not path.exists():
        raise ValueError(f"There is nothing at {path}.")
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    settings, resolved = scene.instruct_nerf, cameras.absolute(str(path))
    asking.check_writable(resolved)
    opening = partial(
        _open, scene.session_uid, resolved, opened_before or resolved, _wishes(scene), stand_upright, find_cameras, then
    )
    if workspace:
        chosen = workspace
    elif workspaces.same_capture(scene, path):
        chosen = settings.workspace
    elif workspaces.typed(scene):
        chosen = settings.workspace
        _check_not_anothers(scene, cameras.absolute(chosen), resolved)
    else:
        chosen = workspaces.known_for(resolved) or workspaces.proposed(resolved)
    session.get().unplaced.pop(scene.session_uid, None)
    start_engine()
    asks = not workspace and chosen == workspaces.proposed(resolved) and bpy.data.filepath
    if asks and not workspaces.is_free(chosen, scene) and not workspaces.known_for(resolved):
        _whose(chosen, resolved, opening)
    else:
        opening(chosen)


def find_cameras(scene: bpy.types.Scene) -> None:
    """Find the cameras of the photos, or the video, that were to be opened and have none; then they are."""
    unplaced = session.get().unplaced.get(scene.session_uid)
    if unplaced is None:
        raise ValueError("There are no photos without cameras: open a folder of photos, or a video, first.")
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    start_engine()
    unplaced.find()


def _wishes(scene: bpy.types.Scene) -> dict[str, Any]:
    """What the settings say about opening, gathered when the button is pressed."""
    settings = scene.instruct_nerf
    return {
        "long_side": settings.long_side,
        "background": [round(255 * channel) for channel in settings.background],
        "all_pixels": settings.all_pixels,
        "masks": settings.masks,
        "preset": settings.preset,
        "device": settings.device,
    }


def _check_not_anothers(scene: bpy.types.Scene, workspace: str, source: str) -> None:
    for other in workspaces.users_of(workspace, scene):
        if cameras.absolute(other.instruct_nerf.source) != source:
            raise ValueError(
                f"{Path(workspace).name} is the project of the capture in the scene “{other.name}”: name another "
                "folder under Project, or leave that empty."
            )


def _whose(workspace: str, source: str, opening: Callable[[str], None]) -> None:
    """A folder of the name is there already: it is taken where it is this capture's, else one that no other gets."""

    def looked(found: messages.Project) -> None:
        capture = found.capture
        mine = capture is not None and cameras.absolute(capture.source) == source
        opening(workspace if mine else workspaces.proposed(source, 0))

    def damaged(failure: messages.Failure) -> None:
        if failure.code not in (wire.CANCELLED, wire.ENGINE_DIED):
            session.notice(PANEL, "")
            opening(workspaces.proposed(source, 0))

    asking.run_job(
        wire.WORKSPACE_READ, {"workspace": cameras.absolute(workspace)}, looked, failed=damaged,
        panel=PANEL, title="Opening the capture", workspace=cameras.absolute(workspace),
    )  # fmt: skip


def _open(
    uid: int,
    source: str,
    opens: str,
    wishes: dict[str, Any],
    stand_upright: bool,
    at_once: bool,
    then: Then,
    relative: str,
) -> None:
    """Have the engine open ``opens``, and the scene take it on as ``source`` with the project folder ``relative``."""
    workspace = cameras.absolute(relative)
    size = 0

    def params(capture: str) -> dict[str, Any]:
        nonlocal size
        preset = choices.preset_of(session.get().info, wishes["preset"], wishes["device"])
        size = wishes["long_side"] or (preset.long_side if preset else 0)
        wanted = known(
            {
                "workspace": workspace, "source": capture, "preset": preset.name if preset else None,
                "long_side": wishes["long_side"] or None, "background": wishes["background"],
                "all_pixels": wishes["all_pixels"] or None,
                "masks": wishes["masks"] if wishes["masks"] != "auto" else None,
            }
        )  # fmt: skip
        return wanted

    def ask(capture: str, failed: Callable[[messages.Failure], None] | None = None) -> None:
        asking.run_job(
            wire.CAPTURE_OPEN, lambda: params(capture), opened, failed=failed,
            panel=PANEL, title="Opening the capture", workspace=workspace, scene=uid,
        )  # fmt: skip

    def without_cameras(failure: messages.Failure) -> None:
        if failure.field != wire.PHOTOS or failure.code == wire.CANCELLED:
            return
        if at_once:
            find()
        else:  # what takes minutes is not begun unasked
            session.notice(PANEL, "")
            session.get().unplaced[uid] = state.Unplaced(source, failure.message, find)

    def find() -> None:
        asking.run_job(
            wire.CAPTURE_REGISTER, {"workspace": workspace, "source": source},
            ask,
            panel=PANEL, title="Finding the cameras of the photos", workspace=workspace, scene=uid,
        )  # fmt: skip

    def opened(capture: messages.Capture) -> None:
        session.get().unplaced.pop(uid, None)
        scene = cameras.scene_by_uid(uid)
        if scene is None:
            said = t("{name} was opened into {folder} for a scene that is gone.")
            session.say(PANEL, said.format(name=Path(source).name, folder=workspace))
            return
        settings = scene.instruct_nerf
        if cameras.absolute(settings.workspace) != workspace:
            settings.edit = settings.parent = ""  # those of the capture before
        settings.source, settings.workspace, settings.opened_workspace = source, relative, relative
        settings.opened_size, settings.opened_upright = size, stand_upright
        session.get().projects[workspace] = messages.Project(capture, None, ())
        show_capture(scene, workspace, capture)
        read_workspace(workspace, lambda: show_again(workspace))
        write_images(workspace, uid, then)

    ask(opens, without_cameras)


def show_capture(scene: bpy.types.Scene, workspace: str, capture: messages.Capture) -> None:
    """Put an opened capture's cameras into a scene."""
    uid = scene.session_uid

    def steps() -> Iterator[float]:
        found = cameras.scene_by_uid(uid)
        if found is None:
            return
        settings = found.instruct_nerf
        for fraction in cameras.building(
            found, Path(workspace).name, settings.workspace, [(view.name, view.camera) for view in capture.views],
            capture.up, capture.centre, capture.radius, stand_upright=settings.opened_upright, source=settings.source,
        ):  # fmt: skip
            yield 0.5 * fraction
        root = root_of(found)
        if root is None:  # thrown away meanwhile
            return
        try:
            for fraction in points.showing(root, capture.points):
                yield 0.5 + 0.5 * fraction
        except ValueError as problem:
            session.notice(PANEL, str(problem))
        apply_pictures(found)
        chores.then(("undo", uid), lambda: undo_step("Open Capture"), PANEL)

    chores.do(("capture", uid), steps, PANEL, "Placing the cameras")


def write_images(workspace: str, uid: int, then: Then = lambda _scene: None) -> None:
    """Have the pinhole pictures written; each appears behind its camera when it is there."""

    def written(capture: messages.Capture) -> None:
        project = session.get().projects.get(workspace)
        old = project.capture if project else None
        session.get().projects[workspace] = replace(project or messages.Project(None, None, ()), capture=capture)
        scene = scene_of(workspace, uid)
        # Without views whose photo turned out unreadable.
        others = old is None or [view.name for view in old.views] != [view.name for view in capture.views]
        if scene is not None and others:
            show_capture(scene, workspace, capture)
        show_again(workspace)
        chores.then(("then", uid), lambda: _then(workspace, uid, then), PANEL)

    asking.run_job(
        wire.CAPTURE_IMAGES, {"workspace": workspace}, written,
        panel=PANEL, title="Preparing pictures", workspace=workspace, scene=uid,
    )  # fmt: skip


def _then(workspace: str, uid: int, then: Then) -> None:
    """What waited for the cameras to be there."""
    scene = scene_of(workspace, uid)
    if scene is not None:
        then(scene)


def read_workspace(workspace: str, then: Callable[[], None] = lambda: None) -> None:
    """Ask what is in a workspace, and know it from then on."""

    def read(project: messages.Project) -> None:
        session.get().projects[workspace] = project
        then()

    asking.request(wire.WORKSPACE_READ, {"workspace": workspace}, read, panel=PANEL)


def reconnect(scene: bpy.types.Scene, then: Then = lambda _scene: None) -> None:
    """After a .blend file was loaded: start the engine and read the scene's workspace again."""
    workspace, uid = workspace_of(scene), scene.session_uid
    if not workspace:
        raise ValueError("This scene has no capture yet; open one.")
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    if workspaces.is_missing(scene):
        again = workspaces.found_again(scene)
        if not again:
            raise ValueError(
                f"The project's folder {workspace} is not there: bring it back, or press Find Project and choose where "
                "it is now."
            )
        find_project(scene, again, then)
        return
    start_engine()

    def read(project: messages.Project) -> None:
        session.get().projects[workspace] = project
        found = scene_of(workspace, uid)
        if project.capture is None:
            session.notice(PANEL, f"{workspace} holds no capture; open the capture again.")
            return
        if found is None:
            return
        if root_of(found) is None:
            show_capture(found, workspace, project.capture)
        show_again(workspace)
        chores.then(("then", uid), lambda: _then(workspace, uid, then), PANEL)

    asking.run_job(
        wire.WORKSPACE_READ, {"workspace": workspace}, read,
        panel=PANEL, title="Reading the project", workspace=workspace, scene=uid,
    )  # fmt: skip


def find_project(scene: bpy.types.Scene, folder: str, then: Then = lambda _scene: None) -> None:
    """Have a scene show its project where that is now, once the engine has read it and it is the same capture's.

    Raises ``ValueError`` where the folder holds no project.
    """
    uid, there = scene.session_uid, cameras.absolute(folder)
    asking.check_writable(there)
    if not workspaces.is_project(there):
        raise ValueError(f"{there} holds no project: choose the folder that has a folder “capture” in it.")
    others = workspaces.users_of(there, scene)
    if others:
        raise ValueError(f"{there} is the project of the scene “{others[0].name}”: choose another.")
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    start_engine()

    def read(project: messages.Project) -> None:
        found = cameras.scene_by_uid(uid)
        if found is None:
            return
        root, capture = root_of(found), project.capture
        if capture is None:
            session.notice(PANEL, f"The project in {there} holds no capture that can be read.")
            return
        here = {str(camera[cameras.VIEW]) for camera in cameras.cameras_of(root)} if root is not None else set()
        if here and here.isdisjoint(view.name for view in capture.views):
            session.notice(PANEL, f"The project in {there} is of another capture: none of its views is in this scene.")
            return
        workspaces.move(found, there)
        session.get().projects[there] = project
        if root_of(found) is None:
            show_capture(found, there, capture)
        session.say(PANEL, t("The project was found in {folder}.").format(folder=there))
        show_again(there)
        undo_step("Find Project")
        chores.then(("then", uid), lambda: _then(there, uid, then), PANEL)

    asking.run_job(
        wire.WORKSPACE_READ, {"workspace": there}, read, panel=PANEL, title="Reading the project", workspace=there,
        scene=uid,
    )  # fmt: skip
