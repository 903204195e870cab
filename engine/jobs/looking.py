# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene seen through a camera, for a render engine: at any time, whether or not a job runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine import protocol
from engine.devices import choose_device
from engine.errors import BadInput
from engine.jobs.asked import new_picture, similarity, viewpoints
from engine.jobs.scene import kept_scene
from engine.output.frames import color_of, surfaces_of
from engine.output.view_file import write_view
from engine.progress import Job
from engine.results import Viewed
from engine.scenes.base import Scene
from engine.workspace import Workspace


def render_view(request: protocol.RenderView, job: Job, check: Callable[[], None]) -> Viewed:
    """Render the camera and write the pixels. ``job`` is the one between whose steps this happens, or one of its own;
    ``check`` may raise Cancelled. Raises BadInput."""
    workspace = Workspace(request.workspace)
    [camera] = viewpoints([request.camera], "camera")
    world = similarity(request.camera.world, "Camera 0: its world", "camera")
    primaries = None if request.primaries is None else np.array(request.primaries, np.float32).reshape(3, 3)
    if primaries is not None and not (np.isfinite(primaries).all() and np.abs(primaries).max() < 1e3):
        raise BadInput("The primaries are not 9 usable numbers.", field="primaries")
    scene, step = _scene(workspace, request, job)
    render = scene.render(camera, check)
    check()
    color = color_of(render, request.transparent)
    if primaries is not None:
        color[..., :3] = color[..., :3] @ primaries.T
    path = new_picture(workspace, ".view")
    write_view(path, color, surfaces_of(render, camera, world) if request.surfaces else None)
    return Viewed(str(path), step)


def _scene(workspace: Workspace, request: protocol.RenderView, job: Job) -> tuple[Scene, int | None]:
    live = job.live
    if request.live and live is not None and live.folder == workspace.folder:
        return live.scene(), live.step()
    if request.edit is not None:
        workspace.edit_record(request.edit)
    return kept_scene(workspace, request.edit, choose_device(request.device), job), None
