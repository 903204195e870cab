# SPDX-License-Identifier: GPL-3.0-or-later
"""The captured or edited scene in the viewport, in 3D: the surfels of the chosen edit, under the capture root; while an
edit runs, of what it has made so far."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from . import asking, chores, project, session, talking, wire
from .files import regular
from .scene.surfels import Surfels, reading

FILE = "surfels.bin"
LOOK_REST = 1.0  # seconds between two looks whether the file is another one
SMALLEST, LARGEST = 1.5, 64.0  # pixels, of a disc
COARSE = 2  # parts that are drawn, with larger discs, while a view moves and no graphics card helps
REST = 0.3  # seconds after which a view counts as still
RENEWED, RESTS = 2.0, 6.0  # seconds between two looks at what runs, at least, and how many times as long as one took
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "software", "basic render")

VERTEX = """
void main() {
  gl_Position = matrix * vec4(place.xyz, 1.0);
  gl_PointSize = clamp(size * place.w / max(gl_Position.w, 1e-6), smallest, largest);
  shade = color;
}
"""
FRAGMENT = """
void main() {
  vec2 off = gl_PointCoord * 2.0 - 1.0;
  if (dot(off, off) > 1.0) {
    discard;
  }
  vec3 linear = mix(shade.rgb / 12.92, pow((shade.rgb + 0.055) / 1.055, vec3(2.4)), step(vec3(0.04045), shade.rgb));
  drawn = vec4(linear, 1.0);
}
"""

Key = tuple[str, int, int]  # a file's path, bytes, and when it was written

_handle: Any = None
_shader: Any = None


@dataclass
class _Shown:
    """What is shown in a scene."""

    key: Key
    surfels: Surfels | None = None  # None: being read, or not to be read
    batches: list[Any] = field(default_factory=list)


_shown: dict[int, _Shown] = {}  # by scene
_sides: dict[int, str] = {}  # by viewport: how it was drawn last
_looked: dict[int, tuple[float, str, Key | None]] = {}  # by scene: when, for which path, and what was found


@dataclass
class _Live:
    """What a job that runs has made so far."""

    job: int
    path: str = ""  # empty: nothing yet
    asked: bool = False
    due: float = 0.0  # seconds, monotonic: when to ask again


_live: dict[str, _Live] = {}  # by workspace


def renew(scene: bpy.types.Scene) -> None:
    """Have the surfels of what runs of the scene's capture made anew, where it is time to. Returns at once."""
    workspace, job, now = project.workspace_of(scene), talking.heard(*wire.LOOKED_AT), time.monotonic()
    if job is None or job.workspace != workspace:
        _live.pop(workspace, None)
        return
    live = _live.get(workspace)
    if live is None or live.job != job.id:
        live = _live[workspace] = _Live(job.id)
    if live.asked or now < live.due:
        return

    def ended() -> None:
        live.asked, live.due = False, time.monotonic() + max(RENEWED, RESTS * (time.monotonic() - now))

    def made(path: str) -> None:
        ended()
        live.path = path
        chores.redraw("WINDOW")

    live.asked = True
    try:
        asking.request(wire.JOB_SURFELS, {"job": job.id}, made, panel=job.panel, failed=lambda _: ended(), quiet=True)
    except (ValueError, RuntimeError):  # it ends just now
        ended()


def _renewing() -> float | None:
    scenes = {window.scene for window in bpy.context.window_manager.windows}
    shown = [scene for scene in scenes if scene.instruct_nerf.show_surfels and project.root_of(scene) is not None]
    for scene in shown:
        renew(scene)
    busy = session.get().job is not None and session.get().job.active
    return RENEWED / 4 if shown and busy else None


def file_of(scene: bpy.types.Scene) -> str:
    """Where the surfels of what a scene shows lie, if there are any: of what runs, of its edit, or of the unedited
    scene."""
    live = _live.get(project.workspace_of(scene))
    if live is not None and live.path:
        return live.path
    edit = project.edit_of(scene)
    folder = Path(project.workspace_of(scene))
    return str((folder / "edits" / edit.id if edit is not None else folder / "scene") / FILE)


def _key_of(scene: bpy.types.Scene) -> Key | None:
    """What there is to show; the disk is asked once in a while."""
    path, now = file_of(scene), time.monotonic()
    when, known, key = _looked.get(scene.session_uid, (0.0, "", None))
    if known != path or now - when > LOOK_REST:
        found = regular(path)
        key = (path, found.st_size, found.st_mtime_ns) if found is not None else None
        _looked[scene.session_uid] = now, path, key
    return key


def _reading(uid: int, key: Key) -> Iterator[float]:
    surfels = Surfels()
    yield from reading(key[0], surfels)
    shown = _shown.get(uid)
    if shown is not None and shown.key == key:
        shown.surfels, shown.batches = surfels, []
        chores.redraw("WINDOW")


def _draw() -> None:
    try:
        _draw_surfels()
    except Exception:  # or Blender calls it again at each redraw, with the same end
        traceback.print_exc()
        unregister()


def _draw_surfels() -> None:
    context = bpy.context
    scene, space = context.scene, context.space_data
    uid = scene.session_uid
    root = project.root_of(scene) if scene.instruct_nerf.show_surfels else None
    if root is None:
        _shown.pop(uid, None)
        return
    if talking.heard(*wire.LOOKED_AT) is None:
        _live.clear()
    elif not bpy.app.timers.is_registered(_renewing):
        bpy.app.timers.register(_renewing, first_interval=0.1)
    key = _key_of(scene)
    shown = _shown.get(uid)
    if key is None:
        _shown.pop(uid, None)
        return
    if shown is None or shown.key != key:
        # What was shown stays until the new ones are read.
        shown = _shown[uid] = _Shown(key, *((shown.surfels, shown.batches) if shown is not None else ()))
        chores.do(("surfels", uid), lambda: _reading(uid, key), "results", "Reading the surfels")
    if shown.surfels is None or not root.visible_get() or space is None or not space.overlay.show_overlays:
        return
    if len(shown.batches) < len(shown.surfels.parts):
        shown.batches.append(_batch(*shown.surfels.parts[len(shown.batches)]))
        context.region.tag_redraw()  # one part a redraw, so that none takes long
    batches, larger = shown.batches, 1.0
    if _moving(space, root) and len(batches) > COARSE and _in_software():
        batches, larger = batches[:COARSE], math.sqrt(len(batches) / COARSE)
    _draw_batches(batches, root, context.region, space.region_3d, larger)


def _moving(space: Any, root: Any) -> bool:
    """Whether a viewport shows another side than when it was drawn last; then it is drawn again once that rests."""
    now = str(space.region_3d.perspective_matrix @ root.matrix_world) if space.region_3d is not None else ""
    before, _sides[space.as_pointer()] = _sides.get(space.as_pointer()), now
    if before == now:
        return False
    if bpy.app.timers.is_registered(_rest):
        bpy.app.timers.unregister(_rest)
    bpy.app.timers.register(_rest, first_interval=REST)
    return before is not None


def _rest() -> None:
    chores.redraw("WINDOW")


def _in_software() -> bool:
    """Whether no graphics card draws: then half a million discs take longer than a moving view can wait for."""
    import gpu

    return any(name in gpu.platform.renderer_get().lower() for name in SOFTWARE)


def _draw_batches(batches: list[Any], root: Any, region: Any, view: Any, larger: float) -> None:
    import gpu

    shader = _made_shader()
    scale = larger * sum(root.matrix_world.to_scale()) / 3.0
    shader.bind()
    shader.uniform_float("matrix", view.perspective_matrix @ root.matrix_world)
    shader.uniform_float("size", scale * view.window_matrix[1][1] * region.height)
    shader.uniform_float("smallest", SMALLEST)
    shader.uniform_float("largest", LARGEST)
    gpu.state.depth_test_set("LESS_EQUAL")
    gpu.state.depth_mask_set(True)
    gpu.state.program_point_size_set(True)
    for batch in batches:
        batch.draw(shader)
    gpu.state.program_point_size_set(False)
    gpu.state.depth_mask_set(False)
    gpu.state.depth_test_set("NONE")


def _batch(places: Any, colors: bytes) -> Any:
    """A part of the surfels on the graphics card."""
    import gpu

    count = len(colors) // 4
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id="place", comp_type="F32", len=4, fetch_mode="FLOAT")
    layout.attr_add(id="color", comp_type="U8", len=4, fetch_mode="INT_TO_FLOAT_UNIT")
    buffer = gpu.types.GPUVertBuf(layout, count)
    buffer.attr_fill(id="place", data=memoryview(places).cast("B").cast("f", shape=[count, 4]))
    buffer.attr_fill(id="color", data=memoryview(colors).cast("B", shape=[count, 4]))
    return gpu.types.GPUBatch(type="POINTS", buf=buffer)


def _made_shader() -> Any:
    global _shader
    if _shader is None:
        import gpu

        between = gpu.types.GPUStageInterfaceInfo("instruct_nerf_surfel")
        between.smooth("VEC4", "shade")
        info = gpu.types.GPUShaderCreateInfo()
        info.push_constant("MAT4", "matrix")
        for name in ("size", "smallest", "largest"):
            info.push_constant("FLOAT", name)
        info.vertex_in(0, "VEC4", "place")
        info.vertex_in(1, "VEC4", "color")
        info.vertex_out(between)
        info.fragment_out(0, "VEC4", "drawn")
        info.vertex_source(VERTEX)
        info.fragment_source(FRAGMENT)
        _shader = gpu.shader.create_from_info(info)
    return _shader


def register() -> None:
    """Begin to draw."""
    global _handle
    if not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    """Draw no longer."""
    global _handle, _shader
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = _shader = None
    for timer in (_rest, _renewing):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    _live.clear()
    _shown.clear()
    _sides.clear()
    _looked.clear()
