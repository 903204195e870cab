# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves the engine: a mesh, and frames along a camera path, before and after. All in the capture frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.errors import BadInput
from engine.jobs.asked import viewpoints
from engine.jobs.capture import load_opened
from engine.jobs.parents import check_parent
from engine.jobs.scene import kept_scene
from engine.output.frame_folder import FrameFolder
from engine.output.mesh import DepthView, bounds_from_depth, checked_resolution, fuse, resolution_for, write_ply
from engine.pictures import save_picture
from engine.presets import SECONDS_A_RENDER
from engine.progress import Job, Stage
from engine.results import Frames, Mesh
from engine.scenes.registry import open_scene
from engine.workspace import Workspace, checked_name, writes

MOST_MESH_VIEWS = 60  # more tell a mesh little that is new
LAST_FRAME = 1_048_574  # Blender's, and its negative


@writes("making a mesh")
def make_mesh(request: protocol.MakeMesh, job: Job) -> Mesh:
    """Fuse depth and colour, rendered from the views that the scene was trained on, into a mesh."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    saved = open_scene(workspace.checkpoint(request.edit))
    views = spread(capture, saved.views)
    resolution = None if request.resolution is None else checked_resolution(request.resolution)
    plan = job.plan(Stage("mesh", "Making the mesh", len(views) + 1, SECONDS_A_RENDER))
    stage = plan.begin("mesh")
    scene = kept_scene(workspace, request.edit, device, job)
    renders = []
    for index, view in enumerate(views):
        render = scene.render(view, job.check)
        renders.append(
            DepthView(
                pose=view.pose,
                intrinsics=view.intrinsics,
                depth=render.depth.cpu().numpy(),
                colour=render.rgb.cpu().numpy(),
                opacity=render.opacity.cpu().numpy(),
            )
        )
        plan.advance(index + 1)
        job.report(plan, stage)
    bounds = bounds_from_depth(renders, capture.centre, capture.radius)
    resolution = resolution or resolution_for(renders, bounds)
    mesh = job.wait_for(lambda: fuse(renders, bounds, resolution))
    path = workspace.output(request.edit) / "mesh.ply"
    write_ply(mesh, path)
    plan.advance(stage.units)
    job.report(plan, stage)
    return Mesh(str(path), len(mesh.vertices), len(mesh.faces))


def spread(capture: Capture, names: Sequence[str]) -> list[View]:
    """The named views, evenly thinned to what a mesh needs."""
    known = {view.name: view for view in capture.views}
    views = [known[name] for name in names if name in known]
    if not views:
        raise BadInput("The views of this scene are no longer in its capture; open the capture again.", field="views")
    picked = np.linspace(0, len(views) - 1, min(len(views), MOST_MESH_VIEWS)).round().astype(int)
    return [views[index] for index in dict.fromkeys(picked.tolist())]


@writes("rendering frames")
def render_frames(request: protocol.RenderFrames, job: Job) -> Frames:
    """Render each camera from what the edit stands on and from the edit, to `frames/<name>/before` and `…/after`. Of
    the unedited scene both are the same pictures, in `…/after`."""
    workspace = Workspace(request.workspace)
    device = choose_device(request.device)
    folder = workspace.output(request.edit) / "frames" / checked_name(request.name, "camera path")
    if not request.cameras:
        raise BadInput("There is no frame to render; give the camera an animation or the scene a frame range.")
    cameras = viewpoints(request.cameras, "cameras")
    if abs(request.first_frame) > LAST_FRAME:
        raise BadInput(f"The first frame is {request.first_frame}; Blender has none there.", field="first_frame")
    scenes = {"after": request.edit}
    if request.edit is not None:
        parent = workspace.edit_record(request.edit).parent
        check_parent(workspace, parent, (), request.edit)
        scenes = {"before": parent, **scenes}
    for edit in scenes.values():
        open_scene(workspace.checkpoint(edit))  # says what is wrong before anything is rendered
    plan = job.plan(Stage("frames", "Rendering frames", len(scenes) * len(cameras), SECONDS_A_RENDER))
    stage = plan.begin("frames")
    frames = FrameFolder(folder, range(request.first_frame, request.first_frame + len(request.cameras)))
    written: dict[str, list[str]] = {}
    for side, edit in scenes.items():
        scene = kept_scene(workspace, edit, device, job)
        written[side] = []
        for index, camera in enumerate(cameras):
            path = frames.path(side, index)
            save_picture(path, scene.render(camera, job.check).rgb)
            written[side].append(str(path))
            job.on_view(f"{request.first_frame + index:04d}", side, str(path))
            plan.advance(stage.done + 1)
            job.report(plan, stage)
    frames.finish()
    return Frames(before=written.get("before", written["after"]), after=written["after"])
