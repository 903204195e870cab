# SPDX-License-Identifier: GPL-3.0-or-later
"""What the buttons of a scene take, as sentences for its panels and dialogs."""

from __future__ import annotations

from typing import Any

import bpy

from . import costs, project, session, wire

SPLATS = 500_000  # at most, as the operator has them where nobody says otherwise


def _said(scene: bpy.types.Scene, method: str, params: dict[str, Any]) -> str:
    state = session.get()
    if state.info is None or not state.info.settled:
        return ""
    asked = {"device": project.device_name(scene), **params}
    return costs.sentence(costs.work_of(method, asked, state.info, project.project_of(scene)), state.took)


def _edit(scene: bpy.types.Scene) -> str:
    edit = project.edit_of(scene)
    return edit.id if edit is not None else ""


def mesh(scene: bpy.types.Scene, faces: int = 0, texture: int = 0) -> str:
    """What a mesh takes; empty where nothing can be said."""
    return _said(scene, wire.OUTPUT_MESH, {"edit": _edit(scene), "faces": faces, "texture": texture})


def splats(scene: bpy.types.Scene, count: int = SPLATS) -> str:
    """What splats take; empty where nothing can be said."""
    return _said(scene, wire.OUTPUT_SPLATS, {"edit": _edit(scene), "count": count})


def frames(scene: bpy.types.Scene, kind: str = "png", moments: int = 1, step: int = 1) -> str:
    """What the frames of the scene's range take; empty where nothing can be said."""
    render = scene.render
    count = max(0, (scene.frame_end - scene.frame_start) // max(1, step) + 1)
    share = render.resolution_percentage / 100
    return _said(
        scene,
        wire.OUTPUT_FRAMES,
        {
            "edit": _edit(scene), "count": count * moments, "samples": moments, "format": kind,
            "width": render.resolution_x * share, "height": render.resolution_y * share,
        },
    )  # fmt: skip
