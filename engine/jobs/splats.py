# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene as 3D Gaussian splats, in the capture frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import protocol
from engine.devices import choose_device
from engine.errors import BadInput
from engine.geometry import Camera
from engine.jobs.capture import load_opened
from engine.jobs.output import spread
from engine.jobs.scene import shown_scene
from engine.jobs.views import render_views
from engine.output.splat_cloud import gather
from engine.output.splat_fit import Fit, compile_kernels
from engine.output.splats import write_splats
from engine.output.standpoints import between
from engine.output.surfels import write_surfels
from engine.output.volume import DepthView
from engine.presets import SECONDS_A_RENDER
from engine.progress import Job, Stage
from engine.results import Splats
from engine.scenes.base import RenderedView
from engine.scenes.registry import open_scene
from engine.workspace import Workspace, writes

COUNT, FEWEST, MOST = 500_000, 1_000, 5_000_000
MOST_BETWEEN = 60  # views between the training views
PASSES = 4  # over all views, to fit them
LEAST_STEPS = 100
SECONDS_A_STEP = 0.5  # on two CPU cores, a first guess


@writes("making splats")
def make_splats(request: protocol.MakeSplats, job: Job) -> Splats:
    """Put splats on the surfaces that the scene shows from its training views and between them, fit their colors,
    opacities and sizes to what it shows, and write `splats.ply` and, for Blender's viewport, `surfels.bin`."""
    workspace = Workspace(request.workspace)
    count = COUNT if request.count is None else request.count
    if not FEWEST <= count <= MOST:
        raise BadInput(f"{count:,} splats cannot be made; choose {FEWEST:,} to {MOST:,}.", field="count")
    capture = load_opened(workspace)
    device = choose_device(request.device)
    if request.edit is not None:
        workspace.edit_record(request.edit)
    trained_on = spread(capture, open_scene(workspace.checkpoint(request.edit)).views)
    inserted = between(trained_on)
    cameras: list[Camera] = [*trained_on, *inserted[:: -(-len(inserted) // MOST_BETWEEN) or 1]]
    steps = max(PASSES * len(cameras), LEAST_STEPS)
    plan = job.plan(
        Stage("splats", "Looking at the surfaces", len(cameras), SECONDS_A_RENDER),
        Stage("fit", "Fitting splats", steps, SECONDS_A_STEP),
    )
    job.wait_for(compile_kernels)
    scene = shown_scene(workspace, request.edit, device)
    seen = render_views(scene, cameras, plan, job, "splats", "depth", "opacity", "background")
    looks = [_Look.of(camera, what.rendered()) for camera, what in seen]
    cloud = gather([look.surface for look in looks], count, job.check)
    if not len(cloud):
        raise BadInput("The renders show no surface, so there is nothing to make splats of; train for longer.")
    stage, fit, order = plan.begin("fit"), Fit(cloud, steps), np.random.default_rng(0)
    while fit.step_index < steps:
        for index in order.permutation(len(looks))[: steps - fit.step_index]:
            job.check()
            look = looks[index]
            error = fit.step(cameras[index], look.picture, look.opacity)
            plan.advance(fit.step_index)
            job.report(plan, stage, {"rgb": error})
    path = workspace.output(request.edit) / "splats.ply"
    job.check()
    write_splats(fit.splats, path)
    surfels = path.with_name("surfels.bin")
    write_surfels(fit.splats, surfels)
    return Splats(str(path), len(cloud), str(surfels))


@dataclass(frozen=True)
class _Look:
    """What a camera sees: the surface, with its own color, and what splats are to show, before black."""

    surface: DepthView
    picture: np.ndarray  # (H, W, 3)
    opacity: np.ndarray  # (H, W)

    @classmethod
    def of(cls, camera: Camera, render: RenderedView) -> _Look:
        opacity = render.opacity.cpu().numpy()
        if render.background is None:  # a place without empty space: what little comes through is drawn on
            picture, own = render.rgb.cpu().numpy(), render.rgb.cpu().numpy()
            shown = (opacity >= 0.5).astype(np.float32)
            picture = picture * shown[..., None]
        else:
            picture, shown = render.before_black.cpu().numpy(), opacity
            own = picture / np.maximum(opacity, 0.5)[..., None]
        surface = DepthView(camera.pose, camera.intrinsics, render.depth.cpu().numpy(), own, opacity)
        return cls(surface, picture, shown)
