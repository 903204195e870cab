# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves the engine as a mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.errors import BadInput
from engine.geometry import Camera, Viewpoint
from engine.jobs.asked import similarity
from engine.jobs.capture import load_opened
from engine.jobs.scene import shown_scene
from engine.jobs.subject import Subject
from engine.jobs.views import Seen, render_views
from engine.output.floor import flattened
from engine.output.mesh import DepthView, bounds_from_depth, checked_resolution, fuse, resolution_for
from engine.output.mesh_files import Painted, upright, write_mesh
from engine.output.texture import Texture, checked_size, textured
from engine.output.tidying import checked_faces, decimated, filled
from engine.presets import SECONDS_A_RENDER
from engine.progress import Job, Stage
from engine.results import Mesh
from engine.scenes.registry import open_scene
from engine.workspace import Workspace, writes

FACES, TEXTURED_FACES = 200_000, 50_000  # more are too heavy for Blender, or show no more (docs/geometry.md)
MOST_MESH_VIEWS = 60  # more tell a mesh little that is new
FINER = 2.0  # times the views' size, at which a texture's colors are rendered
LONGEST = 1024  # pixels, the longer side of such a view
SECONDS_A_TEXTURE = 60.0  # but for its renders; on two CPU cores, a first guess


@writes("making a mesh")
def make_mesh(request: protocol.MakeMesh, job: Job) -> Mesh:
    """Fuse depth and color, rendered from the views that the scene was trained on, into a mesh, with a texture where
    one is asked for, and write it. Raises BadInput before anything is rendered where what is asked cannot be."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    if request.edit is not None:
        workspace.edit_record(request.edit)
    saved = open_scene(workspace.checkpoint(request.edit))
    views = spread(capture, saved.views)
    resolution = None if request.resolution is None else checked_resolution(request.resolution)
    size = checked_size(request.texture)
    faces = (TEXTURED_FACES if size else FACES) if request.faces is None else checked_faces(request.faces)
    world = similarity(request.world, "The mesh's world", "world")
    if request.world is None:
        world = upright(capture.up, capture.centre)
    subject = Subject.of(workspace, capture, request.edit) if request.part == "subject" else None
    finer = [larger(view) for view in views] if size else []
    plan = job.plan(
        Stage("mesh", "Making the mesh", len(views) + 1, SECONDS_A_RENDER),
        *(subject.stages if subject else []),
        *([Stage("texture", "Baking the texture", len(finer) + 1, FINER**2 * SECONDS_A_RENDER)] if size else []),
    )
    stage = plan.stage("mesh")
    scene = shown_scene(workspace, request.edit, device)
    renders = [depth_view(*seen) for seen in render_views(scene, views, plan, job, "mesh", "depth", "opacity")]

    def fused() -> trimesh.Trimesh:
        bounds = bounds_from_depth(renders, capture.centre, capture.radius)
        whole = fuse(renders, bounds, resolution or resolution_for(renders, bounds), up=capture.up)
        # Before a subject is cut out, which may stand on it, and before it is decimated, which leaves little of it.
        return flattened(whole, capture.up, capture.radius) if request.flat_floor else whole

    mesh = job.wait_for(fused)
    plan.advance(stage.units)
    job.report(plan, stage)
    if subject:
        mesh = subject.cut_out(mesh, device, plan, job)

    def tidied() -> trimesh.Trimesh:
        whole = filled(mesh) if request.fill_holes else mesh
        return decimated(whole, faces) if faces else whole

    light = job.wait_for(tidied)
    texture: Texture | None = None
    if size:
        stage = plan.stage("texture")
        looks = [depth_view(*seen) for seen in render_views(scene, finer, plan, job, "texture", "depth", "opacity")]
        ratio = looks[0].intrinsics.width / views[0].intrinsics.width
        texture = job.wait_for(lambda: textured(light, looks, size, ratio))
        plan.advance(stage.units)
        job.report(plan, stage)
    job.check()
    written = write_mesh(
        Painted(light, texture), workspace.output(request.edit), request.formats, world, request.material == "lit"
    )
    return Mesh(
        str(written["ply"]),
        len(light.vertices),
        len(light.faces),
        str(written["png"]) if "png" in written else None,
        {kind: str(path) for kind, path in written.items() if kind in request.formats},
    )


def depth_view(camera: Camera, seen: Seen) -> DepthView:
    """What a camera sees of a scene, for a mesh."""
    assert seen.depth is not None and seen.opacity is not None
    return DepthView(camera.pose, camera.intrinsics, seen.depth, seen.rgb, seen.opacity)


def larger(view: View) -> Viewpoint:
    """The view's camera with smaller pixels, for a texture."""
    i = view.intrinsics
    share = max(1.0, min(FINER, LONGEST / max(i.width, i.height)))
    return Viewpoint(view.pose, i.scaled_to(round(share * i.width), round(share * i.height)), view.name)


def spread(capture: Capture, names: Sequence[str]) -> list[View]:
    """The named views, evenly thinned to what a mesh needs."""
    known = {view.name: view for view in capture.views}
    views = [known[name] for name in names if name in known]
    if not views:
        raise BadInput("The views of this scene are no longer in its capture; open the capture again.", field="views")
    picked = np.linspace(0, len(views) - 1, min(len(views), MOST_MESH_VIEWS)).round().astype(int)
    return [views[index] for index in dict.fromkeys(picked.tolist())]
