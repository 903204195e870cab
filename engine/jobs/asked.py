# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job is asked while it runs and has a scene at hand: a camera's view of it, or its surfels, as it is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine import protocol
from engine.capture import Intrinsics
from engine.capture.fields import BadField, checked_lens
from engine.capture.lens import Lens
from engine.errors import BadInput
from engine.files import make_folder, remove_file
from engine.geometry import Viewpoint
from engine.jobs.live_surfels import LiveSurfels
from engine.pictures import save_picture
from engine.progress import Job, Live
from engine.results import Rendered, Surfels
from engine.scenes.base import SceneTrainer
from engine.workspace import Workspace

LARGEST_FRAME = 8192  # pixels, either side
KEPT = 8  # pictures that were asked for; older ones go
_ALL_AROUND = 2.001 * np.pi  # radians
_NAME = re.compile(r"asked-[0-9]{20}\.(png|view)")


@contextmanager
def seen_meanwhile(
    workspace: Workspace, edit: str | None, trainer: Callable[[], SceneTrainer], job: Job
) -> Iterator[None]:
    """While the block runs, `job/render`, `job/surfels` and views of what is live are answered with what the ``edit``
    (None: the unedited scene) then is, as the ``trainer`` has it."""
    surfels: list[LiveSurfels] = []

    def render(wish: protocol.RenderNow) -> Rendered:
        [camera] = viewpoints([wish.camera], "camera")
        picture = trainer().scene.render(camera, job.check)
        path = new_picture(workspace, ".png")
        save_picture(path, picture.rgb)
        return Rendered(str(path), trainer().step_index)

    def show_surfels(_wish: protocol.ShowSurfels) -> Surfels:
        if not surfels:
            surfels.append(LiveSurfels(trainer().views, workspace.output(edit) / "surfels.bin"))
        return Surfels(str(surfels[0].renew(trainer().scene, job.check)), trainer().step_index)

    before = job.live
    job.live = Live(workspace.folder, edit, lambda: trainer().scene, lambda: trainer().step_index)
    try:
        with job.wishes.granting({protocol.RENDER: render, protocol.SURFELS: show_surfels}):
            yield
    finally:
        job.live = before


def new_picture(workspace: Workspace, ending: str) -> Path:
    """Where a picture that was asked for goes; only the latest few are kept. Raises BadInput."""
    folder = workspace.below("tries")
    make_folder(folder)
    for old in sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name))[: 1 - KEPT]:
        remove_file(old)
    return folder / f"asked-{time.time_ns():020d}{ending}"


def viewpoints(cameras: Sequence[protocol.Camera], field: str) -> list[Viewpoint]:
    """The cameras. Raises BadInput, naming the camera, where they make no picture."""
    checked = []
    for number, camera in enumerate(cameras):
        values = np.array([*camera.pose, camera.fx, camera.fy, camera.cx, camera.cy])
        if len(camera.pose) != 16 or not np.isfinite(values).all():
            raise BadInput(f"Camera {number}: its pose is not 16 finite numbers.", field=field)
        pose = np.array(camera.pose).reshape(4, 4)
        if not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-3) or np.linalg.det(pose[:3, :3]) < 0:
            raise BadInput(f"Camera {number}: its pose is scaled or mirrored; apply its scale in Blender.", field=field)
        sides = (camera.width, camera.height)
        if np.abs(pose).max() > 1e9:
            raise BadInput(f"Camera {number}: it is absurdly far away; move it to the scene.", field=field)
        if not all(1 <= side <= LARGEST_FRAME for side in sides):
            raise BadInput(
                f"Camera {number}: {sides[0]}×{sides[1]} pixels cannot be rendered; choose 1 to {LARGEST_FRAME}.",
                field=field,
            )
        projection = getattr(camera, "projection", "perspective")
        try:
            if projection == "perspective":
                checked_lens(Lens("PINHOLE", camera.fx, camera.fy, camera.cx, camera.cy), sides)
        except BadField as problem:
            raise BadInput(f"Camera {number}: {problem}.", field=field) from None
        if not (camera.fx > 0 and camera.fy > 0):
            raise BadInput(f"Camera {number}: its pixels a unit or a radian must be more than zero.", field=field)
        if projection == "equirectangular" and max(sides[0] / camera.fx, 2 * sides[1] / camera.fy) > _ALL_AROUND:
            raise BadInput(f"Camera {number}: it looks around more than once; limit its angles.", field=field)
        intrinsics = Intrinsics(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
        checked.append(Viewpoint(pose, intrinsics, projection=projection))
    return checked


def similarity(values: Sequence[float] | None, what: str, field: str) -> np.ndarray:
    """(4, 4) a rotation with uniform scale and a move, of 16 numbers row by row; the identity of None. Raises BadInput,
    in which ``what`` names it."""
    if values is None:
        return np.eye(4)
    matrix = np.array(values, np.float64)
    if matrix.shape != (16,) or not np.isfinite(matrix).all():
        raise BadInput(f"{what} is not 16 finite numbers.", field=field)
    matrix = matrix.reshape(4, 4)
    volume = np.linalg.det(matrix[:3, :3])
    square = matrix[:3, :3] @ matrix[:3, :3].T
    if not volume > 0 or not np.allclose(square / np.cbrt(volume) ** 2, np.eye(3), atol=1e-2):
        raise BadInput(
            f"{what} is stretched or mirrored; give the capture's root the same scale along X, Y and Z.", field=field
        )
    return matrix
