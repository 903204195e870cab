# SPDX-License-Identifier: GPL-3.0-or-later
"""A viewport's Rendered shading: coarse while something moves, then finer, and anew while an edit goes on.

Everything here happens on Blender's main thread, in redraws and on a timer; nothing waits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d

from .. import chores, conversion, jobs, lineage, opening, pixels, session, talking, wire
from ..client import Client
from ..conversion import Camera
from . import line
from .source import Source, camera_of, cropped, resized, source_of, workspace_of

COARSEST = 16  # region pixels a picture pixel, either way
FINER = 4  # times, from one picture to the next
SOON = 0.12  # seconds that a picture may take while something moves
LIVE, LIVE_REST = 0.35, 4.0  # seconds that a picture takes while an edit goes on, and how many times as long it rests
LEAST_REST = 1.0  # seconds
WATCH, STOPPED_WATCH = 0.02, 0.5  # seconds between two looks at whether a picture has come; while the engine is stopped
WANTED, STARTING, READING, STOPPED = "wanted", "starting", "reading", "stopped"
HIGH = 1.5  # scale of the interface from which on screens have more pixels than are needed

_viewports: dict[int, Viewport] = {}  # by region
_speed = 40_000.0  # pixels a second, as the last pictures took
_unread: dict[str, str] = {}  # workspaces that a viewport shows and nobody has read: how far that is


@dataclass(frozen=True)
class _Asked:
    """A picture that is being rendered."""

    client: Client
    number: int
    answer: Future[Any]
    key: Hashable
    place: tuple[int, int, int, int]  # in the region: left, bottom, width, height
    size: tuple[int, int]
    pixel: int
    began: float  # seconds, monotonic


class Viewport:
    """What a viewport shows, and what was asked for it."""

    def __init__(self) -> None:
        self.key: Hashable = None
        self.asked: _Asked | None = None
        self.next = 0  # the size of a pixel in the picture to ask for, in region pixels; 0: it is as fine as it will be
        self.due = math.inf  # seconds, monotonic: when a picture that is fine is to be made anew
        self.sentence = ""
        self.texture: Any = None
        self.place = (0, 0, 0, 0)
        self.drawn = time.monotonic()

    @staticmethod
    def of(context: bpy.types.Context) -> Viewport:
        """The one of a region."""
        pointer = context.region.as_pointer()
        for other in [key for key, known in _viewports.items() if known.drawn < time.monotonic() - 600.0]:
            del _viewports[other]  # of regions that are no more
        return _viewports.setdefault(pointer, Viewport())

    def draw(self, engine: bpy.types.RenderEngine, context: bpy.types.Context, graph: bpy.types.Depsgraph) -> None:
        """Draw what is there, and ask for what is missing."""
        self.drawn = time.monotonic()
        try:
            self._follow(context, graph)
        except (ValueError, RuntimeError, OSError) as error:
            self.sentence, self.next = str(error), 0
        self._draw_texture(engine, graph.scene)
        coarse = self.asked is not None or self.next
        engine.update_stats("Instruct NeRF", self.sentence or ("Rendering" if coarse else "Done"))

    def _follow(self, context: bpy.types.Context, graph: bpy.types.Depsgraph) -> None:
        workspace = workspace_of(graph.scene)
        known = session.get().projects.get(workspace)
        client = session.get().client
        if known is None or session.get().state != "ready" or client is None:
            self.key, self.sentence = None, _read_soon(workspace)
            return
        source = source_of(graph, known.edits)
        live = source.live and _live_job(workspace) is not None
        source = replace(source, live=live)
        camera, place = _camera_and_place(context, graph, source)
        edit = lineage.find(known.edits, source.edit or "")
        age = edit.steps if edit is not None else known.scene.steps if known.scene is not None else 0
        self._take(client)
        key = (source, camera, place, age, client.pid)
        now = time.monotonic()
        if key != self.key:
            self.key, self.next, self.sentence = key, _first_pixel(place, context, SOON), ""
            if self.asked is not None and self.asked.pixel < self.next:
                self.asked.client.tell(wire.JOB_CANCEL, {"job": self.asked.number})
        elif not self.next and now >= self.due and live:
            self.next = _first_pixel(place, context, LIVE)
        if self.next and self.asked is None:
            self._ask(client, source, camera, place)

    def _ask(self, client: Client, source: Source, camera: Camera, place: tuple[int, int, int, int]) -> None:
        pixel, self.due = self.next, math.inf
        size = math.ceil(place[2] / pixel), math.ceil(place[3] / pixel)
        asked = source.params(resized(camera, *size), False)
        number, answer = client.ask(wire.VIEW_RENDER, asked)
        self.asked = _Asked(client, number, answer, self.key, place, size, pixel, time.monotonic())
        _begin_to_watch()

    def _take(self, client: Client) -> None:
        """Take over a picture that has come."""
        global _speed
        asked = self.asked
        if asked is None or not asked.answer.done():
            if asked is not None and asked.client is not client:
                self.asked = None
            return
        self.asked = None
        try:
            path, step = wire.parse_viewed(line.result_of(asked.answer))
            found = pixels.read(path, asked.size)
        except line.Stopped:
            return  # another is wanted by now
        except (ValueError, RuntimeError) as error:
            if asked.key == self.key:
                self.sentence, self.next = str(error), 0
            return
        took = time.monotonic() - asked.began
        if step is None and took > 0.0:
            speed = asked.size[0] * asked.size[1] / took
            _speed += 0.5 * (speed - _speed)
        self._show(found, asked.place)
        if asked.key != self.key:
            return
        source = asked.key[0]  # type: ignore[index]
        finest = _finest(bpy.context)
        if source.live:
            finest = max(finest, _first_pixel(asked.place, bpy.context, LIVE))
            self.sentence = f"After step {step}" if step is not None else ""
        self.next = max(finest, asked.pixel // FINER) if asked.pixel > finest else 0
        if not self.next and source.live:
            self.due = time.monotonic() + max(LEAST_REST, LIVE_REST * took)
            _begin_to_watch()

    def _show(self, found: pixels.Pixels, place: tuple[int, int, int, int]) -> None:
        import gpu

        values = gpu.types.Buffer("FLOAT", len(found.color), found.color)
        self.texture = gpu.types.GPUTexture((found.width, found.height), format="RGBA16F", data=values)
        self.place = place

    def _draw_texture(self, engine: bpy.types.RenderEngine, scene: bpy.types.Scene) -> None:
        if self.texture is None:
            return
        import gpu
        from gpu_extras.presets import draw_texture_2d

        left, bottom, width, height = self.place
        gpu.state.blend_set("ALPHA_PREMULT")
        engine.bind_display_space_shader(scene)
        draw_texture_2d(self.texture, (left, bottom), width, height)
        engine.unbind_display_space_shader()
        gpu.state.blend_set("NONE")

    @property
    def waits(self) -> bool:
        """Whether a redraw would show, or ask for, something new."""
        return (self.asked is not None and self.asked.answer.done()) or time.monotonic() >= self.due


def _camera_and_place(
    context: bpy.types.Context, graph: bpy.types.Depsgraph, source: Source
) -> tuple[Camera, tuple[int, int, int, int]]:
    """What a region looks through, at its size, and where its picture lies in it. Raises ``ValueError``."""
    region, view, scene = context.region, context.region_data, graph.scene
    width, height = region.width, region.height
    seen = scene.camera if context.space_data.use_local_camera is False else context.space_data.camera
    if view.view_perspective == "CAMERA" and seen is not None and seen.type == "CAMERA" and seen.data.type == "PANO":
        return _panorama(context, graph, source, seen)
    scale = conversion.scale_of_similarity(source.root)
    matrix = conversion.matrix_from_rows(view.window_matrix)
    projection, lens = conversion.intrinsics_from_projection(matrix, width, height, scale)
    world = conversion.matrix_from_rows(view.view_matrix.inverted())
    pose = conversion.capture_pose_from_world(source.root, world)
    if projection == "orthographic" and view.view_perspective != "CAMERA":
        pose = _stood_back(pose, source.workspace)
    return Camera(pose, lens, projection, source.root), (0, 0, width, height)


def _stood_back(pose: conversion.Matrix, workspace: str) -> conversion.Matrix:
    """The pose of an orthographic viewport, which has no eye, as far from the middle as the capture's cameras are."""
    capture = session.get().projects[workspace].capture
    if capture is None:
        return pose
    x, y, back, place = (conversion.column(pose, index) for index in range(4))
    ahead = conversion.dot(conversion.add(place, capture.centre, -1.0), back)
    return conversion.matrix_from_columns(x, y, back, conversion.add(place, back, capture.radius - ahead))


def _panorama(
    context: bpy.types.Context, graph: bpy.types.Depsgraph, source: Source, item: bpy.types.Object
) -> tuple[Camera, tuple[int, int, int, int]]:
    """A panoramic camera's picture, in its frame alone: a viewport's matrix cannot say what lies around that."""
    region, view = context.region, context.region_data
    matrix = item.matrix_world.normalized()
    frame = item.data.view_frame(scene=graph.scene)
    corners = [location_3d_to_region_2d(region, view, matrix @ corner) for corner in frame]
    if any(corner is None for corner in corners):
        raise ValueError("The camera's frame is not in sight.")
    left, right = min(c.x for c in corners), max(c.x for c in corners)
    bottom, top = min(c.y for c in corners), max(c.y for c in corners)
    whole = resized(camera_of(graph, item, source), max(1, round(right - left)), max(1, round(top - bottom)))
    x0, x1 = max(0, round(left)), min(region.width, round(left) + whole.intrinsics.width)
    y0, y1 = max(0, round(bottom)), min(region.height, round(bottom) + whole.intrinsics.height)
    if x0 >= x1 or y0 >= y1:
        raise ValueError("The camera's frame is not in sight.")
    above = round(bottom) + whole.intrinsics.height - y1
    return cropped(whole, x0 - round(left), above, x1 - x0, y1 - y0), (x0, y0, x1 - x0, y1 - y0)


def _finest(context: bpy.types.Context) -> int:
    """How many region pixels a pixel of the finest picture is large, either way."""
    wanted = context.scene.render.preview_pixel_size
    if wanted != "AUTO":
        return int(wanted)
    return 2 if context.preferences.system.ui_scale >= HIGH else 1


def _first_pixel(place: tuple[int, int, int, int], context: bpy.types.Context, seconds: float) -> int:
    """How large the pixels are of a picture that comes in so many seconds, as the last ones did."""
    pixel, finest = 1, _finest(context)
    while pixel < COARSEST and place[2] * place[3] / pixel**2 > _speed * seconds:
        pixel *= 2
    return max(pixel, finest)


def _live_job(workspace: str) -> session.Job | None:
    """The job that trains or edits a scene of the workspace, where one does."""
    job = talking.heard(*wire.LOOKED_AT)
    return job if job is not None and job.workspace == workspace else None


def _read_soon(workspace: str) -> str:
    """Have a project read that nobody has read yet, and the engine started for it; a sentence on what is waited for."""
    if workspace not in _unread:
        ended = workspace in session.get().projects and session.get().state == "stopped"
        _unread[workspace] = STOPPED if ended else WANTED
        _begin_to_watch()
    if _unread[workspace] == STOPPED:
        notices = session.get().notices
        return notices.get("engine") or notices.get("capture") or "The engine is stopped: press Reconnect to go on."
    return "Waiting for the engine"


def _read() -> None:
    for workspace, phase in list(_unread.items()):
        state = session.get().state
        try:
            if workspace in session.get().projects and state == "ready":
                del _unread[workspace]
                chores.redraw("WINDOW")
            elif phase == WANTED and state == "stopped":
                _unread[workspace] = STARTING
                jobs.start_engine()
            elif phase in (WANTED, STARTING) and state == "ready":
                _unread[workspace] = READING
                opening.read_workspace(workspace)
            elif (phase == STARTING and state == "stopped") or (phase == READING and not session.get().asked):
                _unread[workspace] = STOPPED
                chores.redraw("WINDOW")
            elif phase == STOPPED and state == "starting":
                _unread[workspace] = STARTING
        except (ValueError, RuntimeError, OSError) as error:
            _unread[workspace] = STOPPED
            session.notice("engine", str(error))
            chores.redraw("WINDOW")


def _begin_to_watch() -> None:
    if not bpy.app.timers.is_registered(_watch):
        bpy.app.timers.register(_watch, first_interval=WATCH)


def _watch() -> float | None:
    _read()
    if any(viewport.waits for viewport in _viewports.values()):
        chores.redraw("WINDOW")
    if any(v.asked is not None or v.due < math.inf for v in _viewports.values()):
        return WATCH
    if not _unread:
        return None
    return STOPPED_WATCH if set(_unread.values()) == {STOPPED} else WATCH


def forget() -> None:
    """Let go of everything."""
    if bpy.app.timers.is_registered(_watch):
        bpy.app.timers.unregister(_watch)
    _viewports.clear()
    _unread.clear()
