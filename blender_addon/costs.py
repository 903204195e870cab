# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job takes, said before it is asked for: seconds and bytes. Free of bpy.

Guesses of seconds are the engine's, for a CPU; once a job of a kind has ended here, its guesses are scaled by what it
took, so that they also say something of graphics cards and of editors that nobody has measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import choices, wire
from .messages import EngineInfo, Project
from .words import about, size, t

MOST_VIEWS = 60  # that meshes and splats are made from
FUSING = 1.3  # of a mesh, over the renders that it is made from
FIT = 0.5  # seconds of a step in which splats are fitted
PASSES, LEAST_STEPS = 4, 100  # of those steps, over all that is looked at
FINER = 8.0  # pixels of a frame, beyond those that the scene was learned at, cost so much less
MESH_BYTES, FACE_BYTES = 12, 22  # a pixel that a mesh is made from, and a face; as measured
TEXTURE_PIXELS = 4  # of a view for a texture, over those of one for a mesh
FLAT_BYTES, TEXEL_BYTES = 25, 1  # a face's place in a texture, and a texel of it; as measured
PNG_BYTES, EXR_BYTES = 1.2, 24  # a pixel of a frame
SPLAT_BYTES = 248 + 20  # a splat, in its file and in the viewport's
UNKNOWN = 1.0  # seconds of a unit whose time nobody has measured: good for comparing two jobs alone


@dataclass(frozen=True)
class Work:
    """What a job does: ``key`` names what is alike, ``units`` are its seconds on a CPU (or in proportion to them, where
    those are not ``known``), ``room`` its bytes on the disk."""

    key: tuple[str, ...]
    units: float
    known: bool
    room: float = 0.0


def seconds(work: Work, took: Mapping[tuple[str, ...], float]) -> float | None:
    """How long a job takes; None where nobody can tell. ``took``: of what was done here, seconds a unit."""
    rate = took.get(work.key, 1.0 if work.known else None)
    return None if rate is None else rate * work.units


def sentence(work: Work | None, took: Mapping[tuple[str, ...], float]) -> str:
    """What a job takes, as a sentence; empty where nothing can be said."""
    if work is None:
        return ""
    time = seconds(work, took)
    if time is None:
        return t("Up to {size} on the disk.").format(size=size(work.room)) if work.room else ""
    if not work.room:
        return t("About {time}.").format(time=about(time))
    return t("About {time}, up to {size} on the disk.").format(time=about(time), size=size(work.room))


def work_of(method: str, params: Mapping[str, Any], info: EngineInfo | None, project: Project | None) -> Work | None:
    """The work of a job that is, or was, asked for; None where it is of no kind that can be told, or too little is
    known. ``params`` as they go to the engine; frames may be said by ``count``, ``width`` and ``height``."""
    if info is None or project is None or project.capture is None:
        return None
    device = choices.device_of(info, str(params.get("device", "")))
    if device is None:
        return None
    on_cpu = device.name == "cpu"
    if method == wire.EDIT_TRY:
        return _tries(params, info, on_cpu, device.name, device.editor)
    if method not in (wire.OUTPUT_MESH, wire.OUTPUT_SPLATS, wire.OUTPUT_FRAMES):
        return None
    edit = next((e for e in project.edits if e.id == params.get("edit")), None)
    made_with = edit.preset if edit is not None else project.scene.preset if project.scene is not None else ""
    render = next((p.render_seconds for p in info.presets if p.name == made_with), 0.0)
    known = on_cpu and render > 0
    render = render or UNKNOWN
    key = (method, device.name, made_with)
    views = [view for view in project.capture.views if not view.held_out]
    seen = min(MOST_VIEWS, len(views))
    pixels = views[0].camera.intrinsics.width * views[0].camera.intrinsics.height if views else 0
    if not pixels:
        return None
    if method == wire.OUTPUT_MESH:
        room, side = MESH_BYTES * seen * pixels, int(params.get("texture") or 0)
        if params.get("faces"):
            room = (FACE_BYTES + (FLAT_BYTES if side else 0)) * params["faces"]
        texture = 1 + (TEXTURE_PIXELS - 1) / FINER if side else 0.0  # renders of the views, over those of a mesh
        return Work(key, (FUSING + texture) * seen * render, known, room + TEXEL_BYTES * side**2)
    if method == wire.OUTPUT_SPLATS:
        seen += min(MOST_VIEWS, seen)  # as many again between them
        fit = FIT * max(PASSES * seen, LEAST_STEPS) * (render if not known else 1.0)
        return Work(key, seen * render + fit, known, SPLAT_BYTES * int(params.get("count") or 0))
    count, area = _frames(params)
    sides = 2 if edit is not None else 1
    finer = area / pixels
    each = render * (finer if finer < 1 else 1 + (finer - 1) / FINER)
    a_pixel = EXR_BYTES if params.get("format") == "exr" else PNG_BYTES
    moments = int(params.get("samples") or 1)
    return Work(key, sides * count * each, known, sides * count / moments * area * a_pixel)


def _tries(params: Mapping[str, Any], info: EngineInfo, on_cpu: bool, device: str, suited: str) -> Work:
    editor = str(params.get("editor") or suited)
    each = next((p.try_seconds for p in info.presets if p.try_seconds), 0.0)
    small = on_cpu and each > 0 and bool(suited) and choices.editor_id(editor) == choices.editor_id(suited)
    cells = math.prod(len(params[axis]["values"]) for axis in ("across", "down") if params.get(axis))
    return Work((wire.EDIT_TRY, device, editor), cells * (each or UNKNOWN), small)


def _frames(params: Mapping[str, Any]) -> tuple[int, float]:
    """How many pictures are rendered of each side, and how many pixels one has."""
    cameras = params.get("cameras")
    if cameras:
        return len(cameras), float(cameras[0]["width"] * cameras[0]["height"])
    return int(params.get("count") or 0), float(params.get("width", 0) * params.get("height", 0))


def learn(
    method: str,
    sent: Mapping[str, Any],
    took: float,
    info: EngineInfo | None,
    project: Project | None,
    into: dict[tuple[str, ...], float],
) -> None:
    """Remember how long a job took that has ended well."""
    work = work_of(method, sent, info, project)
    if work is not None and work.units > 0 and took > 0:
        into[work.key] = took / work.units
