# SPDX-License-Identifier: GPL-3.0-or-later
"""What a region does, on a project of photos whose unedited scene is trained:

    python -m benchmarks.region PROJECT "turn it into gold"

The region is a box around what the editor takes for the instruction's subject. The same edit is made with it and
without; printed is, at the views that were not trained on, how many dB to the photos are lost outside of the box
against the unedited scene, and how much the edit changed inside. Outside is where the median of depth lies outside,
inside where the region lets all of a pixel change. Edits that the project has already are not made again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import tyro
from msgspec.structs import replace as changed
from torch import Tensor

from benchmarks.truth.region import box_around
from engine import protocol
from engine.devices import choose_device, device_named
from engine.edit.agreement import agreed_relevance
from engine.edit.keep import relevance_of
from engine.edit.region import SHARES, Region
from engine.editors.catalogue import default_editor, load_editor, resolved_options
from engine.geometry import unproject
from engine.jobs.capture import load_opened
from engine.jobs.edit import resume_edit, run_edit
from engine.pictures import load_picture
from engine.progress import Job
from engine.scenes.base import RenderedView
from engine.scenes.registry import open_scene
from engine.workspace import Workspace

VIEWS = 16  # that say where the subject is


def subject_box(workspace: Workspace, instruction: str, margin: float) -> protocol.Region:
    """A box around what the views agree the instruction is about."""
    capture, device = load_opened(workspace), choose_device(None)
    views = [view for view in capture.views if not view.held_out]
    views = views[:: max(1, len(views) // VIEWS)]
    name = default_editor(device_named(device))
    prepared = load_editor(name, device).prepare(instruction, resolved_options(name, {}, {}))
    scene = open_scene(workspace.checkpoint(None)).scene(device)
    pictures = [load_picture(workspace.images / f"{v.name}.png").float() / 255 for v in views]
    maps = agreed_relevance([relevance_of(prepared.view(p)) for p in pictures], scene, views)
    points = []
    for view, relevance in zip(views, maps, strict=True):
        depth = scene.render(view).depth.double()
        large = torch.nn.functional.interpolate(relevance, depth.shape, mode="bilinear")[0, 0]
        points.append(unproject(depth, view)[large > 0.5].numpy())
    found = np.concatenate(points)
    # What is taken for the subject in the background would make the box as large as the scene.
    near = np.linalg.norm(found - np.array(capture.centre), axis=1) < capture.radius / 2
    return box_around(found[near] if near.any() else found, margin)


def parts_of(region: Region, seen: RenderedView, camera) -> tuple[Tensor, Tensor]:
    """(H, W) bool each: what of a view the region lets change whole, and what lies outside of it by its median depth.
    A pixel of fog may be both."""
    median = region.mask(RenderedView(seen.rgb, seen.depth, seen.opacity), camera)
    return region.mask(seen, camera)[..., 0] == 1, median[..., 0] == 0


def decibels(pictures: Sequence[Tensor], photos: Sequence[Tensor], where: Sequence[Tensor]) -> float:
    """PSNR of pictures (H, W, 3), 0–1, over the pixels where all of them are looked at (H, W)."""
    errors = [(a - b).square()[part] for a, b, part in zip(pictures, photos, where, strict=True)]
    return float(-10 * torch.cat(errors).mean().log10())


def made(workspace: Workspace, request: protocol.RunEdit) -> str:
    """The id of the edit that a request comes to: the project's own where it has it, gone on with where it was
    stopped."""
    job = Job(log=lambda text: print(text, file=sys.stderr))
    for record in reversed(workspace.edits()):
        same = (record.instruction, record.region, record.settings["steps"], record.parent) == (
            request.instruction, request.region, request.steps or record.settings["steps"], request.parent
        )  # fmt: skip
        if same and (request.views is None or record.chosen == request.views):
            if not record.finished:
                resume_edit(protocol.ResumeEdit(request.workspace, record.id), job)
            return record.id
    return run_edit(request, job).id


def main(
    project: Annotated[str, tyro.conf.Positional],
    instruction: Annotated[str, tyro.conf.Positional],
    steps: int | None = None,
    preset: str | None = None,
    views: int | None = None,
    margin: float = 0.03,
) -> None:
    """Run the edit with the region and without, and print both."""
    workspace = Workspace(project)
    asked = subject_box(workspace, instruction, margin)
    region, capture = Region(asked), load_opened(workspace)
    scene = open_scene(workspace.checkpoint(None)).scene("cpu")
    held = [view for view in capture.views if view.held_out]
    photos = [load_picture(workspace.images / f"{v.name}.png").float() / 255 for v in held]
    unedited = [scene.render(view, shares=SHARES) for view in held]
    inside, outside = zip(*(parts_of(region, seen, v) for seen, v in zip(unedited, held, strict=True)), strict=True)
    before = decibels([seen.rgb for seen in unedited], photos, outside)

    def share(parts: Sequence[Tensor]) -> float:
        return round(float(torch.cat([part.flatten() for part in parts]).float().mean()), 3)

    shares = {
        "inside": share(inside),
        "outside": share(outside),
    }
    print(
        "box", json.dumps(asked.solids[0].vertices), "of the pixels", shares, "unedited", round(before, 2), flush=True
    )
    trained = [view.name for view in capture.views if not view.held_out]
    chosen = None if views is None else trained[:: max(1, len(trained) // views)][:views]
    request = protocol.RunEdit(workspace=project, instruction=instruction, steps=steps, preset=preset, views=chosen)
    for name, wanted in (("without a region", None), ("with a region", asked)):
        edit = made(workspace, changed(request, region=wanted))
        edited = open_scene(workspace.checkpoint(edit)).scene("cpu")
        pictures = [edited.render(view).rgb for view in held]
        change = [(a - b.rgb).abs()[part] for a, b, part in zip(pictures, unedited, inside, strict=True)]
        after = decibels(pictures, photos, outside)
        found = {
            "psnr outside": round(after, 2),
            "lost outside, dB": round(before - after, 2),
            "mean change inside": round(float(torch.cat(change).mean()), 3),
        }
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
