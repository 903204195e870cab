# SPDX-License-Identifier: GPL-3.0-or-later
"""What a region does, on a project of photos whose unedited scene is trained:

    python -m benchmarks.region PROJECT "turn it into gold"

The region is a box around what the editor takes for the instruction's subject. The same edit is made with it and
without; printed is, at the views that were not trained on, how many dB to the photos are lost outside of the box
against the unedited scene, and how much the edit changed inside.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import numpy as np
import torch
import tyro

from benchmarks.truth.region import box_around
from engine import protocol
from engine.devices import choose_device, device_named
from engine.edit.agreement import agreed_relevance
from engine.edit.keep import relevance_of
from engine.edit.region import Region
from engine.editors.catalogue import default_editor, load_editor, resolved_options
from engine.geometry import unproject
from engine.jobs.capture import load_opened
from engine.jobs.edit import run_edit
from engine.pictures import load_picture
from engine.progress import Job
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
    return box_around(np.concatenate(points), margin)


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
    unedited = [scene.render(view) for view in held]
    masks = [region.mask(seen, view)[..., 0] for seen, view in zip(unedited, held, strict=True)]

    def outside(pictures: list[torch.Tensor]) -> float:
        errors = [(a - b).square()[m == 0] for a, b, m in zip(pictures, photos, masks, strict=True)]
        return float(-10 * torch.cat(errors).mean().log10())

    before = outside([seen.rgb for seen in unedited])
    print("box", json.dumps(asked.solids[0].vertices), "unedited", round(before, 2), flush=True)
    trained = [view.name for view in capture.views if not view.held_out]
    chosen = None if views is None else trained[:: max(1, len(trained) // views)][:views]
    for name, wanted in (("without a region", None), ("with a region", asked)):
        request = protocol.RunEdit(
            workspace=project, instruction=instruction, steps=steps, preset=preset, region=wanted, views=chosen
        )
        edit = run_edit(request, Job(log=lambda text: print(text, file=sys.stderr)))
        edited = open_scene(workspace.checkpoint(edit.id)).scene("cpu")
        pictures = [edited.render(view).rgb for view in held]
        inside = [(a - b.rgb).abs()[m == 1] for a, b, m in zip(pictures, unedited, masks, strict=True)]
        found = {
            "psnr outside": round(outside(pictures), 2),
            "lost outside, dB": round(before - outside(pictures), 2),
            "mean change inside": round(float(torch.cat(inside).mean()), 3),
        }
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
