# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a scene is rendered, and how the engine is asked for it. Reads what Blender has evaluated, on whichever
thread; writes nothing."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bpy
from mathutils import Color

from .. import conversion, lineage, messages, project, wire
from ..conversion import Camera, Intrinsics, Matrix
from ..scene import cameras


@dataclass(frozen=True)
class Source:
    """A scene of a workspace: an ``edit``'s or, for None, the unedited one; while ``live``, what a job of that
    workspace works on instead. ``root``: from the capture frame to Blender's world."""

    workspace: str
    edit: str | None
    live: bool
    root: Matrix
    transparent: bool
    primaries: tuple[float, ...] | None
    device: str

    def params(self, camera: Camera, surfaces: bool) -> Mapping[str, Any]:
        """What the engine is asked, to see it through a camera."""
        asked: dict[str, Any] = {
            "workspace": self.workspace, "camera": wire.camera_object(camera), "live": self.live,
            "transparent": self.transparent, "surfaces": surfaces,
        }  # fmt: skip
        asked |= {"edit": self.edit} if self.edit is not None else {}
        asked |= {"primaries": list(self.primaries)} if self.primaries is not None else {}
        return asked | ({"device": self.device} if self.device else {})


def workspace_of(scene: bpy.types.Scene) -> str:
    """The workspace of what a scene renders. Raises ``ValueError`` where it shows none."""
    workspace = project.workspace_of(scene)
    if not workspace:
        raise ValueError(f"The scene “{scene.name}” shows no capture: open one in the sidebar's tab Instruct NeRF.")
    return workspace


def source_of(graph: bpy.types.Depsgraph, edits: Sequence[messages.Edit]) -> Source:
    """What an evaluated scene renders, of a workspace that has these ``edits``. Raises ``ValueError``."""
    scene = graph.scene
    settings, workspace = scene.instruct_nerf, workspace_of(scene)
    shown = None
    if edits and settings.edit != lineage.ROOT:
        shown = lineage.shown(edits, (lineage.find(edits, settings.edit) or edits[-1]).id)
    root = _root_of(graph, workspace)
    conversion.scale_of_similarity(root)  # says what is wrong with it
    return Source(
        workspace, shown.id if shown is not None else None, settings.render_live, root, scene.render.film_transparent,
        primaries(), project.device_name(scene),
    )  # fmt: skip


def _root_of(graph: bpy.types.Depsgraph, workspace: str) -> Matrix:
    for item in graph.objects:
        said = item.get(cameras.WORKSPACE) if item.type == "EMPTY" else None
        if said is not None and cameras.absolute(str(said)) == workspace:
            return conversion.matrix_from_rows(item.matrix_world)
    hidden = cameras.root_of(graph.scene.original, workspace)  # then it is not evaluated
    if hidden is None:
        raise ValueError(f"The capture is not in the scene “{graph.scene.name}”: press Reconnect, or open it again.")
    return conversion.matrix_from_rows(hidden.matrix_world)


def primaries() -> tuple[float, ...] | None:
    """From linear Rec. 709 to the colors that this file is rendered in, 9 numbers, row by row; None where these are the
    same."""
    columns = [Color(c).from_rec709_linear_to_scene_linear() for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    found = tuple(column[row] for row in range(3) for column in columns)
    same = max(abs(value - (index % 4 == 0)) for index, value in enumerate(found)) < 1e-4
    return None if same else found


def camera_of(graph: bpy.types.Depsgraph, item: bpy.types.Object | None, source: Source) -> Camera:
    """The camera that the scene renders through, at the scene's size. Raises ``ValueError`` with a sentence."""
    if item is None or item.type != "CAMERA":
        raise ValueError(f"The scene “{graph.scene.name}” has no camera.")
    camera = item.evaluated_get(graph)
    pose = conversion.capture_pose_from_world(source.root, conversion.matrix_from_rows(camera.matrix_world))
    scale = conversion.scale_of_similarity(source.root)
    projection, intrinsics = cameras.projection_of(graph.scene, camera.data, scale)
    return Camera(pose, intrinsics, projection, source.root)


def border_of(render: bpy.types.RenderSettings, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, bottom, right and top of what is rendered, in pixels from the lower left, as Blender cuts it."""
    if not render.use_border:
        return 0, 0, width, height
    left, right = _cut(render.border_min_x, width), _cut(render.border_max_x, width)
    bottom, top = _cut(render.border_min_y, height), _cut(render.border_max_y, height)
    return left, bottom, max(right, left + 1), max(top, bottom + 1)


def _cut(share: float, side: int) -> int:
    # In single precision, as Blender reckons: 0.29 of 100 may be 28 or 29.
    return int(struct.unpack("f", struct.pack("f", share * side))[0])


def cropped(camera: Camera, left: float, top: float, width: int, height: int) -> Camera:
    """A camera that sees a part of the picture alone, from its upper left on."""
    i = camera.intrinsics
    return replace(camera, intrinsics=Intrinsics(width, height, i.fx, i.fy, i.cx - left, i.cy - top))


def resized(camera: Camera, width: int, height: int) -> Camera:
    """The same camera with another number of pixels."""
    i = camera.intrinsics
    across, down = width / i.width, height / i.height
    lens = Intrinsics(width, height, i.fx * across, i.fy * down, i.cx * across, i.cy * down)
    return replace(camera, intrinsics=lens)
