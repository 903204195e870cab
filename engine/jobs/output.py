# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves the engine as a mesh, in the capture frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.errors import BadInput
from engine.jobs.capture import load_opened
from engine.jobs.scene import kept_scene
from engine.output.mesh import DepthView, bounds_from_depth, checked_resolution, fuse, resolution_for, write_ply
from engine.output.tidying import checked_faces, decimated, filled
from engine.presets import SECONDS_A_RENDER
from engine.progress import Job, Stage
from engine.results import Mesh
from engine.scenes.registry import open_scene
from engine.workspace import Workspace, writes

MOST_MESH_VIEWS = 60  # more tell a mesh little that is new


@writes("making a mesh")
def make_mesh(request: protocol.MakeMesh, job: Job) -> Mesh:
    """Fuse depth and colour, rendered from the views that the scene was trained on, into a mesh."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    saved = open_scene(workspace.checkpoint(request.edit))
    views = spread(capture, saved.views)
    resolution = None if request.resolution is None else checked_resolution(request.resolution)
    faces = None if request.faces is None else checked_faces(request.faces)
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

    def made() -> trimesh.Trimesh:
        mesh = fuse(renders, bounds, resolution)
        mesh = filled(mesh) if request.fill_holes else mesh
        return mesh if faces is None else decimated(mesh, faces)

    mesh = job.wait_for(made)
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
