# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes back into Blender: splats, the frames, a camera path; and a Blender scene photographed as a capture.

Like :mod:`jobs`: functions that return at once and raise ``ValueError`` or ``RuntimeError`` with a sentence.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bpy

from . import asking, chores, second_blender, session, wire, workspaces
from .conversion import Camera
from .editing import refuse_days
from .jobs import ready, scene_for
from .opening import open_capture
from .project import (
    PHOTOGRAPHS,
    device_name,
    edit_of,
    is_trained,
    photographed_here,
    root_of,
    too_slow,
    undo_step,
    workspace_of,
)
from .scene import cameras, choice, example, flight, photograph, points, strips
from .words import t

SPLATS = (1_000, 5_000_000)  # as many as the engine makes
EXAMPLE = photograph.Dome(32, 18.0, 48.0, 2.2, 150.0)
EXAMPLE_INSTRUCTION = "make it night"


def make_splats(scene: bpy.types.Scene, count: int) -> None:
    """Have splats made of the edit that is chosen (of the unedited scene, where none is), and show the scene in 3D."""
    workspace, edit, uid = ready(scene), edit_of(scene), scene.session_uid
    params: dict[str, object] = {"workspace": workspace, "count": count}
    if edit is not None:
        params["edit"] = edit.id
    if device_name(scene):
        params["device"] = device_name(scene)

    def made(path: str) -> None:
        found = scene_for(workspace, uid, t("The splats"))
        if found is not None:
            found.instruct_nerf.show_surfels = True
            if (root := root_of(found)) is not None:
                points.hide(found, root)
            session.say("results", t("The splats lie in {path}.").format(path=path))

    asking.run_job(
        wire.OUTPUT_SPLATS, params, made, panel="results", title="Making splats", workspace=workspace, scene=uid
    )


def render_to_sequencer(scene: bpy.types.Scene) -> None:
    """Render the scene camera's animation from the NeRF before and after the edit, lay both into the sequencer, and
    set the scene so that Render Animation writes the film."""
    workspace, edit, uid = ready(scene), edit_of(scene), scene.session_uid
    if edit is None and not is_trained(scene):
        raise ValueError("There is no edit to render yet.")
    if scene.frame_end < scene.frame_start:
        raise ValueError("The scene's frame range is empty.")
    strips.even_size(scene)
    first, last = scene.frame_start, scene.frame_end
    sampled: list[Camera] = []
    name = film_name(scene.name)
    show, device = scene.instruct_nerf.film, device_name(scene)
    title = edit.title if edit is not None and scene.instruct_nerf.film_title else ""

    def ask() -> None:
        params = {
            "workspace": workspace, "edit": edit.id if edit else None, "name": name, "first_frame": first,
            "cameras": [wire.camera_object(camera) for camera in sampled],
        }  # fmt: skip
        if device:
            params["device"] = device
        asking.run_job(
            wire.OUTPUT_FRAMES,
            params,
            rendered,
            panel="results",
            title="Rendering frames",
            workspace=workspace,
            scene=uid,
        )

    def rendered(frames: tuple[list[str], ...]) -> None:
        before, after = frames
        found = scene_for(workspace, uid, t("The film's pictures"))
        if found is None:
            return
        try:
            strips.add_frames(found, before, after, first, show, title)
        except ValueError as error:
            session.notice("results", str(error))
            return
        film = f"{found.instruct_nerf.workspace.rstrip('/')}/{name}.mp4"
        strips.film_settings(found, first, last, film)
        undo_step("Render to Sequencer")

    steps = flight.sample(scene.name, workspace, range(first, last + 1), sampled)
    session.run_task("Reading the camera's animation", "results", steps, ask)


def make_report(scene: bpy.types.Scene, even_on_cpu: bool = False) -> None:
    """Have the paper's baselines run on the edit's own capture and instruction, and show the report card in the web
    browser when it is there. Raises ``ValueError`` where that takes days and was not asked for all the same."""
    workspace, edit = ready(scene), edit_of(scene)
    if edit is None:
        raise ValueError("There is no edit to report on yet.")
    refuse_days(too_slow(scene, edit.id), even_on_cpu)
    params: dict[str, object] = {"workspace": workspace, "edit": edit.id}
    if even_on_cpu:
        params["even_on_cpu"] = True
    if device_name(scene):
        params["device"] = device_name(scene)

    def made(path: str) -> None:
        if not bpy.app.background:
            bpy.ops.wm.path_open(filepath=path)

    asking.run_job(wire.OUTPUT_REPORT, params, made, panel="results", title="Report card", workspace=workspace)


def fly_through(scene: bpy.types.Scene, first: int, last: int) -> None:
    """Animate a camera through the chosen views (all, where none is chosen)."""
    root, uid = root_of(scene), scene.session_uid
    if root is None:
        raise ValueError("Open a capture first.")
    flight.check_path(len(_chosen(root)), first, last)

    def steps() -> Iterator[float]:
        found = cameras.scene_by_uid(uid)
        root = root_of(found) if found else None
        if root is not None:
            yield from flight.flying_through(found, root, _chosen(root), first, last)
            chores.then(("undo", uid), lambda: undo_step("Camera Path"), "results")

    chores.do(("path", uid), steps, "results", "Making the camera path")


def _chosen(root: bpy.types.Object) -> list[bpy.types.Object]:
    views = cameras.cameras_of(root)
    return [camera for camera in views if camera.get(cameras.CHOSEN)] or views


def grow_choice(scene: bpy.types.Scene) -> None:
    """Choose the neighbours of the chosen views as well."""
    uid = scene.session_uid

    def steps() -> Iterator[float]:
        found = cameras.scene_by_uid(uid)
        root = root_of(found) if found else None
        if root is None:
            return
        names: list[str] = []
        yield from choice.growing(cameras.cameras_of(root), names)
        cameras.choose(root, names)
        chores.then(("undo", uid), lambda: undo_step("Grow"), "capture")

    chores.do(("grow", uid), steps, "capture", "Choosing the neighbours")


def photograph_scene(
    scene: bpy.types.Scene,
    objects: list[bpy.types.Object],
    way: str,
    count: int,
    dome: photograph.Dome,
    film: photograph.Film,
) -> None:
    """Photograph objects (everything, for an empty list) and open the pictures as a capture.

    ``way`` is ``DOME`` (around the objects), ``PATH`` (along the first curve among them, looking at the others),
    ``CAMERAS`` (through the scene's own cameras) or ``ANIMATION`` (through its active one, over its frames).
    The capture frame is Blender's world, so that what comes back lies on what was photographed.
    """
    if way == "CAMERAS":
        standpoints, film = photograph.by_own_cameras(scene), None
    elif way == "ANIMATION":
        standpoints, film = photograph.by_animation(scene, count), None
    else:
        curve = next((item for item in objects if item.type == "CURVE"), None) if way == "PATH" else None
        if way == "PATH" and curve is None:
            raise ValueError("Select the curve to photograph along, and what it is to look at.")
        others = [item for item in objects if item != curve]
        centre, radius = photograph.bounds(others or [item for item in scene.objects if item != curve])
        film = replace(film, reach=dome.distance * radius)
        if curve is not None:
            standpoints = photograph.along(curve, count, centre)
        else:
            standpoints = photograph.around(dome, centre, radius)
    uid, workspace = scene.session_uid, _folder_for_photographs(scene)
    folder = Path(cameras.absolute(workspace)) / PHOTOGRAPHS
    asking.check_writable(str(folder))

    def photographed() -> None:
        found = cameras.scene_by_uid(uid)
        if found is not None:
            open_capture(found, str(folder), stand_upright=False, workspace=workspace)

    steps = second_blender.photographing(scene, standpoints, film, folder)
    session.run_task("Photographing the scene", "capture", steps, photographed)


def open_example(scene: bpy.types.Scene) -> None:
    """Fill a scene, the current one, with a few things, photograph them from one side, and open the pictures, with an
    instruction to begin with."""
    things = example.build(scene)
    bpy.context.view_layer.update()
    centre, radius = photograph.bounds(things)
    example.look(scene, centre, EXAMPLE.distance * radius)
    scene.instruct_nerf.instruction = EXAMPLE_INSTRUCTION
    photograph_scene(scene, things, "DOME", EXAMPLE.count, EXAMPLE, photograph.Film(35.0, 320, 240))


def _folder_for_photographs(scene: bpy.types.Scene) -> str:
    """The project that photographs go to: the artist's choice, else the scene's own where it is of photographs and
    nothing was trained of them yet, else one of their own."""
    settings = scene.instruct_nerf
    if workspaces.typed(scene):
        others = workspaces.users_of(workspace_of(scene), scene)
        if others:
            raise ValueError(f"The project's folder is that of the scene “{others[0].name}”: name another.")
        return settings.workspace
    folder = Path(workspace_of(scene))
    if settings.workspace and photographed_here(scene):
        trained = any((folder / part).exists() for part in ("scene", "edits"))
        if not trained and not workspaces.users_of(str(folder), scene):
            return settings.workspace
    beside = Path(bpy.data.filepath).parent if bpy.data.filepath else Path(bpy.app.tempdir)
    return workspaces.first_free(str(beside / scene.name / "photographs"), scene)  # it is called as the scene is


def film_name(scene_name: str) -> str:
    """What the engine and the file system call a scene's film: letters, digits, “-” and “_”, and still no other
    scene's."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", scene_name).strip("_-")[:48] or "film"
    return plain if plain == scene_name else f"{plain}-{zlib.crc32(scene_name.encode('utf-8', 'replace')):08x}"
