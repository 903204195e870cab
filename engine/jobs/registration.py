# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos, or a video, without cameras: their cameras are found and lie in the workspace as a capture like any other."""

from __future__ import annotations

from engine import protocol
from engine.capture.effort import SECONDS
from engine.capture.registration import register
from engine.errors import BadInput
from engine.files import checked_path
from engine.progress import Job, Plan, Stage
from engine.workspace import Workspace, writes

_LABELS = {
    "video": "Choosing frames",
    "features": "Looking for details in the photos",
    "matches": "Comparing the photos",
    "cameras": "Finding the cameras",
}


@writes("finding cameras of photos", makes_project=True)
def register_photos(request: protocol.RegisterPhotos, job: Job) -> protocol.Registered:
    """Find the cameras of a folder of photos, or of a video; the result's `source` is what `capture/open` opens.

    Raises BadInput, whose sentence says what is wrong with the photos; a cancelled or failed search leaves nothing.
    """
    workspace = Workspace(request.workspace)
    if workspace.scene_record() is not None:
        raise BadInput(
            f"The folder {workspace.folder.name} holds a trained scene; choose another project folder for new cameras.",
            field="workspace",
            file=workspace.folder,
        )
    plan: Plan | None = None
    stage: Stage | None = None

    def on_plan(units: dict[str, int]) -> None:
        nonlocal plan, stage
        plan, stage = (
            job.plan(*[Stage(name, _LABELS[name], count, SECONDS[name]) for name, count in units.items()]),
            None,
        )

    def on_step(name: str, done: int) -> None:
        nonlocal stage
        assert plan is not None
        if stage is None or stage.name != name:
            stage = plan.begin(name)
        plan.advance(min(done, stage.units))
        job.report(plan, stage)

    found, left_out = register(
        checked_path(request.source, "source"), workspace.registered, on_plan, on_step, job.cancelled
    )
    notes = [f"{left.name} was not used: {left.reason}" for left in left_out]
    if found.registered < found.photos:
        notes.append(f"Cameras were found for {found.registered} of {found.photos} photos.")
    if found.apart:
        notes.append(
            f"{found.apart} of the others hang together with each other and not with these: take photos that show both "
            "parts; the larger part was kept."
        )
    for note in notes:
        job.log(note)
    return protocol.Registered(str(workspace.registered), found.photos, found.registered, notes)
