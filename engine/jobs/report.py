# SPDX-License-Identifier: GPL-3.0-or-later
"""The report card: the paper's baselines on the artist's own capture and instruction, beside the edit that was made."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from engine import protocol
from engine.capture import Capture, View
from engine.devices import choose_device
from engine.edit.settings import EditSettings, settings_for
from engine.errors import BadInput
from engine.files import read_record, write_bytes, write_record
from engine.hub import CLIP, in_words
from engine.jobs.baselines import (
    PER_FRAME,
    PROJECTED,
    Common,
    Made,
    Stages,
    as_read,
    baselines_of,
    run_baseline,
    slug,
)  # fmt: skip
from engine.jobs.capture import load_opened
from engine.jobs.named_editor import opened_editor
from engine.jobs.parents import check_parent, original_pictures
from engine.jobs.scene import shown_scene
from engine.jobs.views import Seen, render_views
from engine.metrics.clip import Clip, direction_consistency, direction_similarity, load_clip
from engine.metrics.collapse import has_collapsed
from engine.metrics.consistency import warping_error
from engine.output.report_page import Column, Method, page
from engine.pictures import load_picture, save_picture
from engine.presets import refuse_days
from engine.progress import Job, Stage
from engine.records import EditRecord
from engine.results import Report
from engine.scenes.picture_set import PictureSet
from engine.workspace import Workspace, writes

FRAMES = 12  # on the path that methods are compared along
LEAST_CHANGE = 0.005  # of the frames, about one level of 8 bits: below it nothing was edited
SHOWN = 5  # of them, on the page
PATH_OF = 1000  # views at most that a path is looked for among: every pair of them is compared
UNEDITED, OURS = "Unedited", "This edit"

COLUMNS = (
    Column(
        "inconsistency",
        "Inconsistency",
        "{:.4f}",
        "how much more than the unedited scene neighbouring frames differ, where by the unedited scene's depth both "
        "show the same surface: root mean square, colours 0 to 1; lower is better, among methods that change as much. "
        "It is not given where the frames have collapsed or hardly change: nothing is as consistent as nothing",
    ),
    Column(
        "change", "Change", "{:.3f}",
        "root mean square of the difference to the unedited scene's frames, colours 0 to 1",
    ),
    Column(
        "clip_direction", "CLIP direction", "{:.3f}",
        "cos(C(edited) − C(original), C(instruction) − C('a photo')), C CLIP's embedding; higher is better",
    ),
    Column(
        "clip_consistency", "CLIP consistency", "{:.3f}",
        "cos(C(o[i+1]) − C(o[i]), C(e[i+1]) − C(e[i])) of neighbouring original (o) and edited (e) frames; higher is "
        "better",
    ),
    Column(
        "seconds", "Seconds", "{:.0f}",
        "from the first edit to the last step: the unedited scene's training, loading, and rendering what was made are "
        "not counted, of any method",
    ),
    Column("edits", "Edits", "{:.0f}", "how often the editor was run (SDS: once a step, a single denoising)"),
    Column("peak_megabytes", "Memory, MB", "{:.0f}", "most memory held (of the GPU, where there is one)"),
)  # fmt: skip


@writes("making a report")
def make_report(request: protocol.MakeReport, job: Job) -> Report:
    """Run the baselines, with the edit's own settings, measure all along one path, and write the page.

    A baseline that was finished before is not run again. Raises BadInput where the edit is not finished.
    """
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    device = choose_device(request.device)
    record = workspace.edit_record(request.edit)
    if not record.finished:
        raise BadInput(f"The edit {record.id} is not finished; resume it first.", field="edit")
    check_parent(workspace, record.parent, [capture.view(name) for name in record.chosen], record.id)
    refuse_days(record.preset, device, request.even_on_cpu)
    settings = settings_for(record.settings, record.editor)
    folder = workspace.edit(record.id) / "report"
    path = path_of(capture, FRAMES)
    baselines = baselines_of(record.editor, settings, bool(record.key_views))
    missing = [name for name in baselines if _made(folder, name, settings, path) is None]
    stages = Stages({name: len(path) if name == PER_FRAME else settings.steps for name in missing}, job.pieces.workers)
    plan = job.plan(
        Stage("frames", "Rendering the path", 2 * len(path), 0.8),
        *stages.all,
    )
    if missing:
        opened_editor(record.editor, device, job)  # what is wrong with it is said first
    seen: dict[str, list[Seen]] = {}
    for name, edit in {UNEDITED: record.parent, OURS: record.id}.items():
        scene = shown_scene(workspace, edit, device)
        seen[name] = [looked for _, looked in render_views(scene, path, plan, job, "frames", "depth")]
        _save(folder, name, path, [looked.rgb for looked in seen[name]])
    originals = [looked.picture(device) for looked in seen[UNEDITED]]
    depths = [torch.tensor(looked.depth).to(device) for looked in seen[UNEDITED]]

    if missing:
        views = [capture.view(view) for view in record.chosen]
        pictures = PictureSet.read(workspace.images, views, "cpu", original_pictures(workspace, views, record.parent))
        common = Common(record, settings, views, pictures, path, [looked.rgb for looked in seen[UNEDITED]])
        place, hear = job.place(device, workspace.checkpoint(record.parent)), partial(stages.told, plan, job)
        for number, (made, frames) in job.pieces.as_made(run_baseline, common, missing, place, hear):
            stages.ended(plan, job, number)
            _save(folder, missing[number], path, frames)
            write_record(folder / slug(missing[number]) / "made.json", made)

    clip = job.keep("CLIP", device, lambda: load_clip(device))
    own = _inconsistency(originals, depths, path)
    methods = []
    for name in (UNEDITED, *baselines, OURS):
        frames = [load_picture(file).to(device).float() / 255 for file in _files(folder, name, path)]
        collapsed = has_collapsed(frames, originals)
        measures = measures_of_edit(
            change=float(torch.stack([(a - b).square().mean() for a, b in zip(frames, originals, strict=True)]).mean())
            ** 0.5,
            inconsistency=_inconsistency(frames, depths, path) - own,
            clip=_clip_measures(clip, originals, frames, record.instruction),
            collapsed=collapsed,
        )
        made = _made(folder, name, settings, path)
        if name == OURS:
            measures |= {
                "seconds": record.seconds,
                "edits": float(
                    record.edits
                    or settings.updates_later(len(record.chosen)) + settings.updates_first(len(record.chosen))
                ),
            }
            if record.peak_bytes:
                measures["peak_megabytes"] = record.peak_bytes / 2**20
        elif made is not None:
            measures |= {"seconds": made.seconds, "edits": float(made.edits), "peak_megabytes": made.peak_bytes / 2**20}
        methods.append(
            Method(
                name,
                {k: v for k, v in measures.items() if v == v},
                _shown(folder, name, path),
                name == OURS,
                "collapsed: its frames show nothing of the scene" if collapsed else "",
            )
        )
    return _write(folder, workspace, record, device, methods, clip is not None)


def path_of(capture: Capture, count: int) -> list[View]:
    """Views that make a path: each the nearest, by place and direction, to the one before, from one end of the capture;
    ``count`` neighbouring ones from the middle of it. Of more than ``PATH_OF`` views, those nearest to the middle one
    are the capture."""
    views = list(capture.views)
    stood = np.concatenate(
        [np.stack([v.pose[:3, 3] for v in views]) / capture.radius, np.stack([v.pose[:3, 2] for v in views])], axis=1
    )  # (views, 6): place and direction

    def apart(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        difference = others - one
        return np.linalg.norm(difference[..., :3], axis=-1) + np.linalg.norm(difference[..., 3:], axis=-1)

    if len(views) > PATH_OF:
        middle = apart(stood.mean(axis=0), stood).argmin()
        near = np.sort(np.argsort(apart(stood[middle], stood), kind="stable")[:PATH_OF])
        views, stood = [views[k] for k in near], stood[near]
    between = apart(stood[:, None], stood[None])
    at = int(between.sum(axis=1).argmax())
    order = [at]
    while len(order) < len(views):
        between[:, at] = np.inf  # behind us
        at = int(between[at].argmin())
        order.append(at)
    first = max(0, (len(order) - count) // 2)
    return [views[k] for k in order[first : first + count]]


def _inconsistency(frames: Sequence[Tensor], depths: Sequence[Tensor], path: Sequence[View]) -> float:
    return warping_error(frames, depths, path)


def measures_of_edit(change: float, inconsistency: float, clip: dict[str, float], collapsed: bool) -> dict[str, float]:
    """What is said of a method's frames: how consistent they are only beside a change, and not where they show nothing
    any more (``collapsed`` 1 says so)."""
    if collapsed:
        return {"change": change, "collapsed": 1.0}
    if change < LEAST_CHANGE:
        return {"change": change} | {name: value for name, value in clip.items() if name != "clip_consistency"}
    return {"inconsistency": inconsistency, "change": change} | clip


def _clip_measures(
    clip: Clip | None, originals: Sequence[Tensor], frames: Sequence[Tensor], instruction: str
) -> dict[str, float]:
    if clip is None:
        return {}
    before, after = clip.captions(["a photo", instruction])
    original, edited = clip.pictures(originals), clip.pictures(frames)
    return {
        "clip_direction": float(direction_similarity(original, edited, before, after).mean()),
        "clip_consistency": float(direction_consistency(original, edited).mean()),
    }


def _files(folder: Path, name: str, path: Sequence[View]) -> list[Path]:
    return [folder / slug(name) / f"{view.name}.png" for view in path]


def _shown(folder: Path, name: str, path: Sequence[View]) -> list[Path]:
    files = _files(folder, name, path)
    picked = np.linspace(0, len(files) - 1, min(SHOWN, len(files))).round().astype(int)
    return [files[k] for k in picked]


def _save(folder: Path, name: str, path: Sequence[View], frames: Sequence[Tensor]) -> None:
    for file, frame in zip(_files(folder, name, path), frames, strict=True):
        save_picture(file, frame)


def _made(folder: Path, name: str, settings: EditSettings, path: Sequence[View]) -> Made | None:
    """What a baseline took, where it was run with these settings, and its frames along this path are all there."""
    made = read_record(folder / slug(name) / "made.json", Made)
    if made is None or made.settings != as_read(settings):
        return None
    return made if all(file.is_file() for file in _files(folder, name, path)) else None


def _write(
    folder: Path, workspace: Workspace, record: EditRecord, device: str, methods: Sequence[Method], has_clip: bool
) -> Report:
    about = (
        f"{workspace.folder.name}, {len(record.chosen)} views, {record.settings.get('steps')} steps each, editor "
        f"{Path(record.editor).name}, on {device} ({platform.machine()})."
    )
    notes = [
        "All methods begin at the same unedited scene, with the same editor, guidance and seed, and are compared along "
        f"the same {FRAMES} cameras."
    ]
    if record.parent is not None:
        below = workspace.edit_record(record.parent).instruction
        notes.append(f"“{UNEDITED}” is the edit that this one stands on, “{below}”.")
    if record.key_views:
        count = f"{len(record.key_views)} key views" if len(record.key_views) > 1 else "a key view"
        notes.append(f"“{OURS}” follows {count}; “{PROJECTED}” is its schedule without.")
    if record.changes:
        notes.append(
            "The edit was told something else, to make views again or to keep to another region on its way; the "
            "baselines were not."
        )
    if not has_clip:
        notes.append(
            f"CLIP is not on this computer, so its measures are missing: `python -m engine download {CLIP.name}` "
            f"({in_words(CLIP.bytes)}, once) brings it."
        )
    measures = {method.name: method.measures for method in methods}
    data = {"edit": record.id, "instruction": record.instruction, "settings": record.settings, "measures": measures}
    write_bytes(folder / "report.json", msgspec.json.format(msgspec.json.encode(data), indent=1))
    write_bytes(folder / "report.html", page(f"“{record.instruction}”", about, COLUMNS, methods, notes).encode())
    return Report(str(folder / "report.html"), str(folder / "report.json"), measures)
