# SPDX-License-Identifier: GPL-3.0-or-later
"""How the result of every request is read. Free of bpy.

The thread that reads the engine's lines does it, not Blender's: a thousand cameras take longer than a redraw may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from . import wire


def _mesh(result: object) -> tuple[str, dict[str, str]]:
    return wire.parse_path(result, "mesh"), wire.parse_paths(result, "files")


def _frames(result: object) -> tuple[list[str], ...]:
    return wire.parse_images(result, "before", "after")


def _path(key: str) -> Callable[[object], str]:
    return lambda result: wire.parse_path(result, key)


_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    wire.INITIALIZE: wire.parse_engine,
    wire.DEVICES_READ: wire.parse_devices,
    wire.CAPTURE_REGISTER: _path("source"),
    wire.CAPTURE_OPEN: wire.parse_capture,
    wire.CAPTURE_IMAGES: wire.parse_capture,
    wire.WORKSPACE_READ: wire.parse_project,
    wire.EDIT_TRY: wire.parse_tried,
    wire.EDIT_KEY: _path("view"),
    wire.EDIT_RUN: wire.parse_edit,
    wire.EDIT_RESUME: wire.parse_edit,
    wire.EDIT_LABEL: wire.parse_edit,
    wire.EDIT_DELETE: wire.parse_deleted,
    wire.OUTPUT_MESH: _mesh,
    wire.OUTPUT_SPLATS: _path("splats"),
    wire.OUTPUT_FRAMES: _frames,
    wire.OUTPUT_REPORT: _path("html"),
    wire.JOB_PAUSE: wire.parse_paused,
    wire.JOB_CONTINUE: wire.parse_paused,
    wire.JOB_CHANGE: wire.parse_step,
    wire.JOB_REMAKE: wire.parse_step,
    wire.JOB_RENDER: wire.parse_rendered,
    wire.JOB_SURFELS: _path("surfels"),
    wire.JOB_DETACH: wire.parse_let_go,
}


def read(method: str, result: object, acts_as: str = "") -> Any:
    """What the engine answered to a request of that method, as the objects of :mod:`messages`; as it was sent where
    nobody looks at it. ``acts_as``: the method of the job that ``job/attach`` followed, whose result it passes on.
    Raises ``WireError`` where it is not what the protocol says."""
    if acts_as:
        method, result = acts_as, wire.parse_followed(result)
    reader = _READERS.get(method)
    return result if reader is None else reader(result)
