# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames along a camera path, before and after."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from engine import protocol
from engine.devices import choose_device
from engine.errors import BadInput, cannot_read
from engine.files import write_bytes
from engine.geometry import Viewpoint
from engine.jobs.asked import similarity, viewpoints
from engine.jobs.parents import check_parent
from engine.jobs.views import scene_at
from engine.output import frames as exr
from engine.output.frame_folder import FrameFolder
from engine.pictures import encoded, note_of
from engine.pieces import Place
from engine.presets import SECONDS_A_RENDER
from engine.progress import Job, Stage
from engine.results import Frames
from engine.scenes.registry import open_scene
from engine.workspace import Workspace, checked_name, writes

LAST_FRAME = 1_048_574  # Blender's, and its negative
MOST_SAMPLES = 256
MADE_BY = 1  # of frames: to be raised where the same request makes another picture


@writes("rendering frames")
def render_frames(request: protocol.RenderFrames, job: Job) -> Frames:
    """Render each camera from what the edit stands on and from the edit, to `frames/<name>/before` and `…/after`. Of
    the unedited scene both are the same pictures, in `…/after`. What is there already, of the same scene and camera, is
    not rendered again."""
    workspace = Workspace(request.workspace)
    device = choose_device(request.device)
    folder = workspace.output(request.edit) / "frames" / checked_name(request.name, "camera path")
    moments = _moments(request)
    numbers = range(request.first_frame, request.first_frame + len(moments) * request.step, request.step)
    if max(abs(numbers[0]), abs(numbers[-1])) > LAST_FRAME:
        raise BadInput(f"The frames are {numbers[0]} to {numbers[-1]}; Blender has none there.", field="first_frame")
    scenes = {"after": request.edit}
    if request.edit is not None:
        parent = workspace.edit_record(request.edit).parent
        check_parent(workspace, parent, (), request.edit)
        scenes = {"before": parent, **scenes}
    for edit in scenes.values():
        open_scene(workspace.checkpoint(edit))  # says what is wrong before anything is rendered
    plan = job.plan(Stage("frames", "Rendering frames", len(scenes) * len(moments), SECONDS_A_RENDER * request.samples))
    stage = plan.begin("frames")
    frames = FrameFolder(folder, numbers, request.format)
    read_note = exr.note_of if request.format == "exr" else note_of
    written: dict[str, list[str]] = {}
    for side, edit in scenes.items():
        checkpoint = workspace.checkpoint(edit)
        notes = [_note(_identity(checkpoint), request, index) for index in range(len(moments))]
        wanted = [
            index for index, note in enumerate(notes)
            if request.overwrite or read_note(frames.path(side, index)) != note
        ]  # fmt: skip
        rendered = job.pieces.map(
            rendered_frame,
            (request.format, edit is not None),
            [(notes[index], moments[index]) for index in wanted],
            job.place(device, checkpoint),
        )
        written[side] = []
        for index in range(len(moments)):
            job.check()
            path = frames.path(side, index)
            if index in wanted:
                write_bytes(path, next(rendered))
            written[side].append(str(path))
            job.on_view(f"{numbers[index]:04d}", side, str(path))
            plan.advance(stage.done + 1)
            job.report(plan, stage)
    frames.finish()
    return Frames(before=written.get("before", written["after"]), after=written["after"])


@dataclass(frozen=True, eq=False)
class _Moment:
    camera: Viewpoint
    world: np.ndarray  # (4, 4), from the capture frame to Blender's world


def _moments(request: protocol.RenderFrames) -> list[list[_Moment]]:
    """The cameras of each frame. Raises BadInput."""
    if not request.cameras:
        raise BadInput("There is no frame to render; give the camera an animation or the scene a frame range.")
    if not 1 <= request.samples <= MOST_SAMPLES or len(request.cameras) % request.samples:
        raise BadInput(
            f"{len(request.cameras)} cameras are not whole frames of {request.samples} moments; choose 1 to "
            f"{MOST_SAMPLES}.",
            field="samples",
        )
    if not 1 <= request.step <= LAST_FRAME:
        raise BadInput(f"The frame step is {request.step}; choose 1 or more.", field="step")
    every = [
        _Moment(camera, similarity(said.world, f"Camera {number}: its world", "cameras"))
        for number, (camera, said) in enumerate(
            zip(viewpoints(request.cameras, "cameras"), request.cameras, strict=True)
        )
    ]
    frames = [every[start : start + request.samples] for start in range(0, len(every), request.samples)]
    for frame in frames:
        if len({(moment.camera.intrinsics.width, moment.camera.intrinsics.height) for moment in frame}) > 1:
            raise BadInput("The moments of one frame differ in size; render them without motion blur.", field="cameras")
    return frames


def _identity(checkpoint: Path) -> list[int]:
    """What changes with every save of a scene."""
    try:
        status = checkpoint.stat()
    except OSError as error:
        raise cannot_read(checkpoint, error) from error
    return [status.st_size, status.st_mtime_ns]


def _note(made_from: list[int], request: protocol.RenderFrames, index: int) -> str:
    """What a frame is made from, in a few letters."""
    cameras = request.cameras[index * request.samples : (index + 1) * request.samples]
    return hashlib.sha256(msgspec.json.encode([MADE_BY, request.format, made_from, cameras])).hexdigest()


def rendered_frame(shared: tuple[str, bool], frame: tuple[str, list[_Moment]], place: Place) -> bytes:
    """A piece: the file of a frame, of the scene of the place's one checkpoint. ``shared``: its format, and whether the
    scene is an edited one."""
    (kind, edited), (note, moments) = shared, frame
    scene = scene_at(place.files[0], edited, place.device, place.keep)
    if kind == "exr":
        parts = [exr.frame_from(scene.render(m.camera, place.check), m.camera, m.world) for m in moments]
        return exr.encoded(exr.blurred(parts), note)
    colors = [scene.render(moment.camera, place.check).rgb.cpu().numpy() for moment in moments]
    if len(colors) > 1:
        return encoded(exr.display(np.mean([exr.linear(color) for color in colors], axis=0)), note)
    return encoded(colors[0], note)
