# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a capture into a workspace, and what a workspace holds. Imports no torch."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine import protocol
from engine.capture import Capture, CaptureError, View, open_capture
from engine.capture.central import central_view
from engine.capture.changes import changed_photos
from engine.capture.images import find_hidden
from engine.capture.images import write_images as write_pinhole_images
from engine.capture.store import load_capture, save_capture
from engine.detached import detached_jobs
from engine.devices import find_devices
from engine.edit.settings import settings_from
from engine.editors.catalogue import editor_id
from engine.errors import BadInput
from engine.files import checked_path
from engine.presets import choose_preset, preset_for
from engine.progress import Job, Plan, Stage
from engine.records import EditRecord, SceneRecord
from engine.results import DeletedTry, Project, Proposed
from engine.tries import all_tried
from engine.tries import delete_try as delete_tried
from engine.workspace import Damaged, Workspace, writes

T = TypeVar("T")
COLLAPSED = (
    "The scene shows nothing of its photos: the training collapsed from each of its beginnings. Photos of an object "
    "before one plain color train well with masks, or with that color transparent; else more views may help."
)
SMALLEST, LARGEST = 64, 8192  # pixels, the longer side of working pictures
_MEASURED = 24  # pixels a side, at least, of what the measures compare
SECONDS_AN_IMAGE = 0.08  # a first guess, at twelve megapixels


def open_into_workspace(request: protocol.OpenCapture, job: Job | None = None) -> protocol.Capture:
    """Open a capture at the preset's working size and remember it in the workspace; no pixel is decoded.

    Raises BadInput where it is none, or where the workspace's scene was trained on another.
    """
    job = job or Job()
    workspace = Workspace(request.workspace)
    long_side = working_size(request.preset, request.long_side)
    if not SMALLEST <= long_side <= LARGEST:
        raise BadInput(
            f"The working size must be from {SMALLEST} to {LARGEST} pixels, not {long_side}.", field="long_side"
        )
    capture = open_capture(
        checked_path(request.source, "source"),
        long_side,
        all_pixels=request.all_pixels,
        background=request.background,
        masks=request.masks,
        check=job.check,
    )
    job.check()
    capture = _large_enough(capture, long_side)
    if not capture.views:
        raise CaptureError(_nothing_left(capture), file=request.source, field="source")
    with workspace.writing("opening a capture"):
        if workspace.scene_record() is not None and workspace.capture_file.exists():
            before = load_capture(workspace.capture_file)
            if not _same(before, capture):
                raise BadInput(
                    f"The folder {workspace.folder.name} holds a scene trained on another capture or at another size; "
                    "choose another project folder for this one.",
                    field="workspace",
                    file=workspace.folder,
                )
            if (field := _other_layers(before, capture, workspace)) is not None:
                raise BadInput(
                    f"The folder {workspace.folder.name} holds a scene trained with the setting {field} "
                    f"{_said(getattr(before, field))}; open the capture with that, or choose another project folder.",
                    field=field,
                    file=workspace.folder,
                )
            changed = next(changed_photos(before, capture, workspace.images, job.check), None)
            if changed is not None:
                raise BadInput(
                    f"The photos of {capture.source.name} have changed since the scene in {workspace.folder.name} was "
                    f"trained on them (the first: {changed.file}); choose another project folder for the new ones, or "
                    "put the old ones back.",
                    field="workspace",
                    file=capture.root / changed.file,
                )
        save_capture(capture, workspace.capture_file)
    return capture_message(workspace, capture)


def _other_layers(before: Capture, after: Capture, workspace: Workspace) -> str | None:
    """The setting that makes of masks or transparency something else than what the scene was trained with; None where
    there is none, or where the capture has neither."""
    transparent = next(workspace.images.glob("*.alpha.png"), None) is not None
    if before.masks != after.masks and (transparent or any(source.mask for source in after.sources)):
        return "masks"
    return "background" if transparent and before.background != after.background else None


def _said(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def working_size(preset: str | None, long_side: int | None) -> int:
    """The longer side of working pictures in pixels: as given, or the preset's, or this machine's preset's."""
    if long_side is not None:
        return long_side
    chosen = preset_for(find_devices().devices[0]) if preset is None else choose_preset(preset, "cpu")
    return chosen.long_side


def _large_enough(capture: Capture, long_side: int) -> Capture:
    """The capture without photos that are too small for a trained scene to be measured on. Raises BadInput where it is
    the working size that is too small."""
    small: dict[str, str] = {}
    for view, source in zip(capture.views, capture.sources, strict=True):
        width, height = view.intrinsics.width, view.intrinsics.height
        if min(width, height) >= _MEASURED:
            continue
        more = math.ceil(long_side * _MEASURED / min(width, height))
        if more <= max(source.width, source.height):
            raise BadInput(
                f"At a working size of {long_side} pixels the picture of {source.file} would be only {width} × "
                f"{height}; choose {more} or more.",
                field="long_side",
                file=capture.root / source.file,
            )
        small[view.name] = f"The picture {source.file} is too small or too narrow: only {width} × {height} pixels."
    return capture.without(small) if small else capture


def _same(before: Capture, after: Capture) -> bool:
    """Whether a scene trained on one capture fits the other: the same views, their cameras equal but for rounding (of
    another version of this program, or another processor): a hundredth of a pixel, a millionth of the radius."""
    if [(v.name, v.intrinsics.width, v.intrinsics.height) for v in before.views] != [
        (v.name, v.intrinsics.width, v.intrinsics.height) for v in after.views
    ]:
        return False

    def pixels(capture: Capture) -> np.ndarray:
        return np.array([(v.intrinsics.fx, v.intrinsics.fy, v.intrinsics.cx, v.intrinsics.cy) for v in capture.views])

    poses = [np.stack([view.pose for view in capture.views]) for capture in (before, after)]
    return np.allclose(pixels(before), pixels(after), rtol=0, atol=0.01) and np.allclose(
        *poses, rtol=0, atol=1e-6 * max(1.0, after.radius)
    )


def _nothing_left(capture: Capture) -> str:
    first = capture.left_out[0] if capture.left_out else None
    why = f" (the first, {first.name}: {first.reason})" if first else ""
    return f"None of the {len(capture.left_out)} views of {capture.source.name} can be used{why}."


def load_opened(workspace: Workspace) -> Capture:
    """The workspace's capture. Raises BadInput where none was opened."""
    if not workspace.capture_file.exists():
        raise BadInput(f"No capture was opened in {workspace.folder}; open one first.", file=workspace.folder)
    return load_capture(workspace.capture_file)


@writes("preparing pictures")
def write_images(request: protocol.WriteImages, job: Job) -> protocol.Capture:
    """Make the pinhole picture of every view. Returns the capture without the views whose photo cannot be read."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    plan = job.plan(Stage("images", "Preparing pictures", len(capture.views), SECONDS_AN_IMAGE))
    return capture_message(workspace, ensure_images(workspace, capture, plan, job))


def ensure_images(workspace: Workspace, capture: Capture, plan: Plan, job: Job) -> Capture:
    """The job's stage `images`: every view's pinhole picture is there afterwards; unreadable ones are left out."""
    stage = plan.begin("images")
    unreadable: dict[str, str] = {}
    written = 0

    def on_image(view: View, path: Path) -> None:
        nonlocal written
        written += 1
        plan.advance(written + len(unreadable))
        job.on_view(view.name, "image", str(path))
        job.report(plan, stage)

    def on_bad(view: View, reason: str) -> None:
        unreadable[view.name] = reason
        job.log(f"{view.name} is left out: {reason}")

    if capture.hidden is None:
        capture = _looked_at(capture, job)
        save_capture(capture, workspace.capture_file)
    write_pinhole_images(capture, workspace.images, on_image, job.cancelled, on_bad)
    job.check()
    if unreadable:
        capture = capture.without(unreadable)
        if not capture.views:
            raise CaptureError(_nothing_left(capture), file=capture.source)
        save_capture(capture, workspace.capture_file)
    plan.advance(stage.units)
    job.report(plan, stage)
    return capture


def _looked_at(capture: Capture, job: Job) -> Capture:
    """The capture with what its masks hide, and a note for the artist that says so."""
    hidden = find_hidden(capture, job.cancelled)
    job.check()
    notes = list(capture.notes)
    if any(source.mask for source in capture.sources):
        notes.append(_MASKS_SAY[hidden.masks])
        job.log(notes[-1])
    return replace(capture, hidden=hidden, notes=notes)


_MASKS_SAY = {
    "empty": "Its masks cut an object out: what they hide is taken as empty space. If it is merely unknown, open the "
    "capture with masks set to unknown.",
    "unknown": "What its masks hide is taken as unknown. If they cut an object out, open the capture with masks set to "
    "object.",
    "ignored": "Its masks and transparency are ignored.",
}


def read_workspace(request: protocol.ReadWorkspace) -> Project:
    """What the workspace holds: ``capture``, ``scene`` (either may be null), ``edits``, ``tries``, what is
    ``damaged``, and ``jobs`` that are done by processes of their own."""
    workspace = Workspace(request.workspace)
    workspace.tidy()
    damaged: list[Damaged] = []

    def readable(name: str, read: Callable[[], T | None]) -> T | None:
        try:
            return read()
        except BadInput as error:
            damaged.append(Damaged(name, error.message))
            return None

    capture = scene = None
    if readable("capture", lambda: workspace.capture_file.exists()):
        capture = readable("capture", lambda: capture_message(workspace, load_capture(workspace.capture_file)))
    if (record := readable("scene", workspace.scene_record)) is not None:
        scene = readable("scene", lambda: scene_message(workspace, record))
    records, bad = workspace.read_edits()
    damaged += bad
    edits = [readable(record.id, lambda record=record: edit_message(workspace, record)) for record in records]
    tries, bad = all_tried(workspace, {view.name: view.image for view in capture.views} if capture else {})
    damaged += bad
    return {
        "capture": capture,
        "scene": scene,
        "edits": [edit for edit in edits if edit is not None],
        "tries": tries,
        "damaged": damaged,
        "jobs": detached_jobs(workspace),
    }


def capture_message(workspace: Workspace, capture: Capture) -> protocol.Capture:
    views = []
    images = workspace.images
    for view in capture.views:
        i = view.intrinsics
        views.append(
            protocol.View(
                name=view.name,
                image=str(images / view.image),
                held_out=view.held_out,
                pose=tuple(view.pose.ravel().tolist()),
                width=i.width,
                height=i.height,
                fx=i.fx,
                fy=i.fy,
                cx=i.cx,
                cy=i.cy,
            )
        )
    return protocol.Capture(
        workspace=str(workspace.folder),
        source=str(capture.source),
        format=capture.format,
        views=views,
        left_out=[protocol.LeftOut(left.name, left.reason) for left in capture.left_out],
        centre=tuple(capture.centre.tolist()),
        radius=capture.radius,
        up=tuple(capture.up.tolist()),
        notes=capture.notes,
        points=str(workspace.points) if capture.points is not None else None,
        point_count=0 if capture.points is None else len(capture.points),
        masked=sum(source.mask is not None for source in capture.sources),
        masks=capture.masks,
        masks_hide=None if capture.hidden is None else capture.hidden.masks,
    )


def scene_message(workspace: Workspace, record: SceneRecord) -> protocol.Scene:
    return protocol.Scene(
        steps=record.steps,
        of=record.of,
        finished=record.finished,
        preset=record.preset,
        device=record.device,
        measures=record.measures,
        seconds=record.seconds,
        views=_pictures(workspace.views(None)),
        notes=[COLLAPSED] if record.collapsed else [],
    )


def propose_key(request: protocol.ProposeKey) -> Proposed:
    """The view that makes a good first key view. Raises BadInput where the project has no capture."""
    capture = load_opened(Workspace(request.workspace))
    views = [view for view in capture.views if not view.held_out] or capture.views
    return Proposed(view=central_view(views, capture.centre, capture.radius).name)


def delete_try(request: protocol.DeleteTry) -> DeletedTry:
    """Delete what was tried; also while a job runs, which writes nothing there. Raises BadInput."""
    return DeletedTry(deleted=delete_tried(Workspace(request.workspace), request.id))


def edit_message(workspace: Workspace, record: EditRecord) -> protocol.Edit:
    folder, label = workspace.edit(record.id), workspace.label(record.id)
    mesh = folder / "mesh.ply"
    return protocol.Edit(
        id=record.id,
        instruction=record.instruction,
        parent=record.parent,
        preset=record.preset,
        editor=editor_id(record.editor),
        settings=record.settings,
        chosen=record.chosen,
        steps=record.steps,
        of=settings_from(record.settings).steps,
        finished=record.finished,
        images=_pictures(folder / "images"),
        views=_pictures(workspace.views(record.id)),
        mesh=str(mesh) if mesh.exists() else None,
        seconds=record.seconds,
        changes=record.changes,
        key_views={name: path for name, path in _pictures(folder / "keys").items() if name in record.key_views},
        name=label.name,
        muted=label.muted,
        created=record.created,
    )


def _pictures(folder: Path) -> dict[str, str]:
    """The pictures in a folder of ours, by view: files, no pipe and no link to elsewhere."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.name.endswith(".png") and e.is_file(follow_symlinks=False))
        return {name.removesuffix(".png"): str(folder / name) for name in names if not name.startswith(".")}
    return {}
