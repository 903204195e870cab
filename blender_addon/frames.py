# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames for a compositor: what the scene's camera sees, with alpha, depth and normals, as files in the project."""

from __future__ import annotations

from pathlib import Path

import bpy

from . import asking, session, wire
from .conversion import Camera
from .jobs import ready
from .project import device_name, edit_of, is_trained
from .results import film_name
from .scene import flight
from .words import t


def render_frames(scene: bpy.types.Scene, kind: str, overwrite: bool, moments: int) -> None:
    """Have the scene's frame range rendered through its camera, of the edit and of what it stands on, as ``exr`` or
    ``png`` files; ``moments`` more than one blur what moves. What is there already is kept, unless ``overwrite``."""
    workspace, edit, uid = ready(scene), edit_of(scene), scene.session_uid
    if edit is None and not is_trained(scene):
        raise ValueError("There is no edit to render yet.")
    if scene.frame_end < scene.frame_start:
        raise ValueError("The scene's frame range is empty.")
    numbers = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
    sampled: list[Camera] = []
    params: dict[str, object] = {
        "workspace": workspace, "edit": edit.id if edit else None, "name": f"{film_name(scene.name)}-frames",
        "first_frame": numbers[0], "step": numbers.step, "format": kind, "overwrite": overwrite, "samples": moments,
    }  # fmt: skip
    if device_name(scene):
        params["device"] = device_name(scene)

    def ask() -> None:
        params["cameras"] = [wire.camera_object(camera) for camera in sampled]
        asking.run_job(
            wire.OUTPUT_FRAMES, params, rendered, panel="results", title="Rendering frames", workspace=workspace,
            scene=uid,
        )  # fmt: skip

    def rendered(frames: tuple[list[str], ...]) -> None:
        _before, after = frames
        session.say(
            "results", t("{count} frames lie in {folder}.").format(count=len(after), folder=Path(after[0]).parent)
        )

    when = flight.moments_of(scene, moments) if moments > 1 else [0.0]
    steps = flight.sample(scene.name, workspace, numbers, sampled, when)
    session.run_task("Reading the camera's animation", "results", steps, ask)
